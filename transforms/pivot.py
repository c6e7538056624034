"""The node type `pivot`: rows to columns."""

from collections.abc import Mapping

import pyarrow as pa
from pydantic import Field

from pipelines.descent import same_key
from pipelines.node import Example, Report, Schemas, Wide
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.expressions import Expression, used_columns
from pipelines.sql.literals import quoted
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.sql.selects import columns_there, described_or_reported, spelled
from pipelines.wide import RELATION, column


class Pivot(Wide):
    """Makes one record of each group, with a column for each value of another column.

    Which columns there will be is said beforehand, so that the nodes behind know them; other values are counted as
    merged like all, and leave no trace. Where a group has no such value the column is what the aggregate gives for nothing.
    """

    by: list[str] = Field(min_length=1, examples=[["customer"]])
    """The columns whose values make a group."""
    on: str = Field(examples=["month"])
    """The column whose values become columns."""
    columns: list[str] | dict[str, str] = Field(min_length=1, examples=[["jan", "feb"], {"january": "jan"}])
    """Those values, as text; or names of new columns to values."""
    values: Expression = Field(examples=["sum(amount)"])
    """One aggregate function (DuckDB SQL) over the records of a group that have the value."""

    category = "combine"
    examples = (
        Example(
            says="Turnover by customer, a column for each quarter.",
            config={"by": ["customer"], "on": "quarter", "columns": ["q1", "q2"], "values": "sum(amount)"},
            records=[
                {"customer": "ann", "quarter": "q1", "amount": 10},
                {"customer": "ann", "quarter": "q2", "amount": 7},
                {"customer": "bob", "quarter": "q1", "amount": 5},
            ],
            gives={
                "out": [{"customer": "ann", "q1": 10, "q2": 7}, {"customer": "bob", "q1": 5, "q2": None}],
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is None:
            return {"out": None}
        there = columns_there(self.by, schema, ("by",), report) and columns_there([self.on], schema, ("on",), report)
        if not there:
            return {"out": None}
        with borrowed(scope) as sandbox:
            found = described_or_reported(self, {"": schema}, scope, sandbox, report, (), {"values": self.values})
        return {"out": found}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        return tuple(map(column, self.by))

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        keys = ", ".join(map(column, self.by))
        text = spelled({"values": self.values}, schemas[""], scope, sandbox)["values"]
        wanted = self.columns if isinstance(self.columns, dict) else {value: value for value in self.columns}
        made = ", ".join(
            f"{text} FILTER (WHERE CAST({column(self.on)} AS VARCHAR) = {quoted(value)}) AS {column(name)}"
            for name, value in wanted.items()
        )
        return f"SELECT {keys}, {made}, min({ROW_ID}) AS {ROW_ID} FROM {RELATION} GROUP BY {keys}"

    def parents(self, schemas: Mapping[str, pa.Schema]) -> str | None:
        return same_key(RELATION, self.by)

    def needs(
        self, wanted: frozenset[str] | None, schemas: Mapping[str, pa.Schema], sandbox: Sandbox
    ) -> Mapping[str, frozenset[str] | None]:
        return {"": frozenset([*self.by, self.on]) | used_columns([self.values], schemas[""], sandbox)}
