"""Records with values that DuckDB can hold but that some of its functions fail at within themselves.

Times beyond the years 1 to 9999, times of day beyond a day, text that is no UTF-8: nothing is wrong with them as such,
but where functions fail, it is with these.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
DAY_SECONDS = 86_400


def strange_rows(batch: pa.RecordBatch) -> np.ndarray:
    """A mask of the records that have such a value, at whatever depth."""
    found = np.zeros(batch.num_rows, dtype=bool)
    for column in batch.columns:
        found |= _strange(column)
    return found


def _strange(array: pa.Array) -> np.ndarray:
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _strange(array.dictionary_decode())
    if pa.types.is_timestamp(kind):
        unit = PER_SECOND[kind.unit]
        return _beyond(array.cast(pa.int64()), FIRST_SECOND * unit, (LAST_SECOND + 1) * unit)
    if pa.types.is_date(kind):
        days = array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return _beyond(days, FIRST_SECOND // DAY_SECONDS, LAST_SECOND // DAY_SECONDS + 1)
    if pa.types.is_time(kind):
        whole = array.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64()).cast(pa.int64())
        return _beyond(whole, 0, DAY_SECONDS * PER_SECOND[kind.unit])
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return _undecodable(array)
    return _strange_inside(array)


def _strange_inside(array: pa.Array) -> np.ndarray:
    kind, found = array.type, np.zeros(len(array), dtype=bool)
    if pa.types.is_struct(kind):
        for child in array.flatten():
            found |= _strange(child)
    elif pa.types.is_map(kind):
        _at_owners(found, pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"]), array)
    elif kind.num_fields == 1 and hasattr(array, "flatten"):
        _at_owners(found, None, array)
    return found


def _at_owners(found: np.ndarray, entries: pa.Array | None, array: pa.Array) -> None:
    """Marks the lists whose elements are strange."""
    if entries is None:
        owners, values = pc.list_parent_indices(array), pc.list_flatten(array)
    else:
        offsets = array.offsets.to_numpy()
        owners = pa.array(np.repeat(np.arange(len(array)), np.diff(offsets)))
        values = entries.slice(offsets[0] if len(offsets) else 0, len(owners))
    found[owners.to_numpy()[_strange(values)]] = True


def _beyond(whole: pa.Array, first: int, end: int) -> np.ndarray:
    low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    outside = pc.or_(pc.less(whole, max(first, low)), pc.greater_equal(whole, min(end, high)))
    found: np.ndarray = pc.fill_null(outside, False).to_numpy(zero_copy_only=False)
    return found


def _undecodable(array: pa.Array) -> np.ndarray:
    found = np.zeros(len(array), dtype=bool)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:  # one by one: only where there are such
        for row, value in enumerate(array.cast(pa.large_string()).view(pa.large_binary()).to_pylist()):
            found[row] = value is not None and not _decodes(value)
    return found


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
