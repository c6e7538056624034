"""What a message's value says: columns inferred or declared, and the values of many messages turned into them at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa

from adapters.file.jsonfaults import Careful
from adapters.http.records import declared_types, inferred
from adapters.kafka.connection import Connection
from adapters.kafka.parts import Faults
from pipelines.node import Report
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import as_list, suggestion

if TYPE_CHECKING:
    from adapters.kafka.get import Get

Format = Literal["json", "avro", "text", "bytes"]
VALUE = "value"
PLAIN = {"text": pa.string(), "bytes": pa.binary()}


class Decoder(Protocol):
    """Turns values into records of a schema."""

    def __call__(self, values: pa.BinaryArray) -> tuple[pa.RecordBatch, Faults]:
        """The records of those values that are some, in order, and by place why the others are none."""


def value_schema(get: Get, connection: Connection, scope: Scope) -> pa.Schema | None:
    """The columns of the values; None where there is no message that could tell.

    Raises:
        Invalid: there is no such topic, or a declared type is none.
    """
    if get.format == "avro":
        from adapters.kafka import avro

        return avro.columns(get, connection, scope)
    if get.format in PLAIN:
        return pa.schema([pa.field(VALUE, PLAIN[get.format])])
    from adapters.kafka.sampling import sampled

    declared = declared_types(get.columns)
    if declared:
        from adapters.kafka import topics
        from adapters.kafka.client import Admin

        topics.described(Admin(connection, scope), get.topics)
        return pa.schema(list(declared.items()))
    return inferred_values(sampled(get.topics, connection, scope), get.columns)


def inferred_values(values: Sequence[bytes], columns: str | list[str] | Mapping[str, str] | None) -> pa.Schema | None:
    """The columns of values that are objects of JSON; None where none is."""
    import json

    records = []
    for value in values:  # a bounded sample
        try:
            records.append(json.loads(value))
        except (ValueError, RecursionError):
            continue
    records = [record for record in records if isinstance(record, dict)]
    return inferred(records, columns) if records else None


def check_columns(get: Get, value: pa.Schema, report: Report) -> None:
    """Reports columns that are asked for and not there."""
    if get.format in PLAIN and isinstance(get.columns, dict):
        report(("columns",), f"format {get.format!r} gives one column {VALUE!r}", "convert it in a map")
    for name in as_list(get.columns):
        if name not in value.names:
            report(("columns",), f"there is no column {name!r}", suggestion(name, value.names))


def decoder(get: Get, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Decoder:
    """What turns values into the columns of `schema`."""
    if get.format == "avro":
        from adapters.kafka import avro

        return avro.Decoder(get, schema, scope.connection(get.connection, Connection), scope)
    return Plain(schema, get.format) if get.format in PLAIN else Json(schema, sandbox)


class Json:
    """Objects of JSON; a number keeps its digits."""

    def __init__(self, schema: pa.Schema, sandbox: Sandbox) -> None:
        self._careful = Careful(schema, sandbox)

    def __call__(self, values: pa.BinaryArray) -> tuple[pa.RecordBatch, Faults]:
        batch = self._careful.strict(values)
        if batch is not None:
            return batch, {}
        batch, bad = self._careful(values)
        return batch, {row: (code, "is no UTF-8" if code == "encoding" else what) for row, (code, what) in bad.items()}


class Plain:
    """Values as they are."""

    def __init__(self, schema: pa.Schema, form: str) -> None:
        self._schema = schema
        self._is_text = form == "text"

    def __call__(self, values: pa.BinaryArray) -> tuple[pa.RecordBatch, Faults]:
        faults: Faults = {}
        found = values
        if self._is_text:
            found, faults = _texts(values)
        if not len(self._schema):  # no column is wanted
            return pa.record_batch([pa.nulls(len(found))], ["nothing"]).select([]), faults
        return pa.RecordBatch.from_arrays([found], schema=self._schema), faults


def _texts(values: pa.BinaryArray) -> tuple[pa.StringArray, Faults]:
    try:
        return values.cast(pa.string()), {}
    except pa.ArrowInvalid:
        pass
    found: list[str] = []
    faults: Faults = {}
    for number, value in enumerate(values.to_pylist()):  # a batch with bytes that are no text: rare
        try:
            found.append(value.decode())
        except UnicodeDecodeError:
            faults[number] = ("encoding", "is no UTF-8; read it with `format: bytes`")
    return pa.array(found, pa.string()), faults
