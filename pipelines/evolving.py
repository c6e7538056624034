"""What becomes of a source whose columns are others than the last run saw: the policy `schema_change` of a get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np
import pyarrow as pa

from pipelines.align import align
from pipelines.node import Chunk, Get, Malformed
from pipelines.quality.declared import Conversion, Declared, conversions
from pipelines.scope import Scope
from pipelines.sql.carried import plain_schema, plain_type
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox, borrowed

CODE = "schema"
"""The code of records that are set aside because the source's columns have changed."""


@dataclass(frozen=True)
class Change:
    """How a source differs from what the last run saw."""

    told: tuple[str, ...]
    """A sentence for each column."""
    given: pa.Schema
    """The columns that the get gives, by its policy."""
    held: Mapping[str, str]
    """Columns whose types are to be declared, where the source's are inferred: names to DuckDB types."""


def changed(get: Get, seen: pa.Schema, now: pa.Schema, scope: Scope) -> Change | None:
    """How the columns of a source differ from those of the last run; None: they do not."""
    seen, now = plain_schema(seen), plain_schema(now)
    with borrowed(scope) as sandbox:
        was, names = type_names(seen, sandbox), type_names(now, sandbox)
        retyped = [field.name for field in now if field.name in was and field.type != seen.field(field.name).type]
        told = [f"new column {name!r} ({names[name]})" for name in names if name not in was]
        told += [f"column {name!r} is gone" for name in was if name not in names]
        told += [f"column {name!r} is {names[name]}, was {was[name]}" for name in retyped]
        if not told:
            return None
        if get.schema_change == "reject":
            held = {name for name in retyped if not _are_nested(seen.field(name).type, now.field(name).type)}
            return Change(tuple(told), seen, {name: was[name] if name in held else names[name] for name in names})
        wide = {name: _widest(seen.field(name).type, now.field(name).type, get.infers_types) for name in retyped}
        given = pa.schema([field.with_type(wide.get(field.name) or field.type) for field in now])
        return Change(tuple(told), given, type_names(given, sandbox))


def type_names(schema: pa.Schema, sandbox: Sandbox) -> dict[str, str]:
    """DuckDB's names of the columns' types."""
    if not len(schema):
        return {}
    empty = pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in schema], names=schema.names)
    items = ", ".join(f"typeof({name_of(name)}) AS c{place}" for place, name in enumerate(schema.names))
    row = sandbox.prepare(items, empty.schema)(empty)
    return {name: str(row.column(place)[0]) for place, name in enumerate(schema.names)}


def _widest(one: pa.DataType, other: pa.DataType, is_text: bool) -> pa.DataType | None:
    """A type that has every value of both as it is; None: there is none. `is_text`: the source writes its values as text."""
    if is_text and pa.string() in (one, other):
        return pa.string()
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return _wider_integer(one, other)
    digits, others = _digits(one), _digits(other)
    if digits is not None and others is not None:
        whole, scale = max(digits[0], others[0]), max(digits[1], others[1])
        return pa.decimal128(whole + scale, scale) if whole + scale <= 38 else None
    if pa.types.is_floating(one) and pa.types.is_floating(other):
        return pa.float64()
    small = {pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32()}
    if {one, other} & {pa.float64()} and {one, other} & small:
        return pa.float64()
    return None


def _wider_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    signed = [pa.types.is_signed_integer(kind) for kind in (one, other)]
    if signed[0] == signed[1]:
        return max(one, other, key=lambda kind: kind.bit_width)
    bits = max(kind.bit_width * (1 if is_signed else 2) for kind, is_signed in zip((one, other), signed, strict=True))
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)


def _are_nested(one: pa.DataType, other: pa.DataType) -> bool:
    return bool(pa.types.is_nested(one) and pa.types.is_nested(other))


def _digits(kind: pa.DataType) -> tuple[int, int] | None:
    """How many digits a type has before and behind the point; None: it is no exact number."""
    if pa.types.is_decimal(kind):
        return kind.precision - kind.scale, kind.scale
    return ({8: 3, 16: 5, 32: 10, 64: 20}[kind.bit_width], 0) if pa.types.is_integer(kind) else None


def declaring(get: Get, change: Change) -> Get:
    """The get with its columns' types declared, where they would be inferred anew."""
    if not get.infers_types or not hasattr(get, "columns"):
        return get
    return get.model_copy(update={"columns": dict(change.held)})


