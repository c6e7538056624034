"""The node type `sql`: any one SELECT over the inputs."""

from collections.abc import Mapping
from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from pipelines.node import Example, Report, Schemas, Wide
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.sql.selects import bound_query, reported_query
from pipelines.wide import column, relation_of


class Sql(Wide):
    """Gives what one SELECT (DuckDB SQL) gives over its inputs, each a table by its name.

    For what no other node does: it waits for all records, and works them in one go, out of core. Records that leave are
    made, not passed on: their row ids are new, negative numbers. Files, network and settings are out of its reach.
    """

    inputs: ClassVar[tuple[str, ...]] = ("*",)
    query_text: str = Field(alias="query", examples=["SELECT country, count(*) AS n FROM orders GROUP BY country"])
    """The SELECT. `$name` is a parameter or variable."""

    keeps_order: ClassVar[bool] = True
    category = "combine"
    examples = (
        Example(
            says="The share of each order in its customer's turnover.",
            config={
                "query": "SELECT order_no, amount / sum(amount) OVER (PARTITION BY customer) AS share "
                "FROM orders ORDER BY order_no"
            },
            records={
                "orders": [
                    {"order_no": 1, "customer": "ann", "amount": 30},
                    {"order_no": 2, "customer": "ann", "amount": 10},
                ]
            },
            gives={"out": [{"order_no": 1, "share": 0.75}, {"order_no": 2, "share": 0.25}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schemas = {name: schema for name, schema in inputs.items() if schema is not None}
        if not schemas or len(schemas) < len(inputs):
            return {"out": None}
        with borrowed(scope) as sandbox:
            return {"out": reported_query(self, self.query_text, schemas, scope, sandbox, report)}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        return None

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        tables = ", ".join(
            f"{column(relation_of(name))} AS (SELECT * EXCLUDE ({ROW_ID}) FROM {column(relation_of(name))})"
            for name in schemas
        )
        text = bound_query(self.query_text, scope)
        return f"WITH {tables}, __asked AS ({text}) SELECT *, -row_number() OVER () AS {ROW_ID} FROM __asked"
