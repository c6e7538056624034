"""Cells of a sheet's columns as values of exact types. What a cell holds decides, not what it looks like.

Excel's numbers are 64-bit floating point of which it shows 15 digits: a column declared as DECIMAL gets those. Days are
numbers from 1900 (where it counts a 29 February that never was) or from 1904; fractions of them are times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.dialect import Dialect
from adapters.file.excel_cells import Cell, Clock, Day, Error, Moment
from adapters.file.fitting import exactly, fitted, gathered
from adapters.file.text import text

Converted = tuple[pa.Array, list[int]]
"""Values, null where one does not fit, and the places where."""
DAY_MICROSECONDS = 86_400_000_000
LAST_DAY = 2_958_465
"""The last day that Excel knows: 31 December 9999."""
FIRST_1900, FIRST_1904 = -25_569, -24_107
"""The days that are counted as 0, from 1970; of the first from March 1900 on."""


def column_of(
    cells: Sequence[Cell | None], kind: pa.DataType, dialect: Dialect, *, from_1904: bool
) -> tuple[pa.Array, list[int]]:
    """Cells as `kind`, null where there is none or it does not fit; the places of those that do not."""
    places: dict[type, list[int]] = {}
    for place, cell in enumerate(cells):  # each cell is a Python value of its own
        places.setdefault(type(cell), []).append(place)
    missing = places.pop(type(None), [])
    found = [pa.nulls(len(missing), kind)]
    order, bad = list(missing), list[int]()
    for each, rows in places.items():
        values = [cells[row] for row in rows]
        array, unfit = _CONVERT[each](values, kind, dialect, from_1904)
        found.append(array)
        order += rows
        bad += [rows[place] for place in unfit]
    if len(found) == 2 and not missing:
        return found[1], bad
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return pa.concat_arrays(found).take(pa.array(back)), sorted(bad)


def _none(values: Sequence[Any], kind: pa.DataType) -> Converted:
    return pa.nulls(len(values), kind), list(range(len(values)))


def _errors(values: Sequence[Any], kind: pa.DataType, _dialect: Dialect, _from_1904: bool) -> Converted:
    return _none(values, kind)


def _texts(values: Sequence[str], kind: pa.DataType, dialect: Dialect, _from_1904: bool) -> Converted:
    """Texts; in other columns those that say a value of the column's type, as in CSV."""
    nulls = {word for word in dialect.null_values if word}
    if pa.types.is_string(kind):
        return gathered([None if value in nulls else value for value in values], kind)
    nulls.add("")
    raw = pa.array([None if value in nulls else value.encode("utf-8", "replace") for value in values], pa.binary())
    return fitted(raw, kind, lambda each: dialect.values(each, kind))


def _truths(values: Sequence[bool], kind: pa.DataType, _dialect: Dialect, _from_1904: bool) -> Converted:
    array = pa.array(values, pa.bool_())
    if pa.types.is_boolean(kind):
        return array, []
    return (text(array), []) if pa.types.is_string(kind) else _none(values, kind)


def _numbers(values: Sequence[float], kind: pa.DataType, _dialect: Dialect, _from_1904: bool) -> Converted:
    if pa.types.is_string(kind):
        return pa.array([number_text(value) for value in values], kind), []
    if pa.types.is_decimal(kind):
        return gathered([Decimal(f"{value:.15g}") for value in values], kind)
    array = pa.array(values, pa.float64())
    if pa.types.is_floating(kind):
        return array.cast(kind), []
    return fitted(array, kind, lambda each: each.cast(kind)) if pa.types.is_integer(kind) else _none(values, kind)


def number_text(value: float) -> str:
    """A number as Excel shows one, but with all of its digits: whole ones without a point."""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _temporal(values: Sequence[float], kind: pa.DataType, _dialect: Dialect, from_1904: bool) -> Converted:
    """Dates, times and moments, in columns of those and in text."""
    serials = np.array(values, np.float64)
    if pa.types.is_string(kind):
        return _temporal_texts(values, serials, from_1904)
    if pa.types.is_time(kind):
        return _cast(*clocks(serials), kind)
    if pa.types.is_date(kind):
        found, known = moments(serials, from_1904=from_1904)
        return _cast(found, known & (found % DAY_MICROSECONDS == 0), kind)
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return _cast(*moments(serials, from_1904=from_1904), kind)
    return _none(values, kind)


