"""Reads Excel workbooks (.xlsx, .xlsm): sheets row by row, in memory that does not grow with them.

The values are those that were last computed and saved. An error such as `#DIV/0!`, a text in a column of numbers, a number in
one of dates, a day that never was: such a record is set aside with its sheet, its row and the reason.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from adapters.file import infer
from adapters.file.csv import flat_type
from adapters.file.dialect import Dialect
from adapters.file.excel_book import Book, Sheet, book_of
from adapters.file.excel_cells import (
    MOST_ROWS,
    Cell,
    Error,
    Range,
    Row,
    column_letters,
    merged_of,
    rows_of,
)
from adapters.file.excel_values import column_of, guessed, number_text
from adapters.file.format import File
from adapters.file.lines import Fault, Piece, chunked
from adapters.file.source import compression_of
from adapters.file.types import duckdb_name
from pipelines.errors import Invalid, Problem
from pipelines.node import Chunk, Json, Split, Want
from pipelines.records import ROW_ID
from pipelines.tables.relation import as_list, suggestion

if TYPE_CHECKING:
    from adapters.file.get import Get

SAMPLE_ROWS = 10_000
SAMPLED_FILES = 8
PIECE_ROWS = 16_384


class Excel:
    """Reads Excel workbooks."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """The columns of all sheets that are read, by their headers; types declared, or as the first rows tell."""
        declared = {name: flat_type(name, text, "Excel") for name, text in node.types().items()}
        kinds: dict[str, pa.DataType] = {}
        for number, file in enumerate(files):
            is_sampled = number % max(len(files) // SAMPLED_FILES, 1) == 0
            with _opened(file) as book:
                texts = book.texts()
                for sheet in _sheets(book, node):
                    table = _table(book, sheet, texts, node)
                    for place, name in table.names.items():
                        cells = [cells.get(place) for _, cells in table.sample] if is_sampled else []
                        kind = guessed(cells)
                        kinds[name] = infer.common(kinds[name], kind) if name in kinds else kind
        return infer.settled(kinds | {name: kind for name, kind in declared.items() if name in kinds})

    def splits(self, file: File, node: Get) -> list[Split]:
        """A sheet each."""
        with _opened(file) as book:
            sheets = _sheets(book, node)
        return [Split([sheet.name], MOST_ROWS, file.size_bytes // len(sheets)) for sheet in sheets]

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a sheet."""
        with _opened(file) as book:
            sheet = next(each for each in book.sheets if each.name == part[0])
            texts = book.texts()
            reader = _Records(_table(book, sheet, texts, node), schema, _dialect(node), book, sheet)
            rows = _within(_filled(book, sheet, texts, node), node)
            records = (row for row in rows if row[0] >= reader.table.first_row)
            size = PIECE_ROWS if want.rows is None else max(1, min(want.rows, PIECE_ROWS))
            yield from chunked(iter(lambda: reader.piece(list(islice(records, size))), None), want)


def _opened(file: File) -> Any:
    if compression_of(file.path) is not None:
        raise Invalid(f"{file.name}: a workbook is compressed within itself; unpack it first")
    return book_of(file)


def _dialect(node: Get) -> Dialect:
    return Dialect(null_values=tuple(node.null_values), decimal_separator=node.decimal_separator)


def _sheets(book: Book, node: Get) -> list[Sheet]:
    """The sheets to read: the first that is shown, the one of a name or place, or those that a pattern matches."""
    if node.sheet is None:
        found = [sheet for sheet in book.sheets if not sheet.is_hidden][:1] or list(book.sheets[:1])
    elif isinstance(node.sheet, int):
        found = list(book.sheets[node.sheet - 1 : node.sheet])
    else:
        found = [sheet for sheet in book.sheets if fnmatch.fnmatchcase(sheet.name, node.sheet.replace("[", "[[]"))]
    if not found:
        names = [sheet.name for sheet in book.sheets]
        what = (
            f"{book.name}: there is no sheet {node.sheet!r}" if node.sheet is not None else f"{book.name}: has no sheet"
        )
        fix = suggestion(str(node.sheet), names) if isinstance(node.sheet, str) else f"there are: {', '.join(names)}"
        raise Invalid(Problem("", 0, 0, what, fix, ("sheet",)))
    return found


def _within(rows: Iterator[Row], node: Get) -> Iterator[Row]:
    """What of the rows lies in the range; those that have nothing there are left out."""
    wanted = Range() if node.range is None else Range.of(node.range)
    first = wanted.first_row + node.skip_rows
    for number, cells in rows:
        if number > wanted.last_row:
            return
        inside = cells if node.range is None else {place: cells[place] for place in cells if wanted.has(place)}
        if number >= first and inside:
            yield number, inside


def _filled(book: Book, sheet: Sheet, texts: Sequence[str], node: Get) -> Iterator[Row]:
    """The rows; where it is asked for, each of merged cells has the value of the first."""
    if node.merged == "first":
        yield from rows_of(book, sheet, texts)
        return
    ranges = merged_of(book, sheet)
    active: list[tuple[Range, Cell]] = []
    behind = 0
    for number, cells in _every_row(rows_of(book, sheet, texts), max((each.last_row for each in ranges), default=0)):
        active = [(each, value) for each, value in active if each.last_row >= number]
        while behind < len(ranges) and ranges[behind].first_row <= number:
            each = ranges[behind]
            behind += 1
            if each.first_row == number and each.first_column in cells:
                active.append((each, cells[each.first_column]))
        whole = dict(cells)
        for each, value in active:
            whole |= dict.fromkeys(range(each.first_column, each.last_column + 1), value)
        if whole:
            yield number, whole


