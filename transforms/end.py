"""The node type `end`: marks where a flow is complete."""

import pyarrow as pa
from pydantic import Field

from pipelines.align import align
from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.typed import check_declared, declared_schema, unfit, with_declared


class End(Transform):
    """Marks completion: counts what arrives and passes it on. Optional; a flow may have several.

    Where the flow is used as a node of another, its ends are the ports by which records leave it.
    """

    columns: dict[str, str] = Field(default_factory=dict, examples=[{"order_no": "VARCHAR", "total": "DECIMAL(18, 2)"}])
    """The columns that must arrive, with their DuckDB types; others go along. A column that is missing, or whose values such
    a type does not hold, is a problem before anything runs."""

    category = "flow"
    examples = (
        Example(
            says="Whatever comes in has arrived.",
            config={},
            records=[{"order_no": "WEB-1"}, {"order_no": "WEB-2"}],
            gives={"out": [{"order_no": "WEB-1"}, {"order_no": "WEB-2"}]},
        ),
        Example(
            says="What leaves a flow that others use: at least a number and a total in cents.",
            config={"columns": {"order_no": "VARCHAR", "cents": "BIGINT"}},
            records=[{"order_no": "WEB-1", "cents": 999, "note": "gift"}],
            columns={"cents": "INTEGER"},
            gives={"out": [{"order_no": "WEB-1", "cents": 999, "note": "gift"}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if not self.columns or schema is None:
            return {"out": schema}
        with borrowed(scope) as sandbox:
            declared = check_declared(self.columns, sandbox, report)
        if declared is None:
            return {"out": None}
        wrong = list(unfit(declared, schema))
        for name, what, fix in wrong:
            report(("columns", name), what, fix)
        return {"out": None if wrong else with_declared(schema, declared)}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        gives = with_declared(schema, declared_schema(self.columns, sandbox))
        return lambda batch: Outcome({"out": Piece(align(batch, gives))})

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return None if wanted is None else wanted | set(self.columns)
