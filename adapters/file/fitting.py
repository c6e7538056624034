"""Brings columns to their exact types: what does not fit is found value by value, and nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Convert = Callable[[pa.Array], pa.Array]
UNFIT = (pa.ArrowException, ValueError, OverflowError, TypeError)


def fitted(array: pa.Array, kind: pa.DataType, convert: Convert) -> tuple[pa.Array, list[int]]:
    """The array converted to `kind`, null where a value does not fit; the rows where."""
    try:
        return convert(array), []
    except UNFIT:
        if len(array) == 1:
            return pa.nulls(1, kind), [0]
    half = len(array) // 2
    first, bad = fitted(array.slice(0, half), kind, convert)
    second, more = fitted(array.slice(half), kind, convert)
    return pa.concat_arrays([first, second]), [*bad, *(half + row for row in more)]


def exactly(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array as `kind`.

    Raises:
        pa.ArrowException: a value does not fit, or would be rounded.
    """
    if array.type.equals(kind):
        return array
    found = array.cast(kind)
    may_round = pa.types.is_floating(array.type) and (pa.types.is_decimal(kind) or pa.types.is_floating(kind))
    if may_round:
        same = pc.or_(pc.equal(_back(found), _back(array)), pc.is_nan(array))
        if not pc.all(pc.fill_null(same, True)).as_py():
            raise pa.ArrowInvalid(f"a value would be rounded to {kind}")
    return found


def _back(array: pa.Array) -> pa.Array:
    """As 64-bit floating numbers: of decimals by their digits, which rounds once."""
    if pa.types.is_decimal(array.type):
        return array.cast(pa.string()).cast(pa.float64())
    return array.cast(pa.float64())


def gathered(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Python's values as an array of `kind`, null where one does not fit; the rows where."""
    try:
        return pa.array(values, kind), []
    except UNFIT:
        if len(values) == 1:
            return pa.nulls(1, kind), [0]
    half = len(values) // 2
    first, bad = gathered(values[:half], kind)
    second, more = gathered(values[half:], kind)
    return pa.concat_arrays([first, second]), [*bad, *(half + row for row in more)]
