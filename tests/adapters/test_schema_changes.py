"""`schema_change` between runs: what each policy makes of a new, a missing and a retyped column, system by system."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest

from adapters import duckdb as warehouse
from adapters import sqlite
from pipelines.errors import Invalid
from repository.project import Project
from tests.adapters.table_room import Room
from tests.adapters.test_conformance import executed
from tests.agent.projects import processflow, project, run_here
from tests.parts.shop_api import serving

FLOW = """flow: mirror
nodes:
  start: {type: start}
  source: {from: start, key: [id], schema_change: POLICY, SOURCE}
  kept: {type: file.post, from: source, path: kept.jsonl, mode: replace}
  wrong: {type: file.post, from: source.rejected, path: wrong.jsonl, mode: replace}
"""
Rows = Sequence[dict[str, Any]]
FIRST: Rows = ({"id": 1, "name": "nail", "size": 5}, {"id": 2, "name": "nut", "size": 7})


class Source(Protocol):
    """A system whose columns a test changes."""

    node: str
    connections: dict[str, Any]

    def put(self, rows: Rows, **kinds: str) -> None: ...


class Table:
    def __init__(self, room: Room, adapter: str) -> None:
        self._room = room
        self.node = f"type: {adapter}.get, connection: shop, table: things"
        self.connections = {
            "shop": room.settings(room.path) if room.settings else {"adapter": adapter, "path": "shop.db"}
        }

    def put(self, rows: Rows, **kinds: str) -> None:
        types = {"id": "BIGINT", "name": "VARCHAR(50)", "size": "INTEGER", "price": "DECIMAL(10,2)", **kinds}
        names = list(dict.fromkeys(name for row in rows for name in row))
        columns = ", ".join(f"{name} {types[name]}" for name in names)
        self._room.sql("DROP TABLE IF EXISTS things", f"CREATE TABLE things ({columns})")
        for row in rows:
            values = ", ".join(_literal(row.get(name)) for name in names)
            self._room.sql(f"INSERT INTO things VALUES ({values})")


class Lines:
    node = "type: file.get, path: things.jsonl"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "things.jsonl"
        self.connections: dict[str, Any] = {}

    def put(self, rows: Rows, **kinds: str) -> None:
        self._path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


class Csv:
    node = "type: file.get, path: things.csv"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "things.csv"
        self.connections: dict[str, Any] = {}

    def put(self, rows: Rows, **kinds: str) -> None:
        names = list(dict.fromkeys(name for row in rows for name in row))
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
        self._path.write_text("\n".join(lines) + "\n", "utf-8")


class Api:
    node = "type: http.get, connection: shop, path: /plain"

    def __init__(self, shop: Any) -> None:
        self._shop = shop
        self.connections = {"shop": {"adapter": "http", "url": shop.url}}

    def put(self, rows: Rows, **kinds: str) -> None:
        self._shop.orders = list(rows)


def _literal(value: object) -> str:
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


def _sqlite(path: Path, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


@pytest.fixture(params=["sqlite", "duckdb", "postgres", "mysql", "csv", "jsonl", "http"])
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
        yield Csv(tmp_path) if kind == "csv" else Lines(tmp_path)


def made(folder: Path, source: Source, policy: str) -> Project:
    environment = json.dumps({"environment": "local", "connections": source.connections})
    text = FLOW.replace("SOURCE", source.node).replace("POLICY", policy)
    return project(folder, text, {"environments/local.yaml": environment})


def read(folder: Path, name: str = "kept") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text("utf-8").splitlines()]


def test_fail_says_what_changed_before_anything_is_read_until_it_is_accepted(source: Source, tmp_path: Path) -> None:
    source.put(FIRST)
    one = made(tmp_path, source, "fail")
    run_here(one, "mirror")
    run_here(one, "mirror")
    source.put([{"id": 1, "name": "nail", "price": 1.5}])

    with pytest.raises(Invalid) as fault:
        run_here(one, "mirror")
    accepted = processflow(tmp_path, "positions", "accept", "mirror")
    again = run_here(one, "mirror")

    assert "the source's columns are not those that the last run saw: new column 'price' (" in str(fault.value)
    assert "column 'size' is gone" in str(fault.value)
    assert "processflow positions accept mirror" in str(fault.value)
    assert "columns of 1 source forgotten" in accepted.stdout
    assert again["status"] == "done"
    assert [row["price"] for row in read(tmp_path)] == [1.5]


def test_evolve_takes_new_columns_through_leaves_out_those_that_are_gone_and_tells(
    source: Source, tmp_path: Path
) -> None:
    source.put(FIRST)
    one = made(tmp_path, source, "evolve")
    run_here(one, "mirror")
    source.put([{"id": 1, "name": "nail", "price": 1.5}, {"id": 3, "name": "bolt", "price": 2.5}])

    evolved = run_here(one, "mirror")
    again = run_here(one, "mirror")

    assert (evolved["status"], evolved["balanced"]) == ("done", True)
    (note,) = evolved["notes"]
    assert note.startswith("source: new column 'price' (")
    assert note.endswith("column 'size' is gone")
    assert "notes" not in again
    assert read(tmp_path) == [{"id": 1, "name": "nail", "price": 1.5}, {"id": 3, "name": "bolt", "price": 2.5}]


def test_reject_sets_aside_the_records_alone_that_do_not_have_the_columns_of_before(
    source: Source, tmp_path: Path
) -> None:
    source.put(FIRST)
    one = made(tmp_path, source, "reject")
    run_here(one, "mirror")
    rows = [
        {"id": 1, "name": "nail", "size": 5, "price": 1.5},
        {"id": 2, "name": "nut", "size": 7},
        {"id": 3, "name": "bolt", "size": 9},
    ]
    source.put(rows)

    report = run_here(one, "mirror")
    again = run_here(one, "mirror")

    assert (report["status"], report["balanced"]) == ("done_with_rejects", True)
    assert report["nodes"]["source"]["rejected"] == 1
    assert [row["id"] for row in read(tmp_path)] == [2, 3]
    (wrong,) = read(tmp_path, "wrong")
    assert (wrong["reject_code"], wrong["reject_message"]) == ("schema", "column 'price' is new")
    assert json.loads(wrong["line"])["price"] == 1.5
    assert again["nodes"]["source"]["rejected"] == 1


def test_reject_sets_aside_values_of_another_type_alone(source: Source, tmp_path: Path) -> None:
    source.put(FIRST)
    one = made(tmp_path, source, "reject")
    run_here(one, "mirror")
    source.put(
        [{"id": 1, "name": "nail", "size": "many"}, {"id": 2, "name": "nut", "size": "8"}],
        size="VARCHAR(20)",
    )

    report = run_here(one, "mirror")

    assert report["balanced"]
    kept, wrong = read(tmp_path), read(tmp_path, "wrong")
    assert [row["size"] for row in kept] in ([8], [])  # a text of digits is no number in JSON
    assert len(kept) + len(wrong) == 2
    assert "many" in wrong[0]["line"]


def test_reject_takes_no_record_where_a_column_is_gone(source: Source, tmp_path: Path) -> None:
    source.put(FIRST)
    one = made(tmp_path, source, "reject")
    run_here(one, "mirror")
    source.put([{"id": 1, "name": "nail"}, {"id": 2, "name": "nut"}])

    report = run_here(one, "mirror")

    assert report["nodes"]["source"]["rejected"] == 2
    assert {row["reject_message"] for row in read(tmp_path, "wrong")} == {"column 'size' is gone"}


@pytest.mark.parametrize(
    ("was", "now", "kind"),
    [
        ("INTEGER", "BIGINT", "BIGINT"),
        ("BIGINT", "INTEGER", "BIGINT"),
        ("DECIMAL(6,2)", "DECIMAL(9,1)", "DECIMAL(10,2)"),
    ],
)
def test_evolve_widens_types_and_changes_no_value(
    was: str, now: str, kind: str, postgres_room: Room, tmp_path: Path
) -> None:
    source = Table(postgres_room, "postgres")
    source.put(FIRST, size=was)
    one = made(tmp_path, source, "evolve")
    run_here(one, "mirror")
    source.put([{"id": 1, "name": "nail", "size": 12}], size=now)

    report = run_here(one, "mirror")
    shown = json.loads(processflow(tmp_path, "explain", "mirror", "--json").stdout)

    assert report["notes"] == [f"source: column 'size' is {now}, was {was}"]
    assert [float(row["size"]) for row in read(tmp_path)] == [12.0]
    columns = next(node["columns"] for phase in shown["phases"] for node in phase if node["node"] == "source")
    assert columns["size"] == {"BIGINT": "int64", "DECIMAL(10,2)": "decimal128(10, 2)"}[kind]


def test_a_text_of_digits_keeps_its_zeros_where_the_column_was_text(tmp_path: Path) -> None:
    source = Csv(tmp_path)
    source.put([{"id": 1, "name": "A7"}])
    for policy in ("evolve", "reject"):
        one = made(tmp_path, source, policy)
        run_here(one, "mirror")
        source.put([{"id": 1, "name": "007"}])

        report = run_here(one, "mirror")

        assert report["status"] == "done"
        assert [row["name"] for row in read(tmp_path)] == ["007"]


ADDRESSES: Rows = (
    {"id": 1, "at": {"city": "Ulm", "zip": "89073"}},
    {"id": 2, "at": {"city": "Hof", "zip": None}},
    {"id": 3},
)


def test_evolve_takes_new_nested_fields_through(tmp_path: Path) -> None:
    source = Lines(tmp_path)
    source.put([{"id": 1, "at": {"city": "Ulm"}}])
    one = made(tmp_path, source, "evolve")
    run_here(one, "mirror")
    source.put(ADDRESSES)

    report = run_here(one, "mirror")

    assert report["status"] == "done"
    assert "column 'at' is STRUCT" in report["notes"][0]
    assert read(tmp_path)[0]["at"] == {"city": "Ulm", "zip": "89073"}


def test_reject_sets_aside_records_with_a_new_nested_field_alone(tmp_path: Path) -> None:
    source = Lines(tmp_path)
    source.put([{"id": 1, "at": {"city": "Ulm"}}])
    one = made(tmp_path, source, "reject")
    run_here(one, "mirror")
    source.put(ADDRESSES)

    report = run_here(one, "mirror")

    assert report["balanced"]
    assert [(row["id"], row.get("at")) for row in read(tmp_path)] == [(2, {"city": "Hof"}), (3, None)]
    (wrong,) = read(tmp_path, "wrong")
    assert json.loads(wrong["line"])["at"] == {"city": "Ulm", "zip": "89073"}
