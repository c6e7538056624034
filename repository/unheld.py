"""Dates and times that Arrow holds and DuckDB has no room for: their columns are kept in the data logs as text.

Such are times of more than a day, seconds and milliseconds so far from 1970 that they are no microseconds, and the numbers that
DuckDB keeps for its infinite dates. One of them would end every query of the log, or be read as another value.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.values import DAY_SECONDS, UNITS, WORDS, counted
from repository.storable import rebuilt

DAYS = (-(2**31) + 2, 2**31 - 2)
MICROSECONDS = (-9_223_372_022_400_000_000, 2**63 - 2)
NANOSECONDS = (-(2**63) + 2, 2**63 - 2)
"""The numbers beside them are DuckDB's infinite days and moments."""
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def held(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The records, with every column as text that holds a time for which DuckDB has no room."""
    arrays = [as_text(column) if _is_unheld(column) else column for column in batch.columns]
    if all(one is other for one, other in zip(arrays, batch.columns, strict=True)):
        return batch
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _is_unheld(array: pa.Array) -> bool:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _is_unheld(array.storage)
    if pa.types.is_dictionary(kind):
        return _is_unheld(array.dictionary)
    if pa.types.is_run_end_encoded(kind):
        return _is_unheld(array.values)
    if pa.types.is_struct(kind):
        return any(_is_unheld(child) for child in array.flatten())
    if pa.types.is_map(kind):
        return _is_unheld(array.keys) or _is_unheld(array.items)
    if any(is_list(kind) for is_list in LISTS):
        return _is_unheld(array.flatten())
    found = _range(kind)
    if found is None or not len(array):
        return False
    low, high = (each.as_py() for each in pc.min_max(counted(array)).values())
    return low is not None and (low < found[0] or high > found[1])


def _range(kind: pa.DataType) -> tuple[int, int] | None:
    """The numbers for which there is room; None: there is for all."""
    if pa.types.is_time(kind):
        return 0, DAY_SECONDS * 10 ** UNITS[kind.unit]
    if pa.types.is_date(kind):
        step = 1 if kind == pa.date32() else DAY_SECONDS * 1000
        return DAYS[0] * step, DAYS[1] * step
    if not pa.types.is_timestamp(kind):
        return None
    if kind.unit == "ns":
        return NANOSECONDS
    step = 10 ** (UNITS["us"] - UNITS[kind.unit])
    return -(-MICROSECONDS[0] // step), MICROSECONDS[1] // step


def as_text(array: pa.Array) -> pa.Array:
    """The same values with every time in them as text: days by numpy's calendar, which has no end; hours beyond 23."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return as_text(array.storage)
    if pa.types.is_dictionary(kind):
        return as_text(array.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return as_text(pc.run_end_decode(array))
    if pa.types.is_nested(kind) and not pa.types.is_union(kind):
        return rebuilt(array, as_text)
    return _times(array) if _range(kind) is not None else array


def _times(array: pa.Array) -> pa.StringArray:
    numbers = counted(array).fill_null(0).to_numpy(zero_copy_only=False)
    kind = array.type
    if pa.types.is_time(kind):
        texts = [_clock(int(number), UNITS[kind.unit]) for number in numbers]  # a column with such a value: rare
    else:
        unit = "D" if kind == pa.date32() else getattr(kind, "unit", "ms")
        found = np.datetime_as_string(numbers.astype(f"datetime64[{unit}]"))
        has_zone = getattr(kind, "tz", None) is not None
        texts = [
            _moment(str(text), number, unit, has_zone=has_zone) for text, number in zip(found, numbers, strict=True)
        ]
    return pc.if_else(array.is_valid(), pa.array(texts, pa.string()), pa.scalar(None, pa.string()))


def _moment(text: str, number: int, unit: str, *, has_zone: bool) -> str:
    if text == "NaT":  # numpy's word for the least number
        return f"{number} {WORDS[unit]} from 1970"
    day, _, clock = text.partition("T")
    clock = clock.rstrip("0").rstrip(".") if "." in clock else clock
    return f"{day} {clock}{'+00' if has_zone else ''}" if clock else day


def _clock(number: int, digits: int) -> str:
    seconds, fraction = divmod(abs(number), 10**digits)
    shown = f"{'-' if number < 0 else ''}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{shown}.{fraction:0{digits}d}".rstrip("0") if fraction else shown
