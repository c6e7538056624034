"""Reads CSV: byte ranges in parallel, block by block, each value by one parser with exact types.

What is no record (a wrong number of fields, a quote that never ends) or has a value that does not fit its column is
malformed: set aside with its text, its place and the reason, while the records around it arrive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from adapters.file import infer
from adapters.file.blocks import BROKEN, Block, Blocks
from adapters.file.cells import Bad, shown, sift
from adapters.file.dialect import ONLY_ASCII, Dialect, InvalidRow
from adapters.file.finding import suffix_of
from adapters.file.format import File
from adapters.file.head import SAMPLE_BYTES, Head, Layout, read_head
from adapters.file.lines import TEXT_BYTES, Fault, Piece, Places, Spans, chunked, cut_text
from adapters.file.places import line_ends
from adapters.file.quotes import array, broken_fields
from adapters.file.ranges import STRADDLING_BYTES, nominal_ranges, record_start
from adapters.file.source import encoding_of, is_one_split, opened, read_fully, room_of, to_utf8
from adapters.file.types import arrow_type, duckdb_name
from pipelines.errors import Invalid, Problem
from pipelines.node import Chunk, Json, Split, Want
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.file.get import Get

LEAST_BLOCK_BYTES, MOST_BLOCK_BYTES = 1 << 16, 8 << 20
SMALL_SAMPLE_BYTES = 1 << 16
SAMPLED_FILES = 8
"""From so many files types are inferred; of the others only the header is read."""


class Csv:
    """Reads CSV files."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """Columns by the headers, their types declared or inferred from some heads; what a file lacks is null."""
        declared = {name: flat_type(name, text) for name, text in node.types().items()}
        kinds: dict[str, pa.DataType] = {}
        for number, file in enumerate(files):
            is_sampled = number % max(len(files) // SAMPLED_FILES, 1) == 0
            head = _head(file, node, SAMPLE_BYTES if is_sampled else SMALL_SAMPLE_BYTES)
            guessed = dict.fromkeys(head.names, pa.null())
            if is_sampled and not declared.keys() >= guessed.keys():
                guessed = infer.infer(head.sample, head.names, _dialect(file, node))
            for name, kind in guessed.items():
                kinds[name] = infer.common(kinds[name], kind) if name in kinds else kind
        return infer.settled(kinds | {name: kind for name, kind in declared.items() if name in kinds})

    def splits(self, file: File, node: Get) -> list[Split]:
        """Byte ranges, or one split where the file can only be read from its beginning."""
        encoding = encoding_of(node.encoding)
        head = _head(file, node, SMALL_SAMPLE_BYTES)
        if is_one_split(file.path, encoding):
            return [Split([head.start, None], room_of(file), file.size_bytes)]
        if head.start >= file.size_bytes:
            return []
        ranges = nominal_ranges(head.start, file.size_bytes, node.split_bytes)
        size = file.size_bytes
        # a record over the end of its range, if broken, may turn out to be many
        return [
            Split([start, stop], min(stop + STRADDLING_BYTES, size) - start, stop - start) for start, stop in ranges
        ]

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a byte range."""
        head = _head(file, node, SMALL_SAMPLE_BYTES)
        dialect, encoding = _dialect(file, node), encoding_of(node.encoding)
        block_bytes = _block_bytes(head, want, dialect)
        start, stop = part
        if stop is not None:
            start, stop = (record_start(file, place, head.start, dialect.quoting) for place in (start, stop))
        with opened(file, encoding, stop) as reader:
            if stop is None:
                places = Places(file, line_ends(array(read_fully(reader, start, file.name)), None))
            else:
                reader.seek(start)
                places = Places(file)
            parser = Parser(dialect, encoding, head.names, schema, places)
            parts = Blocks(reader, start, stop, block_bytes, dialect.quoting, file.name)
            yield from chunked((parser(block) for block in parts), want)


