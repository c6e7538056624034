"""Which Arrow types DuckDB takes and gives back with every value as it was."""

from __future__ import annotations

import pyarrow as pa


def uncarried(kind: pa.DataType) -> bool:
    """Whether DuckDB cannot take values of a type, or gives them back as something else."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name != "arrow.json"
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return uncarried(kind.value_type)
    if pa.types.is_map(kind):
        return uncarried(kind.key_type) or uncarried(kind.item_type)
    if pa.types.is_nested(kind):
        return pa.types.is_union(kind) or any(uncarried(kind.field(place).type) for place in range(kind.num_fields))
    alone = (pa.types.is_duration, pa.types.is_decimal256, pa.types.is_float16)
    return any(is_kind(kind) for is_kind in alone)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves, where a type only says how they are laid out."""
    views = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    if kind in views:
        return views[kind]
    is_packed = pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind)
    return plain_type(kind.value_type) if is_packed else kind


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as values by themselves: files of batches cannot have a dictionary for each batch."""
    return pa.schema([field.with_type(plain_type(field.type)) for field in schema])
