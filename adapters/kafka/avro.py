"""Values in Avro: with their schema from a registry, whose id stands before each, or all of one schema from a file."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from adapters.file.avro import Columns
from adapters.file.avro_schema import Taken, avro_schema, taken_apart, unwritable
from adapters.file.avro_values import as_written
from adapters.file.fitting import exactly, fitted
from adapters.file.types import arrow_type
from adapters.kafka import topics
from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from adapters.kafka.parts import Faults
from adapters.kafka.registry import Schemas
from pipelines.align import unify
from pipelines.errors import Invalid, Problem
from pipelines.node import Json
from pipelines.scope import Scope
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.kafka.get import Get
    from adapters.kafka.post import Post

HEAD_BYTES = 5
FROM_FILE = -1
"""Stands for the id of a schema that comes from a file."""


def file_schema(name: str, scope: Scope) -> Json:
    """The schema in a file of the project.

    Raises:
        Invalid: there is none.
    """
    path = scope.path(name)
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as fault:
        raise Invalid(
            Problem("", 0, 0, f"{name}: {fault.strerror}", "name a file with a schema", ("schema_file",))
        ) from None
    except ValueError as fault:
        raise Invalid(Problem("", 0, 0, f"{name}: is no JSON: {fault}", "", ("schema_file",))) from None


def subject(topic: str) -> str:
    """What a topic's values are called in a registry."""
    return f"{topic}-value"


def columns(get: Get, connection: Connection, scope: Scope) -> pa.Schema:
    """The columns as the schema says, or as they are declared."""
    topics.described(Admin(connection, scope), get.topics)
    found = pa.schema(list(_known(get, connection, scope).kind))
    if not get.columns:
        return found
    declared = get.columns if isinstance(get.columns, dict) else {}
    return pa.schema(
        [
            pa.field(name, arrow_type(declared[name])) if name in declared else found.field(name)
            for name in as_list(get.columns)
            if name in found.names
        ]
    )


def _known(get: Get, connection: Connection, scope: Scope) -> Taken:
    if get.schema_file is not None:
        return taken_apart(file_schema(get.schema_file, scope))
    if connection.registry is None:
        fix = "name a file in `schema_file`, or the connection's `registry`"
        raise Invalid(Problem("", 0, 0, "the schema of the messages is not known", fix, ("schema_file",)))
    schemas = Schemas(connection, scope)
    found = []
    for topic in get.topics:
        latest = schemas.latest(subject(topic))
        if latest is None:
            raise Invalid(f"schema registry {connection.registry.url}: has no schema {subject(topic)!r}")
        found.append(taken_apart(latest))
    if len(found) == 1:
        return found[0]
    whole = unify([pa.schema(list(each.kind)) for each in found])
    return Taken(None, pa.struct([]), pa.struct(list(whole)))


class Decoder:
    """Turns values into records, each by the schema that it was written with."""

    def __init__(self, get: Get, schema: pa.Schema, connection: Connection, scope: Scope) -> None:
        self._schema = schema
        self._schemas: Schemas | None = None
        self._columns: dict[int, Columns | None] = {}
        if get.schema_file is None:
            self._schemas = Schemas(connection, scope)
        else:
            self._columns[FROM_FILE] = Columns(taken_apart(file_schema(get.schema_file, scope)), schema)

    def __call__(self, values: pa.BinaryArray) -> tuple[pa.RecordBatch, Faults]:
        faults: Faults = {}
        rows: dict[int, tuple[list[int], list[Any]]] = {}
        for place, value in enumerate(values.to_pylist()):  # one by one: there is no columnar decoder
            number, body = self._split(value)
            found = self._of(number)
            if found is None:
                faults[place] = ("schema", _no_schema(number))
                continue
            try:
                record = found.record(body)
            except Exception as fault:  # noqa: BLE001 - the decoder raises whatever it runs into in damaged bytes
                faults[place] = ("avro", f"cannot be decoded ({type(fault).__name__}: {fault})")
                continue
            places, records = rows.setdefault(number, ([], []))
            places.append(place)
            records.append(record)
        return self._gathered(rows, faults), faults

    def _split(self, value: bytes) -> tuple[int, bytes]:
        if self._schemas is None:
            return FROM_FILE, value
        if len(value) < HEAD_BYTES or value[0]:
            return FROM_FILE, value
        return int.from_bytes(value[1:HEAD_BYTES], "big"), value[HEAD_BYTES:]

    def _of(self, number: int) -> Columns | None:
        if number not in self._columns:
            schema = self._schemas.by_id(number) if self._schemas is not None and number != FROM_FILE else None
            self._columns[number] = None if schema is None else Columns(taken_apart(schema), self._schema)
        return self._columns[number]

    def _gathered(self, rows: dict[int, tuple[list[int], list[Any]]], faults: Faults) -> pa.RecordBatch:
        """The records of all schemas in the order of their values."""
        batches, order = [], []
        for number, (places, records) in rows.items():
            found = self._of(number)
            assert found is not None
            batch, bad = found(records)
            faults.update({places[row]: ("type", why) for row, why in bad.items()})
            kept = [place for row, place in enumerate(places) if row not in bad]
            batches.append(batch)
            order += kept
        if len(batches) == 1:
            return batches[0]
        if not batches:
            return pa.RecordBatch.from_pylist([], schema=self._schema)
        if not len(self._schema):
            return pa.record_batch([pa.nulls(len(order))], ["nothing"]).select([])
        whole = pa.Table.from_batches(batches).take(pa.array(np.argsort(order))).combine_chunks().to_batches()
        return whole[0] if whole else batches[0]


