"""Flows that are used as nodes of others: their nodes run, are counted, logged, replayed and resumed as the outer flow's own."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.backtesting import Backtest, backtest
from agent.dry import preview, run_tests
from agent.prepare import Request, prepare
from agent.recording import Recording, record
from agent.replaying import Replay, replay
from agent.runs import Host, run
from agent.tracing import trace
from pipelines.drive import drive
from pipelines.errors import Cancelled, Invalid
from pipelines.job import Watch
from repository.catalogue import Catalogue
from repository.query import rows as query
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, processflow, project, run_here
from tests.agent.subflows import EXPECTED, FILES, PRICES, READS, ROWS, SHOP, delivered, lines, shop, table


def test_the_nodes_of_a_subflow_are_counted_and_logged_under_the_name_of_the_node(tmp_path: Path) -> None:
    made = shop(tmp_path)

    done = run_here(made, "shop")

    assert (done["status"], done["balanced"]) == ("done_with_rejects", True)
    assert list(done["nodes"]) == ["orders", "web/start", "web/priced", "web/total", "web/end", "out", "bad"]
    assert (done["nodes"]["web/priced"]["rejected"], done["nodes"]["out"]["delivered"]) == (2, 4)
    assert query(made.lake, 'SELECT id, total FROM shop."web/total" ORDER BY id') == [
        {"id": 0, "total": 1.35},
        {"id": 1, "total": 7.2},
        {"id": 3, "total": 5.4},
        {"id": 4, "total": 18.0},
    ]
    assert query(made.lake, "SELECT DISTINCT node FROM rejects") == [{"node": "web/priced"}]
    assert [row["id"] for row in table(tmp_path / "bad.csv")] == ["2", "5"]


def test_a_subflow_is_passed_in_one_phase_with_what_is_around_it(tmp_path: Path) -> None:
    planned = prepare(Request(shop(tmp_path), "shop")).plan

    assert planned.phases == 1


def test_a_subflow_used_twice_has_parameters_of_its_own_each_time(tmp_path: Path) -> None:
    flow = """flow: twice
parameters: {less: {type: "decimal(4, 2)", default: 0.5}}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: BIGINT, item: VARCHAR, quantity: INTEGER}}
  half: {type: flow, from: orders, flow: prices, parameters: {reduction: $less}}
  whole: {type: flow, from: orders, flow: prices}
  a: {type: file.post, from: half, path: half.jsonl}
  b: {type: file.post, from: whole, path: whole.jsonl}
