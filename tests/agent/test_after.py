"""Nodes that come after others: they see what those have delivered, and wait for nobody else."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from agent.execute import Executor
from agent.prepare import Request, prepare
from agent.replaying import Replay, replay
from agent.runs import Execute, Host, run
from pipelines.drive import drive
from pipelines.errors import Invalid
from repository.project import Project
from repository.query import rows as query
from tests.agent.projects import project, run_here

FLOW = """flow: reload
nodes:
  start: {type: start}
  fresh: {type: file.get, from: start, path: fresh.csv, columns: {id: bigint, n: integer}, once: true}
  stored: {type: sqlite.post, from: fresh, connection: shop, table: orders, mode: upsert, key: id}
  whole: {type: sqlite.get, from: start, connection: shop, table: orders, key: id, cursor: id, after: stored}
  sums: {type: map, from: whole, keep: [id], fields: {twice: n * 2}}
  told: {type: file.post, from: sums, path: told.csv}
"""
ENVIRONMENT = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"


@pytest.mark.parametrize("execute", [drive, Executor().run], ids=["drive", "beam"])
def test_a_get_after_a_post_reads_what_that_delivered_and_its_position_moves(tmp_path: Path, execute: Execute) -> None:
    made = project(tmp_path, FLOW, {"environments/local.yaml": ENVIRONMENT, "fresh.csv": "id,n\n2,20\n3,30\n"})
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER)")
        shop.execute("INSERT INTO orders VALUES (1, 10)")

    first = run(Request(made, "reload"), execute)
    (tmp_path / "fresh.csv").write_text("id,n\n4,40\n")
    second = run(Request(made, "reload"), execute)

    assert first["balanced"]
    assert first["nodes"]["whole"]["in"] == 3
    assert (second["nodes"]["fresh"]["in"], second["nodes"]["whole"]["in"]) == (1, 1)
    told = (tmp_path / "told.csv").read_text().split()
    assert told[0] == "id,twice"
    assert sorted(told[1:]) == ["1,20", "2,40", "3,60", "4,80"]


ORDER = """flow: order
nodes:
  start: {type: start}
  first: {type: file.get, from: start, path: first.csv}
  sums: {type: aggregate, from: first, by: [k], measures: {n: count(*)}}
  summed: {type: file.post, from: sums, path: sums.csv}
  second: {type: file.get, from: start, path: first.csv, after: sums}
  number: {type: map, from: second, fields: {k: k::INTEGER}, rejects: {fail_above: 10}}
  sent: {type: sqlite.post, from: number, connection: shop, table: numbers, key: [k], mode: upsert, after: summed}
  refused: {type: file.post, from: number.rejected, path: refused.csv, after: number}
"""


def ordered(folder: Path) -> Project:
    files = {"environments/local.yaml": ENVIRONMENT, "first.csv": "k\n1\n2\nx\n2\n"}
    with closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE numbers (k INTEGER PRIMARY KEY)")
    return project(folder, ORDER, files)


def numbers(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "shop.db")) as shop:
        return [row[0] for row in shop.execute("SELECT k FROM numbers ORDER BY k")]


def test_after_a_wide_node_means_when_it_has_worked_what_it_took(tmp_path: Path) -> None:
    made = ordered(tmp_path)

    stations = prepare(Request(made, "order")).plan.stations

    assert stations["second"].phase == stations["sums"].phase + 2
    assert stations["sent"].phase > stations["summed"].phase
    assert stations["refused"].phase > stations["number"].phase


def test_what_waits_gets_its_records_all_the_same_and_its_rejects_can_be_replayed(tmp_path: Path) -> None:
    made = ordered(tmp_path)

    first = run_here(made, "order")
    flow = made.folder / "flows/order.yaml"
    flow.write_text(flow.read_text().replace("k::INTEGER", "\"replace(k, 'x', '7')::INTEGER\""))
    again = replay(Replay(made, first["run"]), drive)

    assert (first["status"], first["balanced"]) == ("done_with_rejects", True)
    assert (tmp_path / "refused.csv").read_text().split()[1].startswith("x,number,expression")
    assert (again["status"], again["balanced"]) == ("done", True)
    assert numbers(tmp_path) == [1, 2, 7]


def test_a_run_that_died_between_a_node_and_those_after_it_goes_on_in_order(tmp_path: Path) -> None:
    made = ordered(tmp_path)
    dies = (
        "import os, sys\nfrom pathlib import Path\nfrom agent.prepare import Request\nfrom agent.runs import run\n"
        "from pipelines import drive\nfrom repository.project import Project\n"
        "real = drive.settle\n"
        "def settle(job, phase, facts):\n"
        "    if phase == 2:\n        os._exit(9)\n    return real(job, phase, facts)\n"
        "drive.settle = settle\nrun(Request(Project(Path(sys.argv[1])), 'order'), drive.drive)\n"
    )
    died = subprocess.run([sys.executable, "-c", dies, str(tmp_path)], timeout=100)

    report = Host(made, drive).resume("last")

    assert died.returncode == 9
    assert (report["status"], report["balanced"]) == ("done_with_rejects", True)
    assert numbers(tmp_path) == [1, 2]
    assert (tmp_path / "sums.csv").read_text().split() == ["k,n", "1,1", "2,2", "x,1"]


def test_a_get_is_no_place_for_records_to_go(tmp_path: Path) -> None:
    flow = FLOW.replace("from: start, connection: shop, table: orders", "from: fresh, connection: shop, table: orders")
    made = project(tmp_path, flow, {"environments/local.yaml": ENVIRONMENT, "fresh.csv": "id,n\n"})

    with pytest.raises(Invalid) as found:
        run_here(made, "reload")

    assert 'node "whole": takes from "fresh", but a sqlite.get takes no records; write `from: start`' in str(
        found.value
    )


def test_what_a_get_says_of_what_it_will_read_is_in_the_transaction_log(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"environments/local.yaml": ENVIRONMENT, "fresh.csv": "id,n\n2,20\n"})
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER)")

    run_here(made, "reload")
    run_here(made, "reload")

    notes = query(made.lake, "SELECT node, details->>'note' AS note FROM transactions WHERE what = 'planned'")
    assert [note["note"] for note in notes if note["node"] == "fresh"]
