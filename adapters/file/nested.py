"""Fits nested values, as DuckDB takes them from JSON, to their exact types.

Whole numbers, decimals and times travel as text, because a cast of JSON to them would round or cut: here they become
what they say, or are faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.values import UNITS

PLAIN_INTEGER = "^-?[0-9]{1,18}$"
JUST_A_DATE = r"^\s*[^T ]+([T ]00:00(:00([.]0*)?)?(Z|[+-]00(:?00)?)?)?\s*$"
PLAIN_DECIMAL = "^-?[0-9]{1,9}([.][0-9]{1,2})?$"


def travels_as_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_decimal(kind) or _is_time(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind))


def _cut(texts: pa.StringArray, kind: pa.DataType) -> pa.BooleanArray:
    """Which texts say more than a date, or have more digits of a second than the type."""
    if pa.types.is_date(kind):
        return pc.invert(pc.match_substring_regex(texts, JUST_A_DATE))
    return pc.match_substring_regex(texts, rf"\.[0-9]{{{UNITS[kind.unit]}}}[0-9]*[1-9]")


def replaced(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with each of its leaves replaced."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, replaced(each.type, leaf)) for each in kind])
    if pa.types.is_list(kind):
        return pa.list_(replaced(kind.value_type, leaf))
    return leaf(kind)


@dataclass
class Fitting:
    """Fits columns; `faults` gathers, by record, the first value that did not fit: its path, text and type."""

    timed: Callable[[pa.StringArray, pa.DataType], pa.Array]
    """Makes texts to dates and times, null where they are none."""
    faults: dict[int, tuple[str, str, pa.DataType]] = field(default_factory=dict)

    def fit(self, array: pa.Array, kind: pa.DataType, owners: np.ndarray, path: str) -> pa.Array:
        """The array as `kind`; `owners` is the record of each value."""
        if array.type.equals(kind):
            return array
        if pa.types.is_struct(kind):
            children = [
                self.fit(child, each.type, owners, f"{path}.{each.name}" if path else each.name)
                for child, each in zip(array.flatten(), kind, strict=True)
            ]
            return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
        if pa.types.is_list(kind):
            return self._list(array, kind, owners, path)
        return self._leaf(array, kind, owners, path)

    def _list(self, array: pa.ListArray, kind: pa.DataType, owners: np.ndarray, path: str) -> pa.Array:
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        values = self.fit(array.flatten(), kind.value_type, np.repeat(owners, lengths), f"{path}[]")
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=array.is_null())

    def _times(self, array: pa.StringArray, kind: pa.DataType, owners: np.ndarray, path: str) -> pa.Array:
        found = self.timed(array, kind)
        bad = pc.or_(pc.and_(array.is_valid(), found.is_null()), pc.fill_null(_cut(array, kind), False))
        for place in pc.indices_nonzero(bad).to_pylist():
            self.faults.setdefault(int(owners[place]), (path, array[place].as_py(), kind))
        return found

    def _leaf(self, array: pa.Array, kind: pa.DataType, owners: np.ndarray, path: str) -> pa.Array:
        if _is_time(kind):
            return self._times(array, kind, owners, path)
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:
            pattern = PLAIN_INTEGER if pa.types.is_integer(kind) else PLAIN_DECIMAL
            plain = pc.fill_null(pc.match_substring_regex(array, pattern), True).to_numpy(zero_copy_only=False)
        array = self._without_faults(array, np.flatnonzero(~plain), kind, owners, path)
        try:
            return array.cast(kind)
        except pa.ArrowInvalid:  # some look plain and do not fit a narrow type
            return self._without_faults(array, np.flatnonzero(plain), kind, owners, path).cast(kind)

    def _without_faults(
        self, array: pa.Array, places: np.ndarray, kind: pa.DataType, owners: np.ndarray, path: str
    ) -> pa.Array:
        """The array with null where one of `places` does not fit, each looked at by itself."""
        bad = np.zeros(len(array), bool)
        for place in places:
            if not _fits(array.slice(place, 1), kind):
                bad[place] = True
                self.faults.setdefault(int(owners[place]), (path, array[int(place)].as_py(), kind))
        return pc.if_else(pa.array(bad), pa.scalar(None, array.type), array)


def _fits(value: pa.Array, kind: pa.DataType) -> bool:
    try:
        value.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
