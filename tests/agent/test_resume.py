"""Runs that are killed and taken up again, and runs that are cancelled from outside."""

from __future__ import annotations

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from agent.runs import Host
from pipelines.errors import Invalid
from repository.catalogue import Catalogue
from repository.project import Project
from repository.query import rows as query
from tests.agent.projects import COMMAND, leftovers, processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, split_bytes: 20000, columns: {id: bigint, customer: varchar, amount: "decimal(10,2)"}, once: true}
  good: {type: filter, from: orders, where: amount >= 1}
  shop: {type: sqlite.post, from: good, connection: shop, table: orders, mode: append, key: [id]}
  sums: {type: aggregate, from: good, by: [customer], measures: {n: count(*)}}
  kept: {type: file.post, from: sums, path: sums.jsonl}
"""
LOCAL = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"
SLOW = (
    "slow: {type: python, from: orders, trusted: true, keep: all, columns: {waited: BOOLEAN}, "
    "code: \"import time\\ndef run(batch): time.sleep(1); return {'waited': [True] * len(batch)}\"}"
)
"""A second for every batch, so that a run is never done before somebody stops it."""
ROWS = 20_000
DIES = """
import os, sys
from agent.prepare import Request
from agent.runs import run
from pipelines import journal, work
from pipelines.drive import drive
from repository.project import Project
from pathlib import Path

work.CHECKPOINT_SECONDS = 0.0
left = int(sys.argv[2])
real = journal.save_checkpoint

def save(job, phase, splits, facts):
    global left
    real(job, phase, splits, facts)
    left -= 1
    if left == 0:
        os._exit(9)

