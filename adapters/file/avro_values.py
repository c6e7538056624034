"""Values between the form in which Avro writes them (integers, bytes) and the types that records have."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_DAY = {"ms": 86_400_000, "us": 86_400_000_000}


def as_records(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """What was decoded as integers and bytes, as `kind`.

    Raises:
        pa.ArrowException, ValueError, OverflowError: a value is none of `kind`.
    """
    if array.type.equals(kind):
        return array
    if pa.types.is_struct(kind) or pa.types.is_list(kind) or pa.types.is_map(kind):
        return _nested(array, kind, as_records)
    if pa.types.is_decimal(kind):
        return _decimals(array, kind)
    if pa.types.is_interval(kind):
        return pa.array([_duration(value) for value in array.to_pylist()], kind)
    if pa.types.is_fixed_size_binary(array.type) and pa.types.is_string(kind):
        return pa.array([None if value is None else str(uuid.UUID(bytes=value)) for value in array.to_pylist()], kind)
    if pa.types.is_time(kind):
        within = pc.and_(pc.greater_equal(array, 0), pc.less(array, _DAY[kind.unit]))
        if not pc.all(pc.fill_null(within, True)).as_py():
            raise pa.ArrowInvalid("a time is not within a day")
    return array.cast(kind)


def as_written(array: pa.Array, raw: pa.DataType) -> pa.Array:
    """Records' values as the integers and bytes that Avro writes."""
    kind = array.type
    if kind.equals(raw):
        return array
    if pa.types.is_struct(raw) or pa.types.is_list(raw):
        return _nested(array, raw, as_written)
    if pa.types.is_uint64(kind):
        return as_written(array.cast(pa.decimal128(20, 0)), raw)
    if pa.types.is_decimal(kind):
        return _decimal_bytes(array)
    if (pa.types.is_timestamp(kind) or pa.types.is_time32(kind)) and kind.unit == "s":
        finer = pa.time32("ms") if pa.types.is_time32(kind) else pa.timestamp("ms", kind.tz)
        return array.cast(finer).cast(raw)
    return array.cast(raw)


def _nested(array: pa.Array, kind: pa.DataType, each: Callable[[pa.Array, pa.DataType], pa.Array]) -> pa.Array:
    if pa.types.is_struct(kind):
        children = [each(child, kind.field(index).type) for index, child in enumerate(array.flatten())]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    if pa.types.is_map(array.type):
        array = _as_list(array)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32(), mask=_nulls(array))
    values = array.flatten()
    if not pa.types.is_map(kind):
        return pa.ListArray.from_arrays(offsets, each(values, kind.value_type), type=kind)
    keys, items = values.flatten()
    return pa.MapArray.from_arrays(offsets, each(keys, kind.key_type), each(items, kind.item_type)).cast(kind)


def _nulls(array: pa.Array) -> np.ndarray:
    """Which offsets stand for null, the last never."""
    return np.append(array.is_null().to_numpy(zero_copy_only=False), [False])


def _as_list(array: pa.MapArray) -> pa.ListArray:
    pairs = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
    offsets = pa.array(array.offsets.to_numpy(), pa.int32(), mask=_nulls(array))
    return pa.ListArray.from_arrays(offsets, pairs)


def _decimals(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Two's complement of any length, its first byte the highest; there is no columnar way to lengthen it."""
    width, limit = kind.bit_width // 8, 10**kind.precision
    found: list[bytes | None] = []
    for value in array.to_pylist():
        number = None if value is None else int.from_bytes(value, "big", signed=True)
        if number is not None and not -limit < number < limit:
            raise ValueError(f"{number} has more than {kind.precision} digits")
        found.append(None if number is None else number.to_bytes(width, "little", signed=True))
    packed = pa.array(found, pa.binary(width))
    return pa.Array.from_buffers(kind, len(packed), packed.buffers())


def _decimal_bytes(array: pa.Array) -> pa.Array:
    """Two's complement, its first byte the highest, as long as the type's greatest number needs."""
    kind = array.type
    width, needed = kind.bit_width // 8, (10**kind.precision).bit_length() // 8 + 1
    if not len(array):
        return pa.array([], pa.binary())
    whole = np.frombuffer(array.buffers()[1], np.uint8).reshape(-1, width)[array.offset : array.offset + len(array)]
    content = np.ascontiguousarray(whole[:, ::-1][:, width - needed :])
    fixed = pa.Array.from_buffers(pa.binary(needed), len(array), [None, pa.py_buffer(content)])
    return pc.if_else(array.is_valid(), fixed.cast(pa.binary()), pa.scalar(None, pa.binary()))


def _duration(value: bytes | None) -> pa.MonthDayNano | None:
    if value is None:
        return None
    months, days, milliseconds = struct.unpack("<III", value)
    return pa.MonthDayNano([months, days, milliseconds * 1_000_000])
