"""Turns blocks of COPY's CSV into record batches of exact types, and values that fit no type into malformed records.

Null is an empty field, an empty text one in quotes. Arrow reads most types itself; bytes, arrays and types that the node
declares are finished by DuckDB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

if TYPE_CHECKING:
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

    @property
    def parsed(self) -> pa.DataType:
        """What Arrow reads from the text."""
        is_plain = not pa.types.is_binary(self.natural) and not pa.types.is_list(self.natural)
        return self.natural if is_plain else pa.string()


class Frames:
    """Reads the blocks of one split."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self._connection: DuckDBPyConnection | None = None
        self._has_text = any(pa.types.is_string(cell.parsed) for cell in cells)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __call__(self, block: bytes) -> tuple[pa.RecordBatch, Faults, Callable[[int], str]]:
        """The records of a block, the faults of those that have some (null there), and each record's raw text."""
        faults: Faults = {}
        try:
            columns = self._parsed(block, [cell.parsed for cell in self._cells])
        except pa.ArrowInvalid:
            texts = self._parsed(block, [pa.string()] * len(self._cells))
            columns = [self._exact(cell, column, faults) for cell, column in zip(self._cells, texts, strict=True)]
        finished = [self._finished(cell, column, faults) for cell, column in zip(self._cells, columns, strict=True)]
        schema = pa.schema([pa.field(cell.name, cell.wanted) for cell in self._cells])
        batch = pa.RecordBatch.from_arrays(finished, schema=schema)
        return batch, faults, lambda row: self._raw(block, row)

    def _parsed(self, block: bytes, kinds: Sequence[pa.DataType]) -> list[pa.Array]:
        return parsed(block, kinds)

    def _exact(self, cell: Cell, texts: pa.Array, faults: Faults) -> pa.Array:
        """Texts as the column's type; those that are none are found by halving."""
        if pa.types.is_string(cell.parsed):
            return texts
        pieces: list[pa.Array] = []
        waiting = [(0, len(texts))]
        while waiting:
            first, end = waiting.pop()
            part = texts.slice(first, end - first)
            try:
                pieces.append(read_texts(part, cell.parsed))
                continue
            except pa.ArrowInvalid:
                if end - first > 1:
                    middle = (first + end) // 2
                    waiting += [(middle, end), (first, middle)]
                    continue
            faults.setdefault(first, []).append(f"column {cell.name!r}: {part[0]} is no value of {cell.parsed} here")
            pieces.append(pa.nulls(1, cell.parsed))
        return pa.concat_arrays(pieces)

    def _finished(self, cell: Cell, column: pa.Array, faults: Faults) -> pa.Array:
        if pa.types.is_binary(cell.natural):
            column = self._computed(column, "unhex(substr(item, 3))", cell.natural)
        elif pa.types.is_list(cell.natural):
            column = self._list(cell, column, faults)
        if cell.cast is None or cell.wanted.equals(cell.natural):
            return column
        return self._cast(cell, column, faults)

    def _list(self, cell: Cell, column: pa.Array, faults: Faults) -> pa.Array:
        """Arrays come as JSON. Arrow has no lists of which one value has more dimensions than another."""
        item = cell.natural.value_type
        cast = f"TRY_CAST(item::JSON AS {duckdb_type(item)}[])"
        found = self._computed(column, cast, cell.natural)
        nulls = "len(list_filter(CAST(item AS JSON[]), lambda x: json_type(x) = 'NULL'))"
        wrong = (
            f"item IS NOT NULL AND ({cast} IS NULL OR json_type(item, '$[0]') = 'ARRAY' "
            f"OR len(list_filter({cast}, lambda x: x IS NULL)) <> {nulls}{_endless(cast, item)})"
        )
        self._note(cell, column, self._computed(column, wrong, pa.bool_()), faults, f"array of {item}")
        return found

    def _cast(self, cell: Cell, column: pa.Array, faults: Faults) -> pa.Array:
        cast = f"TRY_CAST(item AS {cell.cast})"
        found = self._computed(column, cast, cell.wanted)
        wrong = f"item IS NOT NULL AND {cast} IS NULL"
        kinds = (cell.natural, cell.wanted)
        if all(map(_is_number, kinds)) or all(map(pa.types.is_temporal, kinds)):
            wrong += f" OR TRY_CAST({cast} AS {duckdb_type(cell.natural)}) IS DISTINCT FROM item"
        elif pa.types.is_string(cell.natural) and _is_exact(cell.wanted):
            wrong += f" OR {_trimmed('item')} IS DISTINCT FROM {_trimmed(f'CAST({cast} AS VARCHAR)')}"
        mask = self._computed(column, wrong, pa.bool_())
        self._note(cell, column, mask, faults, str(cell.cast))
        return found

    def _note(self, cell: Cell, column: pa.Array, mask: pa.Array, faults: Faults, wanted: str) -> None:
        for row in pc.indices_nonzero(mask.fill_null(False)).to_pylist():
            faults.setdefault(row, []).append(f"column {cell.name!r}: {str(column[row])[:60]} is no {wanted}")

    def _computed(self, column: pa.Array, expression: str, kind: pa.DataType) -> pa.Array:
        """What DuckDB makes of a column called `item`."""
        import duckdb

        if self._connection is None:
            self._connection = duckdb.connect()
            self._connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        given = pa.table({"item": column})
        self._connection.register("given", given)
        found = self._connection.sql(f"SELECT {expression} AS item FROM given").to_arrow_table()["item"]
        self._connection.unregister("given")
        made = found.combine_chunks()
        array = made if isinstance(made, pa.Array) else pa.concat_arrays(made.chunks)
        return array if array.type.equals(kind) else array.cast(kind)

    def _raw(self, block: bytes, row: int) -> str:
        """A record as JSON text, numbers as the server writes them."""
        texts = self._parsed(block, [pa.string()] * len(self._cells))
        shown = {
            cell.name: _shown(text[row].as_py(), cell.natural) for cell, text in zip(self._cells, texts, strict=True)
        }
        return dumps(shown, ensure_ascii=False)[:TEXT_LIMIT]


