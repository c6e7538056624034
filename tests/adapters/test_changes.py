"""`changes_only` on every adapter that reads: a target that takes what is told stays as the source is."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters import duckdb as warehouse
from adapters import sqlite
from repository.project import Project
from tests.adapters.table_room import Room
from tests.adapters.test_conformance import executed
from tests.agent.projects import project, run_here
from tests.parts.shop_api import serving

Rows = Mapping[int, tuple[str | None, float]]
"""By id: name and price."""
FLOW = """flow: mirror
nodes:
  start: {type: start}
  source: {from: start, key: [id], changes_only: true, SOURCE}
  kept: {type: sqlite.post, from: source, connection: mirror, table: kept, mode: upsert, key: [id]}
  gone: {type: sqlite.post, from: source.deleted, connection: mirror, table: kept, mode: delete, key: [id]}
"""
ROUNDS: tuple[Rows, ...] = (
    {1: ("nail", 0.5), 2: ("screw", 0.25), 3: (None, 1.0), 4: ('näil\n, "5"', 2.5)},
    {1: ("nail", 0.5), 2: ("screw", 0.75), 3: ("nut", 1.0), 5: ("bolt", 1e9)},
    {1: ("nail", 0.5), 2: ("screw", 0.75), 3: ("nut", 1.0), 5: ("bolt", 1e9)},
    {2: (None, 0.75), 4: ("back", 4.0)},
)
TOLD = ((4, 0), (3, 1), (0, 0), (2, 3))
"""How many records go on, and how many are told as gone."""


class Source(Protocol):
    """A system with rows that a test changes."""

    node: str
    connections: dict[str, Any]

    def put(self, rows: Rows) -> None: ...


class Table:
    def __init__(self, room: Room, adapter: str) -> None:
        self._room = room
        self.node = f"type: {adapter}.get, connection: shop, table: things"
        given = room.settings(room.path) if room.settings else {"adapter": adapter, "path": "shop.db"}
        self.connections = {"shop": given}
        room.sql("CREATE TABLE things (id BIGINT, name VARCHAR(50), price DOUBLE PRECISION)")

    def put(self, rows: Rows) -> None:
        def text(value: str | None) -> str:
            return "NULL" if value is None else "'" + value.replace("'", "''") + "'"

        self._room.sql("DELETE FROM things")
        for number, (name, price) in rows.items():
            self._room.sql(f"INSERT INTO things VALUES ({number}, {text(name)}, {price})")


class Written:
    def __init__(self, folder: Path, suffix: str) -> None:
        self._path = folder / f"things.{suffix}"
        columns = "columns: {id: BIGINT, name: VARCHAR, price: DOUBLE}"
        self.node = f"type: file.get, path: things.{suffix}" + ("" if suffix == "parquet" else f", {columns}")
        self.connections: dict[str, Any] = {}

    def put(self, rows: Rows) -> None:
        things = [{"id": number, "name": name, "price": price} for number, (name, price) in rows.items()]
        if self._path.suffix == ".jsonl":
            self._path.write_text("".join(json.dumps(thing) + "\n" for thing in things), "utf-8")
            return
        table = pa.table({name: [thing[name] for thing in things] for name in ("id", "name", "price")})
        if self._path.suffix == ".parquet":
            pq.write_table(table, self._path)
        else:
            pa.csv.write_csv(table, self._path)


class Api:
    def __init__(self, shop: Any) -> None:
        self._shop = shop
        columns = "columns: {id: BIGINT, name: VARCHAR, price: DOUBLE}"
        paging = "paging: {by: offset, parameter: offset, size_parameter: limit, size: 2}"
        self.node = f"type: http.get, connection: shop, path: /plain, {columns}, {paging}"
        self.connections = {"shop": {"adapter": "http", "url": shop.url}}

    def put(self, rows: Rows) -> None:
        self._shop.orders = [{"id": number, "name": name, "price": price} for number, (name, price) in rows.items()]


@pytest.fixture(params=["sqlite", "duckdb", "postgres", "mysql", "csv", "jsonl", "parquet", "http"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    """Each system in turn."""
    kind = request.param
    if kind in ("postgres", "mysql"):
        yield Table(request.getfixturevalue(f"{kind}_room"), kind)
    elif kind in ("sqlite", "duckdb"):
        adapter = sqlite if kind == "sqlite" else warehouse
        yield Table(Room(adapter, tmp_path, _sqlite if kind == "sqlite" else executed, closing), kind)
    elif kind == "http":
        with serving() as shop:
            yield Api(shop)
    else:
        yield Written(tmp_path, kind)


def _sqlite(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def made(folder: Path, source: Source) -> Project:
    connections = {**source.connections, "mirror": {"adapter": "sqlite", "path": "mirror.db"}}
    environment = json.dumps({"environment": "local", "connections": connections})
    _sqlite(folder / "mirror.db", "CREATE TABLE kept (id INTEGER PRIMARY KEY, name TEXT, price REAL)")
    return project(folder, FLOW.replace("SOURCE", source.node), {"environments/local.yaml": environment})


def test_a_target_stays_as_the_source_is_and_is_told_only_what_changed(source: Source, tmp_path: Path) -> None:
    one = made(tmp_path, source)

    for rows, (changed, gone) in zip(ROUNDS, TOLD, strict=True):
        source.put(rows)
        report = run_here(one, "mirror")

        assert (report["status"], report["balanced"]) == ("done", True)
        assert report["nodes"]["kept"]["delivered"] == changed
        assert report["nodes"]["gone"]["delivered"] == gone
        there = _sqlite(tmp_path / "mirror.db", "SELECT id, name, price FROM kept ORDER BY id")
        assert there == [(number, *rest) for number, rest in sorted(rows.items())]
