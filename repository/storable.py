"""Arrow columns as Parquet can keep them, and the types by which views give them back as they were.

Parquet has no intervals, durations, 16-bit floats, 256-bit decimals, dictionaries, run ends, unions or empty structs:
those are kept as text or as plain values, from which the view casts back. Unions are kept as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from repository.columns import Columns, Type, distinct_names

NO_COLUMNS = "__none"
"""Stands in a payload that has no columns."""
LARGEST_DECIMAL_DIGITS = 38
PLAIN_NAMES = {
    "bool": "BOOLEAN", "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
    "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    "halffloat": "FLOAT", "float": "FLOAT", "double": "DOUBLE", "string": "VARCHAR", "large_string": "VARCHAR",
    "string_view": "VARCHAR", "binary": "BLOB", "large_binary": "BLOB", "binary_view": "BLOB",
    "date32[day]": "DATE", "date64[ms]": "DATE", "month_day_nano_interval": "INTERVAL", "null": "NULL",
    "time32[s]": "TIME", "time32[ms]": "TIME", "time64[us]": "TIME", "time64[ns]": "TIME_NS",
    "timestamp[s]": "TIMESTAMP_S", "timestamp[ms]": "TIMESTAMP_MS", "timestamp[us]": "TIMESTAMP",
    "timestamp[ns]": "TIMESTAMP_NS",
}  # fmt: skip


STORED_AS = {
    "null": pa.int32(),
    "halffloat": pa.float32(),
    "string_view": pa.string(),
    "binary_view": pa.binary(),
}
"""Types that a cast makes storable. Parquet could keep views of text, but pyarrow cannot pick rows of them."""


def payload(batch: pa.RecordBatch) -> tuple[pa.StructArray, Columns]:
    """The records as one column of structs that Parquet keeps, and the types that give them back."""
    names = distinct_names(batch.schema.names)
    columns = [[name, column_type(field.type)] for name, field in zip(names, batch.schema, strict=True)]
    arrays = [storable(column) for column in batch.columns]
    if not names:
        names, arrays = [NO_COLUMNS], [pa.nulls(batch.num_rows, pa.bool_())]
    return pa.StructArray.from_arrays(arrays, names=names), columns


def column_type(kind: pa.DataType) -> Type:
    """The type of a column in a view, for values of an Arrow type.

    Lists of a fixed size keep it at the top only: DuckDB cannot cast to them inside of other types.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return {"arrow.uuid": "UUID", "arrow.json": "JSON", "arrow.bool8": "BOOLEAN"}.get(
            kind.extension_name, column_type(kind.storage_type)
        )
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return column_type(kind.value_type)
    if pa.types.is_map(kind):
        return ["map", _inner_type(kind.key_type), _inner_type(kind.item_type)]
    if pa.types.is_fixed_size_list(kind) and not pa.types.is_nested(kind.value_type):
        return ["array", column_type(kind.value_type), kind.list_size]
    if _is_list(kind) or pa.types.is_fixed_size_list(kind):
        return ["list", _inner_type(kind.value_type)]
    if pa.types.is_struct(kind):
        names = distinct_names([field.name for field in kind])
        return ["struct", [[n, _inner_type(f.type)] for n, f in zip(names, kind, strict=True)]] if names else "JSON"
    return _plain_type(kind)


def storable(array: pa.Array) -> pa.Array:
    """The same values in types that Parquet keeps."""
    kind = array.type
    if is_storable(kind):
        return array
    if isinstance(kind, pa.BaseExtensionType):
        stored = storable(array.storage)
        return stored.cast(pa.bool_()) if kind.extension_name == "arrow.bool8" else stored
    if pa.types.is_dictionary(kind):
        return storable(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return storable(pc.run_end_decode(array))
    if pa.types.is_union(kind):
        # Row by row: unions come only from users' own code, and no kernel turns them into text.
        texts = [None if value is None else json.dumps(value, default=str) for value in array.to_pylist()]
        return pa.array(texts, pa.string())
    if pa.types.is_nested(kind):
        return rebuilt(array, storable)
    if pa.types.is_duration(kind):
        return _duration_text(array)
    if kind == pa.month_day_nano_interval():
        return _interval_text(array)
    if str(kind) in STORED_AS:
        return array.cast(STORED_AS[str(kind)])
    small = kind.precision <= LARGEST_DECIMAL_DIGITS
    return array.cast(pa.decimal128(kind.precision, kind.scale) if small else pa.string())


def is_storable(kind: pa.DataType) -> bool:
    """Whether Parquet keeps the type as it is."""
    if isinstance(kind, pa.BaseExtensionType):
        return kind.extension_name in {"arrow.uuid", "arrow.json"}
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind) or pa.types.is_union(kind):
        return False
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        return bool(names) and distinct_names(names) == names and all(is_storable(field.type) for field in kind)
    if pa.types.is_map(kind):
        return is_storable(kind.key_type) and is_storable(kind.item_type)
    if _is_list(kind) or pa.types.is_fixed_size_list(kind):
        return not _is_list_view(kind) and is_storable(kind.value_type)
    if pa.types.is_decimal256(kind) or pa.types.is_duration(kind) or kind == pa.month_day_nano_interval():
        return False
    return str(kind) not in STORED_AS


