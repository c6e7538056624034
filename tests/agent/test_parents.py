"""Records that are made of others: the data log tells of which, and `trace` follows a record into them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.tracing import trace
from repository.project import Project
from repository.query import rows as query
from tests.agent.projects import processflow, project, run_here

FLOW = """flow: night
settings: {snapshots: SNAPSHOTS}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, key: [id], columns: {id: bigint, customer: bigint, amount: bigint}}
  customers: {type: file.get, from: start, path: customers.csv, columns: {customer: bigint, name: varchar}}
  joined: {type: join, from: {left: orders, right: customers}, on: customer, how: left}
  once: {type: dedupe, from: joined, key: [id]}
  sums: {type: aggregate, from: once, by: [name], measures: {total: sum(amount), n: count(*)}}
  wide: {type: pivot, from: once, by: [customer], on: name, columns: [ann], values: count(*)}
  kept: {type: file.post, from: sums, path: sums.jsonl, mode: upsert, key: [name]}
  piled: {type: file.post, from: wide, path: wide.jsonl, mode: replace}
"""
ORDERS = "id,customer,amount\n1,7,5\n2,7,6\n2,7,60\n3,9,1\n"
CUSTOMERS = "customer,name\n7,ann\n9,bob\n"


def night(folder: Path, orders: str = ORDERS, snapshots: str = "auto") -> str:
    made = project(folder, FLOW.replace("SNAPSHOTS", snapshots), {"orders.csv": orders, "customers.csv": CUSTOMERS})
    report = run_here(made, "night")
    assert report["status"] == "done", report["error"]
    return str(report["run"])


def parents(folder: Path, node: str) -> dict[int, tuple[set[int], int]]:
    """Per made record its parents' ids and their number."""
    sql = f"SELECT rid, list(parent) AS some, any_value(parents) AS n FROM parents WHERE node = '{node}' GROUP BY rid"
    return {row["rid"]: (set(row["some"]), row["n"]) for row in query(folder / ".processflow" / "lake", sql)}


def ids(folder: Path, node: str, column: str) -> dict[object, int]:
    sql = f"SELECT {column} AS k, min(rid) AS rid FROM night.{node} GROUP BY ALL"
    return {row["k"]: row["rid"] for row in query(folder / ".processflow" / "lake", sql)}


def test_each_wide_node_tells_the_records_that_it_made_one_of(tmp_path: Path) -> None:
    night(tmp_path)

    orders, customers = ids(tmp_path, "orders", "amount"), ids(tmp_path, "customers", "name")
    assert parents(tmp_path, "joined") == {
        rid: ({rid, customers["bob" if amount == 1 else "ann"]}, 2) for amount, rid in orders.items()
    }
    assert parents(tmp_path, "once") == {orders[6]: ({orders[6], orders[60]}, 2)}
    assert parents(tmp_path, "sums") == {orders[5]: ({orders[5], orders[6]}, 2)}
    assert parents(tmp_path, "wide") == {orders[5]: ({orders[5], orders[6]}, 2)}


def test_a_record_is_followed_through_join_dedupe_and_group_to_the_target(tmp_path: Path) -> None:
    night(tmp_path)
    orders = ids(tmp_path, "orders", "amount")

    ways = trace(Project(tmp_path), "2")

    first = next(way for way in ways if way["rid"] == orders[6])
    group = next(way for way in ways if way["rid"] == orders[5])
    dropped = next(way for way in ways if way["rid"] == orders[60])
    assert first["into"] == [{"node": "sums", "rid": orders[5]}, {"node": "wide", "rid": orders[5]}]
    assert first["outcome"].startswith(f"went into rid {orders[5]} at sums")
    assert dropped["into"] == [{"node": "once", "rid": orders[6]}]
    made = next(step for step in group["steps"] if (step["node"], step["port"]) == ("sums", "out"))
    assert (made["parents"], made["parents_count"]) == (sorted([orders[5], orders[6]]), 2)
    assert group["outcome"].startswith("delivered by kept")


def test_a_group_is_found_by_its_own_key(tmp_path: Path) -> None:
    night(tmp_path)

    told = processflow(tmp_path, "trace", "ann")
    given = json.loads(processflow(tmp_path, "trace", "ann", "--json").stdout)

    assert (told.returncode, told.stderr) == (0, "")
    assert "made of 2 records (rid " in told.stdout
    assert any(step.get("parents_count") == 2 for way in given for step in way["steps"])


@pytest.mark.parametrize("snapshots", ["auto", "all"])
def test_ten_parents_are_kept_of_many_and_all_are_counted(tmp_path: Path, snapshots: str) -> None:
    night(tmp_path, "id,customer,amount\n" + "".join(f"{n},7,{n}\n" for n in range(500)), snapshots)

    ((some, count),) = parents(tmp_path, "sums").values()

    orders = sorted(ids(tmp_path, "orders", "id").values())
    assert (some, count) == (set(orders[:10]), 500)


def test_nothing_is_told_of_records_that_are_not_kept(tmp_path: Path) -> None:
    night(tmp_path, snapshots="none")

    assert query(tmp_path / ".processflow" / "lake", "SELECT count(*) AS n FROM parents") == [{"n": 0}]


def test_parents_are_told_of_the_sample_only_where_a_port_has_many_records(tmp_path: Path) -> None:
    night(tmp_path, "id,customer,amount\n" + "".join(f"{n},7,{n}\n" for n in range(30_000)))

    found = parents(tmp_path, "joined")

    sampled = set(ids(tmp_path, "joined", "rid").values())
    assert len(sampled) == 1000
    assert sampled <= found.keys()
    assert len(found) < 10_000
