"""Values as text, columnar and exact: what CSV fields and JSON lines are made of.

Decimals in plain digits, floats in the shortest form that reads back the same (always with a point or an exponent, so
that they stay floats), times in ISO 8601 with their offset, nested values and JSON lines as JSON. Binary and interval
values have no text of their own: `unsupported` says so before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.values import outside, shown

NULL = "null"
UTC = ("UTC", "Etc/UTC", "Z", "+00:00")
_CONTROL = [chr(code) for code in range(32)]
_SPECIAL = r'["\\\x00-\x1f]'


def unsupported(kind: pa.DataType) -> str:
    """What of this type has no exact text, with what to do about it; empty where all of it has one."""
    if _binary(kind):
        return "binary has no text of its own; make it text with a map, such as base64(column)"
    if pa.types.is_interval(kind) or pa.types.is_duration(kind):
        return "an interval has no text that reads back the same; make it a number or text with a map"
    if pa.types.is_dictionary(kind):
        return unsupported(kind.value_type)
    if pa.types.is_union(kind) or isinstance(kind, pa.BaseExtensionType):
        return f"{kind} has no text of its own; make it text with a map"
    inner = (unsupported(kind.field(index).type) for index in range(kind.num_fields))
    return next(filter(None, inner), "")


def nested(kind: pa.DataType) -> bool:
    """Whether values of this type hold others."""
    return bool(kind.num_fields > 0 or pa.types.is_struct(kind))


def plain(array: pa.Array) -> pa.Array:
    """The array with 32-bit offsets and without dictionaries at its top, which the functions here expect."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return plain(array.dictionary_decode())
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    if _list(kind) and not pa.types.is_list(kind):
        return array.cast(pa.list_(kind.value_field))
    return array


def text(array: pa.Array) -> pa.StringArray:
    """The text of each value that is not nested; null where the value is."""
    array = plain(array)
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if pa.types.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if pa.types.is_timestamp(kind):
        return _timestamp(array)
    if pa.types.is_decimal(kind):
        return _decimal(array)
    if pa.types.is_floating(kind):
        return _float(array)
    return array.cast(pa.string())


def json_text(array: pa.Array) -> pa.StringArray:
    """Each value as JSON, never null: a null is `null`."""
    array = plain(array)
    kind = array.type
    if pa.types.is_struct(kind):
        return _object(array)
    if pa.types.is_map(kind):
        return _map(array)
    if pa.types.is_list(kind):
        return pc.fill_null(_around("[", _joined(array, json_text(_values(array))), "]"), NULL)
    bare = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind) or _decimals(kind)
    written = text(array) if bare else quoted(text(array))
    return pc.fill_null(written, NULL)


def quoted(array: pa.StringArray) -> pa.StringArray:
    """Each text as a JSON string; null stays null."""
    if pc.any(pc.match_substring_regex(array, _SPECIAL)).as_py():
        array = pc.replace_substring(array, "\\", "\\\\")
        array = pc.replace_substring(array, '"', '\\"')
        # At most 32 passes, and only over a batch that has such a character: rare, and there is no columnar escape.
        for character in _CONTROL:
            if pc.any(pc.match_substring(array, character)).as_py():
                array = pc.replace_substring(array, character, json.dumps(character)[1:-1])
    return _around('"', array, '"')


def lines(names: Sequence[str], columns: Sequence[pa.Array]) -> pa.StringArray:
    """One JSON object a row."""
    pieces: list[pa.Array | str] = []
    for number, (name, column) in enumerate(zip(names, columns, strict=True)):
        pieces += [("{" if number == 0 else ",") + json.dumps(name, ensure_ascii=False) + ":", json_text(column)]
    return pc.binary_join_element_wise(*map(_operand, [*pieces, "}"]), "")


def unfit(array: pa.Array, *, as_json: bool) -> pa.BooleanArray | None:
    """Where a value has no text that reads back the same: years outside 1 to 9999, times outside of a day, and in JSON nan
    and inf. None: nowhere.
    """
    array = plain(array)
    kind = array.type
    if pa.types.is_floating(kind) and as_json:
        return _where(pc.invert(pc.is_finite(array)))
    if pa.types.is_temporal(kind):
        return _without_text(array)
    if pa.types.is_struct(kind):
        found = [unfit(child, as_json=True) for child in array.flatten()]
        return _either([mask for mask in found if mask is not None])
    if pa.types.is_list(kind) or pa.types.is_map(kind):
        return _unfit_list(array)
    return None


def without_text(kind: pa.DataType) -> str:
    """What is to be said of a value of this type that is `unfit`, behind it."""
    if pa.types.is_floating(kind):
        return "has no number in JSON; make it null with a map"
    if pa.types.is_temporal(kind):
        return "lies outside of the years 1 to 9999 or of a day; make it null with a map"
    return "holds what has no text: numbers must be finite, years lie in 1 to 9999; make it null with a map"


def holding(array: pa.Array, tells: Callable[[pa.Array], pa.BooleanArray | None]) -> pa.BooleanArray | None:
    """Where a value is, or holds at any depth, one that `tells` finds in its array. None: nowhere."""
    array = plain(array)
    own = tells(array)
    found = [None if own is None else _where(own)]
    if pa.types.is_struct(array.type):
        found += [holding(child, tells) for child in array.flatten()]
    elif pa.types.is_list(array.type) or pa.types.is_map(array.type):
        found.append(_spread(array, holding(_values(array), tells)))
    return _either([mask for mask in found if mask is not None])


