"""Values in words, for messages; and the dates and times that no calendar or clock has, which adapters reject."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

SHOWN_CHARACTERS = 60
UNITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Digits of a second."""
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
DAY_SECONDS = 86_400
FIRST_DAY = {0: -719_528, 1: -719_162}
"""The first days of the years that a calendar may begin with, counted from 1970."""
LAST_DAY = {9999: 2_932_896, 32767: 11_248_737}
INT64 = (-(2**63), 2**63 - 1)


def outside(array: pa.Array, first_year: int = 1, last_year: int = 9999) -> pa.BooleanArray | None:
    """Which dates and moments lie outside of these years (in UTC), and which times of day outside of a day; None: none.

    Arrow holds them, but writes them as no time, or as quite another one.
    """
    kind = array.type
    if pa.types.is_time(kind):
        low, high = 0, DAY_SECONDS * 10 ** UNITS[kind.unit] - 1
    elif pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        step = (
            1 if kind == pa.date32() else DAY_SECONDS * 10 ** UNITS[kind.unit if pa.types.is_timestamp(kind) else "ms"]
        )
        low = max(FIRST_DAY[first_year] * step, INT64[0])
        high = min((LAST_DAY[last_year] + 1) * step - 1, INT64[1])
    else:
        return None
    counts = counted(array)
    mask = pc.or_(pc.less(counts, low), pc.greater(counts, high))
    return mask if pc.any(mask).as_py() else None


def finer(array: pa.Array, digits: int) -> pa.BooleanArray | None:
    """Which times have more digits of a second than so many; None: none."""
    unit = UNITS[array.type.unit] if pa.types.is_timestamp(array.type) or pa.types.is_time(array.type) else 0
    if unit <= digits:
        return None
    step = 10 ** (unit - digits)
    counts = counted(array)
    mask = pc.not_equal(pc.multiply(pc.divide(counts, step), step), counts)
    return mask if pc.any(mask).as_py() else None


def counted(array: pa.Array) -> pa.Int64Array:
    """Dates and times as the numbers that Arrow keeps."""
    if array.type.bit_width == 32:
        return array.view(pa.int32()).cast(pa.int64())
    return array.view(pa.int64())


def shown(array: pa.Array, row: int) -> str:
    """A value as a message shows it: its beginning, signs that do not print escaped."""
    value = array[row]
    kind = array.type
    if pa.types.is_dictionary(kind):
        return shown(pa.array([value.as_py()], kind.value_type), 0)
    if pa.types.is_temporal(kind) and outside(array[row : row + 1], 1, 32767) is not None:
        since = "midnight" if pa.types.is_time(kind) else "1970"
        unit = "days" if kind == pa.date32() else WORDS[getattr(kind, "unit", "ms")]
        return f"a time {value.value:,} {unit} from {since}"
    if pa.types.is_nested(kind):
        return _shown_nested(value)
    if "binary" in str(kind):
        text = value.as_py()[: SHOWN_CHARACTERS // 2].hex()
    else:
        text = str(value.cast(pa.string()).as_py())[:SHOWN_CHARACTERS]
    return text if text.isprintable() else repr(text)


def _shown_nested(value: pa.Scalar) -> str:
    try:
        return str(value.as_py())[:SHOWN_CHARACTERS]
    except (ValueError, OverflowError, pa.ArrowException):
        return "an item"  # Python has no value for what it holds