def _every_row(rows: Iterator[Row], last: int) -> Iterator[Row]:
    """The rows with the empty ones between them up to `last`: merged cells may go on there."""
    behind = 0
    for number, cells in rows:
        for missing in range(behind + 1, min(number, last + 1)):
            yield missing, {}
        yield number, cells
        behind = number
    for missing in range(behind + 1, last + 1):
        yield missing, {}


@dataclass(frozen=True)
class _Table:
    """Where the columns of a sheet are, from which row on records stand, and the first of them."""

    names: Mapping[int, str]
    first_row: int
    sample: Sequence[Row]


def _table(book: Book, sheet: Sheet, texts: Sequence[str], node: Get) -> _Table:
    rows = _within(_filled(book, sheet, texts, node), node)
    header = next(rows, None) if node.header else None
    sample = list(islice(rows, SAMPLE_ROWS))
    where = f"{book.name} sheet {sheet.name!r}"
    there = sorted({place for _, cells in sample for place in cells} | set(header[1] if header else ()))
    if header is None:
        names = as_list(node.columns)
        if names and there and len(names) != len(there):
            what = f"{len(names)} columns are named where {where} has {len(there)}"
            raise Invalid(Problem("", 0, 0, what, "without a header, name all columns in their order", ("columns",)))
        told = names or [f"column_{number}" for number in range(1, len(there) + 1)]
        return _Table(dict(zip(there, told, strict=False)), sample[0][0] if sample else 1, sample)
    named = {place: _header_text(header[1].get(place)) or f"column_{column_letters(place)}" for place in there}
    folded = [name.casefold() for name in named.values()]
    twice = sorted({name for name in named.values() if folded.count(name.casefold()) > 1 or name == ROW_ID})
    if twice:
        fix = "correct it, or read it with `header: false`, `skip_rows` and names of your own under `columns`"
        raise Invalid(f"{where}: its header has {', '.join(map(repr, twice))} more than once, or it is kept; {fix}")
    return _Table(named, header[0] + 1, sample)


def _header_text(cell: Cell | None) -> str:
    if cell is None or isinstance(cell, str):
        return "" if cell is None else " ".join(cell.split())
    return str(cell).lower() if isinstance(cell, bool) else number_text(float(cell))


@dataclass
class _Records:
    """Turns rows into records of a schema."""

    table: _Table
    schema: pa.Schema
    dialect: Dialect
    book: Book
    sheet: Sheet

    def piece(self, rows: list[Row]) -> Piece | None:
        """The records of some rows; None: there are none."""
        if not rows:
            return None
        bad: dict[int, tuple[str, str]] = {}
        places = {name: place for place, name in self.table.names.items()}
        for row, (_, cells) in enumerate(rows):  # the parser gives rows one by one
            if not cells.keys() <= self.table.names.keys():
                letters = column_letters(min(cells.keys() - self.table.names.keys()))
                bad[row] = ("columns", f"has a value in column {letters}, where the table has none")
        arrays = [self._column(rows, field, places.get(field.name), bad) for field in self.schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema) if arrays else _counted(len(rows))
        where = f"{self.book.name} sheet {self.sheet.name!r} row"
        faults = [
            Fault(row, _text_of(rows[row][1]), bad[row][0], f"{where} {rows[row][0]}: {bad[row][1]}")
            for row in sorted(bad)
        ]
        sound = np.ones(len(rows), bool)
        sound[list(bad)] = False
        return Piece(batch.filter(pa.array(sound)) if bad else batch, faults)

    def _column(self, rows: list[Row], field: pa.Field, place: int | None, bad: dict[int, tuple[str, str]]) -> pa.Array:
        if place is None:
            return pa.nulls(len(rows), field.type)
        cells = [each.get(place) for _, each in rows]
        array, unfit = column_of(cells, field.type, self.dialect, from_1904=self.book.counts_from_1904)
        for row in unfit:  # rejects only
            cell = cells[row]
            said = f"is {cell}" if isinstance(cell, Error) else f"{_shown(cell)} is no {duckdb_name(field.type)}"
            bad.setdefault(row, ("type", f"column {field.name!r}: {said}"))
        return array


def _shown(cell: Any) -> str:
    if isinstance(cell, float):
        kind = type(cell).__name__.lower()
        return number_text(float(cell)) if kind == "float" else f"the {kind} {number_text(float(cell))}"
    words = repr(cell)
    return words if len(words) <= 200 else f"{words[:200]}…"


def _text_of(cells: Mapping[int, Cell]) -> str:
    """A row as text: its cells by the letters of their columns."""
    return json.dumps({column_letters(place): cell for place, cell in cells.items()}, ensure_ascii=False)[: 64 << 10]


def _counted(rows: int) -> pa.RecordBatch:
    """Records of which no column is wanted."""
    return pa.record_batch([pa.nulls(rows)], ["nothing"]).select([])
