"""`dedupe` across runs: keys are let through once, whatever happens to the runs, and can be forgotten."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.backtesting import Backtest, backtest
from agent.dry import preview, run_tests
from agent.prepare import Request
from agent.replaying import Replay, replay
from agent.runs import Host
from pipelines import remembering
from pipelines.drive import drive
from pipelines.errors import Invalid
from pipelines.remembering import Memory, bucketed, stretches, witness, write_keys
from pipelines.sql.sandbox import Sandbox
from repository import memory
from repository.catalogue import Catalogue
from repository.project import Project
from tests.agent.projects import leftovers, processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, state: varchar, amount: varchar}}
  once: {type: dedupe, from: orders, key: [id, state], across: runs}
  priced: {type: map, from: once, keep: all, fields: {amount: CAST(amount AS INTEGER)}, rejects: {fail_above: 2}}
  kept: {type: file.post, from: priced, path: kept/, format: jsonl}
"""
LATE = "    then: {once: [{id: 1, state: new}, {id: 2}]}\n"
TEST = (
    "tests:\n  - name: keys\n    given: {orders: [{id: 1, state: new, amount: '1'}, {id: 1, state: new}, {id: 2}]}\n"
    + LATE
)


def night(folder: Path, flow: str = FLOW) -> Project:
    made = project(folder, flow)
    orders(folder, "1,new,5", "2,new,7", "1,new,6")
    return made


def orders(folder: Path, *rows: str) -> None:
    (folder / "orders.csv").write_text("id,state,amount\n" + "".join(f"{row}\n" for row in rows), "utf-8")


def delivered(folder: Path) -> Counter[tuple[Any, ...]]:
    texts = [path.read_text("utf-8") for path in (folder / "kept").glob("*.jsonl")]
    rows = [json.loads(line) for text in texts for line in text.splitlines()]
    return Counter((row.get("id"), row.get("state")) for row in rows)


def test_a_key_that_a_former_run_let_through_is_counted_as_filtered(tmp_path: Path) -> None:
    made = night(tmp_path)
    first = run_here(made, "night")
    orders(tmp_path, "1,new,5", "2,paid,7", ",new,1", ",new,2", "3,,1")

    second = run_here(made, "night")
    third = run_here(made, "night")

    assert [(run["nodes"]["once"]["in"], run["nodes"]["once"]["filtered"]) for run in (first, second, third)] == [
        (3, 1),
        (5, 2),
        (5, 5),
    ]
    assert all(run["balanced"] for run in (first, second, third))
    assert delivered(tmp_path) == Counter([(1, "new"), (2, "new"), (2, "paid"), (None, "new"), (3, None)])


def test_a_run_that_fails_forgets_what_it_let_through(tmp_path: Path) -> None:
    made = night(tmp_path)
    orders(tmp_path, "1,new,a", "2,new,b", "3,new,c", "4,new,5")

    failed = run_here(made, "night")
    orders(tmp_path, "1,new,1", "2,new,2", "3,new,3", "4,new,5")
    second = run_here(made, "night")

    assert (failed["status"], second["status"]) == ("failed", "done")
    assert sum(delivered(tmp_path).values()) == 4


def test_previews_and_tests_neither_read_nor_write_what_is_remembered(tmp_path: Path) -> None:
    made = night(tmp_path, FLOW + TEST)
    request = Request(made, "night")

    before = [preview(request, "once").num_rows, *(verdict.differences for verdict in run_tests(request))]
    run = run_here(made, "night")
    after = [preview(request, "once").num_rows, *(verdict.differences for verdict in run_tests(request))]

    assert run["nodes"]["once"]["out"] == {"out": 2}
    assert before == after == [2, ()]
    assert run_here(made, "night")["nodes"]["once"]["out"] == {}


def test_a_backtest_remembers_what_the_run_knew_and_nothing_more(tmp_path: Path) -> None:
    made = night(tmp_path)
    run_here(made, "night")
    orders(tmp_path, "1,new,5", "5,new,5")
    second = run_here(made, "night")
    orders(tmp_path, "6,new,5")
    run_here(made, "night")

    (compared,) = backtest(Backtest(made, "night", run=second["run"]))

    assert compared["is_same"], compared
    assert run_here(made, "night")["nodes"]["once"]["out"] == {}


def test_a_replayed_record_is_let_through_once_and_remembered_then(tmp_path: Path) -> None:
    text = FLOW.replace("from: orders, key", "from: checked, key").replace(
        "  once:", "  checked: {type: filter, from: orders, where: CAST(amount AS INTEGER) > 0}\n  once:"
    )
    made = night(tmp_path, text)
    orders(tmp_path, "1,new,5", "2,new,x", "1,new,y")
    run = run_here(made, "night")["run"]
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(
        text.replace("CAST(amount AS INTEGER) > 0", "amount <> ''").replace("CAST(amount", "TRY_CAST(amount")
    )

    done = replay(Replay(made, run), drive)
    again = run_here(made, "night")

    assert (done["nodes"]["once"]["filtered"], done["nodes"]["once"]["out"]) == (1, {"out": 1})
    assert again["nodes"]["once"]["out"] == {}
    assert delivered(tmp_path) == Counter([(1, "new"), (2, "new")])


