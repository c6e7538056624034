"""The node type `sort`: puts records in order."""

from collections.abc import Mapping
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from pipelines.node import Example, Report, Schemas, Wide
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.selects import columns_there, order_of
from pipelines.wide import RELATION


class Sort(Wide):
    """Puts all records in order; with `limit` only the first are kept and the rest are counted as filtered.

    Nulls come last. Records that are equal by `by` keep the order of their source. What follows gets the records in this
    order; a target keeps it where it writes one file.
    """

    by: list[str] = Field(min_length=1, examples=[["-total", "order_no"]])
    """The columns to sort by; `-` before a name sorts it from the largest down."""
    limit: int | None = Field(default=None, ge=0)
    """How many records to keep; without it all."""

    keeps_records: ClassVar[bool] = True
    keeps_order: ClassVar[bool] = True
    category = "combine"
    examples = (
        Example(
            says="The two largest orders.",
            config={"by": ["-total", "order_no"], "limit": 2},
            records=[{"order_no": 1, "total": 5}, {"order_no": 2, "total": 9}, {"order_no": 3, "total": 9}],
            gives={"out": [{"order_no": 2, "total": 9}, {"order_no": 3, "total": 9}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is not None:
            columns_there([name.removeprefix("-") for name in self.by], schema, ("by",), report)
        return {"out": schema}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        return None

    def ordered_by(self) -> tuple[str, ...]:
        return tuple(self.by)

    def most_kept(self) -> int | None:
        return self.limit

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        limit = "" if self.limit is None else f" LIMIT {self.limit}"
        return f"SELECT * FROM {RELATION} ORDER BY {order_of([*self.by, ROW_ID])}{limit}"

    def needs(
        self, wanted: frozenset[str] | None, schemas: Mapping[str, pa.Schema], sandbox: Sandbox
    ) -> Mapping[str, frozenset[str] | None]:
        return {"": None if wanted is None else wanted | {name.removeprefix("-") for name in self.by}}
