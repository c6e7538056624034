"""Excel: what cells hold read exactly, also from workbooks of other programs; what Excel cannot hold rejected."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from adapters.file import excel_cells
from adapters.file.excel_book import DATES, MOMENTS, TIMES, book_of, shown_kind
from adapters.file.excel_cells import Range, column_letters, column_place, rows_of
from adapters.file.format import File
from pipelines.errors import Invalid
from tests.adapters.file.reading import Read, write

HOSTILE = Path(__file__).resolve().parents[2] / "hostile" / "excel"


def workbook(path: Path, fill: Callable[[Any, Any], None], **options: Any) -> None:
    """A workbook as another program writes it; `fill` has the workbook and its first sheet."""
    with xlsxwriter.Workbook(str(path), options) as book:
        fill(book, book.add_worksheet("Orders"))


def test_numbers_texts_truths_dates_and_times_are_told_apart(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["n", "x", "s", "b", "day", "at", "clock", "id"])
        for row in (1, 2):
            sheet.write_row(row, 0, [row, row / 4, f"text {row}"])
            sheet.write_boolean(row, 3, row == 1)
            sheet.write_datetime(row, 4, date(2026, 2, row), book.add_format({"num_format": "dd.mm.yy"}))
            sheet.write_datetime(row, 5, datetime(2026, 2, row, 1, 2, 3, 4000), book.add_format({"num_format": 22}))  # noqa: DTZ001
            sheet.write_datetime(row, 6, time(23, 59, row), book.add_format({"num_format": "[$-409]h:mm:ss AM/PM;@"}))
            sheet.write_string(row, 7, f"00{row}")

    workbook(tmp_path / "a.xlsx", fill)

    found = Read(tmp_path, path="a.xlsx")

    assert [str(field.type) for field in found.schema] == [
        "int64", "double", "string", "bool", "date32[day]", "timestamp[us]", "time64[us]", "string",
    ]  # fmt: skip
    assert list(found.rows[1].values()) == [
        2, 0.5, "text 2", False, date(2026, 2, 2), datetime(2026, 2, 2, 1, 2, 3, 4000), time(23, 59, 2), "002",  # noqa: DTZ001
    ]  # fmt: skip


@pytest.mark.parametrize("is_1904", [False, True])
@pytest.mark.parametrize("day", [date(1904, 1, 2), date(1999, 12, 31), date(2026, 1, 1), date(9999, 12, 31)])
def test_days_are_counted_from_1900_or_1904(day: date, is_1904: bool, tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_datetime(0, 0, day, book.add_format({"num_format": 14}))

    workbook(tmp_path / "a.xlsx", fill, date_1904=is_1904)

    assert Read(tmp_path, path="a.xlsx", header=False).rows == [{"column_1": day}]


def test_a_day_that_never_was_is_set_aside(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        for row, serial in enumerate([1, 59, 60, 61, 0, -1, 2_958_466]):
            sheet.write_number(row, 0, serial, book.add_format({"num_format": 14}))

    workbook(tmp_path / "a.xlsx", fill)

    found = Read(tmp_path, path="a.xlsx", header=False)

    assert found.column("column_1") == [date(1900, 1, 1), date(1900, 2, 28), date(1900, 3, 1)]
    assert [message for *_, message in found.malformed] == [
        f"a.xlsx sheet 'Orders' row {row}: column 'column_1': the day {serial} is no DATE"
        for row, serial in [(3, 60), (5, 0), (6, -1), (7, 2_958_466)]
    ]


def test_errors_texts_among_numbers_and_formulas_never_computed_are_set_aside(tmp_path: Path) -> None:
    def fill(_book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["n", "f"])
        sheet.write_row(1, 0, [1, 10])
        sheet.write(2, 0, "unknown")
        sheet.write_formula(3, 0, "=1/0", None, "#DIV/0!")
        sheet.write_string(4, 0, "4")
        sheet.write_number(5, 0, 5)
        sheet.write_formula(5, 1, "=A6*2", None, 10)
        sheet.write_number(6, 0, 6.5)

    workbook(tmp_path / "a.xlsx", fill)
    content = (tmp_path / "a.xlsx").read_bytes()
    changed(tmp_path / "a.xlsx", lambda text: text.replace("<f>A6*2</f><v>10</v>", "<f>A6*2</f>"))

    found = Read(tmp_path, path="a.xlsx", columns={"n": "BIGINT", "f": "BIGINT"})

    assert content != (tmp_path / "a.xlsx").read_bytes()
    assert found.rows == [{"n": 1, "f": 10}, {"n": 4, "f": None}]
    assert [message.partition(": ")[2] for *_, message in found.malformed] == [
        "column 'n': 'unknown' is no BIGINT",
        "column 'n': is #DIV/0!",
        f"column 'f': is {excel_cells.UNCOMPUTED}",
        "column 'n': 6.5 is no BIGINT",
    ]
    assert [row["n"] for row in Read(tmp_path, path="a.xlsx", columns={"n": "BIGINT"}).rows] == [1, 4, 5]


def changed(path: Path, change: Callable[[str], str], part: str = "xl/worksheets/sheet1.xml") -> None:
    """A workbook with a part of it altered."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    parts[part] = change(parts[part].decode()).encode()
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)