def _no_schema(number: int) -> str:
    if number == FROM_FILE:
        return "does not begin with the id of a schema; name a file in `schema_file` and take `registry` out"
    return f"is of schema {number}, which the registry does not have"


class Encoder:
    """Turns records into values."""

    def __init__(self, post: Post, schema: pa.Schema, scope: Scope) -> None:
        import fastavro

        connection = scope.connection(post.connection, Connection)
        sent = pa.schema([schema.field(name) for name in post.sent_columns(schema)])
        written = file_schema(post.schema_file, scope) if post.schema_file is not None else avro_schema(sent)
        self._taken = taken_apart(written)
        self._plain = fastavro.parse_schema(self._taken.plain)
        self._head = b""
        if connection.registry is not None:
            number = Schemas(connection, scope).keep(subject(post.topic), written)
            self._head = b"\x00" + number.to_bytes(4, "big")

    def __call__(self, batch: pa.RecordBatch, bad: Faults) -> list[bytes | None]:
        """Each record's value; those that the schema does not take become faults."""
        import fastavro

        arrays = [
            self._column(batch, field, raw, bad) for field, raw in zip(self._taken.kind, self._taken.raw, strict=True)
        ]
        records = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(self._taken.raw))).to_pylist()
        found: list[bytes | None] = []
        for row, record in enumerate(records):  # one by one: there is no columnar encoder
            out = io.BytesIO(self._head)
            out.seek(len(self._head))
            try:
                fastavro.schemaless_writer(out, self._plain, record)
            except (ValueError, TypeError, KeyError) as fault:
                bad.setdefault(row, ("avro", f"does not fit the schema: {fault}"))
            found.append(out.getvalue())
        return found

    def _column(self, batch: pa.RecordBatch, field: pa.Field, raw: pa.Field, bad: Faults) -> pa.Array:
        if field.name not in batch.schema.names:
            return pa.nulls(batch.num_rows, raw.type)
        column = batch.column(field.name)
        array, unfit = fitted(column, raw.type, partial(_written, kind=field.type, raw=raw.type))
        for row in unfit:  # rejects only
            bad.setdefault(row, ("type", f"column {field.name!r}: {column[row].as_py()!r:.200} is no {field.type}"))
        return array


def _written(array: pa.Array, kind: pa.DataType, raw: pa.DataType) -> pa.Array:
    return as_written(exactly(array, kind), raw)


def misfits(post: Post, schema: pa.Schema, scope: Scope) -> Sequence[tuple[str, str, str]]:
    """Columns that Avro has no type for, or that the schema of a file does not have."""
    sent = [schema.field(name) for name in post.sent_columns(schema)]
    if post.schema_file is None:
        return [("columns", field.name, why) for field in sent if (why := unwritable(field))]
    kinds = {field.name for field in taken_apart(file_schema(post.schema_file, scope)).kind}
    return [
        ("columns", field.name, "is not in the schema; leave it out by `columns`")
        for field in sent
        if field.name not in kinds
    ]