def _cast(micro: np.ndarray, known: np.ndarray, kind: pa.DataType) -> Converted:
    """Microseconds as a type of times, null where they are not known; the places where."""
    counted = pa.array(micro, pa.int64(), mask=~known)
    own = counted.cast(pa.time64("us") if pa.types.is_time(kind) else pa.timestamp("us"))
    array, unfit = fitted(own, kind, lambda each: exactly(each, kind))
    return array, sorted({*np.flatnonzero(~known).tolist(), *unfit})


def _temporal_texts(values: Sequence[float], serials: np.ndarray, from_1904: bool) -> Converted:
    """In ISO 8601, as they are shown: a date, a time, or both."""
    micro, known = moments(serials, from_1904=from_1904)
    within, is_clock = clocks(serials)
    is_clock &= np.array([isinstance(value, Clock) for value in values])
    is_day = (micro % DAY_MICROSECONDS == 0) & np.array([isinstance(value, Day) for value in values])
    texts = pc.if_else(
        pa.array(is_clock),
        text(pa.array(within, pa.int64()).cast(pa.time64("us"))),
        pc.if_else(
            pa.array(is_day),
            text(pa.array(micro // DAY_MICROSECONDS, pa.int32()).cast(pa.date32())),
            text(pa.array(micro, pa.int64()).cast(pa.timestamp("us"))),
        ),
    )
    bad = ~(known | is_clock)
    return pc.if_else(pa.array(bad), pa.scalar(None, pa.string()), texts), np.flatnonzero(bad).tolist()


def clocks(serials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions of a day as microseconds, and which are within one."""
    within = (serials >= 0) & (serials < 1)
    micro = _snapped(np.where(within, serials, 0), np.zeros(len(serials)))
    return np.where(micro < DAY_MICROSECONDS, micro, 0), within & (micro < DAY_MICROSECONDS)


def moments(serials: np.ndarray, *, from_1904: bool) -> tuple[np.ndarray, np.ndarray]:
    """Excel's numbers of days as microseconds from 1970, and which are such: 29 February 1900 was none."""
    days = np.floor(serials)
    last = LAST_DAY - (FIRST_1904 - FIRST_1900 if from_1904 else 0)
    known = (days >= (0 if from_1904 else 1)) & (days <= last) & (from_1904 | (days != 60))
    days = np.where(known, days, 61)
    first = np.where(from_1904, FIRST_1904, np.where(days < 60, FIRST_1900 + 1, FIRST_1900))
    micro = _snapped(np.where(known, serials, 61), days)
    return (days + first).astype(np.int64) * DAY_MICROSECONDS + micro, known


def _snapped(serials: np.ndarray, days: np.ndarray) -> np.ndarray:
    """What is beyond whole days, in microseconds; as milliseconds where 64 bits cannot tell it from those."""
    micro = np.rint((serials - days) * DAY_MICROSECONDS)
    milli = np.rint(micro / 1_000) * 1_000
    tolerance = 1.25 * np.spacing(serials) * DAY_MICROSECONDS
    tolerance = np.where(days > 0, np.maximum(tolerance, 1), tolerance)
    return np.where(np.abs(micro - milli) <= tolerance, milli, micro).astype(np.int64)


def serials_of(micro: np.ndarray) -> np.ndarray:
    """Microseconds from 1970 as Excel's numbers of days, counted from 1900; those before are below 1."""
    days, rest = np.divmod(micro, DAY_MICROSECONDS)
    counted = days - FIRST_1900
    return np.where(counted < 61, counted - 1, counted) + rest / DAY_MICROSECONDS


_CONVERT: Mapping[type, Callable[[Sequence[Any], pa.DataType, Dialect, bool], Converted]] = {
    str: _texts,
    bool: _truths,
    float: _numbers,
    Day: _temporal,
    Clock: _temporal,
    Moment: _temporal,
    Error: _errors,
}


def guessed(cells: Sequence[Cell | None]) -> pa.DataType:
    """The type that holds what cells have; null where they have nothing."""
    kinds = {type(cell) for cell in cells} - {type(None), Error}
    if not kinds:
        return pa.null()
    if kinds == {float}:
        whole = all(cell.is_integer() and abs(cell) <= 1 << 53 for cell in cells if type(cell) is float)
        return pa.int64() if whole else pa.float64()
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {Clock}:
        return (
            pa.time64("us") if all(0 <= cell < 1 for cell in cells if isinstance(cell, Clock)) else pa.timestamp("us")
        )
    if kinds <= {Day, Moment, Clock}:
        days = kinds == {Day} and all(cell.is_integer() for cell in cells if isinstance(cell, Day))
        return pa.date32() if days else pa.timestamp("us")
    return pa.string()