"""
    made = shop(tmp_path, flow, rows=2)

    run_here(made, "twice", less="0.25")

    assert [row["total"] for row in lines(tmp_path / "half.jsonl")] == [1.13, 6.0]
    assert [row["total"] for row in lines(tmp_path / "whole.jsonl")] == [1.5, 8.0]


def test_the_tests_of_both_flows_hold_and_a_preview_shows_what_leaves_a_subflow(tmp_path: Path) -> None:
    made = shop(tmp_path, rows=1)

    verdicts = [*run_tests(Request(made, "shop")), *run_tests(Request(made, "prices"))]
    seen = preview(Request(made, "shop"), "web")

    assert [(verdict.name, verdict.differences) for verdict in verdicts] == [
        ("web orders are a tenth cheaper", ()),
        ("a price is taken times the quantity", ()),
    ]
    assert seen.to_pylist() == [{"id": 0, "item": "pen", "quantity": 1, "price": 1.5, "total": 1.35}]


def test_a_flow_that_takes_records_does_not_run_by_itself(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="'prices' takes its records from flows that use it"):
        run(Request(shop(tmp_path), "prices"), drive)


def test_what_a_subflow_rejects_is_replayed_from_its_node_on_and_can_be_traced(tmp_path: Path) -> None:
    made = shop(tmp_path)
    first = run_here(made, "shop")
    (tmp_path / "tables" / "prices.csv").write_text(FILES["tables/prices.csv"] + "cap,10.00\n")

    again = replay(Replay(made, first["run"], node="web/priced"), drive)

    assert (again["status"], again["replayed"]) == ("done", {"web/priced": 2})
    assert delivered(tmp_path) == Counter(range(6))
    (of_five,) = query(made.lake, "SELECT rid FROM rejects WHERE payload->>'id' = '5'")
    steps = [step["node"] for way in trace(made, None, of_five["rid"], run=first["run"]) for step in way["steps"]]
    assert list(dict.fromkeys(steps)) == ["orders", "web/start", "web/priced", "bad", "web/total", "web/end", "out"]


def test_a_run_with_a_subflow_is_recorded_as_a_test_and_tried_again(tmp_path: Path) -> None:
    made = shop(tmp_path, SHOP.split("tests:", maxsplit=1)[0])
    done = run_here(made, "shop")

    recorded = record(Recording(made, done["run"]))
    (tried,) = backtest(Backtest(made, "shop"))

    assert recorded.then == {"out": 4, "bad": 2, "web/priced.rejected": 2}
    assert [verdict.passed for verdict in run_tests(Request(made, "shop"))] == [True]
    assert (tried["status"], tried["is_same"]) == ("done_with_rejects", True)


def test_a_subflow_that_reads_by_itself_keeps_its_own_positions_and_may_wait(tmp_path: Path) -> None:
    flow = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv}
  written: {type: file.post, from: orders, path: out.csv}
  stock: {type: flow, from: start, flow: stock, after: written, parameters: {least: 1}}
"""
    made = shop(tmp_path, flow, files={"flows/stock.yaml": READS})
    with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
        database.execute("CREATE TABLE stock (id INTEGER PRIMARY KEY)")
        database.executemany("INSERT INTO stock VALUES (?)", [(0,), (1,), (2,)])
        database.commit()

    first = run_here(made, "night")
    second = run_here(made, "night")

    plan = prepare(Request(made, "night")).plan
    assert plan.stations["stock/items"].phase > plan.stations["written"].phase
    assert (first["nodes"]["stock/kept"]["delivered"], second["nodes"]["stock/items"]["in"]) == (2, 0)
    catalogue = Catalogue(made.catalogue_url)
    assert list(catalogue.positions("night", "local")) == ["stock/items"]
    catalogue.close()


def test_a_node_can_wait_for_all_of_a_subflow(tmp_path: Path) -> None:
    flow = SHOP.replace(
        "tests:", "  later: {type: file.get, from: start, path: orders.csv, after: web}\n"
        "  last: {type: end, from: later}\ntests:",
    )  # fmt: skip
    made = shop(tmp_path, flow)

    planned = prepare(Request(made, "shop")).plan

    assert planned.stations["later"].phase == planned.stations["web/end"].phase + 1


@pytest.mark.parametrize(
    ("place", "when"),
    [
        ("pipelines.journal:save_checkpoint", "after"),
        ("pipelines.journal:save_settled", "after"),
        ("pipelines.journal:save_published", "before"),
    ],
)
def test_a_run_with_a_subflow_that_kill_9_ended_is_taken_up_again(place: str, when: str, tmp_path: Path) -> None:
    flow = SHOP.replace(
        "out: {type: sqlite.post", "web_2: {type: flow, from: web, flow: kept}\n  out: {type: end"
    ).split("tests:")[0]
    flow = flow.replace(", connection: shop, table: orders, mode: append, key: [id]}", "}").replace(
        "from: web, path", "from: web"
    )
    kept = """flow: kept
nodes:
  start: {type: start, columns: {id: BIGINT, total: DOUBLE}}
  posted: {type: sqlite.post, from: start, connection: shop, table: orders, mode: append, key: [id]}
  by_item: {type: aggregate, from: posted, by: [item], measures: {n: count(*)}}
  sums: {type: file.post, from: by_item, path: sums.jsonl}
"""
    made = shop(tmp_path, flow, ROWS, {"flows/kept.yaml": kept})
    assert killed_at(tmp_path, "shop", place, when, 1)
    host = Host(made)

    done = host.resume("last")

    host.close()
    assert (done["status"], done["balanced"]) == ("done_with_rejects", True)
    assert delivered(tmp_path) == EXPECTED
    assert sum(row["n"] for row in lines(tmp_path / "sums.jsonl")) == EXPECTED.total()
    assert leftovers(made) == []