def _block_bytes(head: Head, want: Want, dialect: Dialect) -> int:
    """About as many bytes as a batch's records have."""
    records = len(Spans.of(array(head.sample), dialect.quoting).starts) if head.sample else 0
    rows = want.batch_rows if want.rows is None else min(want.rows, want.batch_rows)
    size = len(head.sample) * rows // max(records, 1) * 49 // 50
    return min(max(size, LEAST_BLOCK_BYTES), MOST_BLOCK_BYTES)


def flat_type(name: str, text: str, format_name: str = "CSV") -> pa.DataType:
    """A declared type. `Invalid` where it is none, or values of it have no text."""
    try:
        kind = arrow_type(text)
    except Invalid as fault:
        raise Invalid(Problem("", 0, 0, f"column {name!r}: {fault}", at=("columns", name))) from fault
    if pa.types.is_nested(kind) or pa.types.is_interval(kind) or pa.types.is_dictionary(kind):
        fix = "read it as VARCHAR and convert it in a map"
        raise Invalid(Problem("", 0, 0, f"column {name!r}: {format_name} has no {text}", fix, ("columns", name)))
    return kind


@dataclass
class Parser:
    """Turns blocks of text into records of `schema`."""

    dialect: Dialect
    encoding: str
    names: Sequence[str]
    schema: pa.Schema
    places: Places
    has_quoted_nulls: bool = False
    """Whether a block has shown fields in quotes that stand for null in columns other than text."""

    def __call__(self, block: Block) -> Piece:
        """The records of a block."""
        piece = self._parsed(block)
        self.places.leave(block)
        return piece

    def _parsed(self, block: Block) -> Piece:
        if block.fault:
            where = self.places.said(block, [0])[0]
            text = cut_text(to_utf8(block.data[: TEXT_BYTES + 2], self.encoding))
            return Piece(_nothing(self.schema), (Fault(0, text, "quote", f"{where}: {block.fault}"),))
        data = to_utf8(block.data, self.encoding)
        if not block.has_broken:
            try:
                return Piece(self._typed(data))
            except pa.ArrowInvalid:
                pass  # each record is looked at
        return self._sifted(replace(block, data=data))

    def _typed(self, data: memoryview) -> pa.RecordBatch:
        """The columns, a text in quotes never null, any other field in quotes where it stands for null."""
        kinds = {field.name: field.type for field in self.schema}
        texts = {name: kind for name, kind in kinds.items() if pa.types.is_string(kind)}
        others = {name: kind for name, kind in kinds.items() if name not in texts}
        if not texts or not others:
            return _batch(self._rows(data, kinds, quoted_nulls=bool(others)), self.schema)
        if not self.has_quoted_nulls:
            try:
                return _batch(self._rows(data, kinds), self.schema)
            except pa.ArrowInvalid:
                pass  # perhaps for a field in quotes that stands for null
        found = self._rows(data, others, quoted_nulls=True)
        for name, column in zip(texts, self._rows(data, texts).columns, strict=True):
            found = found.append_column(name, column)
        self.has_quoted_nulls = True
        return _batch(found, self.schema)

    def _rows(self, data: memoryview, kinds: Mapping[str, pa.DataType], quoted_nulls: bool = False) -> pa.Table:
        """Columns of these types; those that the file does not have are null."""
        here = [name for name in kinds if name in self.names] or list(self.names[:1])
        types = {name: kinds.get(name, pa.binary()) for name in here}
        table = self.dialect.rows(data, self.names, types, wanted=here, quoted_nulls=quoted_nulls)
        for name, kind in kinds.items():
            if name not in here:
                table = table.append_column(name, pa.nulls(table.num_rows, kind))
        return table.select(list(kinds)) if kinds else table

    def _sifted(self, block: Block) -> Piece:
        """A block in which some record has a wrong number of fields, or a value that does not fit."""
        spans = Spans.of(array(block.data), self.dialect.quoting)
        invalid = self._invalid(block.data)
        reasons = {row.number - 1: ("columns", _count(row)) for row in invalid}
        if block.has_broken:
            places = broken_fields(array(block.data), self.dialect.quoting)
            reasons |= dict.fromkeys(spans.numbers(places), ("quote", BROKEN))
        rest = spans.without(block.data, sorted(reasons)) if reasons else block.data
        if len(reasons) == len(spans.starts):
            return Piece(_nothing(self.schema), self._faults(block, spans, reasons))
        if reasons:
            try:
                return Piece(self._typed(rest), self._faults(block, spans, reasons))
            except pa.ArrowInvalid:
                pass  # and some values do not fit
        texts = self._rows(rest, dict.fromkeys(self.schema.names, pa.binary()))
        found = sift(texts, {field.name: field.type for field in self.schema}, self.dialect)
        batch = pa.RecordBatch.from_arrays(list(found.columns.values()), schema=self.schema)
        sound = np.ones(batch.num_rows, bool)
        sound[list(found.bad)] = False
        others = np.delete(np.arange(len(spans.starts)), list(reasons))
        reasons |= {int(others[row]): (each.code, self._unfit(each)) for row, each in found.bad.items()}
        return Piece(batch.filter(pa.array(sound)), self._faults(block, spans, reasons))

    def _invalid(self, data: memoryview) -> list[InvalidRow]:
        """The records with a wrong number of fields. The parser hands them on as text, so that all must be ASCII."""
        found: list[InvalidRow] = []

        def set_aside(row: InvalidRow) -> str:
            found.append(row)
            return "skip"

        first = list(self.names[:1])
        plain = bytes(data).translate(ONLY_ASCII)
        self.dialect.rows(plain, self.names, dict.fromkeys(first, pa.binary()), wanted=first, on_invalid=set_aside)
        return found

    def _faults(self, block: Block, spans: Spans, reasons: Mapping[int, tuple[str, str]]) -> list[Fault]:
        """The records at fault, by number, with their text and place."""
        if not reasons:
            return []
        ordered = sorted(reasons)
        where = self.places.said(block, [int(spans.starts[number]) for number in ordered])
        return [
            Fault(number, spans.text(block.data, number), reasons[number][0], f"{place}: {reasons[number][1]}")
            for number, place in zip(ordered, where, strict=True)
        ]

    def _unfit(self, bad: Bad) -> str:
        if bad.code == "encoding":
            return f"column {bad.column!r}: {shown(bad.text)} is no text in {self.encoding}"
        return f"column {bad.column!r}: {shown(bad.text)} is no {duckdb_name(self.schema.field(bad.column).type)}"


