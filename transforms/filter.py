"""The node type `filter`: keeps the records that meet a condition."""

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator, Expression, check_expressions, used_columns
from pipelines.sql.faults import rejects_of
from pipelines.sql.sandbox import Sandbox


class Filter(Transform):
    """Keeps the records for which `where` is true; the rest are counted as filtered.

    Where the condition is neither true nor false, because something in it is null, the record is filtered too. A
    record for which the condition cannot be computed is rejected with the code `expression`.
    """

    where: Expression = Field(examples=["status <> 'cancelled'"])
    """Condition over the input's columns (DuckDB SQL)."""

    category = "shape"
    examples = (
        Example(
            says="Only what is paid; an order without a status is not.",
            config={"where": "status = 'paid'"},
            records=[{"id": 1, "status": "paid"}, {"id": 2, "status": "new"}, {"id": 3, "status": None}],
            gives={"out": [{"id": 1, "status": "paid"}]},
        ),
        Example(
            says="A quantity that is no number: the record is set aside, the others go on.",
            config={"where": "quantity::INTEGER > 1"},
            records=[{"id": 1, "quantity": "2"}, {"id": 2, "quantity": "two"}, {"id": 3, "quantity": "1"}],
            gives={
                "out": [{"id": 1, "quantity": "2"}],
                "rejected": [
                    {
                        "id": 2,
                        "quantity": "two",
                        "reject_code": "expression",
                        "reject_message": "where: Could not convert string 'two' to INT32 "
                        "when casting from source column quantity",
                    }
                ],
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is not None:
            check_expressions({"where": self.where}, schema, scope, report, conditions=["where"])
        return {"out": schema}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        evaluator = Evaluator({"where": self.where}, schema, scope, sandbox)

        def step(batch: pa.RecordBatch) -> Outcome:
            evaluated = evaluator(batch)
            rejects = rejects_of(evaluated.faults)
            rows = pc.indices_nonzero(pc.fill_null(evaluated.columns.column(0).cast(pa.bool_()), False))
            kept = len(rows)
            piece = Piece(batch) if kept == batch.num_rows else Piece(batch.take(rows), rows.cast(pa.int64()))
            rejected = 0 if rejects is None else len(rejects.codes)
            return Outcome({"out": piece}, batch.num_rows - kept - rejected, rejects)

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return None if wanted is None else wanted | used_columns([self.where], schema, sandbox)
