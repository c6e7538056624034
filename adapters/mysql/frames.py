"""Turns blocks of rows into record batches of exact types, and values that fit no type into malformed records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql.packets import values

if TYPE_CHECKING:
    import numpy as np
    from duckdb import DuckDBPyConnection

TEXT_LIMIT = 65_536
Faults = dict[int, list[str]]
"""Per row what is wrong with it."""


@dataclass(frozen=True)
class Cell:
    """How one column is read."""

    name: str
    declared: str
    """The type in the server's words."""
    natural: pa.DataType
    """The type that keeps every value."""
    wanted: pa.DataType
    """The type that the flow sees."""
    cast: str | None = None
    """The DuckDB type declared by the node, if any."""


class Frames:
    """Reads the blocks of one split."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._schema = pa.schema([pa.field(cell.name, cell.wanted) for cell in cells])
        self._connection: DuckDBPyConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __call__(self, block: bytes, starts: np.ndarray) -> tuple[pa.RecordBatch, Faults, Callable[[int], str]]:
        """The records of a block, the faults of those that have some (null there), and each record's raw text."""
        faults: Faults = {}
        columns = []
        for cell, given in zip(self._cells, values(block, starts, len(self._cells)), strict=True):
            column = self._exact(cell, given, faults)
            is_as_wanted = cell.cast is None or cell.wanted.equals(cell.natural)
            columns.append(column if is_as_wanted else self._cast(cell, column, faults))
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        return batch, faults, lambda row: self._raw(block, starts, row)

    def _exact(self, cell: Cell, given: pa.Array, faults: Faults) -> pa.Array:
        """The server's texts as the column's type; those that are none are found by halving."""
        if pa.types.is_binary(cell.natural):
            return given
        texts = given.cast(pa.string(), safe=False)  # the server has turned them into UTF-8
        if pa.types.is_string(cell.natural):
            return texts
        pieces: list[pa.Array] = []
        waiting = [(0, len(texts))]
        while waiting:
            first, end = waiting.pop()
            part = texts.slice(first, end - first)
            try:
                pieces.append(read_texts(part, cell.natural))
                continue
            except pa.ArrowInvalid:
                if end - first > 1:
                    middle = (first + end) // 2
                    waiting += [(middle, end), (first, middle)]
                    continue
            faults.setdefault(first, []).append(f"column {cell.name!r}: {part[0]} is no {shown_type(cell.natural)}")
            pieces.append(pa.nulls(1, cell.natural))
        return pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)

    def _cast(self, cell: Cell, column: pa.Array, faults: Faults) -> pa.Array:
        """A column as the type that the node declares; what that would change is a fault."""
        cast = f"TRY_CAST(item AS {cell.cast})"
        found = self._computed(column, cast, cell.wanted)
        wrong = f"item IS NOT NULL AND {cast} IS NULL"
        kinds = (cell.natural, cell.wanted)
        if all(map(_is_number, kinds)) or all(map(pa.types.is_temporal, kinds)):
            wrong += f" OR TRY_CAST({cast} AS {self._duckdb_type(cell.natural)}) IS DISTINCT FROM item"
        elif pa.types.is_string(cell.natural) and _is_exact(cell.wanted):
            wrong += f" OR {_trimmed('item')} IS DISTINCT FROM {_trimmed(f'CAST({cast} AS VARCHAR)')}"
        mask = self._computed(column, wrong, pa.bool_())
        for row in pc.indices_nonzero(mask.fill_null(False)).to_pylist():
            faults.setdefault(row, []).append(f"column {cell.name!r}: {str(column[row])[:60]} is no {cell.cast}")
        return found

    def _computed(self, column: pa.Array, expression: str, kind: pa.DataType) -> pa.Array:
        """What DuckDB makes of a column called `item`."""
        connection = self._opened()
        connection.register("given", pa.table({"item": column}))
        found = connection.sql(f"SELECT {expression} AS item FROM given").to_arrow_table()["item"]
        connection.unregister("given")
        made = found.combine_chunks()
        array = made if isinstance(made, pa.Array) else pa.concat_arrays(made.chunks)
        return array if array.type.equals(kind) else array.cast(kind)

    def _duckdb_type(self, kind: pa.DataType) -> str:
        connection = self._opened()
        connection.register("typed", pa.table({"item": pa.array([], kind)}))
        return str(connection.execute("DESCRIBE FROM typed").fetchall()[0][1])

    def _opened(self) -> DuckDBPyConnection:
        import duckdb

        if self._connection is None:
            self._connection = duckdb.connect()
            self._connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        return self._connection

    def _raw(self, block: bytes, starts: np.ndarray, row: int) -> str:
        """A record as JSON text, numbers as the server writes them, bytes as hexadecimal digits."""
        given = values(block, starts[row : row + 1], len(self._cells))
        shown = {cell.name: _shown(one[0].as_py(), cell.natural) for cell, one in zip(self._cells, given, strict=True)}
        return dumps(shown, ensure_ascii=False)[:TEXT_LIMIT]


def read_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The server's texts as values of a type."""
    if pa.types.is_float32(kind):
        return texts.cast(pa.float64()).cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz:
        return texts.cast(pa.timestamp(kind.unit)).cast(kind)
    if pa.types.is_time(kind):  # Arrow reads none from text
        return pc.binary_join_element_wise("1970-01-01", texts, " ").cast(pa.timestamp(kind.unit)).cast(kind)
    return texts.cast(kind)


def shown_type(kind: pa.DataType) -> str:
    """A type as a message names it."""
    return "time of a day" if pa.types.is_time(kind) else "0 or 1" if pa.types.is_boolean(kind) else str(kind)


def _shown(value: bytes | None, kind: pa.DataType) -> object:
    if value is None:
        return None
    if pa.types.is_binary(kind):
        return value.hex()
    text = value.decode("utf-8", "replace")
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return int(text)
    return float(text) if pa.types.is_floating(kind) else text


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_exact(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_decimal(kind)


def _trimmed(text: str) -> str:
    """SQL for a number's text without zeros before its first and behind its last digit."""
    bare = rf"regexp_replace(trim({text}), '^\+?(-?)0*([0-9])', '\1\2')"
    return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({bare}, '0'), '.') ELSE {bare} END"
