"""Records pass in their time: counted against a clock that the tests pass in, together by all who share a limit."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.conformance.nodes import Reported
from pipelines.pace import Limit, Paced
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from transforms.delay import Delay
from transforms.throttle import Throttle


class FakeClock:
    """Time passes where somebody waits, and only there."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self._lock = threading.Lock()

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        with self._lock:
            self.time += seconds


def passed(step: Any, batch: pa.RecordBatch, clock: FakeClock) -> list[tuple[float, int]]:
    """When how many records passed."""
    assert isinstance(step, Paced)
    return [(round(clock.now() - 1_000.0, 6), size) for size in step.turns(batch, clock)]


def opened(node: Any, batch: pa.RecordBatch, folder: Path, name: str = "slow") -> Any:
    scope = Scope(folder, flow="f", staging=folder / "staging" / "run").inside(name)
    with_sandbox = Sandbox()
    return node.open(batch.schema, scope, with_sandbox)


NUMBERS = pa.RecordBatch.from_pydict({"n": list(range(10))})


def test_a_throttle_lets_a_tenth_of_a_second_s_worth_pass_at_a_time(tmp_path: Path) -> None:
    step = opened(Throttle(per_second=40.0), NUMBERS, tmp_path)

    assert passed(step, NUMBERS, FakeClock()) == [(0.0, 4), (0.1, 4), (0.2, 2)]


def test_a_throttle_slower_than_one_a_second_lets_one_pass_at_a_time(tmp_path: Path) -> None:
    step = opened(Throttle(per_second=0.5), NUMBERS, tmp_path)

    assert passed(step, NUMBERS.slice(0, 3), FakeClock()) == [(0.0, 1), (2.0, 1), (4.0, 1)]


def test_throttles_of_one_connection_count_together_and_others_alone(tmp_path: Path) -> None:
    clock, two = FakeClock(), NUMBERS.slice(0, 1)
    first = opened(Throttle(per_second=1.0, connection="erp"), two, tmp_path, "a")
    second = opened(Throttle(per_second=2.0, connection="erp"), two, tmp_path, "b")
    alone = opened(Throttle(per_second=1.0), two, tmp_path, "c")

    times = [passed(step, two, clock)[0][0] for step in (first, second, alone, first)]

    assert times == [0.0, 1.0, 1.0, 1.5]


def test_what_was_not_used_is_not_saved_up(tmp_path: Path) -> None:
    clock, limit = FakeClock(), Limit(tmp_path / "limit", 1.0)
    limit.take(1, clock.now())
    clock.wait(100)

    assert [limit.take(1, clock.now()) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_a_turn_of_before_the_machine_was_restarted_does_not_count(tmp_path: Path) -> None:
    limit = Limit(tmp_path / "limit", 1.0)
    limit.take(1, 9_000_000.0)

    assert limit.take(1, 5.0) == 0.0


def take_turns(path: Path, turns: int) -> None:
    limit = Limit(path, 1.0)
    for _ in range(turns):
        limit.take(1, 0.0)


def test_workers_of_several_threads_and_processes_take_no_turn_twice(tmp_path: Path) -> None:
    path = tmp_path / "limit"
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=take_turns, args=(path, 100)) for _ in range(2)]
    workers = [*children, *(threading.Thread(target=take_turns, args=(path, 100)) for _ in range(2))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [child.exitcode for child in children] == [0, 0]
    assert Limit(path, 1.0).take(1, 0.0) == 400.0


def test_a_delay_lets_a_batch_go_on_when_its_time_is_over(tmp_path: Path) -> None:
    assert passed(opened(Delay(seconds=90.0), NUMBERS, tmp_path), NUMBERS, FakeClock()) == [(90.0, 10)]


@settings(max_examples=50, deadline=None)
@given(waits=st.lists(st.none() | st.integers(-5, 20), min_size=1, max_size=30))
def test_each_record_goes_on_when_it_and_those_before_it_have_waited(
    tmp_path_factory: pytest.TempPathFactory, waits: list[int | None]
) -> None:
    batch = pa.RecordBatch.from_pydict({"id": list(range(len(waits))), "w": pa.array(waits, pa.int32())})
    step = opened(Delay(seconds="w * 2"), batch, tmp_path_factory.getbasetemp())

    turns = passed(step, batch, FakeClock())

    when = [moment for moment, size in turns for _ in range(size)]
    table = pa.Table.from_batches([batch])
    with duckdb.connect() as plain:
        plain.register("came", table)
        due = plain.execute(
            "SELECT max(greatest(coalesce(w * 2, 0), 0)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) FROM came ORDER BY id"
        ).fetchall()
    assert when == [float(seconds) for (seconds,) in due]


def test_a_wait_without_end_is_a_reject(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"w": ["1", "inf", "nan", "x"]})
    step = opened(Delay(seconds="w::DOUBLE"), batch, tmp_path)

    outcome = step(batch)

    assert outcome.out["out"].batch.to_pydict() == {"w": ["1"]}
    assert outcome.rejects.rows.to_pylist() == [1, 2, 3]
    assert outcome.rejects.messages[0] == "seconds: inf is no finite number"


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (-1.0, "seconds: -1.0 is no time to wait; such as 5, or an expression that gives a number of seconds"),
        ("n = 1", "seconds: expression 'n = 1': gives bool, not a number; such as 5, or an expression"),
        ("m", "seconds: expression 'm': "),
    ],
)
def test_what_is_no_time_to_wait_is_told_before_the_run(seconds: Any, says: str, tmp_path: Path) -> None:
    told = Reported()

    Delay(seconds=seconds).check({"": NUMBERS.schema}, Scope(tmp_path), told)

    assert len(told) == 1
    assert told[0].startswith(says)