def test_a_run_that_is_cancelled_inside_a_subflow_leaves_its_target_as_it_was(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    slow = PRICES.split("tests:", maxsplit=1)[0].replace("from: priced", "from: slow") + (
        "  slow: {type: python, from: priced, trusted: true, keep: all, columns: {waited: BOOLEAN}, "
        f"code: \"import pathlib, time\\ndef run(batch): pathlib.Path('{begun}').touch(); time.sleep(0.2); "
        "return {'waited': [True] * len(batch)}\"}\n"
    )
    made = shop(tmp_path, SHOP, ROWS, {"flows/prices.yaml": slow})
    watch, done = Watch(), {}

    def work() -> None:
        done.update(run(Request(made, "shop"), drive, watch))

    thread = threading.Thread(target=work)
    thread.start()
    while not begun.exists() and thread.is_alive():
        thread.join(0.01)
    watch.stop.ask(Cancelled("cancelled"))
    thread.join()

    assert done["status"] == "cancelled"
    assert not (tmp_path / "shop.db").exists() or delivered_tables(tmp_path) == []
    assert leftovers(made) == []


def delivered_tables(folder: Path) -> list[Any]:
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        return database.execute("SELECT name FROM sqlite_master WHERE name = 'orders'").fetchall()


def test_a_version_changes_with_the_text_of_a_flow_that_is_used(tmp_path: Path) -> None:
    made = shop(tmp_path)
    before = run_here(made, "shop")
    (tmp_path / "flows" / "prices.yaml").write_text(PRICES.replace("round(", "trunc("))

    after = run_here(made, "shop")

    assert before["version"] != after["version"]


INNER = """flow: {name}
nodes:
  start: {{type: start, columns: {{n: BIGINT}}}}
  next: {{type: {type}, from: {source}, {fields}}}
  end: {{type: end, from: next}}
"""


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(-3, 3), st.integers(1, 4), st.booleans()), min_size=1, max_size=4),
    numbers=st.lists(st.integers(-50, 50), max_size=40),
)
def test_flows_in_flows_give_what_one_select_gives(steps: list[tuple[int, int, bool]], numbers: list[int]) -> None:
    text = "flow: top\nnodes:\n  start: {type: start}\n  given: {type: file.get, from: start, path: n.csv, columns: {n: BIGINT}}\n"
    files = {"n.csv": "n\n" + "".join(f"{n}\n" for n in numbers)}
    select, before = "SELECT n FROM numbers", "given"
    for place, (add, modulus, is_inner) in enumerate(steps):
        fields = f'fields: {{n: "n * 2 + {add}"}}' if place % 2 == 0 else f'where: "n % {modulus} = 0"'
        kind = "map" if place % 2 == 0 else "filter"
        select = (
            f"SELECT n * 2 + {add} AS n FROM ({select})"
            if kind == "map"
            else f"SELECT n FROM ({select}) WHERE n % {modulus} = 0"
        )
        inner = INNER.format(name=f"inner-{place}", type=kind, source="start", fields=fields)
        if is_inner:  # a flow in a flow
            files[f"flows/inmost-{place}.yaml"] = inner.replace(f"inner-{place}", f"inmost-{place}")
            inner = INNER.format(name=f"inner-{place}", type="flow", source="start", fields=f"flow: inmost-{place}")
        files[f"flows/inner-{place}.yaml"] = inner
        text += f"  step_{place}: {{type: flow, from: {before}, flow: inner-{place}}}\n"
        before = f"step_{place}"
    text += f"  out: {{type: file.post, from: {before}, path: out.csv}}\n"
    with tempfile.TemporaryDirectory() as folder:
        made = project(Path(folder), text, files)

        done = run_here(made, "top")

        assert (done["status"], done["balanced"]) == ("done", True)
        out = Path(folder) / "out.csv"
        found = [int(row["n"]) for row in table(out)] if out.exists() else []
    with duckdb.connect() as plain:
        plain.execute("CREATE TABLE numbers (n BIGINT)")
        if numbers:
            plain.executemany("INSERT INTO numbers VALUES (?)", [(n,) for n in numbers])
        assert found == [n for (n,) in plain.execute(select).fetchall()]


def test_the_command_checks_tests_runs_and_explains_a_flow_with_a_subflow(tmp_path: Path) -> None:
    made = shop(tmp_path)

    checked = processflow(made.folder, "check")
    ran = processflow(made.folder, "run", "shop", "--json")

    assert (checked.returncode, checked.stdout.strip()) == (0, "2 flows: no problems")
    assert (ran.returncode, json.loads(ran.stdout)["nodes"]["web/end"]["in"]) == (0, 4)
