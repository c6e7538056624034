"""`add_columns`: columns that a table does not have are added to it by the post that delivers them, and by no other."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters import duckdb as warehouse
from adapters import sqlite
from pipelines.errors import Invalid
from tests.adapters.table_room import Room
from tests.adapters.test_conformance import executed
from tests.agent.projects import project, run_here

FLOW = """flow: evolves
nodes:
  start: {type: start}
  things: {type: file.get, from: start, path: things.jsonl, schema_change: evolve}
  kept: {from: things, type: ADAPTER.post, connection: shop, table: kept, key: [id], mode: MODE, add_columns: true}
"""


def _sqlite(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.fixture(params=["sqlite", "duckdb", "postgres", "mysql"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """A database of each kind in turn."""
    kind = request.param
    if kind in ("postgres", "mysql"):
        yield request.getfixturevalue(f"{kind}_room")
    else:
        yield Room(
            sqlite if kind == "sqlite" else warehouse, tmp_path, _sqlite if kind == "sqlite" else executed, closing
        )


def made(folder: Path, room: Room, mode: str, *, adds: bool = True) -> Any:
    adapter = room.adapter.__name__.rpartition(".")[2]
    settings = room.settings(room.path) if room.settings else {"adapter": adapter, "path": "shop.db"}
    text = FLOW.replace("ADAPTER", adapter).replace("MODE", mode)
    text = text if adds else text.replace(", add_columns: true", "")
    environment = json.dumps({"environment": "local", "connections": {"shop": settings}})
    return project(folder, text, {"environments/local.yaml": environment})


def things(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "things.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_new_column_goes_through_to_the_table_and_is_null_where_it_was_not(
    room: Room, mode: str, tmp_path: Path
) -> None:
    room.sql("CREATE TABLE kept (id BIGINT PRIMARY KEY, name VARCHAR(50))")
    things(tmp_path, {"id": 1, "name": "nail"})
    one = made(tmp_path, room, mode)
    run_here(one, "evolves")
    things(tmp_path, {"id": 2, "name": "nut", "price": 2.5, "note": "new"})

    report = run_here(one, "evolves")
    again = run_here(one, "evolves") if mode == "upsert" else report

    assert (report["status"], report["balanced"], again["status"]) == ("done", True, "done")
    assert report["nodes"]["kept"]["delivered"] == 1
    found = room.sql("SELECT id, name, price, note FROM kept ORDER BY id")
    assert found == [(1, "nail", None, None), (2, "nut", 2.5, "new")]


def test_without_it_a_column_that_the_table_does_not_have_is_a_problem_before_anything_is_read(
    room: Room, tmp_path: Path
) -> None:
    room.sql("CREATE TABLE kept (id BIGINT PRIMARY KEY, name VARCHAR(50))")
    things(tmp_path, {"id": 1, "name": "nail", "price": 2.5})
    one = made(tmp_path, room, "append", adds=False)

    with pytest.raises(Invalid) as fault:
        run_here(one, "evolves")

    assert "has no column 'price'" in str(fault.value)
    assert "set `add_columns`" in str(fault.value)
    assert room.sql("SELECT * FROM kept") == []