def test_a_workbook_whose_names_have_prefixes_is_read(tmp_path: Path) -> None:
    workbook(tmp_path / "a.xlsx", lambda _book, sheet: sheet.write_row(0, 0, ["text", 1.5]))
    for part in ("xl/worksheets/sheet1.xml", "xl/sharedStrings.xml", "xl/workbook.xml", "xl/styles.xml"):
        changed(
            tmp_path / "a.xlsx", lambda text: re.sub(r"<(/?)(\w)", r"<\1x:\2", text).replace("xmlns=", "xmlns:x="), part
        )

    assert list(Read(tmp_path, path="a.xlsx", header=False).rows[0].values()) == ["text", 1.5]


def test_a_formula_gives_the_value_that_was_saved(tmp_path: Path) -> None:
    def fill(_book: Any, sheet: Any) -> None:
        for column, value in enumerate([7.5, "text", True]):
            sheet.write_formula(0, column, "=A9", None, value)

    workbook(tmp_path / "a.xlsx", fill)

    assert list(Read(tmp_path, path="a.xlsx", header=False).rows[0].values()) == [7.5, "text", True]


def test_declared_decimals_have_the_digits_that_excel_shows_and_text_has_numbers_and_dates(tmp_path: Path) -> None:
    def fill(book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["d", "t", "when"])
        sheet.write_number(1, 0, 30.3)
        sheet.write_number(1, 1, 123)
        sheet.write_datetime(1, 2, date(2026, 1, 1), book.add_format({"num_format": 14}))

    workbook(tmp_path / "a.xlsx", fill)
    changed(tmp_path / "a.xlsx", lambda text: text.replace("<v>30.3</v>", "<v>30.299999999999997</v>"))

    found = Read(tmp_path, path="a.xlsx", columns={"d": "DECIMAL(9,2)", "t": "VARCHAR", "when": "VARCHAR"})

    assert found.rows == [{"d": Decimal("30.30"), "t": "123", "when": "2026-01-01"}]
    assert Read(tmp_path, path="a.xlsx").rows[0]["d"] == 30.299999999999997


