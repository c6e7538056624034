"""Batches of several inputs as one: columns by name, types widened, what is missing null."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Invalid


def unify(schemas: Sequence[pa.Schema], by_place: bool = False) -> pa.Schema:
    """The columns of all, in order of first sight, each of a type that holds every input's values.

    Args:
        by_place: the first schema's names hold for all, column by column.

    Raises:
        Invalid: where a column's types have no common one, such as text and a number.
    """
    if by_place and schemas:
        schemas = [_renamed(schema, schemas[0]) for schema in schemas]
    columns: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            known = columns.get(field.name)
            columns[field.name] = field if known is None else _common(known, field)
    everywhere = set.intersection(*(set(schema.names) for schema in schemas)) if schemas else set()
    return pa.schema([field if field.name in everywhere else field.with_nullable(True) for field in columns.values()])


def align(batch: pa.RecordBatch, schema: pa.Schema, by_place: bool = False) -> pa.RecordBatch:
    """The batch with exactly the columns and types of `schema`; columns it does not have are null.

    With `by_place` its columns take the names of `schema` in their order.
    """
    if by_place:
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=_renamed(batch.schema, schema))
    if batch.schema.equals(schema):
        return batch
    columns = [_column(batch, field) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema) if columns else batch.select([])


def _renamed(schema: pa.Schema, like: pa.Schema) -> pa.Schema:
    if len(schema) != len(like):
        raise Invalid(
            f"columns cannot meet by their place: one input has {len(like)} ({', '.join(like.names)}), "
            f"another {len(schema)} ({', '.join(schema.names)}); make them the same with a map, or merge by name"
        )
    return pa.schema([column.with_name(name) for column, name in zip(schema, like.names, strict=True)])


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(index)
    return column if column.type.equals(field.type) else _cast(column, field.type)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in another type; also such as differ in how they are laid out, for which Arrow has no cast."""
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pa.types.is_run_end_encoded(kind):
        return pc.run_end_encode(_cast(column, kind.value_type), kind.run_end_type)
    if not pa.types.is_dictionary(kind):
        return column.cast(kind)
    values = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    encoded = values.cast(kind.value_type).dictionary_encode()
    return pa.DictionaryArray.from_arrays(
        encoded.indices.cast(kind.index_type), encoded.dictionary, ordered=kind.ordered
    )


def _common(one: pa.Field, other: pa.Field) -> pa.Field:
    nullable = one.nullable or other.nullable
    if one.type.equals(other.type):
        return one.with_nullable(nullable)
    kinds = [_beside(one.type, other.type), _beside(other.type, one.type)]
    try:
        widened = pa.unify_schemas(
            [pa.schema([pa.field(one.name, kind)]) for kind in kinds], promote_options="permissive"
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as fault:
        raise Invalid(
            f"column {one.name!r} is {one.type} in one input and {other.type} in another; make them one type with a map"
        ) from fault
    if any(_loses(kind, widened.field(0).type) for kind in kinds) or _is_longer(kinds, widened.field(0).type):
        raise Invalid(
            f"column {one.name!r} is {one.type} in one input and {other.type} in another: "
            f"no type holds both exactly; make them one type with a map"
        )
    return widened.field(0).with_nullable(nullable)


def _beside(kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """A type as another meets it: whole numbers beside decimals are decimals of as many digits as they may have."""
    if pa.types.is_integer(kind) and pa.types.is_decimal(other):
        return pa.decimal128(len(str(2 ** (kind.bit_width - pa.types.is_signed_integer(kind)))), 0)
    return kind


def _loses(narrow: pa.DataType, wide: pa.DataType) -> bool:
    """Whether 64-bit integers or decimals would become floating point, which does not hold all of them."""
    exact = pa.types.is_decimal(narrow) or (pa.types.is_integer(narrow) and narrow.bit_width == 64)
    return exact and pa.types.is_floating(wide)


def _is_longer(kinds: Sequence[pa.DataType], wide: pa.DataType) -> bool:
    """Whether decimals would need more than the 38 digits that DuckDB and most databases know."""
    return pa.types.is_decimal256(wide) and not any(pa.types.is_decimal256(kind) for kind in kinds)
