"""Writes Excel workbooks: one sheet, or as many as the records need, with real numbers, dates and truths.

XlsxWriter makes the workbook with its styles and headers; the rows are rendered column by column and put into its sheets, each
number with all the digits that 64-bit floating point has. What Excel cannot hold exactly is rejected.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters.file.excel_book import DATES, MOMENTS, TIMES, styles_of
from adapters.file.excel_cells import MOST_COLUMNS, MOST_ROWS, column_letters
from adapters.file.excel_values import clocks, moments, serials_of
from adapters.file.text import json_text, nested, text, unsupported
from adapters.file.writers import PartFile, Unfit
from adapters.file.writers_parquet import ParquetForm
from adapters.file.writers_text import bounded, content_of
from pipelines.errors import Invalid

MOST_CHARACTERS = 32_767
MOST_WHOLE = 1 << 53
MOST_DIGITS = 15
FORMATS = {DATES: "yyyy-mm-dd", MOMENTS: "yyyy-mm-dd hh:mm:ss.000", TIMES: "hh:mm:ss.000"}
WIDTHS = {DATES: 11, MOMENTS: 23, TIMES: 13}
NOT_IN_XML = [*range(9), 11, 12, *range(13, 32), 0xFFFE, 0xFFFF]
"""The characters that XML cannot hold, and the carriage return, which it takes for a line feed."""
BEFORE, BEHIND, OUTSIDE = (
    "is before 1900, where Excel's days begin",
    "is finer than Excel's times",
    "lies outside of a day",
)


@dataclass(frozen=True)
class ExcelForm:
    """Writes Excel workbooks."""

    sheet: str = "data"
    header: bool = True
    split_sheets: bool = False
    """Whether records that one sheet has no room for go on in further ones."""
    suffix: ClassVar[str] = ".xlsx"
    is_built_whole: ClassVar[bool] = True

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        return ParquetForm().part(path, schema)

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        """A new workbook of all parts."""
        if old is not None:
            raise Invalid(f"{old}: {IS_THERE}")
        rows = sum(pq.read_metadata(source).num_rows for source in sources)
        room = MOST_ROWS - self.header
        if rows > room and not self.split_sheets:
            raise Invalid(
                f"{path}: {rows:,} records are more than the {room:,} that a sheet has room for; set `split_sheets: true`, or "
                f"let `path` end in '/' for a folder of workbooks"
            )
        if len(schema) > MOST_COLUMNS:
            raise Invalid(
                f"{path}: {len(schema):,} columns are more than the {MOST_COLUMNS:,} that a sheet has room for"
            )
        counts = [min(room, rows - start) for start in range(0, max(rows, 1), room)]
        frame = self._frame(schema, len(counts))
        rendered = Rendered(self._batches(sources, schema), frame, schema)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as out:
            sheets = {f"xl/worksheets/sheet{number}.xml": count for number, count in enumerate(counts, 1)}
            for name in frame.namelist():
                with out.open(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True) as entry:
                    if name in sheets:
                        rendered.write(entry, name, sheets[name], 1 + self.header)  # type: ignore[arg-type]
                    else:
                        entry.write(frame.read(name))

    def _batches(self, sources: Sequence[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for source in sources:
            yield from ParquetForm().batches(source, schema)

    def _frame(self, schema: pa.Schema, sheets: int) -> zipfile.ZipFile:
        """A workbook without records."""
        import xlsxwriter

        content = io.BytesIO()
        with xlsxwriter.Workbook(content, {"in_memory": True}) as workbook:
            bold = workbook.add_format({"bold": True})
            styles = {kind: workbook.add_format({"num_format": code}) for kind, code in FORMATS.items()}
            for number in range(1, sheets + 1):
                sheet = workbook.add_worksheet(self.sheet if number == 1 else f"{self.sheet} {number}")
                for place, column in enumerate(schema):
                    if self.header:
                        sheet.write_string(0, place, column.name, bold)
                    kind = _style(column.type)
                    if kind:
                        sheet.set_column(place, place, WIDTHS[kind], styles[kind])
                if self.header:
                    sheet.freeze_panes(1, 0)
        return zipfile.ZipFile(content)

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        return None

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        raise Invalid(f"{path}: {IS_THERE}")

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        found: list[Unfit] = []
        for column, values in zip(batch.schema, batch.columns, strict=True):
            for bad, words in _unfit(values):
                if pc.any(bad).as_py():
                    found.append(Unfit(pc.fill_null(bad, False), "no_cell", words, values, column.name))
        return found

    def unsupported(self, column: pa.Field) -> str:
        if pa.types.is_timestamp(column.type) and column.type.tz:
            return "Excel has no time zones; make it a TIMESTAMP or text with a map"
        if len(column.name) > 255:
            return "its name is longer than 255 characters; rename it with a map"
        return unsupported(column.type)


IS_THERE = "a workbook is there, and what else it holds would be lost; use mode `replace`, or a folder"


def _style(kind: pa.DataType) -> str:
    if pa.types.is_timestamp(kind):
        return MOMENTS
    return DATES if pa.types.is_date(kind) else TIMES if pa.types.is_time(kind) else ""


def _unfit(values: pa.Array) -> Iterator[tuple[pa.BooleanArray, str]]:
    """Where a cell cannot hold a value exactly, and why."""
    kind = values.type
    if pa.types.is_integer(kind):
        whole = values.cast(pa.decimal128(20, 0))
        yield pc.greater(pc.abs(whole), MOST_WHOLE), "has more digits than Excel's numbers; make it text with a map"
    elif pa.types.is_floating(kind):
        yield pc.invert(pc.is_finite(values)), "is no number in Excel; make it null with a map"
    elif pa.types.is_decimal(kind):
        digits = pc.replace_substring_regex(pc.replace_substring_regex(text(values), "[-.]", ""), "^0+|0+$", "")
        yield (
            pc.greater(pc.utf8_length(digits), MOST_DIGITS),
            f"has more than the {MOST_DIGITS} digits of Excel's numbers; make it text with a map",
        )
    elif pa.types.is_time(kind):
        micro, exact = _microseconds(values)
        back, known = clocks(micro / 86_400_000_000)
        yield pa.array(~known), f"{OUTSIDE}; make it null with a map"
        yield pa.array(~exact | (back != micro)), f"{BEHIND}; round it with a map"
    elif pa.types.is_temporal(kind):
        yield from _unfit_moments(values)
    else:
        yield from _unfit_texts(_cell_text(values))


def _unfit_moments(values: pa.Array) -> Iterator[tuple[pa.BooleanArray, str]]:
    seconds = pc.fill_null(values.cast(pa.timestamp("s"), safe=False).cast(pa.int64()), 0).to_numpy()
    far = (seconds < -2_208_988_800) | (seconds > 253_402_300_799)
    yield pc.and_(pa.array(far), values.is_valid()), f"{BEFORE}, or behind 9999; make it null or text with a map"
    near = pc.if_else(pa.array(far), pa.scalar(None, values.type), values)
    micro, exact = _microseconds(near)
    back, _ = moments(serials_of(micro), from_1904=False)
    fine = ~exact | (back != micro)
    yield pc.and_(pa.array(fine), near.is_valid()), f"{BEHIND}, which have about milliseconds; round it with a map"


def _microseconds(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Times as microseconds, 0 where there is none, and which are exact."""
    kind = values.type
    if pa.types.is_date(kind):
        values = values.cast(pa.timestamp("us"))
    width = pa.int32() if pa.types.is_time32(kind) else pa.int64()
    count = pc.fill_null(values.view(width), 0).to_numpy().astype(np.int64)
    unit = getattr(values.type, "unit", "us")
    if unit == "ns":
        return count // 1_000, count % 1_000 == 0
    return count * {"s": 1_000_000, "ms": 1_000, "us": 1}[unit], np.ones(len(count), bool)


