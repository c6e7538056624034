"""The node type `delay`: records go on later."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Rejects, Report, Schemas, Step, Transform
from pipelines.pace import Clock
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, Expression, check_expressions, shortened, used_columns
from pipelines.sql.faults import CODE, rejects_of, rows_without, together
from pipelines.sql.sandbox import Sandbox

NO_NUMBER = "such as 5, or an expression that gives a number of seconds"


class Delay(Transform):
    """Lets each record go on `seconds` after it came, in their order: one that waits longer holds back those behind it.

    What a source gives at a time, some 65,000 records, comes together and so waits together. A record whose `seconds` are
    null or less than nothing goes on at once; one for which they cannot be computed, or are no finite number, is
    rejected. Previews, tests and backtests do not wait.
    """

    seconds: float | Expression = Field(examples=[5, 0.5, "CASE WHEN is_new THEN 60 ELSE 0 END"])
    """How long a record waits: a number, or an expression that gives one (DuckDB SQL)."""

    category = "flow"
    examples = (
        Example(
            says="Two seconds later, so that the other system has seen the order before its lines come.",
            config={"seconds": 2},
            records=[{"id": 1}, {"id": 2}],
            gives={"out": [{"id": 1}, {"id": 2}]},
        ),
        Example(
            says="As long as each record says; one that says nothing does not wait.",
            config={"seconds": "wait_minutes::DOUBLE * 60"},
            records=[{"id": 1, "wait_minutes": "0.5"}, {"id": 2, "wait_minutes": None}, {"id": 3, "wait_minutes": "?"}],
            gives={
                "out": [{"id": 1, "wait_minutes": "0.5"}, {"id": 2, "wait_minutes": None}],
                "rejected": [{"id": 3, "reject_code": "expression"}],
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if isinstance(self.seconds, float) and not 0 <= self.seconds < float("inf"):
            report(("seconds",), f"{self.seconds} is no time to wait", NO_NUMBER)
        if schema is not None and isinstance(self.seconds, str):
            bound = check_expressions({"seconds": self.seconds}, schema, scope, report)
            kind = bound.schema.field("seconds").type if "seconds" in bound.schema.names else pa.float64()
            if not (pa.types.is_null(kind) or _is_number(kind)):
                report(("seconds",), f"{shortened(self.seconds)}: gives {kind}, not a number", NO_NUMBER)
        return {"out": schema}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        if isinstance(self.seconds, float):
            return _Alike(self.seconds)
        return _Each(Evaluator({"seconds": self.seconds}, schema, scope, sandbox))

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        if wanted is None or isinstance(self.seconds, float):
            return wanted
        return wanted | used_columns([self.seconds], schema, sandbox)


class _Alike:
    """All records wait as long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def turns(self, batch: pa.RecordBatch, clock: Clock) -> Iterator[int]:
        if self._seconds > 0:
            clock.wait(self._seconds)
        yield batch.num_rows

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        return Outcome({"out": Piece(batch)})


class _Each:
    """Each record waits as long as it says."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def turns(self, batch: pa.RecordBatch, clock: Clock) -> Iterator[int]:
        came, (seconds, _) = clock.now(), self._seconds(batch)
        due = came + np.maximum.accumulate(np.maximum(seconds, 0.0))
        passed = 0
        while passed < len(due):
            if (wait := due[passed] - clock.now()) > 0:
                clock.wait(float(wait))
            ready = max(int(np.searchsorted(due, clock.now(), "right")), passed + 1)
            yield ready - passed
            passed = ready

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        _, rejects = self._seconds(batch)
        if rejects is None:
            return Outcome({"out": Piece(batch)})
        rows = rows_without(rejects, batch.num_rows)
        return Outcome({"out": Piece(batch.take(rows), rows)}, rejects=rejects)

    def _seconds(self, batch: pa.RecordBatch) -> tuple[np.ndarray, Rejects | None]:
        """How long each record waits, those that are rejected not at all; and these."""
        evaluated = self._evaluator(batch)
        rejects = rejects_of(evaluated.faults)
        column = evaluated.columns.column("seconds").cast(pa.float64(), safe=False)
        seconds = pc.fill_null(column, 0.0).to_numpy(zero_copy_only=False).copy()
        endless = np.flatnonzero(~np.isfinite(seconds))
        if len(endless):
            says = [f"seconds: {seconds[row]} is no finite number" for row in endless]
            rejects = together(rejects, Rejects(pa.array(endless, pa.int64()), [CODE] * len(says), says))
            seconds[endless] = 0.0
        return seconds, rejects


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))