class Conformer:
    """Brings what a source gives to the columns that its get gives; what does not fit is set aside."""

    def __init__(self, source: pa.Schema, given: pa.Schema, policy: str, scope: Scope) -> None:
        self._source, self._given, self._scope = plain_schema(source), given, scope
        with borrowed(scope) as sandbox:
            names = type_names(plain_schema(given), sandbox)
            types = {
                field.name: Declared(names[field.name])
                for field in given
                if field.name in source.names and plain_type(field.type) != self._source.field(field.name).type
            }
            plain = {name: wish for name, wish in types.items() if not self._is_nested(name)}
            found = {each.name: each for each in conversions(plain, self._source, sandbox)}
            found |= {name: self._nested(name, names[name], sandbox) for name in types if self._is_nested(name)}
        self._values = [
            f"{found[name].value if name in found else name_of(name)} AS {name_of(name)}"
            for name in given.names
            if name in source.names
        ]
        self._wrong = {
            f"column {name!r} cannot be {each.type} without loss": each.wrong for name, each in found.items()
        }
        if policy == "reject":
            gone = [name for name in given.names if name not in source.names]
            new = [name for name in source.names if name not in given.names]
            self._wrong |= {f"column {name!r} is gone": "true" for name in gone}
            self._wrong |= {f"column {name!r} is new": f"{name_of(name)} IS NOT NULL" for name in new}

    def _is_nested(self, name: str) -> bool:
        return _are_nested(self._source.field(name).type, plain_type(self._given.field(name).type))

    def _nested(self, name: str, wanted: str, sandbox: Sandbox) -> Conversion:
        """A nested value as one of other fields: it must be the same on the way back."""
        column, kind = name_of(name), self._given.field(name).type
        value = f"TRY_CAST({column} AS {wanted})"
        back = type_names(pa.schema([self._source.field(name)]), sandbox)[name]
        wrong = f"({column} IS NOT NULL AND ({value} IS NULL OR TRY_CAST({value} AS {back}) IS DISTINCT FROM {column}))"
        try:
            sandbox.prepare(f"{value} AS v, {wrong} AS w", self._source)
        except duckdb.Error:  # they have no field in common
            value, wrong = f"NULL::{wanted}", f"{column} IS NOT NULL"
        return Conversion(name, value, wrong, wanted, kind)

    def __call__(self, chunk: Chunk) -> Chunk:
        batch = align(chunk.batch, self._source)
        if not batch.num_rows:
            return replace(chunk, batch=align(batch, self._given))
        marks = [f"coalesce({sql}, false) AS __w{place}" for place, sql in enumerate(self._wrong.values())]
        with borrowed(self._scope) as sandbox:
            found = sandbox.prepare(", ".join([*self._values, *marks]), self._source)(batch)
            records = found.select(range(len(self._values)))
            wrong = [
                found.column(len(self._values) + place).to_numpy(zero_copy_only=False) for place in range(len(marks))
            ]
            bad = np.flatnonzero(np.logical_or.reduce(wrong)) if wrong else np.array([], dtype=np.int64)
            if not len(bad):
                return replace(chunk, batch=align(records, self._given))
            texts = self._texts(batch.take(pa.array(bad, pa.int64())), sandbox)
        messages = ["; ".join(why for why, mark in zip(self._wrong, wrong, strict=True) if mark[row]) for row in bad]
        return self._parted(chunk, align(records, self._given), bad, texts, messages)

    def _texts(self, batch: pa.RecordBatch, sandbox: Sandbox) -> list[str]:
        """Records as texts of JSON."""
        fields = ", ".join(f"{name_of(name)} := {name_of(name)}" for name in self._source.names)
        found: list[str] = (
            sandbox.prepare(f"to_json(struct_pack({fields}))::VARCHAR AS t", self._source)(batch).column(0).to_pylist()
        )
        return found

    def _parted(
        self, chunk: Chunk, records: pa.RecordBatch, bad: np.ndarray, texts: Sequence[str], messages: Sequence[str]
    ) -> Chunk:
        """The chunk with its bad records among what is malformed."""
        ordinals = (
            np.arange(chunk.first, chunk.first + records.num_rows, dtype=np.int64)
            if chunk.ordinals is None
            else chunk.ordinals.to_numpy(zero_copy_only=False)
        )
        keep = np.setdiff1d(np.arange(records.num_rows), bad)
        known = chunk.malformed or Malformed((), (), (), ())
        malformed = Malformed(
            [*known.texts, *texts],
            [*known.codes, *[CODE] * len(bad)],
            [*known.messages, *messages],
            [*known.ordinals, *ordinals[bad].tolist()],
        )
        kept = records.take(pa.array(keep, pa.int64()))
        return replace(chunk, batch=kept, first=0, ordinals=pa.array(ordinals[keep], pa.int64()), malformed=malformed)
