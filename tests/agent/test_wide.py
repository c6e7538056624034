"""Wide nodes in whole runs: equal to plain DuckDB, with any number of workers, batches and partitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.execute import Executor
from agent.prepare import Request, prepare
from agent.runs import run
from repository.project import Project
from tests.agent.projects import project, run_here

SOURCES = """  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, customer: bigint, amount: "decimal(10,2)", note: varchar}}
  customers: {type: file.get, from: start, path: customers.csv, columns: {customer: bigint, name: varchar}}
  seen: {type: end, from: customers}
"""
COLUMNS = {
    "orders": "{'id': 'BIGINT', 'customer': 'BIGINT', 'amount': 'DECIMAL(10,2)', 'note': 'VARCHAR'}",
    "customers": "{'customer': 'BIGINT', 'name': 'VARCHAR'}",
}


def shop(folder: Path, nodes: str, batch_rows: int = 1000, workers: int = 2) -> Project:
    return project(
        folder,
        f"flow: shop\nsettings: {{batch_rows: {batch_rows}}}\nnodes:\n{SOURCES}{nodes}"
        "  out: {type: file.post, from: wide, path: out.jsonl, mode: replace}\n",
        {"environments/local.yaml": f"environment: local\nrunner: {{name: direct, workers: {workers}}}\n"},
    )


def made(folder: Path, rows: int = 5000) -> None:
    duckdb.execute(
        f"COPY (SELECT i AS id, CASE WHEN i % 11 = 0 THEN NULL WHEN i % 10 > 0 THEN 7 ELSE i % 300 END AS customer, "
        f"(i % 977) / 10 AS amount, 'note ' || i % 50 AS note FROM range({rows}) t(i)) TO '{folder / 'orders.csv'}'"
    )
    duckdb.execute(
        f"COPY (SELECT i AS customer, 'customer ' || i AS name FROM range(0, 400, 2) t(i)) TO '{folder / 'customers.csv'}'"
    )


def delivered(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def expected(folder: Path, sql: str) -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        for name, columns in COLUMNS.items():
            path = folder / f"{name}.csv"
            connection.execute(
                f"CREATE VIEW {name} AS SELECT * FROM read_csv('{path}', header=true, columns={columns})"
            )
        found = connection.execute(f"SELECT to_json(x) FROM ({sql}) x").fetchall()
    return [json.loads(text) for (text,) in found]


def in_any_order(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


NODES = (
    {
        "aggregate": (
            "  wide: {type: aggregate, from: orders, by: [customer], measures: {orders: count(*), total: sum(amount), last: max(id)}}\n",
            "SELECT customer, count(*) AS orders, sum(amount) AS total, max(id) AS last FROM orders GROUP BY customer",
        ),
        "aggregate all": (
            "  wide: {type: aggregate, from: orders, measures: {orders: count(*), total: sum(amount)}}\n",
            "SELECT count(*) AS orders, sum(amount) AS total FROM orders",
        ),
        "dedupe": (
            "  wide: {type: dedupe, from: orders, key: [customer, note], keep: last, order_by: [amount, id]}\n",
            "SELECT * FROM orders QUALIFY row_number() OVER (PARTITION BY customer, note ORDER BY amount DESC, id DESC) = 1",
        ),
        "pivot": (
            "  wide: {type: pivot, from: orders, by: [customer], on: note, columns: {one: note 1, two: note 2}, values: sum(amount)}\n",
            "SELECT customer, sum(amount) FILTER (WHERE note = 'note 1') AS one, "
            "sum(amount) FILTER (WHERE note = 'note 2') AS two FROM orders GROUP BY customer",
        ),
        "sql": (
            '  wide: {type: sql, from: {o: orders, c: customers}, query: "SELECT name, sum(amount) AS total '
            "FROM o JOIN c USING (customer) WHERE note <> 'o''clock $x' GROUP BY name HAVING count(*) > 1\"}\n",
            "SELECT name, sum(amount) AS total FROM orders JOIN customers USING (customer) GROUP BY name HAVING count(*) > 1",
        ),
        "sort": (
            "  wide: {type: sort, from: orders, by: [-amount, id], limit: 100}\n",
            "SELECT * FROM orders ORDER BY amount DESC, id LIMIT 100",
        ),
    }
    | {
        f"{how} join": (
            f"  wide: {{type: join, from: {{left: orders, right: customers}}, on: customer, how: {how}}}\n",
            f"SELECT o.id, {key} AS customer, o.amount, o.note, c.name FROM orders o {kind} JOIN customers c ON o.customer = c.customer",
        )
        for how, kind, key in (
            ("inner", "", "o.customer"),
            ("left", "LEFT", "o.customer"),
            ("right", "RIGHT", "c.customer"),
            ("full", "FULL", "coalesce(o.customer, c.customer)"),
        )
    }
    | {
        f"{how} join": (
            f"  wide: {{type: join, from: {{left: orders, right: customers}}, on: [customer], how: {how}}}\n",
            f"SELECT * FROM orders o {how} JOIN customers c ON o.customer = c.customer",
        )
        for how in ("semi", "anti")
    }
)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("batch_rows", [65_536, 50])
def test_a_wide_node_gives_what_duckdb_gives(tmp_path: Path, name: str, batch_rows: int) -> None:
    nodes, sql = NODES[name]
    made(tmp_path)

    report = run_here(shop(tmp_path, nodes, batch_rows), "shop")

    assert report["status"] == "done", report["error"]
    assert report["balanced"]
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


def test_sorted_records_arrive_in_their_order(tmp_path: Path) -> None:
    made(tmp_path)
    nodes = "  wide: {type: sort, from: orders, by: [-amount, id]}\n"

    run_here(shop(tmp_path, nodes, batch_rows=500), "shop")

    found = [row["id"] for row in delivered(tmp_path)]
    assert found == [row["id"] for row in expected(tmp_path, "SELECT * FROM orders ORDER BY amount DESC, id")]


def test_wide_nodes_after_one_another_run_on_beam_with_a_ledger_that_balances(tmp_path: Path) -> None:
    made(tmp_path)
    nodes = """  joined: {type: join, from: {left: orders, right: customers}, on: customer, how: left}
  grouped: {type: aggregate, from: joined, by: [name], measures: {total: sum(amount), orders: count(*)}}
  wide: {type: sort, from: grouped, by: [-total, name], limit: 5}