def taken(batch: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Rows of a batch. Columns of which pyarrow cannot pick rows become storable first."""
    try:
        return batch.take(rows)
    except pa.ArrowNotImplementedError:
        arrays = [(column if _is_takeable(column) else storable(column)).take(rows) for column in batch.columns]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _is_takeable(array: pa.Array) -> bool:
    try:
        array.slice(0, 1).take(pa.array([0] if len(array) else [], pa.int64()))
    except pa.ArrowNotImplementedError:
        return False
    return True


def _inner_type(kind: pa.DataType) -> Type:
    found = column_type(kind)
    return ["list", found[1]] if isinstance(found, list) and found[0] == "array" else found


def _plain_type(kind: pa.DataType) -> Type:
    if pa.types.is_decimal(kind):
        small = kind.precision <= LARGEST_DECIMAL_DIGITS
        return f"DECIMAL({kind.precision},{max(kind.scale, 0)})" if small else "VARCHAR"
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return "TIMESTAMPTZ_NS" if kind.unit == "ns" else "TIMESTAMP WITH TIME ZONE"
    if pa.types.is_duration(kind):
        return "INTERVAL"
    if pa.types.is_fixed_size_binary(kind):
        return "BLOB"
    return PLAIN_NAMES.get(str(kind), "VARCHAR")


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_list_view(kind))


def rebuilt(array: pa.Array, inner: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """A struct, list or map with what is in it made anew."""
    kind = array.type
    if pa.types.is_struct(kind):
        return _rebuilt_struct(array, inner)
    if _is_list_view(kind):
        return _list_of_view(array, inner)
    array = pa.concat_arrays([array.slice(0, 0), array]) if array.offset == 0 else array.take(_all(array))
    absent = array.is_null() if array.null_count else None
    if pa.types.is_map(kind):
        keys, items = inner(array.keys), inner(array.items)
        return pa.MapArray.from_arrays(array.offsets, keys, items, mask=absent)
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(inner(array.values), kind.list_size, mask=absent)
    build = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
    return build.from_arrays(array.offsets, inner(array.values), mask=absent)


def _list_of_view(array: pa.Array, inner: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """A list view as a list, from its sizes: pyarrow 25 casts the last list of a view to an empty one."""
    sizes = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int64())
    absent = array.is_null() if array.null_count else None
    return pa.LargeListArray.from_arrays(offsets, inner(array.flatten()), mask=absent)


def _rebuilt_struct(array: pa.StructArray, inner: Callable[[pa.Array], pa.Array]) -> pa.Array:
    names = distinct_names([field.name for field in array.type])
    if not names:
        return pc.if_else(array.is_null(), pa.scalar(None, pa.string()), pa.scalar("{}"))
    children = [inner(child) for child in array.flatten()]
    return pa.StructArray.from_arrays(children, names=names, mask=array.is_null() if array.null_count else None)


def _all(array: pa.Array) -> pa.Array:
    return pa.array(np.arange(len(array)))


def _duration_text(array: pa.Array) -> pa.Array:
    micros = pc.divide(array.cast(pa.int64()), 1000) if array.type.unit == "ns" else array.cast(pa.duration("us"))
    return pc.binary_join_element_wise(micros.cast(pa.int64()).cast(pa.string()), "microseconds", " ")


def _interval_text(array: pa.Array) -> pa.Array:
    kind = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanos", "<i8")])
    values = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array)]
    words = [
        word
        for name, unit in (("months", "months"), ("days", "days"), ("nanos", "microseconds"))
        for word in (_texts(_thousandths(values[name]) if name == "nanos" else values[name]), unit)
    ]
    text = pc.binary_join_element_wise(*words, " ")
    return pc.if_else(array.is_valid(), text, pa.scalar(None, pa.string()))


def _texts(numbers: np.ndarray) -> pa.Array:
    return pa.array(np.ascontiguousarray(numbers).astype(np.int64)).cast(pa.string())


def _thousandths(numbers: np.ndarray) -> np.ndarray:
    return np.sign(numbers) * (np.abs(numbers) // 1000)
