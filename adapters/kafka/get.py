"""Reads the records of Kafka topics: what came since the last run, or between offsets or times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from adapters.kafka import positions, reading
from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from adapters.kafka.formats import Format, check_columns, value_schema
from adapters.kafka.parts import check_take, part_schema
from adapters.kafka.planning import Planner
from pipelines import node
from pipelines.errors import Invalid
from pipelines.node import Chunk, Example, Json, Report, Schemas, SplitPlan, Want
from pipelines.scope import Scope
from pipelines.tables.relation import Names, as_list, suggestion
from pipelines.telling import Told

Offsets = dict[str, int]


class Get(node.Get, Told):
    """Reads the records of Kafka topics: what came since the last run, or between offsets or times.

    A run reads what is there when it begins, each partition in its order, several at once. Where it ended, by partition,
    is the node's position: it is kept by ProcessFlow and moves only when all before it is delivered or rejected. Records of
    transactions are read once those are committed. A message that is no record of the columns is set aside with its text,
    its place and the reason; so is one without a value, unless `tombstones` says otherwise.
    """

    category: ClassVar[str] = "streams"

    connection: str
    """The connection's name."""
    topic: Names = Field(examples=["orders", ["orders-de", "orders-fr"]])
    """The topic to read, or several of the same columns."""
    format: Format = "json"
    """What a message's value is: an object of JSON, Avro, or as it is, as one column `value`: `text` in UTF-8 or `bytes`."""
    columns: Names | dict[str, str] | None = Field(default=None, examples=[["id", "total"], {"total": "DECIMAL(18,2)"}])
    """Which columns to read: names, or names to DuckDB types. Without types they are inferred from the first and last
    messages of each partition."""
    take: Names | dict[str, str] | None = Field(
        default=None, examples=[["key", "timestamp"], {"order_no": "key", "trace": "header:trace-id"}]
    )
    """Columns that hold what else a message has: names to `key`, `timestamp`, `topic`, `partition`, `offset`, `headers`
    (a list of names and values) or `header:NAME` (text, the last of that name); or those words alone."""
    key_format: Literal["text", "bytes"] = "text"
    """What a message's key is, where it is taken."""
    key: Names | None = None
    """The columns that identify a record."""
    start: str | Offsets = Field(default="earliest", examples=["latest", "2026-01-31T08:00:00Z", "$since", {"0": 1500}])
    """Where the first run begins: at the `earliest` record there is, behind the `latest`, at a time, or at an offset for
    each partition."""
    until: str | Offsets | None = Field(default=None, examples=["2026-02-01T00:00:00Z", {"0": 2000}])
    """Where a run ends: before the first record of a time, or before an offset of each partition. Without it, and at most,
    at what is there when it begins."""
    tombstones: Literal["reject", "keep", "drop"] = "reject"
    """What becomes of a message without a value, by which a key is deleted: it is rejected with the code `tombstone`, kept
    as a record whose columns of the value are null, or left out."""
    lost: Literal["fail", "go_on"] = "fail"
    """What becomes of a run whose position the topic no longer has, because records were deleted before they were read or
    the topic was made anew: it fails, or goes on with the earliest record there is and says so in the run's notes."""
    include_uncommitted: bool = False
    """Whether records of transactions are read that are not, or not yet, committed."""
    group: str | None = Field(default=None, examples=["erp-feed"])
    """A consumer group that is told, after each run that ends well, where reading goes on, so that others see the lag. It
    is never read from."""
    schema_file: str | None = Field(default=None, examples=["schemas/order.avsc"])
    """Avro: a file with the schema, from the project folder, that all messages were written with. Without it the
    connection's `registry` tells the schema of each."""

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Reads what came to `orders` since the last run, with exact amounts and the message's key and time.",
            config={
                "connection": "events",
                "topic": "orders",
                "columns": {"id": "BIGINT", "total": "DECIMAL(18,2)"},
                "take": {"order_no": "key", "sent_at": "timestamp"},
            },
        ),
        Example(
            says="Reads one day of texts as they are.",
            config={
                "connection": "events",
                "topic": "log-lines",
                "format": "text",
                "start": "2026-01-31T00:00:00Z",
                "until": "2026-02-01T00:00:00Z",
                "take": ["partition", "offset"],
            },
        ),
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.changes_only:
            raise ValueError("a topic is read on from its offsets, each message once: take `changes_only` out")
        for name, value in (("start", self.start), ("until", self.until)):
            for number, offset in value.items() if isinstance(value, dict) else ():
                if not number.isdecimal() or offset < 0:
                    raise ValueError(
                        f"`{name}` gives by partition an offset, such as {{'0': 1500}}, not {number!r}: {offset}"
                    )
        if self.schema_file is not None and self.format != "avro":
            raise ValueError("`schema_file` is for `format: avro`")
        return self

    @property
    def topics(self) -> list[str]:
        """The topics to read."""
        return as_list(self.topic)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        try:
            connection = scope.connection(self.connection, Connection)
            self._check_times(scope)
            value = value_schema(self, connection, scope)
        except Invalid as fault:
            for problem in fault.problems:
                report(problem.at or ("topic",), problem.what, problem.fix)
            return {"out": None}
        if value is None:
            what = "there is no message, so its columns are not known"
            report(("columns",), what, "give `columns` with their types")
            return {"out": None}
        check_columns(self, value, report)
        check_take(self, value, report)
        whole = pa.schema([*value, *part_schema(self)])
        for name in as_list(self.key):
            if name not in whole.names:
                report(("key",), f"there is no column {name!r}", suggestion(name, whole.names))
        return {"out": whole}

    def _check_times(self, scope: Scope) -> None:
        for name in ("start", "until"):
            given = getattr(self, name)
            if isinstance(given, str) and given not in ("earliest", "latest"):
                positions.milliseconds(given, scope.values)

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        admin = Admin(scope.connection(self.connection, Connection), scope)
        return Planner(self, scope, admin).plan(position)

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        yield from reading.chunks(self, split, schema, scope, want)

    def parse(self, texts: Sequence[str], schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        if self.take or self.format not in ("json", "text"):
            yield from super().parse(texts, schema, scope, want)
        yield from reading.parsed(self, texts, schema, scope)

    def later(self, one: Json, other: Json) -> Json:
        return positions.later(one, other)

    def tell(self, scope: Scope, position: Json) -> None:
        if self.group is not None and "topics" in position:
            from adapters.kafka.groups import committed

            committed(self.group, position, scope.connection(self.connection, Connection), scope)

    def position_at(self, scope: Scope, first: str, last: str | None, then: Json) -> Json:
        for text in (first, last):
            if text is not None:
                positions.milliseconds(text, {})
        found = {"at": first, "again": True}
        return {"cursor": found if last is None else {**found, "until": last, "then": then}}
