"""Runs whose records wait: counted against one clock by all workers, ended at once by who cancels, taken up again."""

from __future__ import annotations

import csv
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.backtesting import Backtest, backtest
from agent.dry import preview
from agent.prepare import Request
from agent.runs import Host, run
from pipelines.drive import drive
from pipelines.errors import Cancelled
from pipelines.job import Stop, Watch
from repository.project import Project
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, project, run_here

FLOW = """flow: slow
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, split_bytes: 400, columns: {id: BIGINT}}
  paced: {type: throttle, from: orders, per_second: 100}
  out: {type: file.post, from: paced, path: out.jsonl}
"""
ROWS = 500
WORKERS = "environment: local\nrunner: {name: direct, workers: 3}\n"


class Still:
    """A clock that stands still: each wait is noted, and over at once."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.waits: list[float] = []

    def now(self) -> float:
        return 0.0

    def wait(self, seconds: float) -> None:
        self.stop.heed()
        self.waits.append(round(seconds, 6))


def slow(folder: Path, flow: str = FLOW) -> Project:
    made = project(folder, flow, {"environments/local.yaml": WORKERS})
    with (folder / "orders.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id"], *([n] for n in range(ROWS))])
    return made


def delivered(folder: Path) -> list[int]:
    return sorted(json.loads(line)["id"] for line in (folder / "out.jsonl").read_text("utf-8").splitlines())


def ran(made: Project, flow: str = "slow") -> tuple[dict[str, Any], Still]:
    watch = Watch()
    clock = watch.clock = Still(watch.stop)
    return run(Request(made, flow), drive, watch), clock


def test_all_workers_together_let_no_more_pass_than_the_throttle_says(tmp_path: Path) -> None:
    done, clock = ran(slow(tmp_path))

    assert (done["status"], done["balanced"], done["nodes"]["paced"]["out"]) == ("done", True, {"out": ROWS})
    assert len(set(clock.waits)) == len(clock.waits)
    assert max(clock.waits) >= (ROWS - 10) / 100  # the last turn, if all count together
    assert delivered(tmp_path) == list(range(ROWS))


def test_a_delay_is_waited_for_by_what_comes_together(tmp_path: Path) -> None:
    done, clock = ran(
        slow(tmp_path, FLOW.replace("throttle, from: orders, per_second: 100", "delay, from: orders, seconds: 60"))
    )

    assert (done["status"], done["balanced"]) == ("done", True)
    assert set(clock.waits) == {60.0}
    assert delivered(tmp_path) == list(range(ROWS))


def test_what_has_no_time_to_wait_is_set_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    seconds = "CASE WHEN id % 10 = 0 THEN 'inf'::DOUBLE ELSE 1 END"
    flow = FLOW.replace("throttle, from: orders, per_second: 100", f'delay, from: orders, seconds: "{seconds}"')

    done, _ = ran(slow(tmp_path, flow))

    assert (done["status"], done["balanced"], done["nodes"]["paced"]["rejected"]) == ("done_with_rejects", True, 50)
    assert delivered(tmp_path) == [n for n in range(ROWS) if n % 10]


def test_previews_do_not_wait(tmp_path: Path) -> None:
    made = slow(
        tmp_path, FLOW.replace("throttle, from: orders, per_second: 100", "delay, from: orders, seconds: 1000000")
    )

    assert preview(Request(made, "slow"), "paced", 3).num_rows == 3


def test_a_backtest_does_not_wait(tmp_path: Path) -> None:
    made = slow(
        tmp_path, FLOW.replace("throttle, from: orders, per_second: 100", "delay, from: orders, seconds: 1000000")
    )
    ran(made)

    (tried,) = backtest(Backtest(made, "slow"))

    assert (tried["status"], tried["is_same"]) == ("done", True)


@pytest.mark.parametrize(
    "node", ["delay, from: orders, seconds: 1000000", "throttle, from: orders, per_second: 0.000001"]
)
def test_who_cancels_ends_a_wait_at_once(node: str, tmp_path: Path) -> None:
    made = slow(tmp_path, FLOW.replace("throttle, from: orders, per_second: 100", node))
    watch, done = Watch(), {}
    waits = threading.Event()
    real = watch.stop.wait

    def wait(seconds: float) -> None:
        waits.set()
        real(seconds)

    watch.stop.wait = wait  # type: ignore[method-assign]

    def work() -> None:
        done.update(run(Request(made, "slow"), drive, watch))

    thread = threading.Thread(target=work)
    thread.start()
    waits.wait()
    watch.stop.ask(Cancelled("cancelled"))
    thread.join()

    assert done["status"] == "cancelled"
    assert not (tmp_path / "out.jsonl").exists()
    assert leftovers(made) == []


def test_the_time_of_a_run_ends_a_wait_too(tmp_path: Path) -> None:
    made = slow(
        tmp_path, FLOW.replace("throttle, from: orders, per_second: 100", "delay, from: orders, seconds: 1000000")
    )
    text = (made.folder / "flows" / "slow.yaml").read_text("utf-8")
    (made.folder / "flows" / "slow.yaml").write_text(text.replace("nodes:", "settings: {timeout_seconds: 0.1}\nnodes:"))

    done = run_here(made, "slow")

    assert (done["status"], "timeout_seconds" in done["error"]) == ("cancelled", True)


def test_a_run_that_was_killed_between_two_turns_is_taken_up_again(tmp_path: Path) -> None:
    made = slow(tmp_path, FLOW.replace("per_second: 100", "per_second: 100000"))
    assert killed_at(tmp_path, "slow", "pipelines.pace:Limit.take", "after", 3)
    host = Host(made)

    done = host.resume("last")

    host.close()
    assert (done["status"], done["balanced"]) == ("done", True)
    assert delivered(tmp_path) == list(range(ROWS))
    assert leftovers(made) == []