def without_json(batch: pa.RecordBatch, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The rows with a value in one of the named columns that JSON has no form of, and what is to be said of it."""
    for name in names:
        column = batch.column(name)
        mask = unfit(column, as_json=True)
        for row in pc.indices_nonzero(mask).to_pylist() if mask is not None else ():
            yield row, f"column {name!r}: {shown(column, row)} {without_text(column.type)}"


def _unfit_list(array: pa.Array) -> pa.BooleanArray | None:
    return _spread(array, unfit(_values(array), as_json=True))


def _spread(array: pa.Array, mask: pa.BooleanArray | None) -> pa.BooleanArray | None:
    """Which lists hold one of the values that a mask tells."""
    if mask is None:
        return None
    counted = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(mask.cast(pa.int64()))])
    at = counted.take(_offsets(array))
    return pc.and_(pc.greater(at[1:], at[:-1]), array.is_valid())


def _where(mask: pa.Array) -> pa.BooleanArray | None:
    mask = pc.fill_null(mask, False)
    return mask if pc.any(mask).as_py() else None


def _either(masks: Sequence[pa.Array]) -> pa.BooleanArray | None:
    if not masks:
        return None
    found = masks[0]
    for mask in masks[1:]:
        found = pc.or_(found, mask)
    return found


def _without_text(array: pa.Array) -> pa.BooleanArray | None:
    """Times that lie outside, in UTC or where they are written with another offset."""
    mask = outside(array)
    if not pa.types.is_timestamp(array.type) or array.type.tz in (None, *UTC):
        return None if mask is None else _where(mask)
    inside = array if mask is None else pc.if_else(mask, pa.scalar(None, array.type), array)
    return _either([_where(each) for each in (mask, outside(pc.local_timestamp(inside))) if each is not None])


def _timestamp(array: pa.Array) -> pa.StringArray:
    zone = array.type.tz
    if zone is None:
        return _iso(array)
    offsets = None if zone in UTC else _offset_text(array)
    if offsets is None:
        return pc.binary_join_element_wise(_iso(array.cast(pa.timestamp(array.type.unit))), "Z", "")
    return pc.binary_join_element_wise(_iso(pc.local_timestamp(array)), offsets, "")


def _iso(array: pa.Array) -> pa.StringArray:
    return pc.utf8_replace_slice(array.cast(pa.string()), 10, 11, "T")


def _offset_text(array: pa.Array) -> pa.StringArray | None:
    """The distance of local time from UTC as `+02:00`: few distinct values, so text is made once for each.

    None where it has seconds, as before there were time zones: ISO 8601 has no such offset, so UTC is written.
    """
    unit = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[array.type.unit]
    local = pc.local_timestamp(array).cast(pa.int64())
    encoded = pc.divide(pc.subtract(local, array.cast(pa.int64())), unit).dictionary_encode()
    distances = encoded.dictionary.to_pylist()
    if any(seconds % 60 for seconds in distances):
        return None
    return pa.array([_sign(each) for each in distances], pa.string()).take(encoded.indices)


def _sign(seconds: int) -> str:
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{'-' if seconds < 0 else '+'}{hours:02d}:{minutes:02d}"


def _decimal(array: pa.Array) -> pa.StringArray:
    written = array.cast(pa.string())
    scientific = pc.fill_null(pc.match_substring(written, "E"), False)
    if not pc.any(scientific).as_py():
        return written
    # Arrow writes very small decimals with an exponent, which many readers of decimals refuse: those few row by row.
    spelled = [format(Decimal(value), "f") for value in written.filter(scientific).to_pylist()]
    return pc.replace_with_mask(written, scientific, pa.array(spelled, pa.string()))


def _float(array: pa.Array) -> pa.StringArray:
    return pc.replace_substring_regex(array.cast(pa.string()), r"^(-?\d+)$", r"\1.0")


def _object(array: pa.StructArray) -> pa.StringArray:
    names = [field.name for field in array.type]
    if not names:
        written = pa.array(["{}"] * len(array), pa.string())
    else:
        written = lines(names, array.flatten())
    return written if array.null_count == 0 else pc.if_else(array.is_valid(), written, NULL)


def _map(array: pa.MapArray) -> pa.StringArray:
    """Keys that are not text are written as the text of their value, as JSON asks."""
    entries = _values(array)
    key, item = entries.field(0), entries.field(1)
    keys = json_text(key) if nested(key.type) else pc.fill_null(text(key), NULL)
    pairs = pc.binary_join_element_wise(quoted(keys), json_text(item), ":")
    return pc.fill_null(_around("{", _joined(array, pairs), "}"), NULL)


def _joined(array: pa.Array, written: pa.StringArray) -> pa.StringArray:
    mask = array.is_null() if array.null_count else None
    return pc.binary_join(pa.ListArray.from_arrays(_offsets(array), written, mask=mask), ",")


def _offsets(array: pa.Array) -> pa.Int32Array:
    offsets = array.offsets
    return pc.subtract(offsets, offsets[0]) if len(array) else pa.array([0], pa.int32())


def _values(array: pa.Array) -> pa.Array:
    """Just the values that the array's offsets span; a slice shares its parent's."""
    offsets = array.offsets
    first, last = (offsets[0].as_py(), offsets[-1].as_py()) if len(array) else (0, 0)
    values = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"]) if _is_map(array) else array.values
    return values.slice(first, last - first)


def _is_map(array: pa.Array) -> bool:
    return bool(pa.types.is_map(array.type))


def _around(before: str, array: pa.Array, after: str) -> pa.StringArray:
    """Null stays null."""
    return pc.binary_join_element_wise(before, array, after, "")


def _operand(piece: pa.Array | str) -> pa.Array | pa.Scalar:
    return pa.scalar(piece) if isinstance(piece, str) else piece


def _list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def _decimals(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind))