"""
    sql = (
        "SELECT c.name, sum(amount) AS total, count(*) AS orders FROM orders o LEFT JOIN customers c USING (customer) "
        "GROUP BY c.name ORDER BY total DESC NULLS LAST, c.name LIMIT 5"
    )

    report = run(Request(shop(tmp_path, nodes), "shop"), Executor().run)

    assert report["balanced"], report["error"]
    assert delivered(tmp_path) == expected(tmp_path, sql)
    assert report["nodes"]["grouped"]["merged"] == report["nodes"]["joined"]["out"]["out"] == 5000
    assert report["nodes"]["wide"]["filtered"] == report["nodes"]["grouped"]["out"]["out"] - 5


def test_no_record_at_all_is_one_group_without_keys_and_none_with(tmp_path: Path) -> None:
    made(tmp_path, rows=0)
    everything = "  wide: {type: aggregate, from: orders, measures: {orders: count(*)}}\n"

    report = run_here(shop(tmp_path, everything), "shop")

    assert report["balanced"]
    assert delivered(tmp_path) == [{"orders": 0}]


Amounts = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 5)), st.integers(-999, 999)), max_size=60)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(Amounts, st.integers(1, 50), st.integers(1, 4))
def test_groups_are_the_same_at_every_batch_size(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int | None, int]], batch_rows: int, workers: int
) -> None:
    folder = tmp_path_factory.mktemp("groups")
    text = "".join(f"{n},{'' if key is None else key},{amount},x\n" for n, (key, amount) in enumerate(rows))
    (folder / "orders.csv").write_text("id,customer,amount,note\n" + text)
    (folder / "customers.csv").write_text("customer,name\n")
    nodes, sql = NODES["aggregate"]

    report = run_here(shop(folder, nodes, batch_rows, workers), "shop")

    assert report["balanced"], report["error"]
    assert in_any_order(delivered(folder)) == in_any_order(expected(folder, sql))


def test_sources_of_wide_nodes_read_only_what_is_needed_and_the_answer_is_the_same(tmp_path: Path) -> None:
    made(tmp_path)
    nodes = """  joined: {type: join, from: {left: orders, right: customers}, on: customer, how: left}
  kept: {type: dedupe, from: joined, key: [name, amount]}
  wide: {type: aggregate, from: kept, by: [name], measures: {orders: count(*)}}
"""
    there = shop(tmp_path, nodes)
    planned = prepare(Request(there, "shop")).plan

    report = run_here(there, "shop")

    assert planned.stations["orders"].wanted == {"customer", "amount"}
    assert planned.stations["joined"].outputs["out"].names == ["customer", "amount", "name"]
    assert report["balanced"], report["error"]
    sql = "SELECT name, count(DISTINCT (amount,)) AS orders FROM orders LEFT JOIN customers USING (customer) GROUP BY name"
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


def test_records_are_counted_where_none_of_their_columns_is_needed(tmp_path: Path) -> None:
    made(tmp_path)
    nodes = "  wide: {type: aggregate, from: orders, measures: {orders: count(*)}}\n"

    report = run_here(shop(tmp_path, nodes), "shop")

    assert report["balanced"], report["error"]
    assert delivered(tmp_path) == [{"orders": 5000}]
