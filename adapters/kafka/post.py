"""Delivers records to a Kafka topic in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from adapters.file.text import unsupported
from adapters.http.templates import places
from adapters.kafka import topics
from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from adapters.kafka.formats import Format
from pipelines import node
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.node import Example, Part, Publication, Report, Schemas, Writer
from pipelines.records import schema_without_ids
from pipelines.scope import Scope
from pipelines.tables.relation import Names, as_list, suggestion
from pipelines.tables.spool import SpoolWriter

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox

Partitioner = Literal["murmur2", "crc32", "fnv1a"]


class Post(node.Post):
    """Delivers records to a Kafka topic in one transaction: a message each, in the order of the source.

    Who reads committed records sees all records of a run or none. A record that is too large, or that the brokers refuse,
    is rejected and the others are delivered; so is one without a column of its key (code `key`), or with a value that has
    no form in the format (`no_text`). Each record's receipt names its partition and offset, as `3:1500`.

    The transaction also holds the run's token, as an offset of the consumer group of its `transaction_id`: so a run that
    dies before it hears of the commit finds out whether there was one. Two that publish under one `transaction_id` at the
    same time shut each other out, so it is one for each flow, node and environment unless you name another.
    """

    category: ClassVar[str] = "streams"
    keeps_ids: ClassVar[bool] = True

    connection: str
    """The connection's name."""
    topic: str
    """The topic to write."""
    format: Format = "json"
    """How a record is written: an object of JSON, Avro, or one column as it is: `text` or `bytes`."""
    mode: Literal["append", "upsert", "delete"] = "append"
    """`append` and `upsert` send the record, `upsert` only with its `key`: a compacted topic keeps the last of each;
    `delete` sends the key without a value, by which a compacted topic forgets it."""
    key: Names | None = None
    """The columns that identify a record: the message's key. One column is written as its text or bytes, several as an
    object of JSON. Records of one key go to one partition, in their order."""
    columns: Names | None = None
    """Which columns are sent in the value. Without it, all; for `text` and `bytes` it is one."""
    headers: dict[str, str] | str | None = Field(
        default=None, examples=[{"source": "shop", "trace-id": "{trace_id}"}, "headers"]
    )
    """Headers by name: text in which `{name}` is a column, parameter or variable (one that is null leaves the header
    out); or the column that holds them, a list of names and values as `kafka.get` takes it."""
    timestamp: str | None = None
    """The column that holds the message's time. Without it, when it is sent."""
    partition: str | None = None
    """The column that holds the number of the partition. Without it the key decides."""
    partitioner: Partitioner = "murmur2"
    """How a key decides: `murmur2` as Kafka's own clients do, `crc32` as librdkafka's do, `fnv1a`. Records without a key go
    to any partition."""
    compression: Literal["none", "gzip", "lz4", "zstd", "snappy"] = "none"
    """How messages are compressed on their way and in the topic."""
    transaction: bool = True
    """Whether all records of a run are delivered in one transaction. Without one they are seen as they are sent, when the
    run publishes; where it dies meanwhile they are sent again."""
    transaction_id: str | None = Field(default=None, examples=["erp-feed"])
    """What names the transactions of this node to the brokers, where `processflow-ENVIRONMENT-FLOW-NODE` will not do."""
    transaction_seconds: int = Field(default=900, ge=1)
    """So long a transaction may take: after that the brokers undo it. They allow 900 seconds at most unless their
    `transaction.max.timeout.ms` says otherwise."""
    schema_file: str | None = Field(default=None, examples=["schemas/order.avsc"])
    """Avro: a file with the schema, from the project folder, to write with. Without it the schema follows from the
    columns. Where the connection has a `registry`, the schema is kept there as `TOPIC-value`."""

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Sends each order with its number as the key; all of a run are seen at once.",
            config={"connection": "events", "topic": "orders", "key": "order_no"},
            records=[{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}],
            gives={"out": [{"order_no": "WEB-1", "total": 18.5}, {"order_no": "WEB-2", "total": 7.0}]},
        ),
        Example(
            says="Sends one column as it is, with headers.",
            config={
                "connection": "events",
                "topic": "log-lines",
                "format": "text",
                "columns": "line",
                "headers": {"source": "shop", "host": "{host}"},
            },
            records=[{"host": "web-1", "line": "started"}, {"host": "web-2", "line": "stopped"}],
            gives={"out": [{"line": "started"}, {"line": "stopped"}]},
        ),
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.mode != "append" and not self.key:
            raise ValueError(f"mode {self.mode!r} needs `key`: the columns that identify a record")
        if self.transaction_id is not None and not self.transaction:
            raise ValueError("`transaction_id` names transactions, and `transaction` is off")
        if self.schema_file is not None and self.format != "avro":
            raise ValueError("`schema_file` is for `format: avro`")
        return self

    def target(self, scope: Scope) -> str:
        return f"kafka://{scope.connection(self.connection, Connection).address}/{self.topic}"

    def delivery(self) -> tuple[str, str]:
        if self.transaction:
            return "effectively once", "records and the publication's token are committed in one transaction"
        if self.mode != "append":
            return "effectively once", "a record sent again by key leaves a compacted topic as after once"
        return "at least once", "it writes without a transaction, so a run that dies while it publishes sends again"

    def sent_columns(self, schema: pa.Schema) -> list[str]:
        """The columns of the value."""
        if self.mode == "delete":
            return []
        own = {self.headers} if isinstance(self.headers, str) else set()
        return [name for name in schema.names if (name in as_list(self.columns) if self.columns else name not in own)]

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = next(iter(inputs.values()), None)
        try:
            admin = Admin(scope.connection(self.connection, Connection), scope)
            topics.described(admin, [self.topic])
        except Invalid as fault:
            for problem in fault.problems:
                report(("topic",), problem.what, problem.fix)
        except Unavailable as fault:
            report(("connection",), str(fault), "its topic cannot be checked now", warning=True)
        if schema is not None:
            self._check_columns(schema_without_ids(schema), scope, report)
        return {"out": schema}

    def _check_columns(self, schema: pa.Schema, scope: Scope, report: Report) -> None:
        named = {"key": as_list(self.key), "columns": as_list(self.columns)}
        named |= {"timestamp": as_list(self.timestamp), "partition": as_list(self.partition)}
        if isinstance(self.headers, str):
            named["headers"] = [self.headers]
        for place, wanted in named.items():
            for name in wanted:
                if name not in schema.names:
                    report((place,), f"the records have no column {name!r}", suggestion(name, schema.names))
        there = [*schema.names, *sorted(scope.values)]
        for name in places(self.headers) if isinstance(self.headers, dict) else ():
            if name not in there:
                report(("headers",), f"{{{name}}} is no column, parameter or variable", suggestion(name, there))
        found = self._misfits(schema)
        if self.format == "avro" and self.mode != "delete":
            from adapters.kafka import avro

            found = [*found, *avro.misfits(self, schema, scope)]
        for place, name, why in found:
            report((place,), f"column {name!r}: {why}", "cast it with a map")
        sent = self.sent_columns(schema)
        if self.format in ("text", "bytes") and self.mode != "delete" and len(sent) != 1:
            what = f"format {self.format!r} sends one column, not {len(sent)}"
            report(("columns",), what, "name it in `columns`")

    def _misfits(self, schema: pa.Schema) -> list[tuple[str, str, str]]:
        """Columns of a type that cannot stand where they are to."""
        kinds = {field.name: field.type for field in schema}
        found = []
        for name in self.sent_columns(schema):
            if self.format == "json" and (why := unsupported(kinds[name])):
                found.append(("columns", name, why))
            elif self.format == "text" and not _is_text(kinds[name]):
                found.append(("columns", name, f"is {kinds[name]}, no text"))
            elif self.format == "bytes" and not (_is_text(kinds[name]) or _is_bytes(kinds[name])):
                found.append(("columns", name, f"is {kinds[name]}, no bytes"))
        keys = [name for name in as_list(self.key) if name in kinds]
        bare = len(keys) == 1 and _is_bytes(kinds[keys[0]])
        found += [("key", name, why) for name in keys if not bare and (why := unsupported(kinds[name]))]
        if self.timestamp in kinds and not pa.types.is_timestamp(kinds[self.timestamp]):
            found.append(("timestamp", str(self.timestamp), f"is {kinds[self.timestamp]}, no timestamp"))
        if self.partition in kinds and not pa.types.is_integer(kinds[self.partition]):
            found.append(("partition", str(self.partition), f"is {kinds[self.partition]}, no whole number"))
        return found

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        return SpoolWriter(scope.staging / "spool")

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        from adapters.kafka.publishing import KafkaPublication

        return KafkaPublication(self, parts, schema_without_ids(schema), scope, token)

    def is_published(self, scope: Scope, token: str) -> bool:
        from adapters.kafka.transactions import is_committed

        return self.transaction and is_committed(self, scope, token)

    def sweep(self, scope: Scope, token: str) -> None:
        from adapters.kafka.transactions import swept

        if self.transaction:
            with suppress(FlowError):  # where nobody answers, the brokers undo it when its time is up
                swept(self, scope, token)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))
