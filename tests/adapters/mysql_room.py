"""A database on the tests' MariaDB as a room for the contract of tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pymysql

from adapters import mysql as adapter
from tests.adapters.table_room import Room
from tests.parts.mariadb import Server, database_of

MODES = "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES', time_zone = '+00:00'"
WORDS = (
    (r"\bVARCHAR\b(?! ?\()", "VARCHAR(200)"),
    (r"\bTIMESTAMP\b(?! ?\()", "DATETIME(6)"),
    (r"\b(WITH RECURSIVE .*?) (INSERT INTO many) ", r"\2 \1 "),
)
"""Where the contract's SQL is not MySQL's."""


class Databases:
    """Databases on one server: each stands for that of one test's folder."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._made: set[str] = set()

    def connected(self, path: Path) -> pymysql.Connection[Any]:
        """A connection to the database of a path; it is made when it is first asked for."""
        connection = self.server.connect(init_command=MODES)
        database = database_of(path)
        if database not in self._made:  # the statement waits for whoever has locked a table
            connection.query(f"CREATE DATABASE IF NOT EXISTS {database}")
            self._made.add(database)
        connection.select_db(database)
        return connection

    def settings(self, path: Path) -> dict[str, Any]:
        self.connected(path).close()
        return self.server.settings(database_of(path))

    def execute(self, path: Path, sql: str) -> list[tuple[Any, ...]]:
        for pattern, words in WORDS:
            sql = re.sub(pattern, words, sql)
        with closing(self.connected(path)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    @contextmanager
    def locked(self, path: Path) -> Iterator[None]:
        """Another session that holds every table of the database."""
        with closing(self.connected(path)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW TABLES")
            tables = ", ".join(f'"{table}" WRITE' for (table,) in cursor.fetchall())
            cursor.execute(f"LOCK TABLES {tables}")
            yield

    def room(self, folder: Path, **values: object) -> Room:
        return Room(adapter, folder, self.execute, self.locked, values, self.settings)
