"""The node type `throttle`: so many records a second."""

import hashlib
import re
from collections.abc import Iterator

import pyarrow as pa
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.pace import Clock, Limit
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

SAFE_CHARACTERS = 80


class Throttle(Transform):
    """Lets at most so many records a second pass, in their order; the others wait.

    All workers of this machine count together, also those of runs that follow one another. With `connection` all throttles
    that name it share one limit, in whatever flow: what one lets pass, the others wait for. Records pass in groups of a
    tenth of a second's worth. What was not used is not saved up. Previews, tests and backtests do not wait.
    """

    per_second: float = Field(gt=0, le=1_000_000, examples=[50, 0.5])
    """How many records pass in a second."""
    connection: str | None = Field(default=None, examples=["erp"])
    """The connection whose throttles count together. Without it this node's records are counted alone."""

    category = "flow"
    examples = (
        Example(
            says="No more than 50 records a second reach what comes behind.",
            config={"per_second": 50},
            records=[{"id": 1}, {"id": 2}, {"id": 3}],
            gives={"out": [{"id": 1}, {"id": 2}, {"id": 3}]},
        ),
        Example(
            says="One every two seconds.",
            config={"per_second": 0.5},
            records=[{"id": 1}, {"id": 2}],
            gives={"out": [{"id": 1}, {"id": 2}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs.get("")}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        counted = f"connection/{self.connection}" if self.connection else f"node/{scope.flow}/{scope.node}"
        name = f"{scope.environment.name}/{counted}"
        readable = re.sub(r"[^A-Za-z0-9_-]", ".", name)[:SAFE_CHARACTERS]
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        return _Throttled(Limit(scope.shared / "limits" / f"{readable}-{digest}", self.per_second))

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return wanted


class _Throttled:
    def __init__(self, limit: Limit) -> None:
        self._limit = limit

    def turns(self, batch: pa.RecordBatch, clock: Clock) -> Iterator[int]:
        return self._limit.turns(batch.num_rows, clock)

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        return Outcome({"out": Piece(batch)})
