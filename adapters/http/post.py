"""Delivers records to an HTTP API: one a request or many, each with a receipt, an answer or the reason of its refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from adapters.file.text import unsupported
from adapters.http.connection import Connection
from adapters.http.places import JmesPath
from adapters.http.templates import places
from adapters.http.verdicts import Outcomes, Results
from pipelines import node
from pipelines.errors import Bug, Invalid
from pipelines.node import Example, Part, Publication, Report, Schemas, Writer
from pipelines.scope import Scope
from pipelines.tables.relation import Names, as_list, suggestion

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox

METHODS = {"append": "POST", "upsert": "PUT", "delete": "DELETE"}


class Post(node.Post):
    """Delivers records to an HTTP API: one a request or many, each with a receipt, an answer or the reason of its refusal.

    Records are sent as they come, not when all have come: what was delivered before a run fails stays delivered. A
    request that is not answered, or with the status 408, 425, 429, 500, 502, 503 or 504, is made again as the connection
    says. A record that goes on failing while others are answered is rejected with the code `unavailable`; where nothing
    is answered any more, the run stops. What the API refuses is rejected with its message and the code `refused`; a value
    that JSON has no form of with `no_text`; a record without its key or a part of its address with `key` or `path`.
    """

    category: ClassVar[str] = "web"
    staged: ClassVar[bool] = False
    most_rows: ClassVar[int | None] = 2_000

    connection: str
    """The connection's name."""
    path: str = Field(default="", examples=["/orders", "/orders/{order_no}"])
    """The path behind the connection's `url`. `{name}` is a column of the record, a parameter or a variable."""
    mode: Literal["append", "upsert", "delete"] = "append"
    """`append` sends `POST`, `upsert` sends `PUT`, `delete` sends `DELETE`, unless `method` says otherwise."""
    method: Literal["POST", "PUT", "PATCH", "DELETE"] | None = None
    """How it is sent, where that does not follow from `mode`."""
    key: Names | None = None
    """The columns that identify a record, named in receipts. A record without one of them is rejected."""
    query: dict[str, Any] = Field(default_factory=dict)
    """Parameters of the query: values, `{name}` as in `path`, or `$name`."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers, with `{name}` as in `path`."""
    body: Literal["one", "many", "none"] | None = None
    """`one` record a request, `many` as a list, or `none` at all: what is in the address is enough. Without it `one`, and
    for a `DELETE` `none`."""
    size: int = Field(default=100, ge=1, le=100_000)
    """So many records a list has at most."""
    envelope: Any = Field(default=None, examples=[{"orders": "$records", "count": "$count"}, {"data": "$record"}])
    """What the records are put into: JSON in which `$records` is the list, `$record` the one record, `$count` their number,
    and `$name` a parameter or variable. Without it they are the body."""
    columns: Names | None = None
    """Which columns are sent in the body. Without it, all."""
    idempotency_header: str | None = Field(default=None, examples=["Idempotency-Key"])
    """A header with a text that is the same whenever the same content is sent under the same `key`, by which an API knows
    a request that was made before."""
    in_order: bool = False
    """Whether records of one `key` (without a key: all) are sent one after the other, in the order in which they come.
    Where a source is read in several pieces at once, a `sort` before keeps the order of all."""
    response: dict[str, JmesPath] = Field(default_factory=dict, examples=[{"erp_id": "id"}])
    """Columns that the answer adds to `out`: their names, to their places in the answer (JMESPath) or a header, such as
    `header:Location`. They are text. The first of them is the target's id in receipts."""
    outcomes: Outcomes = Outcomes()
    """What an answer means: delivered, refused, or to be asked again."""
    results: Results | None = Field(default=None, examples=[{"from": "items", "status": "status", "message": "error"}])
    """Where an answer to many records tells of each; `response` is then taken from each result. Without it the answer
    holds for all."""
    halves: bool = True
    """Whether a list that is refused whole (400, 413, 422) is sent again in halves, until just the refused records are
    left. For APIs that take a list whole or not at all."""

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Creates an order each; the API's own id goes on to the next node as `erp_id`.",
            config={
                "connection": "erp",
                "path": "/orders",
                "key": "order_no",
                "idempotency_header": "Idempotency-Key",
                "response": {"erp_id": "id"},
            },
            records=[{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}]},
        ),
        Example(
            says="Puts each order to its own address: sent again, it changes nothing.",
            config={"connection": "erp", "path": "/orders/{order_no}", "mode": "upsert", "key": "order_no"},
            records=[{"order_no": "WEB-1", "total": 20.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 20.0}]},
        ),
        Example(
            says="Sends lists of at most 500; the answer says of each record what became of it.",
            config={
                "connection": "erp",
                "path": "/orders/bulk",
                "key": "order_no",
                "body": "many",
                "size": 500,
                "envelope": {"orders": "$records"},
                "results": {"from": "results", "key": "order_no", "status": "status", "message": "error"},
                "response": {"erp_id": "id"},
            },
            records=[{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-3", "total": 1.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-3", "total": 1.0}]},
        ),
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.idempotency_header is not None and not self.key:
            raise ValueError("`idempotency_header` needs `key`: the columns that identify a record")
        if self.mode != "append" and not self.key and not list(places(self.path)):
            raise ValueError(
                f"mode {self.mode!r} needs `key`, or the key's columns in `path`, such as /orders/{{order_no}}"
            )
        if self.results is not None and self.carries != "many":
            raise ValueError("`results` tells of the records of a list; set `body: many`")
        return self

    @property
    def asked_method(self) -> str:
        """How it is sent."""
        return self.method or METHODS[self.mode]

    @property
    def carries(self) -> str:
        """`one`, `many` or `none`."""
        return self.body or ("none" if self.asked_method == "DELETE" else "one")

    def target(self, scope: Scope) -> str:
        connection = scope.connection(self.connection, Connection)
        return f"{self.asked_method} {connection.address}/{self.path.lstrip('/')}"

    def delivery(self) -> tuple[str, str]:
        if self.idempotency_header is not None:
            return "effectively once", f"the API knows a repeated request by its {self.idempotency_header}"
        if self.mode == "upsert":
            return "effectively once", f"a {self.asked_method} by key sent again leaves the target as after once"
        if self.mode == "delete":
            return "effectively once", "a record deleted again is as gone as before"
        return "at least once", "it has no key that the API knows, so a retry may duplicate"

    def sent_columns(self, schema: pa.Schema) -> list[str]:
        """The columns of the body."""
        if self.carries == "none":
            return []
        return [name for name in schema.names if self.columns is None or name in as_list(self.columns)]

    def given_schema(self, schema: pa.Schema) -> pa.Schema:
        """What leaves: the records' columns, and those of the answer."""
        kept = [pa.field(field.name, pa.string()) if field.name in self.response else field for field in schema]
        return pa.schema([*kept, *(pa.field(name, pa.string()) for name in self.response if name not in schema.names)])

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = next(iter(inputs.values()), None)
        try:
            scope.connection(self.connection, Connection)
        except Invalid as fault:
            for problem in fault.problems:
                report(("connection",), problem.what, problem.fix)
        if schema is None:
            return {"out": None}
        self._check_columns(schema, report)
        self._check_places([*schema.names, *sorted(scope.values)], report)
        return {"out": self.given_schema(schema)}

    def _check_columns(self, schema: pa.Schema, report: Report) -> None:
        for place, wanted in (("key", as_list(self.key)), ("columns", as_list(self.columns))):
            for name in wanted:
                if name not in schema.names:
                    report((place,), f"the records have no column {name!r}", suggestion(name, schema.names))
        for name in self.sent_columns(schema):
            if why := unsupported(schema.field(name).type):
                report(("columns",), f"column {name!r}: {why}", "or leave it out by `columns`")

    def _check_places(self, there: Sequence[str], report: Report) -> None:
        for place in ("path", "query", "headers", "envelope"):
            for name in places(getattr(self, place)):
                if name not in there:
                    report((place,), f"{{{name}}} is no column, parameter or variable", suggestion(name, there))

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        from adapters.http.sending import Sender

        return Sender(self, schema, scope)

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        raise Bug("what is delivered as it comes has no publication")