journal.save_checkpoint = save
run(Request(Project(Path(sys.argv[1])), "night"), drive)
"""


def night(folder: Path, flow: str = FLOW) -> Project:
    made = project(folder, flow, {"environments/local.yaml": LOCAL})
    with (folder / "orders.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "customer", "amount"])
        writer.writerows([n, f"customer {n % 7}", "much" if n % 1000 == 999 else f"{n % 97}.50"] for n in range(ROWS))
    return made


def die(folder: Path, after: int) -> str:
    """Kills a run once it has written down so many parts of its work; its name."""
    done = subprocess.run([sys.executable, "-c", DIES, str(folder), str(after)], timeout=100)
    assert done.returncode == 9
    return str(Catalogue(Project(folder).catalogue_url).runs()[0]["run"])


def delivered(folder: Path) -> Counter[int]:
    with sqlite3.connect(folder / "shop.db") as shop:
        return Counter(number for (number,) in shop.execute("SELECT id FROM orders"))


EXPECTED = Counter(n for n in range(ROWS) if n % 1000 != 999 and n % 97 >= 1)


@pytest.mark.parametrize("after", [1, 7])
def test_a_killed_run_goes_on_where_it_was_and_delivers_each_record_once(after: int, tmp_path: Path) -> None:
    made = night(tmp_path)
    run = die(tmp_path, after)
    host = Host(made)

    done = host.resume(run)

    assert (done["run"], done["status"], done["balanced"]) == (run, "done_with_rejects", True)
    assert (done["nodes"]["orders"]["in"], done["nodes"]["orders"]["rejected"]) == (ROWS, 20)
    assert delivered(tmp_path) == EXPECTED
    sums = [json.loads(line) for line in (tmp_path / "sums.jsonl").read_text("utf-8").splitlines()]
    assert sum(row["n"] for row in sums) == EXPECTED.total()
    assert query(made.lake, "SELECT count(*) AS n FROM rejects") == [{"n": 20}]
    assert query(made.lake, "SELECT count(DISTINCT rid) AS n FROM deliveries WHERE node = 'shop'") == [
        {"n": EXPECTED.total()}
    ]
    assert leftovers(made) == []
    assert run_here(made, "night")["nodes"]["orders"]["in"] == 0


def test_what_was_done_before_the_kill_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.kernel import Program

    made = night(tmp_path)
    run = die(tmp_path, 9)
    read: list[object] = []
    real = Program.read
    monkeypatch.setattr(Program, "read", lambda self, split: (read.append(split), real(self, split))[1])

    Host(made).resume(run)

    splits = sum(1 for split in read if split["kind"] == "read")  # type: ignore[index]
    whole = (tmp_path / "orders.csv").stat().st_size // 20_000
    assert splits <= whole + 1 - 9


def test_a_flow_that_is_run_anew_reads_what_the_killed_run_had_not_delivered(tmp_path: Path) -> None:
    made = night(tmp_path)
    killed = die(tmp_path, 3)

    done = run_here(made, "night")

    assert (done["status"], delivered(tmp_path)) == ("done_with_rejects", EXPECTED)
    with pytest.raises(Invalid, match="has ended"):
        Host(made).resume(killed)


def test_a_run_of_another_flow_leaves_the_killed_run_to_be_resumed(tmp_path: Path) -> None:
    made = night(tmp_path)
    run = die(tmp_path, 3)
    (tmp_path / "flows" / "other.yaml").write_text(
        FLOW.replace("flow: night", "flow: other")
        .replace("table: orders", "table: others")
        .replace("sums.jsonl", "x.jsonl"),
        "utf-8",
    )

    run_here(made, "other")

    assert Host(made).resume(run)["status"] == "done_with_rejects"
    assert delivered(tmp_path) == EXPECTED


def test_a_run_that_ended_or_goes_on_cannot_be_resumed(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    made = night(tmp_path)
    run = run_here(made, "night")["run"]
    host = Host(made)

    with pytest.raises(Invalid, match=f"run {run} has ended"):
        host.resume(run)
    host.catalogue.begin_run("busy", "night", "1", "local", datetime.now(UTC))
    with pytest.raises(Invalid, match="run busy is in progress"):
        host.resume("busy")


def started(folder: Path) -> subprocess.Popen[str]:
    """A run in a process of its own that has begun to write its journal, or is done."""
    child = subprocess.Popen(
        [COMMAND, "run", "night", "--json"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for _ in range(1000):
        if list(Project(folder).home.glob("staging/*/journal/job")) or child.poll() is not None:
            return child
        time.sleep(0.02)
    raise AssertionError("the run did not begin")


def test_a_run_in_progress_is_cancelled_by_another_process_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = night(
        tmp_path, FLOW.replace("good: {type: filter, from: orders,", f"{SLOW}\n  good: {{type: filter, from: slow,")
    )
    child = started(tmp_path)

    told = processflow(tmp_path, "runs", "cancel", "last")
    out, _ = child.communicate(timeout=60)

    assert (told.returncode, told.stderr) == (0, "")
    assert ": cancelled\n" in told.stdout
    assert json.loads(out)["status"] == "cancelled"
    assert not (tmp_path / "shop.db").exists()
    assert leftovers(made) == []


CODE = "import time\\ndef run(batch): time.sleep(900)"
CALLS = {
    "a function": f'{{type: python, from: n, columns: {{m: BIGINT}}, timeout_seconds: 1000, code: "{CODE}"}}',
    "an expression": "{type: map, from: n, fields: {m: \"levenshtein(repeat('a', 900) || n, repeat('b', 900))\"}}",
    "a wide node": '{type: sql, from: n, query: "SELECT sum(a.n * b.n * c.n) AS m FROM n a, n b, n c"}',
}
"""Each takes minutes."""


@pytest.mark.parametrize("node", CALLS.values(), ids=CALLS)
def test_a_cancel_does_not_wait_for_the_call_in_hand(tmp_path: Path, node: str) -> None:
    flow = f"""flow: night
nodes:
  start: {{type: start}}
  n: {{type: file.get, from: start, path: n.csv}}
  at_work: {node}
  sent: {{type: file.post, from: at_work, path: sent.csv}}
"""
    made = project(tmp_path, flow, {"n.csv": "n\n" + "".join(f"{n}\n" for n in range(60_000))})
    child = started(tmp_path)
    time.sleep(2)  # so that it is at work, most likely; sooner must do as well

    told = processflow(tmp_path, "runs", "cancel", "last")
    out, said = child.communicate(timeout=60)

    assert ": cancelled\n" in told.stdout, told.stderr + said
    assert json.loads(out)["status"] == "cancelled"
    assert leftovers(made) == []


def test_a_killed_run_can_be_cancelled_too_and_an_ended_one_not(tmp_path: Path) -> None:
    made = night(tmp_path)
    run = die(tmp_path, 2)

    first = processflow(tmp_path, "runs", "cancel", run)
    second = processflow(tmp_path, "runs", "cancel", run)

    assert (first.returncode, first.stdout.splitlines()[0]) == (0, f"run {run}: failed")
    assert (second.returncode, second.stderr) == (2, f"run {run} has ended: failed\n")
    assert leftovers(made) == []


def test_the_command_resumes_a_run_that_kill_9_ended(tmp_path: Path) -> None:
    night(tmp_path)
    child = started(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()

    done = processflow(tmp_path, "runs", "resume", "last")

    assert done.returncode in (0, 2)  # 2: it had ended before the signal came
    assert delivered(tmp_path) == EXPECTED
