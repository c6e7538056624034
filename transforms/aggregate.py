"""The node type `aggregate`: one record for each group."""

from collections.abc import Mapping

import pyarrow as pa
from pydantic import Field

from pipelines.descent import same_key
from pipelines.early import Groups, groups_of
from pipelines.node import Example, Report, Schemas, Wide
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.expressions import Expression, used_columns
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.sql.selects import columns_there, described_or_reported, spelled
from pipelines.wide import RELATION, column


class Aggregate(Wide):
    """Makes one record of each group: its keys and its measures.

    Without `by` all records are one group, also where there is none. The record's row id is the smallest of the group's.
    Sums of integers and decimals are exact.
    """

    by: list[str] = Field(default_factory=list, examples=[["customer", "month"]])
    """The columns whose values make a group; null is a value like others."""
    measures: dict[str, Expression] = Field(min_length=1, examples=[{"orders": "count(*)", "total": "sum(amount)"}])
    """Names of new columns to aggregate expressions (DuckDB SQL)."""

    category = "combine"
    examples = (
        Example(
            says="Orders and turnover of each customer.",
            config={"by": ["customer"], "measures": {"orders": "count(*)", "total": "sum(amount)"}},
            records=[
                {"customer": "ann", "amount": 10},
                {"customer": "bob", "amount": 5},
                {"customer": "ann", "amount": 7},
            ],
            gives={
                "out": [
                    {"customer": "ann", "orders": 2, "total": 17},
                    {"customer": "bob", "orders": 1, "total": 5},
                ]
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is None or not columns_there(self.by, schema, ("by",), report):
            return {"out": None}
        with borrowed(scope) as sandbox:
            found = described_or_reported(self, {"": schema}, scope, sandbox, report, ("measures",), self.measures)
        return {"out": found}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        return tuple(map(column, self.by)) or None

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        keys = [column(name) for name in self.by]
        texts = spelled(self.measures, schemas[""], scope, sandbox)
        measures = [f"{text} AS {column(name)}" for name, text in texts.items()]
        row_id = f"coalesce(min({ROW_ID}), -1) AS {ROW_ID}"
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        return f"SELECT {', '.join([*keys, *measures, row_id])} FROM {RELATION}{group}"

    def groups(self, schemas: Schemas, given: pa.Schema, scope: Scope, sandbox: Sandbox) -> Groups | None:
        schema = schemas[""]
        return groups_of(self.by, spelled(self.measures, schema, scope, sandbox), given, sandbox) if schema else None

    def parents(self, schemas: Mapping[str, pa.Schema]) -> str | None:
        return same_key(RELATION, self.by)

    def needs(
        self, wanted: frozenset[str] | None, schemas: Mapping[str, pa.Schema], sandbox: Sandbox
    ) -> Mapping[str, frozenset[str] | None]:
        return {"": frozenset(self.by) | used_columns(self.measures.values(), schemas[""], sandbox)}
