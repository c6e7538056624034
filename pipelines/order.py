"""An order of records, and which rows of a batch come first in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import ROW_ID
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.selects import order_of, ways_of

PLACE = "__place"
WORD_BITS = 64


class Order:
    """An order of records: by some columns (`-` before a name: from the largest down), nulls last, then by row ids."""

    def __init__(self, by: Sequence[str], schema: pa.Schema, sandbox: Sandbox) -> None:
        ways = self._ways = ways_of([*by, ROW_ID])
        self._names = [name for name in schema.names if name in dict(ways)]
        keys = pa.schema([schema.field(name) for name in self._names])
        self._places = sandbox.prepare(
            PLACE, keys.append(pa.field(PLACE, pa.int64())), f"ORDER BY {order_of([*by, ROW_ID])}"
        )
        parts = ", ".join(f"{name_of(name)}, '{way}'" for name, way in ways)
        self._keys = sandbox.prepare(f"create_sort_key({parts}) AS k", keys)

    def places(self, batch: pa.RecordBatch) -> pa.Array:
        """Which rows of a batch come first, second, and so on."""
        columns = [(batch.column(name), way) for name, way in self._ways]
        if batch.num_rows and (found := _packed(columns)) is not None:
            return found
        numbers = pa.array(np.arange(batch.num_rows), pa.int64())
        return self._places(batch.select(self._names).append_column(PLACE, numbers)).column(0)

    def keys(self, pieces: Sequence[pa.RecordBatch]) -> list[bytes]:
        """What stands for each record: these bytes have its order."""
        found: list[bytes] = self._keys(pa.concat_batches(pieces).select(self._names)).column(0).to_pylist()
        return found

    def some(self, run: pa.RecordBatch, rows: np.ndarray) -> pa.RecordBatch:
        """Of a run just these rows, and of those what tells their order."""
        return run.select(self._names).take(pa.array(rows, pa.int64()))


def _packed(columns: Sequence[tuple[pa.Array, str]]) -> pa.Array | None:
    """The rows of columns in order, where what tells it and a row's place fit into one word: words are sorted far quicker
    than rows. None: it does not fit, or a column has no whole numbers."""
    rows = len(columns[0][0])
    place_bits, used, is_told = (rows - 1).bit_length(), 0, True
    words = np.zeros(rows, np.uint64)
    for number, (column, way) in enumerate(columns, 1):
        if number == len(columns) and _ascends(column):
            break  # row ids in order: a row's place says the same
        found = _ranks(column, way.startswith("DESC"))
        if found is None:
            return None
        ranks, bits = found
        if not (is_told := used + bits + place_bits <= WORD_BITS):
            break  # perhaps no two rows are the same so far
        words, used = (words << np.uint64(bits)) | ranks, used + bits
    words = (words << np.uint64(place_bits)) | np.arange(rows, dtype=np.uint64)
    words.sort()
    values = words >> np.uint64(place_bits)
    if not is_told and (values[1:] == values[:-1]).any():
        return None
    return pa.array((words & np.uint64((1 << place_bits) - 1)).astype(np.int64))


def _ascends(column: pa.Array) -> bool:
    numbers = column.to_numpy()
    return bool((numbers[1:] >= numbers[:-1]).all())


def _ranks(column: pa.Array, is_down: bool) -> tuple[np.ndarray, int] | None:
    """Numbers from 0 on in the order of a column's values, nulls last, and how many bits they have."""
    numbers = _whole(column)
    if numbers is None:
        return None
    valid = None if not column.null_count else pc.is_valid(column).to_numpy(zero_copy_only=False)
    known = numbers if valid is None else numbers[valid]
    if not len(known):
        return np.zeros(len(numbers), np.uint64), 0
    least, most = int(known.min()), int(known.max())
    bits = (most - least + (valid is not None)).bit_length()
    if bits > WORD_BITS:
        return None
    words = numbers.view(np.uint64)  # differences are right even where they pass the sign
    ranks = np.uint64(most % (1 << WORD_BITS)) - words if is_down else words - np.uint64(least % (1 << WORD_BITS))
    if valid is not None:
        ranks[~valid] = np.uint64(most - least + 1)
    return ranks, bits


def _whole(column: pa.Array) -> np.ndarray | None:
    """A column's values as whole numbers of 64 bits that have their order; anything where it is null. None: it has no such."""
    kind = column.type
    if pa.types.is_decimal128(kind) and kind.precision <= 18:
        halves = np.frombuffer(column.buffers()[1], np.int64)
        return halves[2 * column.offset : 2 * (column.offset + len(column)) : 2].copy()
    if _is_moment(kind):
        column = column.view(pa.int32() if kind.bit_width == 32 else pa.int64())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not pa.types.is_integer(kind):
        return None
    wide = column.cast(pa.uint64() if pa.types.is_unsigned_integer(column.type) else pa.int64())
    return pc.fill_null(wide, 0).to_numpy() if wide.null_count else wide.to_numpy()


def _is_moment(kind: pa.DataType) -> bool:
    """Whether values are points in time that DuckDB takes as they are: it rounds nanoseconds of a day, or with a zone."""
    if pa.types.is_timestamp(kind):
        return kind.unit != "ns" or kind.tz is None
    return pa.types.is_date32(kind) or (pa.types.is_time(kind) and kind.unit != "ns")
