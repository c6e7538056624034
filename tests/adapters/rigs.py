"""Every system that is read and written as a rig: declared once, for all that adapters are held to."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest
import trustme

from adapters import file, http, sqlite
from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from pipelines.conformance import SystemConformance
from pipelines.conformance.baddays import Cut, Line, Mistake
from pipelines.conformance.exchanges import Rig
from pipelines.environment import Environment
from pipelines.errors import Unavailable
from pipelines.node import Get, Post
from pipelines.scope import Scope
from tests.adapters.file.post_room import scope_in
from tests.adapters.mysql_room import Databases
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_room import Room
from tests.parts import mariadb as mariadb_parts
from tests.parts import postgres as postgres_parts
from tests.parts.mariadb import database_of
from tests.parts.postgres import schema_of
from tests.parts.proxy import Proxy
from tests.parts.shop_api import answer, serving

NOWHERE = "no-such-host.invalid"
WRONG = "PROCESSFLOW_TESTS_WRONG"
"""A secret that is not the right one."""
os.environ[WRONG] = "canary-of-the-wrong-password"

NO_TEXT = {
    "bytes": "binary has no text of its own",
    "four bytes": "binary has no text of its own",
    "duration": "an interval has no text that reads back the same",
}
NO_TIME: dict[str, frozenset[str]] = {
    "far date": frozenset({"year 0", "year 10000", "last", "first"}),
    "no time": frozenset({"24:00", "below zero"}),
    "far moment": frozenset({"year 10000", "last", "first"}),
}
FINE = frozenset({"nanoseconds"})
MICROSECONDS = {"fine time": FINE, "fine moment": FINE | {"first", "last"}, "fine instant": FINE}
FLOATS = frozenset({"not a number", "infinite", "minus infinite"})
JSON = NO_TIME | {"float32": FLOATS, "float64": FLOATS, "fine moment": frozenset({"first", "last"})}


def declared(schema: pa.Schema) -> dict[str, str]:
    """Columns with the DuckDB types to read them as; what those cannot be is read as text."""

    def type_of(kind: pa.DataType) -> str:
        if pa.types.is_null(kind) or pa.types.is_decimal256(kind):
            return "VARCHAR"
        return str(connection.from_arrow(pa.table({"v": pa.array([], kind)})).types[0])

    with duckdb.connect() as connection:
        return {field.name: type_of(field.type) for field in schema}


NO_TABLE = Mistake(
    r"no table 'none'|relation \"none\" does not exist|none' doesn't exist",
    {}, {"table": "none"}, {"table": "none", "create": False}, test_tells=False,
)  # fmt: skip


class Watched(SystemConformance):
    """A system of which no message may hold a secret."""

    def secrets(self) -> tuple[str, ...]:
        return (os.environ[WRONG], postgres_parts.PASSWORD, mariadb_parts.PASSWORD)


class InFile(Watched):
    """A file of a format."""

    path = ""
    modes: ClassVar[dict[str, dict[str, Any]]] = {"append": {}, "upsert": {"mode": "upsert", "key": "k"}}
    spared: ClassVar[dict[str, str]] = {
        "host": "a file is on this machine",
        "port": "a file is on this machine",
        "password": "a file asks for none",
        "certificate": "a file shows none",
        "database": "a file is in no database",
    }

    def fields(self) -> dict[str, Any]:
        """What get and post say of the file."""
        return {"path": self.path}

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        """How the file is read."""
        return declared(schema)

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        def get(schema: pa.Schema, **config: Any) -> Get:
            return file.Get(**{**self.fields(), "columns": self.columns(schema), **config})

        def post(**config: Any) -> Post:
            return file.Post(**{**self.fields(), **config})

        return Rig(scope_in(tmp_path), post, get)

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        below = f"{self.path}/below{Path(self.path).suffix}"
        return {
            "table": Mistake("none" + Path(self.path).suffix, get={"path": f"none{Path(self.path).suffix}"}, post=None),
            "rights": Mistake("cannot be written", get=None, post={"path": below}, check_tells=False),
        }


class OverHttp(Watched):
    """A shelf of an API."""

    modes: ClassVar[dict[str, dict[str, Any]]] = {
        "append": {},
        "upsert": {"mode": "upsert", "key": "k"},
    }
    spared: ClassVar[dict[str, str]] = {"database": "an API has none"}
    count = 150
    reading: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "first page": Cut(rb"GET /shelves", heard=True),
        "middle": Cut(count=40_000, direction="down"),
    }
    writing: ClassVar[dict[str, Cut]] = {
        "connect": Cut(count=1),
        "middle": Cut(count=40_000),
        "commit": Cut(rb"POST /shelves"),
        "after commit": Cut(rb"POST /shelves", heard=True),
    }

    @pytest.fixture(autouse=True)
    def _shop(self) -> Iterator[None]:
        with ExitStack() as self.opened:
            self.shop = self.opened.enter_context(serving(0))
            yield
            http.loop.run(http.client.close_all())

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        place = f"/shelves/{tmp_path.name}"
        retry = {"attempts": 3, "first_seconds": 0.001}
        given = {"adapter": "http", "url": self.shop.url, "retry": retry, **connection}
        environment = Environment(connections={"shop": http.Connection.model_validate_json(json.dumps(given))})
        scope = Scope(tmp_path, environment, staging=tmp_path)

        def post(**config: Any) -> Post:
            path = place + "/{k}" if config.get("mode") == "upsert" else place
            return http.Post(**{"connection": "shop", "path": path, **config})

        def get(schema: pa.Schema, **config: Any) -> Get:
            return http.Get(**{"connection": "shop", "path": place, "columns": declared(schema), **config})

        return Rig(scope, post, get)

    def refusing(self, tmp_path: Path) -> Rig | None:
        self.shop.refuses = "n"
        return self.rig(tmp_path)

    def line(self) -> AbstractContextManager[Line]:
        return Proxy(int(self.shop.url.rpartition(":")[2]))

    def through(self, line: Line) -> Mapping[str, Any]:
        return {"url": f"http://127.0.0.1:{line.port}"}

    def untrusted(self, folder: Path) -> str:
        """The address of an API whose certificate nobody knows."""
        pair = trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem
        pair.write_to_path(str(folder / "server.pem"))
        words = {"ssl_certfile": folder / "server.pem", "ssl_keyfile": folder / "server.pem"}
        return self.opened.enter_context(serving(0, **words)).url

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        refused = {"check_tells": False, "test_tells": False}
        self.shop.script("/denied", *[answer(403, '{"detail": "not for you"}')] * 9)
        self.shop.script("/private", *[answer(401, '{"detail": "who are you"}')] * 9)
        return {
            "host": Mistake(NOWHERE, {"url": f"http://{NOWHERE}"}, check_tells=False),
            "port": Mistake("cannot be reached", {"url": "http://127.0.0.1:1"}, error=Unavailable, check_tells=False),
            "certificate": Mistake(
                "its certificate is not trusted", {"url": self.untrusted(tmp_path)}, check_tells=False
            ),
            "password": Mistake(
                "401", {"auth": {"bearer": {"secret": WRONG}}}, {"path": "/private"}, {"path": "/private"}, **refused
            ),
            "table": Mistake("404", {}, {"path": "/nothing"}, None, **refused),
            "rights": Mistake("403", {}, {"path": "/denied"}, None, **refused),
        }


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