DIES = """
import os, sys
from pathlib import Path
from agent.prepare import Request
from agent import runs
from pipelines.drive import drive
from repository.catalogue import Catalogue
from repository.project import Project

if sys.argv[2] == "before":
    runs.remembered = lambda *_: os._exit(9)
elif sys.argv[2] == "moved":
    Catalogue.end_run = lambda *_: os._exit(9)
else:
    runs.tidy = lambda *_: os._exit(9)
runs.run(Request(Project(Path(sys.argv[1])), "night"), drive)
"""


@pytest.mark.parametrize("moment", ["before", "moved", "ended"])
def test_a_kill_at_the_end_of_a_run_neither_loses_keys_nor_remembers_them_twice(tmp_path: Path, moment: str) -> None:
    made = night(tmp_path)

    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path), moment], timeout=100)
    second = run_here(made, "night")

    assert died.returncode == 9
    assert (second["status"], second["nodes"]["once"]["out"]) == ("done", {})
    assert sum(delivered(tmp_path).values()) == 2
    assert sum(line["rows"] for line in Catalogue(made.catalogue_url).memory_lines("night", "local")) == 2
    assert leftovers(made) == []


def test_another_environment_has_a_memory_of_its_own(tmp_path: Path) -> None:
    from agent.runs import run

    made = night(tmp_path)
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "plant.yaml").write_text("environment: plant\n", "utf-8")
    run_here(made, "night")

    other = run(Request(made, "night", "plant"), drive)

    assert other["nodes"]["once"]["out"] == {"out": 2}


def test_a_memory_is_shown_and_reset(tmp_path: Path) -> None:
    made = night(tmp_path)
    run_here(made, "night")

    shown = processflow(tmp_path, "positions", "show", "night")
    reset = processflow(tmp_path, "positions", "reset", "night", "once")

    assert "remembers 2 keys (id, state) since" in shown.stdout
    assert (reset.returncode, reset.stderr) == (0, "")
    assert run_here(made, "night")["nodes"]["once"]["out"] == {"out": 2}


def test_another_key_than_the_remembered_one_is_told_before_anything_runs(tmp_path: Path) -> None:
    made = night(tmp_path)
    run_here(made, "night")
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(FLOW.replace("key: [id, state]", "key: [id]"), "utf-8")

    with pytest.raises(Invalid, match=r"its key is id \(int64\), .* earlier runs is id \(int64\), state \(string\)"):
        run_here(made, "night")


def test_many_runs_leave_few_files_and_forget_nothing(tmp_path: Path) -> None:
    made = night(tmp_path)
    host = Host(made, drive)
    for number in range(20):
        orders(tmp_path, f"{number},new,1", f"{number + 1},new,1")
        run_here(made, "night")
    host.close()

    lines = Catalogue(made.catalogue_url).memory_lines("night", "local")

    assert sum(line["rows"] for line in lines) == 21 == sum(delivered(tmp_path).values())
    assert len(lines) < memory.FEW + 2


def test_keys_are_forgotten_after_the_days_that_are_stated(tmp_path: Path) -> None:
    sandbox = Sandbox()
    old, new = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    lines = []
    for number, at in enumerate((old, new)):
        batch = pa.record_batch({"id": pa.array([number]), remembering.AT: pa.array([at], remembering.INSTANT)})
        write_keys(tmp_path / memory.FOLDER / "e" / f"{number}.parquet", bucketed(batch, ["id"], sandbox), sandbox)
        lines.append({"path": f"e/{number}.parquet", "run": str(number), "rows": 1, "since": at, "at": at})

    known = Memory(since=new - timedelta(days=30))
    found = [
        table["id"].to_pylist()
        for line in lines
        for table in stretches(str(tmp_path / memory.FOLDER / line["path"]), ["id"], None, b"", known)
    ]
    one = memory.merged(tmp_path, lines, 30, new, sandbox)

    assert found == [[1]]
    assert (one["rows"], one["run"]) == (1, "1")


def test_files_of_another_hash_are_read_whole_and_put_in_order_when_they_are_merged(tmp_path: Path) -> None:
    sandbox = Sandbox()
    at = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 300, remembering.INSTANT)
    table = bucketed(pa.record_batch({"id": pa.array(range(300)), remembering.AT: at}), ["id"], sandbox)
    wrong = table.set_column(1, remembering.BUCKET, pa.array([3] * 300, pa.uint8()))
    real, path = remembering.witness, tmp_path / memory.FOLDER / "e" / "0.parquet"
    remembering.witness = lambda sandbox: b"another"
    write_keys(path, wrong, sandbox)
    remembering.witness = real

    before = sum(t.num_rows for t in stretches(str(path), ["id"], {5}, witness(sandbox), Memory()))
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    line = {"path": "e/0.parquet", "run": "r", "rows": 300, "since": moment, "at": moment}
    one = memory.merged(tmp_path, [line], None, moment, sandbox)
    after = pa.concat_tables(
        stretches(str(tmp_path / memory.FOLDER / one["path"]), ["id"], {5}, witness(sandbox), Memory())
    )

    assert (before, one["rows"]) == (300, 300)
    assert 0 < after.num_rows < 300
