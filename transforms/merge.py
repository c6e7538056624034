"""The node type `merge`: several inputs as one."""

import pyarrow as pa

from pipelines.node import Example, Outcome, Piece, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox


class Merge(Transform):
    """Puts the records of several nodes together, in no particular order between them.

    Columns of the same name become one, of a type that holds every input's values exactly; a column that an input does
    not have is null in its records. Types without a common one, such as text and a number, are a problem.
    """

    by_name: bool = True
    """Whether columns meet by their name; else by their place: the first input's names hold for all, and every input
    must have as many columns."""

    category = "shape"
    examples = (
        Example(
            says="Orders of the shop and of the market, `from: [shop, market]`; only the market's have a fee.",
            config={},
            records=[{"order_no": "WEB-1", "fee": None}, {"order_no": "MKT-1", "fee": 250}],
            columns={"order_no": "VARCHAR", "fee": "INTEGER"},
            gives={"out": [{"order_no": "WEB-1", "fee": None}, {"order_no": "MKT-1", "fee": 250}]},
        ),
        Example(
            says="Inputs whose columns mean the same but are called otherwise.",
            config={"by_name": False},
            records=[{"order_no": "WEB-1", "total": 90}, {"order_no": "MKT-1", "total": 70}],
            gives={"out": [{"order_no": "WEB-1", "total": 90}, {"order_no": "MKT-1", "total": 70}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs.get("")}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return merged

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return wanted if self.by_name else None

    def meets_by_place(self) -> bool:
        return not self.by_name


def merged(batch: pa.RecordBatch) -> Outcome:
    """Every record as it came: the kernel has laid it out like the others."""
    return Outcome({"out": Piece(batch)})
