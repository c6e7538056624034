"""Tables of databases as rigs: in files, on PostgreSQL and on MariaDB."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest

from adapters import sqlite
from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from pipelines.conformance.baddays import Cut, Line, Mistake
from pipelines.conformance.exchanges import Rig
from pipelines.environment import Environment
from pipelines.errors import Unavailable
from pipelines.node import Get, Post
from pipelines.scope import Scope
from tests.adapters.mysql_room import Databases
from tests.adapters.postgres_room import Schemas
from tests.adapters.rigs import NOWHERE, WRONG, Watched
from tests.adapters.table_room import Room
from tests.parts import mariadb as mariadb_parts
from tests.parts import postgres as postgres_parts
from tests.parts.mariadb import database_of
from tests.parts.postgres import schema_of
from tests.parts.proxy import Proxy

NO_TABLE = Mistake(
    r"no table 'none'|relation \"none\" does not exist|none' doesn't exist",
    {}, {"table": "none"}, {"table": "none", "create": False}, test_tells=False,
)  # fmt: skip


class InTable(Watched):
    """A table of a database."""

    modes: ClassVar[dict[str, dict[str, Any]]] = {
        "append": {},
        "upsert": {"mode": "upsert", "key": "k"},
        "replace": {"mode": "replace"},
    }

    def room(self, folder: Path) -> Room:
        raise NotImplementedError

    def execute(self, room: Room, sql: str) -> None:
        """Does something to the room's database."""
        room.sql(sql)

    def refusing(self, tmp_path: Path) -> Rig | None:
        made = "CREATE TABLE edges (k VARCHAR(20), n BIGINT CHECK (n >= 0), text VARCHAR(2000))"
        self.execute(self.room(tmp_path), made)
        return self.rig(tmp_path)

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        room = self.room(tmp_path)
        scope = room.scope
        if connection:
            own = scope.environment.connections["shop"].model_dump(exclude_none=True)
            given = {name: value for name, value in {**own, **connection}.items() if value is not None}
            environment = Environment(connections={"shop": room.adapter.Connection(**given)})
            scope = Scope(room.folder, environment, staging=room.folder / "staging")

        def post(**config: Any) -> Post:
            made: Post = room.post(**{"table": "edges", **config})
            return made

        def get(schema: pa.Schema, **config: Any) -> Get:
            made: Get = room.get(**{"table": "edges", "key": "k", **config})
            return made

        return Rig(scope, post, get)


class InDatabaseFile(InTable):
    """A table of a database in a file."""

    adapter: ClassVar[Any] = None
    spared: ClassVar[dict[str, str]] = {
        "host": "a file is on this machine",
        "port": "a file is on this machine",
        "password": "a file asks for none",
        "certificate": "a file shows none",
    }

    def room(self, folder: Path) -> Room:
        return Room(self.adapter, folder, None, None)  # type: ignore[arg-type] -- nothing is asked beside the adapter

    def execute(self, room: Room, sql: str) -> None:
        driver: Any = sqlite3 if self.adapter is sqlite else duckdb
        with closing(driver.connect(room.path)) as connection:
            connection.execute(sql)

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        (tmp_path / "no.db").write_bytes(b"order_id;total\n" * 4096)
        return {
            "database": Mistake("database", {"path": "no.db"}),
            "table": NO_TABLE,
            "rights": Mistake("there is no ", {"path": "shop.db/below.db"}, None, {}, test_tells=False),
        }


class InPostgres(InTable):
    """A table of a schema of its own on a PostgreSQL."""

    reading: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "first page": Cut(rb"COPY \(SELECT", heard=True),
        "middle": Cut(count=200_000, direction="down"),
    }
    writing: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "middle": Cut(rb"COPY .*FROM STDIN", heard=True),
        "commit": Cut(rb"COMMIT\0"),
        "after commit": Cut(rb"COMMIT\0", heard=True),
    }

    @pytest.fixture(autouse=True)
    def _server(self, postgres: postgres_parts.Server) -> Iterator[None]:
        self.schemas = Schemas(postgres)
        yield
        snapshots.release_all()

    def room(self, folder: Path) -> Room:
        return self.schemas.room(folder)

    def line(self) -> AbstractContextManager[Line]:
        return Proxy(self.schemas.server.port)

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        room = self.room(tmp_path)
        schema, role = schema_of(room.path), f"r{schema_of(room.path)[:20]}"
        with closing(self.schemas.connected(room.path)) as connection:
            password = postgres_parts.PASSWORD.replace("'", "''")
            connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
            connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
        return {
            "host": Mistake(NOWHERE, {"host": NOWHERE}),
            "port": Mistake("refused", {"port": 1}, error=Unavailable),
            "password": Mistake("password authentication failed", {"password": {"secret": WRONG}}),
            "certificate": Mistake("SSL", {"tls": "require"}),
            "database": Mistake('database "elsewhere" does not exist', {"database": "elsewhere"}),
            "table": NO_TABLE,
            "rights": Mistake(f"permission denied|{role}' may not", {"user": role}, test_tells=False),
        }


class InMysql(InTable):
    """A table of a database of its own on a MariaDB."""

    reading: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "first page": Cut(rb"SELECT .*FROM .*edges", heard=True),
        "middle": Cut(count=200_000, direction="down"),
    }
    writing: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "middle": Cut(rb"LOAD DATA", heard=True),
        "commit": Cut(rb"\x03COMMIT"),
        "after commit": Cut(rb"\x03COMMIT", heard=True),
    }

    @pytest.fixture(autouse=True)
    def _server(self, mariadb: mariadb_parts.Server) -> Iterator[None]:
        self.databases = Databases(mariadb)
        yield
        mysql_snapshots.release_all()

    def room(self, folder: Path) -> Room:
        return self.databases.room(folder)

    def line(self) -> AbstractContextManager[Line]:
        return Proxy(self.databases.server.port)

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        room = self.room(tmp_path)
        database = database_of(room.path)
        with closing(self.databases.connected(room.path)) as connection:
            password = mariadb_parts.PASSWORD.replace("'", "''")
            connection.query(f"CREATE USER r{database}@'%' IDENTIFIED BY '{password}'")
            connection.query(f"CREATE TABLE {database}.seen (n int)")
            connection.query(f"GRANT SELECT ON {database}.seen TO r{database}@'%'")
        return {
            "host": Mistake(NOWHERE, {"host": NOWHERE}),
            "port": Mistake("refused", {"port": 1}, error=Unavailable),
            "password": Mistake("Access denied", {"password": {"secret": WRONG}}),
            "certificate": Mistake("certificate verify failed", {"tls": "verify-full"}),
            "database": Mistake("Unknown database 'elsewhere'", {"database": "elsewhere"}),
            "table": NO_TABLE,
            "rights": Mistake("denied", {"user": f"r{database}"}, None, {}, check_tells=False, test_tells=False),
        }