def _count(row: InvalidRow) -> str:
    plural = "s" * (row.actual_columns != 1)
    return f"{row.actual_columns} field{plural} where there are {row.expected_columns} columns"


def _batch(table: pa.Table, schema: pa.Schema) -> pa.RecordBatch:
    """The one batch of a table, with just the columns of `schema`."""
    found = table.combine_chunks().to_batches()
    return found[0].select(schema.names) if found else _nothing(schema)


def _nothing(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=schema)


def _dialect(file: File, node: Get) -> Dialect:
    delimiter = node.delimiter or ("\t" if suffix_of(file.path) == ".tsv" else ",")
    return Dialect(delimiter, node.quote, node.escape, tuple(node.null_values), node.decimal_separator)


def _head(file: File, node: Get, sample_bytes: int) -> Head:
    encoding = encoding_of(node.encoding)
    layout = Layout(_dialect(file, node), encoding, node.header, node.skip_rows)
    with opened(file, encoding) as reader:
        head = read_head(reader, file, layout, sample_bytes)
    names = as_list(node.columns)
    if node.header or not names:
        return head
    if head.names and len(names) != len(head.names):
        what = f"{len(names)} columns are named where the first record of {file.name} has {len(head.names)} fields"
        raise Invalid(Problem("", 0, 0, what, "without a header, name all columns in their order", ("columns",)))
    return replace(head, names=tuple(names))
