"""Cells of a sheet: read row by row, with what Excel keeps of each; and where a range of them lies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from adapters.file.excel_book import DATES, MOST_CELL_CHARACTERS, TIMES, Book, Sheet, unescaped
from pipelines.errors import Invalid

MOST_ROWS, MOST_COLUMNS = 1 << 20, 1 << 14
"""How many rows and columns a sheet of Excel has."""
UNCOMPUTED = "a formula that no program has computed; open the workbook in one and save it"
_PLACE = re.compile(r"\$?([A-Za-z]{1,3})?\$?([0-9]{1,7})?")


class Day(float):
    """A number that is shown as a date."""

    __slots__ = ()


class Clock(float):
    """A number that is shown as a time of day."""

    __slots__ = ()


class Moment(float):
    """A number that is shown as a date with a time."""

    __slots__ = ()


class Error(str):
    """What Excel shows in place of a value that it could not compute: `#DIV/0!`."""

    __slots__ = ()


Cell = float | str | bool
"""Numbers are floats or of the classes above, texts are str or `Error`."""
Row = tuple[int, dict[int, Cell]]
"""A row's number, from 1, and its cells by column, from 0."""


@dataclass(frozen=True)
class Range:
    """Rows and columns of a sheet, from the first up to the last, from 1 and from 0."""

    first_row: int = 1
    last_row: int = MOST_ROWS
    first_column: int = 0
    last_column: int = MOST_COLUMNS - 1

    def has(self, column: int) -> bool:
        """Whether a column lies within."""
        return self.first_column <= column <= self.last_column

    @classmethod
    def of(cls, text: str) -> Range:
        """`A3:F100`, `B:F`, `3:100`, or `B2`, which goes on to the end. Raises `ValueError`."""
        first, colon, last = text.partition(":")
        one, other = _PLACE.fullmatch(first), _PLACE.fullmatch(last)
        if one is None or other is None or not first or (colon and not last):
            raise ValueError(f"{text!r} is no range; write it as A3:F100, B:F, 3:100 or B2")
        found = cls(
            int(one[2] or 1),
            int(other[2] or MOST_ROWS),
            column_place(one[1] or "A"),
            column_place(other[1]) if other[1] else MOST_COLUMNS - 1,
        )
        if not (1 <= found.first_row <= found.last_row and found.first_column <= found.last_column):
            raise ValueError(f"{text!r} ends before it begins")
        return found


def column_place(letters: str) -> int:
    """The place of a column, from 0: `A` is 0, `AA` is 26."""
    place = 0
    for letter in letters.upper():
        place = place * 26 + ord(letter) - 64
    return place - 1


def column_letters(place: int) -> str:
    """The letters of a column."""
    letters = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


@dataclass
class _Reading:
    """What the parser has come across in a sheet."""

    book: Book
    sheet: Sheet
    texts: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)
    _row: int = 0
    _column: int = -1
    _cells: dict[int, Cell] = field(default_factory=dict)
    _kind: str = "n"
    _style: int = 0
    _parts: list[str] = field(default_factory=list)
    _size: int = 0
    _takes: bool = False
    _has_value: bool = False
    _has_formula: bool = False
    _in_phonetic: bool = False
    _known: dict[str, int] = field(default_factory=dict)
    """Columns by their letters."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "c":
            place = attributes.get("r")
            self._column = self._column + 1 if place is None else self._columns(place)
            self._kind = attributes.get("t", "n")
            self._style = int(attributes.get("s", 0))
            self._has_value, self._has_formula, self._size = False, False, 0
            self._parts.clear()
        elif name == "v" or (name == "t" and self._kind == "inlineStr" and not self._in_phonetic):
            self._takes = self._has_value = True
        elif name == "row":
            number = int(attributes.get("r", self._row + 1))
            if number <= self._row or number > MOST_ROWS:
                raise self._damaged(f"row {number} comes behind row {self._row}")
            self._row, self._column, self._cells = number, -1, {}
        elif name == "f":
            self._has_formula = True
        elif name == "rPh":
            self._in_phonetic = True
        elif name == "mergeCell":
            self.merged.append(attributes.get("ref", ""))

    def take(self, text: str) -> None:
        if self._takes:
            self._size += len(text)
            if self._size > MOST_CELL_CHARACTERS:
                raise self._damaged(f"row {self._row} has a cell of more than {MOST_CELL_CHARACTERS:,} characters")
            self._parts.append(text)

    def end(self, name: str) -> None:
        if name in ("v", "t"):
            self._takes = False
        elif name == "c":
            if self._has_value:
                self._cells[self._column] = self._value("".join(self._parts))
            elif self._has_formula:
                self._cells[self._column] = Error(UNCOMPUTED)
        elif name == "row":
            if self._cells:
                self.rows.append((self._row, self._cells))
        elif name == "rPh":
            self._in_phonetic = False

    def _columns(self, place: str) -> int:
        letters = place.rstrip("0123456789")
        found = self._known.get(letters)
        if found is None:
            found = column_place(letters) if letters.isascii() and letters.isalpha() else -1
            if not 0 <= found < MOST_COLUMNS:
                raise self._damaged(f"row {self._row} has a cell {place!r}")
            self._known[letters] = found
        return found

    def _value(self, text: str) -> Cell:
        if self._kind == "n":
            return self._number(text)
        if self._kind == "s":
            return self.texts[int(text)] if 0 <= int(text) < len(self.texts) else Error("#TEXT!")
        if self._kind == "b":
            return text.strip() in ("1", "true")
        return Error(text) if self._kind == "e" else unescaped(text)

    def _number(self, text: str) -> Cell:
        try:
            number = float(text)
        except ValueError:
            return Error(text or "#EMPTY!")
        styles = self.book.styles
        shown = styles[self._style] if self._style < len(styles) else ""
        if not shown:
            return number
        return Day(number) if shown == DATES else Clock(number) if shown == TIMES else Moment(number)

    def _damaged(self, what: str) -> Invalid:
        return Invalid(f"{self.book.name} sheet {self.sheet.name!r}: {what}; the workbook is damaged")


def rows_of(book: Book, sheet: Sheet, texts: Sequence[str]) -> Iterator[Row]:
    """The rows of a sheet that have a value, as they stand."""
    reading = _Reading(book, sheet, texts)
    for _ in book.stream(sheet.part, reading.start, reading.end, reading.take):
        yield from reading.rows
        reading.rows = []


def merged_of(book: Book, sheet: Sheet) -> list[Range]:
    """The ranges of merged cells."""
    reading = _Reading(book, sheet, ())
    book.parse(sheet.part, lambda name, attributes: reading.start(name, attributes) if name == "mergeCell" else None)
    return sorted((Range.of(each) for each in reading.merged), key=lambda each: each.first_row)
