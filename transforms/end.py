"""The node type `end`: marks where a flow is complete."""

import pyarrow as pa

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox


class End(Transform):
    """Marks completion: counts what arrives and passes it on. Optional; a flow may have several."""

    category = "flow"
    examples = (
        Example(
            says="Whatever comes in has arrived.",
            config={},
            records=[{"order_no": "WEB-1"}, {"order_no": "WEB-2"}],
            gives={"out": [{"order_no": "WEB-1"}, {"order_no": "WEB-2"}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs.get("")}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return passed

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return wanted


def passed(batch: pa.RecordBatch) -> Outcome:
    """Every record as it came."""
    return Outcome({"out": Piece(batch)})
