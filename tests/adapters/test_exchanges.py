"""Every adapter's post and get together, held to the list of values at the edge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest

from adapters import duckdb as warehouse
from adapters import file, http, sqlite
from adapters.mysql import snapshots as mysql_snapshots
from adapters.postgres import snapshots
from pipelines.conformance.exchanges import ExchangeConformance, Rig
from pipelines.environment import Environment
from pipelines.node import Post
from pipelines.scope import Scope
from tests.adapters.file.post_room import scope_in
from tests.adapters.mysql_room import Databases
from tests.adapters.postgres_room import Schemas
from tests.adapters.table_room import Room
from tests.parts import mariadb as mariadb_parts
from tests.parts.postgres import Server
from tests.parts.shop_api import serving


def declared(schema: pa.Schema) -> dict[str, str]:
    """Columns with the DuckDB types to read them as; what those cannot be is read as text."""

    def type_of(kind: pa.DataType) -> str:
        if pa.types.is_null(kind) or pa.types.is_decimal256(kind):
            return "VARCHAR"
        return str(connection.from_arrow(pa.table({"v": pa.array([], kind)})).types[0])

    with duckdb.connect() as connection:
        return {field.name: type_of(field.type) for field in schema}


class InFile(ExchangeConformance):
    path = ""
    modes: ClassVar[dict[str, dict[str, Any]]] = {"append": {}, "upsert": {"mode": "upsert", "key": "k"}}

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        """How the file is read."""
        return declared(schema)

    def rig(self, tmp_path: Path) -> Rig:
        def get(schema: pa.Schema) -> file.Get:
            return file.Get(path=self.path, columns=self.columns(schema))

        return Rig(scope_in(tmp_path), lambda **config: file.Post(path=self.path, **config), get)


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


class TestCsv(InFile):
    path = "out.csv"
    lacks = NO_TEXT
    rejects = NO_TIME | {"fine moment": frozenset({"first"})}

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        flat = pa.schema(
            [pa.field(each.name, pa.string()) if pa.types.is_nested(each.type) else each for each in schema]
        )
        return declared(flat)


class TestJsonLines(InFile):
    path = "out.jsonl"
    lacks = NO_TEXT
    rejects = NO_TIME | {"float32": FLOATS, "float64": FLOATS, "fine moment": frozenset({"first", "last"})}


class TestParquet(InFile):
    path = "out.parquet"

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        return None


class TestHttp(ExchangeConformance):
    modes: ClassVar[dict[str, dict[str, Any]]] = {
        "append": {"path": "/shelf"},
        "upsert": {"path": "/shelf/{k}", "mode": "upsert", "key": "k"},
    }
    lacks = NO_TEXT
    rejects = TestJsonLines.rejects

    @pytest.fixture(autouse=True)
    def _shop(self) -> Iterator[None]:
        with serving(0) as self.shop:
            yield
            http.loop.run(http.client.close_all())

    def rig(self, tmp_path: Path) -> Rig:
        self.shop.shelf.clear()
        connection = http.Connection(adapter="http", url=self.shop.url)
        scope = Scope(tmp_path, Environment(connections={"shop": connection}), staging=tmp_path)

        def post(**config: Any) -> Post:
            return http.Post(connection="shop", **(config or self.modes["append"]))

        return Rig(scope, post, lambda schema: http.Get(connection="shop", path="/shelf", columns=declared(schema)))


class InTable(ExchangeConformance):
    modes: ClassVar[dict[str, dict[str, Any]]] = {
        "append": {},
        "upsert": {"mode": "upsert", "key": "k"},
        "replace": {"mode": "replace"},
    }

    def room(self, folder: Path) -> Room:
        raise NotImplementedError

    def rig(self, tmp_path: Path) -> Rig:
        room = self.room(tmp_path)

        def post(**config: Any) -> Post:
            return room.post(table="edges", **config)

        return Rig(room.scope, post, lambda schema: room.get(table="edges", key="k"))


class TestSqlite(InTable):
    lacks: ClassVar[dict[str, str]] = {"duration": "SQLite has no type for duration[us]"}
    rejects = NO_TIME | {
        "uint64": frozenset({"most"}),
        "float32": frozenset({"not a number"}),
        "float64": frozenset({"not a number"}),
        "fine time": FINE,
        "fine moment": frozenset({"first"}),
        "fine instant": FINE,
    }

    def room(self, folder: Path) -> Room:
        return Room(sqlite, folder, None, None)


class TestDuckdb(InTable):
    lacks: ClassVar[dict[str, str]] = {"wide decimal": "DuckDB has no type for decimal256(60, 20)"}
    texts: ClassVar[dict[str, dict[str, str]]] = {
        "duration": {"zero": "00:00:00", "a day": "24:00:00", "negative": "-00:00:00.000001"}
    }

    def room(self, folder: Path) -> Room:
        return Room(warehouse, folder, None, None)


class TestPostgres(InTable):
    lacks: ClassVar[dict[str, str]] = {"duration": "PostgreSQL has no type for duration[us]"}
    rejects = NO_TIME | MICROSECONDS | {"text": frozenset({"NUL", "just NUL"}), "word": frozenset({"NUL"})}

    @pytest.fixture(autouse=True)
    def _server(self, postgres: Server) -> Iterator[None]:
        self.schemas = Schemas(postgres)
        yield
        snapshots.release_all()

    def room(self, folder: Path) -> Room:
        return self.schemas.room(folder)


class TestMysql(InTable):
    lacks: ClassVar[dict[str, str]] = {
        "duration": "MySQL has no type for duration[us]",
        "fraction": "MySQL has no type for decimal128(38, 38)",
    }
    rejects = (
        NO_TIME | MICROSECONDS | {"far date": NO_TIME["far date"] - {"year 0"}, "float32": FLOATS, "float64": FLOATS}
    )

    @pytest.fixture(autouse=True)
    def _server(self, mariadb: mariadb_parts.Server) -> Iterator[None]:
        self.databases = Databases(mariadb)
        yield
        mysql_snapshots.release_all()

    def room(self, folder: Path) -> Room:
        return self.databases.room(folder)
