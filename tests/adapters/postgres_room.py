"""A schema on the tests' PostgreSQL as a room for the contract of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from adapters import postgres as adapter
from tests.adapters.table_room import Room
from tests.parts.postgres import Server, schema_of


class Schemas:
    """Schemas on one server: each stands for the database of one test's folder."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def connected(self, path: Path) -> psycopg.Connection[Any]:
        """A connection to the schema of a path; it is made when it is first asked for."""
        schema = schema_of(path)
        connection = self.server.connect(options=f"-c search_path={schema}", cursor_factory=psycopg.RawCursor)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        return connection

    def settings(self, path: Path) -> dict[str, Any]:
        self.connected(path).close()
        return self.server.settings(schema_of(path))

    def execute(self, path: Path, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.connected(path)) as connection:
            found = connection.execute(re.sub(r"\bDOUBLE\b(?! PRECISION)", "DOUBLE PRECISION", sql))
            return found.fetchall() if found.description else []

    @contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """Another session that holds every table of the schema."""
        with closing(self.connected(path)) as connection:
            connection.execute("BEGIN")
            tables = connection.execute(
                "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
            ).fetchall()
            for (table,) in tables:
                connection.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
            yield

    def room(self, folder: Path, **values: object) -> Room:
        return Room(adapter, folder, self.execute, self.locked, values, self.settings)
