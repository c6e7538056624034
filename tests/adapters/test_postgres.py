"""The adapter `postgres`: the contract of tables, against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from hypothesis import strategies as st

from adapters import postgres as adapter
from adapters.postgres import snapshots
from tests.adapters.table_contract import TableContract
from tests.adapters.table_room import VALUES
from tests.parts.postgres import Server, schema_of

_server: list[Server] = []


@pytest.fixture(scope="module", autouse=True)
def server(postgres: Server) -> Iterator[Server]:
    """The server that the functions below ask."""
    _server.append(postgres)
    yield postgres
    _server.clear()
    snapshots.release_all()


def connected(path: Path) -> psycopg.Connection[Any]:
    """A connection to the schema that stands for a test's database; it is made when it is first asked for."""
    schema = schema_of(path)
    connection = _server[0].connect(options=f"-c search_path={schema}", cursor_factory=psycopg.RawCursor)
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    return connection


def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(connected(path)) as connection:
        found = connection.execute(re.sub(r"\bDOUBLE\b", "DOUBLE PRECISION", sql))
        return found.fetchall() if found.description else []


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another session that holds every table of the schema."""
    with closing(connected(path)) as connection:
        connection.execute("BEGIN")
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
        for (table,) in tables:
            connection.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
        yield


def without_nul(value: Any) -> bool:
    """PostgreSQL keeps every character but one."""
    return not isinstance(value, str) or "\0" not in value


class TestPostgresTables(TableContract):
    adapter = adapter
    nested_as_text = True
    records = st.lists(
        st.tuples(*(st.none() | values.filter(without_nul) for _, values in VALUES.values())), max_size=12
    )
    words: ClassVar[dict[str, str]] = {
        "BIGINT": "bigint",
        "not null": 'null value in column "who" of relation "orders" violates not-null constraint',
        "check": 'new row for relation "orders" violates check constraint',
    }

    @staticmethod
    def settings(path: Path) -> dict[str, Any]:
        connected(path).close()
        return _server[0].settings(schema_of(path))

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
        return execute(path, sql)

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]:
        return locked(path)
