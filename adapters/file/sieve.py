"""What of a file's records is read at all: those that `where` keeps and that lie above the cursor's last position."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed
from pipelines.scope import Scope
from pipelines.sql.expressions import Evaluator
from pipelines.sql.faults import rejects_of
from pipelines.sql.sandbox import borrowed
from pipelines.tables import positions
from pipelines.tables.relation import is_number

TEXT_CHARACTERS = 64 << 10


@dataclass(frozen=True)
class Sieve:
    """The conditions of a get, and the columns that they need."""

    where: str | None
    cursor: str | None
    key: Sequence[str]
    after: Json
    """The cursor's last position."""

    def __call__(self, chunks: Iterator[Chunk], schema: pa.Schema, wanted: pa.Schema, scope: Scope) -> Iterator[Chunk]:
        """Chunks of records of `schema` cut down to the kept records and the `wanted` columns."""
        with borrowed(scope) as sandbox:
            keeps = Evaluator({"where": self.where}, schema, scope, sandbox) if self.where is not None else None
            for chunk in chunks:
                yield self._sifted(chunk, wanted, keeps)

    def _sifted(self, chunk: Chunk, wanted: pa.Schema, keeps: Evaluator | None) -> Chunk:
        batch, malformed = chunk.batch, chunk.malformed
        ordinals = ordinals_of(chunk)
        if keeps is not None:
            batch, ordinals, malformed = _where(batch, ordinals, malformed, keeps)
        if self.cursor is not None and self.after is not None:
            mask = self._above(batch)
            batch, ordinals = batch.filter(mask), ordinals.filter(mask)
        elif self.cursor is not None:
            mask = batch.column(self.cursor).is_valid()
            batch, ordinals = batch.filter(mask), ordinals.filter(mask)
        return Chunk(batch.select(wanted.names), 0, ordinals, malformed, self._position(batch))

    def _above(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        """The records above the last position; at it, those whose key was not seen."""
        column = batch.column(self.cursor)
        last = restored(self.after["at"], column.type)
        if positions.includes_its_value(self.after):
            from_there = pc.greater_equal(column, last)
            if "until" in self.after:
                upto = pc.less_equal(column, restored(self.after["until"], column.type))
                from_there = pc.and_(from_there, upto)
            return pc.fill_null(from_there, False)
        above = pc.fill_null(pc.greater(column, last), False)
        if not self.key or "keys" not in self.after:
            return above
        seen = {repr(key) for key in self.after["keys"]}
        mask = above.to_numpy(zero_copy_only=False).copy()
        ties = pc.indices_nonzero(pc.fill_null(pc.equal(column, last), False))
        for row, key in zip(ties.to_pylist(), self._keys(batch.take(ties)), strict=True):  # only at the boundary value
            mask[row] = repr(key) not in seen
        return pa.array(mask)

    def _keys(self, batch: pa.RecordBatch) -> list[list[Json]]:
        columns = [[positions.packed(value) for value in sayable(batch.column(name)).to_pylist()] for name in self.key]
        return [list(key) for key in zip(*columns, strict=True)]

    def _position(self, batch: pa.RecordBatch) -> Json:
        if self.cursor is None or not batch.num_rows or "until" in (self.after or {}):
            return None
        column = batch.column(self.cursor)
        most = pc.max(column)
        if not most.is_valid:
            return None
        found = {"at": kept(most), "number": is_number(column.type)}
        if self.key:
            ties = batch.filter(pc.fill_null(pc.equal(column, most), False))
            if ties.num_rows > positions.KEYS_MOST:
                raise Invalid(
                    f"cursor {self.cursor!r}: more than {positions.KEYS_MOST} records have its highest value "
                    f"{kept(most)!r}, too many to tell apart by key; take a column that is finer, or leave out `key`"
                )
            found["keys"] = self._keys(ties)
        return {"cursor": found}


def _where(
    batch: pa.RecordBatch, ordinals: pa.Int64Array, malformed: Malformed | None, keeps: Evaluator
) -> tuple[pa.RecordBatch, pa.Int64Array, Malformed | None]:
    """The records that the condition keeps; those that it cannot be computed for are set aside."""
    found = keeps(batch)
    rejects = rejects_of(found.faults)
    if rejects is not None:
        bad = batch.take(rejects.rows)
        plain = pa.RecordBatch.from_arrays([sayable(column) for column in bad.columns], bad.schema.names)
        texts = [json.dumps(record, default=str, ensure_ascii=False)[:TEXT_CHARACTERS] for record in plain.to_pylist()]
        malformed = _joined(malformed, texts, rejects.codes, rejects.messages, ordinals.take(rejects.rows).to_pylist())
    kind = found.columns.column("where")
    mask = pc.fill_null(kind if pa.types.is_boolean(kind.type) else pa.nulls(len(kind), pa.bool_()), False)
    return batch.filter(mask), ordinals.filter(mask), malformed


def _joined(
    malformed: Malformed | None,
    texts: Sequence[str],
    codes: Sequence[str],
    messages: Sequence[str],
    ordinals: Sequence[int],
) -> Malformed:
    if malformed is None:
        return Malformed(texts, codes, messages, ordinals)
    rows = sorted(
        [
            *zip(malformed.ordinals, malformed.texts, malformed.codes, malformed.messages, strict=True),
            *zip(ordinals, texts, codes, messages, strict=True),
        ]
    )
    places, all_texts, all_codes, all_messages = (list(column) for column in zip(*rows, strict=True))
    return Malformed(all_texts, all_codes, all_messages, places)


def ordinals_of(chunk: Chunk) -> pa.Int64Array:
    """The ordinal of each record of a chunk."""
    if chunk.ordinals is not None:
        return chunk.ordinals
    return pa.array(np.arange(chunk.first, chunk.first + chunk.batch.num_rows, dtype=np.int64))


def sayable(column: pa.Array) -> pa.Array:
    """A column whose values Python has: nanoseconds as text."""
    is_fine = pa.types.is_temporal(column.type) and getattr(column.type, "unit", "") == "ns"
    return column.cast(pa.string()) if is_fine else column


def kept(value: pa.Scalar) -> Json:
    """A cursor's value as a position keeps it: numbers and text as they are, the rest as Arrow writes it."""
    is_plain = pa.types.is_integer(value.type) or pa.types.is_floating(value.type)
    return value.as_py() if is_plain else value.cast(pa.string()).as_py()


def restored(value: Json, kind: pa.DataType) -> pa.Scalar:
    """The value that `kept` took."""
    return pa.scalar(value).cast(kind)


def cursor_value(text: str, kind: pa.DataType, cursor: str) -> Json:
    """A value that a person wrote, as positions keep it."""
    try:
        return kept(pa.scalar(text).cast(kind))
    except pa.ArrowException as fault:
        raise Invalid(f"cursor {cursor!r} is {kind}, and {text!r} is none") from fault


def packed_schema(schema: pa.Schema) -> str:
    """Columns as text that travels in a split."""
    return base64.b64encode(schema.remove_metadata().serialize().to_pybytes()).decode()


def unpacked_schema(text: str) -> pa.Schema:
    """The columns that `packed_schema` took; none for an empty text."""
    if not text:
        return pa.schema([])
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def united(*schemas: pa.Schema) -> pa.Schema:
    """The columns of all, each once."""
    found: Mapping[str, pa.Field] = {field.name: field for schema in reversed(schemas) for field in schema}
    names = dict.fromkeys(name for schema in schemas for name in schema.names)
    return pa.schema([found[name] for name in names])