def parsed(block: bytes, kinds: Sequence[pa.DataType]) -> list[pa.Array]:
    """The columns of a block of CSV."""
    names = [f"c{number}" for number in range(len(kinds))]
    table = csv.read_csv(
        pa.BufferReader(block),
        read_options=csv.ReadOptions(use_threads=False, block_size=max(len(block) + 1, 1024), column_names=names),
        parse_options=csv.ParseOptions(ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=dict(zip(names, kinds, strict=True)),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            check_utf8=False,
        ),
    )
    return [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in table.columns]


def read_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """Texts read as CSV fields of a type are."""
    sink = pa.BufferOutputStream()
    csv.write_csv(pa.table({"c0": texts}), sink, csv.WriteOptions(include_header=False))
    return parsed(sink.getvalue().to_pybytes(), [kind])[0]


def _shown(text: str | None, kind: pa.DataType) -> object:
    if text is None or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return text
    return int(text) if pa.types.is_integer(kind) else float(text)


def _endless(cast: str, item: pa.DataType) -> str:
    """SQL that finds what DuckDB has a value for and Arrow has not: infinite dates, and the end of a day."""
    if pa.types.is_date(item) or pa.types.is_timestamp(item):
        return f" OR len(list_filter({cast}, lambda x: NOT isfinite(x))) > 0"
    return f" OR len(list_filter({cast}, lambda x: x >= TIME '24:00:00')) > 0" if pa.types.is_time(item) else ""


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_exact(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_decimal(kind)


def _trimmed(text: str) -> str:
    """SQL for a number's text without zeros before its first and behind its last digit."""
    bare = rf"regexp_replace(trim({text}), '^\+?(-?)0*([0-9])', '\1\2')"
    return f"CASE WHEN contains({text}, '.') THEN rtrim(rtrim({bare}, '0'), '.') ELSE {bare} END"


def duckdb_type(kind: pa.DataType) -> str:
    """DuckDB's name for an Arrow type."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", pa.table({"item": pa.array([], kind)}))
        return str(connection.execute("DESCRIBE FROM given").fetchall()[0][1])
