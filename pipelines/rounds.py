"""A loop at run time: where records leave it or turn round, and which round they are in."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import SerializeAsAny

from pipelines.node import Outcome, Piece, Rejects, Report, Schemas, Step, Transform
from pipelines.pace import Clock
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, check_expressions
from pipelines.sql.faults import rejects_of, together
from pipelines.sql.sandbox import Sandbox
from pipelines.typed import holds

if TYPE_CHECKING:
    from pipelines.plan import Station

AGAIN = "again"
"""The port by which records go round again."""
MOST_ROUNDS = 10_000
"""So many where nothing else is said: a loop that never ends is a mistake."""


class Gate(Transform):
    """Where the records of a loop leave it, or turn round. It stands where an end of the loop's nodes stood."""

    end: SerializeAsAny[Transform]
    """That end, with the columns that it declares."""
    entrance: str
    """The node from which records go round again."""
    until: str | None = None
    """Records for which this is true leave."""
    at_most: int | None = None
    """So many times a record goes through the loop."""
    timeout_seconds: float | None = None
    """After so long no record goes round again."""

    def ports(self) -> tuple[str, ...]:
        return ("out", AGAIN)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = self.end.check(inputs, scope, report).get("out")
        if schema is not None and self.until is not None:
            check_expressions({"until": self.until}, schema, scope, report, conditions=["until"])
        return dict.fromkeys(self.ports(), schema)

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        """The step that parts a batch by `until`; which round it is `Rounds` knows."""
        end = self.end.open(schema, scope, sandbox)
        given = self.end.check({"": schema}, scope, _unheard)["out"]
        evaluator = None if self.until is None else Evaluator({"until": self.until}, given or schema, scope, sandbox)

        def step(batch: pa.RecordBatch) -> Outcome:
            batch = end(batch).out["out"].batch
            if evaluator is None:
                return Outcome({AGAIN: Piece(batch)})
            evaluated = evaluator(batch)
            done = pc.fill_null(evaluated.columns.column("until").cast(pa.bool_()), False)
            is_done = done.to_numpy(zero_copy_only=False)
            is_sound = np.ones(batch.num_rows, dtype=bool)
            is_sound[[fault.row for fault in evaluated.faults]] = False
            pieces = {"out": _some(batch, is_done & is_sound), AGAIN: _some(batch, ~is_done & is_sound)}
            return Outcome(pieces, rejects=rejects_of(evaluated.faults))

        return step

    def judged(self, outcome: Outcome, rounds: int, seconds: float) -> Outcome:
        """What becomes of those that would go round again after so many rounds and seconds."""
        again = outcome.out.get(AGAIN)
        if again is None or not again.batch.num_rows:
            return outcome
        others = {port: piece for port, piece in outcome.out.items() if port != AGAIN}
        rows = pa.array(range(again.batch.num_rows), pa.int64()) if again.rows is None else again.rows
        if self.timeout_seconds is not None and seconds >= self.timeout_seconds:
            says = f"it was to be done within {self.timeout_seconds:g} seconds and is not, in round {rounds}"
            return _refused(outcome, others, rows, "timeout", says)
        if rounds < (self.at_most or MOST_ROUNDS):
            return outcome
        if self.until is None and self.at_most is not None:  # so many times was all that was asked for
            return replace(outcome, out={"out": again})
        wanted = f"until: {self.until} is not true" if self.until is not None else "it still goes round"
        return _refused(outcome, others, rows, "rounds", f"{wanted} after {rounds} rounds")


def _refused(outcome: Outcome, out: Mapping[str, Piece], rows: pa.Int64Array, code: str, says: str) -> Outcome:
    rejects = together(outcome.rejects, Rejects(rows, [code] * len(rows), [says] * len(rows)))
    return replace(outcome, out=out, rejects=rejects)


def _some(batch: pa.RecordBatch, chosen: np.ndarray) -> Piece:
    rows = pa.array(np.flatnonzero(chosen), pa.int64())
    return Piece(batch.take(rows), rows)


def _unheard(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
    """Problems were told when the whole flow was checked."""


def unreturned(went: pa.Schema, came: pa.Schema) -> Iterator[tuple[str, str]]:
    """The columns that go into a loop and do not come back as they went: what is wrong, what would be right."""
    for field in went:
        if field.name not in came.names:
            what = f"column {field.name!r} goes in and does not come back, so that its records cannot go round"
            yield what, "let the nodes of the loop keep it"
        elif not holds(field.type, came.field(field.name).type):
            kind = came.field(field.name).type
            yield (
                f"column {field.name!r} goes in as {field.type} and comes back as {kind}",
                "cast it in the loop or before",
            )


@dataclass(frozen=True)
class _Round:
    number: int
    since: float


@dataclass
class _Turn:
    gate: Station
    batch: pa.RecordBatch
    rounds: dict[str, _Round]


class Rounds:
    """Which round the records are in that pass a worker thread, per loop, and those that wait to go round again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now: dict[str, _Round] = {}
        self._waiting: deque[_Turn] = deque()

    def enter(self, entrance: str) -> None:
        """Records have come into a loop from outside."""
        self._now[entrance] = _Round(1, self._clock.now())

    def judged(self, gate: Gate, outcome: Outcome) -> Outcome:
        """What becomes of the records at a gate."""
        here = self._here(gate.entrance)
        return gate.judged(outcome, here.number, self._clock.now() - here.since)

    def turn(self, station: Station, batch: pa.RecordBatch) -> None:
        """Has records wait that are to go round again."""
        gate = station.spec.config
        assert isinstance(gate, Gate)
        here = self._here(gate.entrance)
        self._waiting.append(_Turn(station, batch, {**self._now, gate.entrance: _Round(here.number + 1, here.since)}))

    def next(self) -> tuple[Station, pa.RecordBatch] | None:
        """The gate and the records that go round next: all that wait there in the same rounds of all loops."""
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        alike = [turn for turn in self._waiting if turn.gate.name == first.gate.name and turn.rounds == first.rounds]
        if alike:
            self._waiting = deque(turn for turn in self._waiting if turn not in alike)
        self._now = dict(first.rounds)
        return first.gate, pa.concat_batches([first.batch, *(turn.batch for turn in alike)])

    def _here(self, entrance: str) -> _Round:
        """The round of what passes now. What was let in further on, in a replay, is in its first one."""
        if entrance not in self._now:
            self.enter(entrance)
        return self._now[entrance]