def test_sheets_ranges_and_rows_before_the_header_are_chosen(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(str(tmp_path / "a.xlsx")) as book:
        for name in ("hidden", "2025", "2026"):
            sheet = book.add_worksheet(name)
            sheet.write(0, 1, f"Orders of {name}")
            sheet.write_row(2, 1, ["n", "s", "note"])
            sheet.write_row(3, 1, [int(name, 36), "a"])
            sheet.write_row(5, 1, [2, "b", "last"])
        book.worksheets()[0].hide()
        book.worksheets()[1].activate()

    def read(**fields: Any) -> list[dict[str, Any]]:
        return Read(tmp_path, path="a.xlsx", **fields).rows

    first, last = {"n": int("2025", 36), "s": "a", "note": None}, {"n": 2, "s": "b", "note": "last"}
    other = first | {"n": int("2026", 36)}
    assert read(skip_rows=1) == [first, last]
    assert read(range="B3:D4", sheet="2026") == [other]
    assert read(range="C3:C6", sheet=3) == [{"s": "a"}, {"s": "b"}]
    assert read(skip_rows=1, sheet="20*") == [first, last, other, last]
    with pytest.raises(Invalid, match=r"there is no sheet '2027'; did you mean '202[56]'"):
        read(sheet="2027")


@pytest.mark.parametrize(("merged", "names"), [("first", ["a", None, "b"]), ("all", ["a", "a", "b"])])
def test_merged_cells_have_their_value_once_or_everywhere(merged: str, names: list[str], tmp_path: Path) -> None:
    def fill(_book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["name", "n"])
        sheet.merge_range("A2:A3", "a")
        sheet.write(3, 0, "b")
        for row in (1, 2, 3):
            sheet.write(row, 1, row)

    workbook(tmp_path / "a.xlsx", fill)

    assert Read(tmp_path, path="a.xlsx", merged=merged).column("name") == names


def test_a_value_where_the_table_has_no_column_sets_its_record_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.file.excel.SAMPLE_ROWS", 1)

    def fill(_book: Any, sheet: Any) -> None:
        sheet.write_row(0, 0, ["n", ""])
        sheet.write_row(1, 0, [1, "x"])
        sheet.write_row(2, 0, [2, "y", "z"])

    workbook(tmp_path / "a.xlsx", fill)

    found = Read(tmp_path, path="a.xlsx")

    assert found.rows == [{"n": 1, "column_B": "x"}]
    assert found.malformed == [
        (
            1,
            "columns",
            '{"A": 2.0, "B": "y", "C": "z"}',
            "a.xlsx sheet 'Orders' row 3: has a value in column C, where the table has none",
        )
    ]


def test_rows_come_while_the_sheet_is_being_read(tmp_path: Path) -> None:
    def fill(_book: Any, sheet: Any) -> None:
        for row in range(20_000):
            sheet.write_number(row, 0, row)

    workbook(tmp_path / "a.xlsx", fill, constant_memory=True)
    path = tmp_path / "a.xlsx"
    with book_of(File(path, "a.xlsx", path.stat().st_size, 0, 0)) as book:
        size = book.archive.getinfo("xl/worksheets/sheet1.xml").file_size
        seen: list[int] = []
        stream = book.stream
        object.__setattr__(book, "stream", lambda *handlers: counted(stream(*handlers), seen))

        rows = rows_of(book, book.sheets[0], [])
        first = next(rows)
        pieces = len(seen)
        rest = sum(1 for _ in rows)

    assert (first, rest) == ((1, {0: 0.0}), 19_999)
    assert pieces == 1
    assert len(seen) > size // (1 << 16)


def counted(pieces: Iterator[None], seen: list[int]) -> Iterator[None]:
    for piece in pieces:
        seen.append(1)
        yield piece


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("General", ""),
        ("0.00", ""),
        ('#,##0 "days"', ""),
        ("[Red]0", ""),
        ("0.00E+00", ""),
        ("@", ""),
        ("yyyy-mm-dd", DATES),
        ("[$-407]d. mmmm yyyy", DATES),
        ("mmm", DATES),
        ("hh:mm", TIMES),
        ("mm:ss.0", TIMES),
        ('h" Uhr"', TIMES),
        ("[h]:mm:ss", ""),
        ("dd/mm/yyyy hh:mm", MOMENTS),
        ("m/d/yy h:mm AM/PM", MOMENTS),
    ],
)
def test_a_format_tells_what_a_number_is_shown_as(code: str, kind: str) -> None:
    assert shown_kind(code) == kind


@given(place=st.integers(0, 16_383))
def test_columns_have_letters(place: int) -> None:
    assert column_place(column_letters(place)) == place


def test_ranges_are_read() -> None:
    assert Range.of("B3:D10") == Range(3, 10, 1, 3)
    assert Range.of("AA:AB") == Range(first_column=26, last_column=27)
    assert Range.of("$B$2") == Range(2, first_column=1)
    for text in ("", "B2:A1", "7", "x y", "A0"):
        if text != "7":
            with pytest.raises(ValueError, match=r"range|begins"):
                Range.of(text)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("billion_laughs.xlsx", "has a document type, which is refused"),
        ("external_entity.xlsx", "has a document type, which is refused"),
        ("cut_short.xlsx", "is cut short, damaged or encrypted"),
        ("damaged_sheet.xlsx", "xl/worksheets/sheet1.xml is damaged"),
        ("empty.xlsx", "is no Excel workbook (.xlsx); it seems to be empty"),
        ("rows_backwards.xlsx", "row 1 comes behind row 2"),
        ("no_such_text.xlsx", "is #TEXT!"),
        ("no_workbook.xlsx", "is a ZIP archive but no Excel workbook; it has hello.txt"),
        ("old.xlsx", "it seems to be a document of old Office (.xls), or an encrypted one"),
        ("page.xlsx", "it seems to be a web page"),
        ("far_column.xlsx", "row 1 has a cell 'ZZZ1'"),
    ],
)
def test_hostile_workbooks_are_refused_or_set_aside_and_said(name: str, said: str) -> None:
    try:
        found = Read(HOSTILE, path=name, header=False, columns=["column_1"])
        messages = [message for *_, message in found.malformed]
    except Invalid as fault:
        messages = [str(fault)]

    assert any(said in message for message in messages), messages
    assert all(name in message for message in messages)


def test_every_hostile_workbook_is_looked_at() -> None:
    asked = [mark.args[1] for mark in test_hostile_workbooks_are_refused_or_set_aside_and_said.pytestmark]  # type: ignore[attr-defined]

    assert sorted(path.name for path in HOSTILE.iterdir()) == sorted(name for name, _ in asked[0])


def test_a_file_that_is_compressed_once_more_is_told(tmp_path: Path) -> None:
    write(tmp_path, b"\x1f\x8b", "a.xlsx.gz")

    with pytest.raises(Invalid, match="a workbook is compressed within itself; unpack it first"):
        Read(tmp_path, path="a.xlsx.gz")
