"""The node type `dedupe`: one record of each key."""

from collections.abc import Mapping
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from pipelines.descent import same_key
from pipelines.node import Example, Report, Schemas, Wide
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.selects import columns_there, order_of
from pipelines.wide import RELATION, column


class Dedupe(Wide):
    """Keeps one record of each key, within a run or across all runs; the others are counted as filtered.

    Which one: the first or the last by `order_by`, and where that is equal or missing, by the source's order. With
    `across: runs` a record whose key an earlier run of the flow, in the same environment, has let through is filtered too.
    The keys are remembered when a run ends well, together with where its sources go on reading: a run that fails or is
    cancelled forgets its own. Previews, tests and backtests leave the memory as it is; `positions reset` empties it.
    """

    key: list[str] = Field(min_length=1, examples=[["order_id"]])
    """The columns that tell records apart; null is a value like others."""
    keep: Literal["first", "last"] = "first"
    """Which record of a key is kept."""
    order_by: list[str] = Field(default_factory=list, examples=[["updated_at"]])
    """The columns that order the records of a key; `-` before a name turns it round."""

    across: Literal["run", "runs"] = "run"
    """Whether keys are told apart within each run, or over all runs."""
    remember_days: int | None = Field(default=None, ge=1, examples=[90])
    """With `across: runs`, how long a key is remembered after it was let through; without it, for ever."""

    keeps_records: ClassVar[bool] = True
    category = "combine"
    examples = (
        Example(
            says="The latest state of each order.",
            config={"key": ["order_id"], "keep": "last", "order_by": ["version"]},
            records=[
                {"order_id": 1, "version": 2, "status": "sent"},
                {"order_id": 1, "version": 1, "status": "paid"},
                {"order_id": 2, "version": 1, "status": "new"},
            ],
            gives={
                "out": [
                    {"order_id": 1, "version": 2, "status": "sent"},
                    {"order_id": 2, "version": 1, "status": "new"},
                ]
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is not None:
            columns_there(self.key, schema, ("key",), report)
            columns_there([name.removeprefix("-") for name in self.order_by], schema, ("order_by",), report)
        if self.remember_days is not None and self.across == "run":
            report(("remember_days",), "nothing is remembered within a run", "add `across: runs`, or leave it out")
        return {"out": schema}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        return tuple(map(column, self.key))

    def remembered_key(self) -> tuple[str, ...]:
        return tuple(self.key) if self.across == "runs" else ()

    def remembered_days(self) -> int | None:
        return self.remember_days

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        keys = ", ".join(map(column, self.key))
        order = order_of([*self.order_by, ROW_ID], turned=self.keep == "last")
        kept = f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}) = 1"
        return f"SELECT * FROM {RELATION} {kept} ORDER BY {ROW_ID}"

    def parents(self, schemas: Mapping[str, pa.Schema]) -> str | None:
        return same_key(RELATION, self.key)

    def needs(
        self, wanted: frozenset[str] | None, schemas: Mapping[str, pa.Schema], sandbox: Sandbox
    ) -> Mapping[str, frozenset[str] | None]:
        own = {*self.key, *(name.removeprefix("-") for name in self.order_by)}
        return {"": None if wanted is None else wanted | own}