def _cell_text(values: pa.Array) -> pa.StringArray:
    if nested(values.type):
        return pc.if_else(values.is_valid(), json_text(values), pa.scalar(None, pa.string()))
    return text(values)


def _unfit_texts(values: pa.StringArray) -> Iterator[tuple[pa.BooleanArray, str]]:
    units = pc.utf8_length(values)
    if pc.any(pc.greater(units, MOST_CHARACTERS // 2)).as_py():
        units = pc.add(units, pc.count_substring_regex(values, "[\U00010000-\U0010ffff]"))
    yield (
        pc.greater(units, MOST_CHARACTERS),
        f"is longer than the {MOST_CHARACTERS:,} characters of a cell; shorten it with a map",
    )


class Rendered:
    """Rows of XML, put into the sheets of an empty workbook one after the other."""

    def __init__(self, batches: Iterator[pa.RecordBatch], frame: zipfile.ZipFile, schema: pa.Schema) -> None:
        self._batches = (piece for batch in batches for piece in bounded(batch))
        self._held: pa.RecordBatch | None = None
        self._frame = frame
        self._schema = schema
        self._styles = styles_of(frame, "xl/styles.xml", "workbook")

    def write(self, out: BinaryIO, name: str, rows: int, first: int) -> None:
        """A sheet with the next records, from a row on."""
        sheet = self._frame.read(name).decode()
        last = f"{column_letters(max(len(self._schema) - 1, 0))}{max(first + rows - 1, 1)}"
        sheet = re.sub(r'<dimension ref="[^"]*"/>', f'<dimension ref="A1:{last}"/>', sheet, count=1)
        sheet = sheet.replace("<sheetData/>", "<sheetData></sheetData>")
        before, end, behind = sheet.partition("</sheetData>")
        out.write(before.encode())
        number = first
        while number < first + rows:
            batch = self._next(first + rows - number)
            out.write(content_of(self._rows(batch, number)))
            number += batch.num_rows
        out.write((end + behind).encode())

    def _next(self, most: int) -> pa.RecordBatch:
        batch = next(self._batches) if self._held is None else self._held
        taken = batch.slice(0, most)
        rest = batch.slice(taken.num_rows)
        self._held = rest if rest.num_rows else None
        return taken

    def _rows(self, batch: pa.RecordBatch, first: int) -> pa.StringArray:
        numbers = pa.array(np.arange(first, first + batch.num_rows)).cast(pa.string())
        pieces: list[pa.Array | pa.Scalar] = [pa.scalar('<row r="'), numbers, pa.scalar('">')]
        pieces += [self._cells(values, column_letters(place), numbers) for place, values in enumerate(batch.columns)]
        return pc.binary_join_element_wise(*pieces, pa.scalar("</row>"), "")

    def _cells(self, values: pa.Array, letters: str, numbers: pa.StringArray) -> pa.StringArray:
        """A column's cells; of null nothing."""
        kind, style = values.type, _style(values.type)
        if style:
            micro, _ = _microseconds(values)
            serials = micro / 86_400_000_000 if style == TIMES else serials_of(micro)
            written, begin, end = text(pa.array(serials)), f'" s="{self._styles.index(style)}"><v>', "</v></c>"
        elif pa.types.is_boolean(kind):
            written, begin, end = values.cast(pa.int8()).cast(pa.string()), '" t="b"><v>', "</v></c>"
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            written, begin, end = text(values), '"><v>', "</v></c>"
        else:
            written = escaped(_cell_text(values))
            begin, end = '" t="inlineStr"><is><t xml:space="preserve">', "</t></is></c>"
        cells = pc.binary_join_element_wise(f'<c r="{letters}', numbers, begin, written, end, "")
        return pc.fill_null(pc.if_else(values.is_valid(), cells, pa.scalar(None, pa.string())), "")


def escaped(values: pa.StringArray) -> pa.StringArray:
    """Texts as XML, what that cannot hold as Excel writes it: `_x0001_`."""
    if pc.any(pc.match_substring(values, "_x")).as_py():
        values = pc.replace_substring_regex(values, "_(x[0-9A-Fa-f]{4}_)", r"_x005F_\1")
    for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        if pc.any(pc.match_substring(values, sign)).as_py():
            values = pc.replace_substring(values, sign, name)
    if pc.any(pc.match_substring_regex(values, "[\\x00-\\x08\\x0b-\\x1f\\x{FFFE}\\x{FFFF}]")).as_py():
        # Rare: one pass for each such character, as there is no columnar escape.
        for code in NOT_IN_XML:
            values = pc.replace_substring(values, chr(code), f"_x{code:04X}_")
    return values
