"""Reads records of fixed width: a line each, their columns told by place.

A record with more or fewer characters than the layout has, or with a value that does not fit its column, is set aside
with its text, its line and the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.file import infer
from adapters.file.blocks import Block, Blocks
from adapters.file.cells import shown, sift
from adapters.file.csv import flat_type
from adapters.file.dialect import Dialect
from adapters.file.fitting import fitted
from adapters.file.format import File
from adapters.file.jsonl import LINES, block_bytes, line_texts
from adapters.file.layout import Span, spans_of
from adapters.file.lines import TEXT_BYTES, Fault, Piece, Places, Spans, chunked, cut_text
from adapters.file.places import line_ends
from adapters.file.quotes import array, last_end, record_ends
from adapters.file.ranges import nominal_ranges, record_start
from adapters.file.source import UTF8, UTF8_MARK, encoding_of, is_one_split, opened, read_fully, room_of, to_utf8
from adapters.file.types import duckdb_name
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Split, Want

if TYPE_CHECKING:
    from adapters.file.get import Get

SAMPLE_BYTES = 1 << 18
SAMPLED_FILES = 8
MOST_SKIPPED_BYTES = 32 << 20
SEPARATOR = "\x1f"
"""Stands between the values of a sample whose types are inferred; ASCII has it for that."""


class FixedWidth:
    """Reads records of fixed width."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """The layout's columns, their types declared or inferred from the heads of some files."""
        spans = spans_of(node.layout)
        declared = {name: flat_type(name, text, "a record of fixed width") for name, text in node.types().items()}
        kinds: dict[str, pa.DataType] = dict.fromkeys((span.name for span in spans), pa.null())
        unknown = [span for span in spans if span.name not in declared]
        for file in files[:: max(len(files) // SAMPLED_FILES, 1)] if unknown else ():
            for name, kind in _inferred(file, node, unknown).items():
                kinds[name] = infer.common(kinds[name], kind)
        return infer.settled(kinds | {name: kind for name, kind in declared.items() if name in kinds})

    def splits(self, file: File, node: Get) -> list[Split]:
        """Byte ranges, or one split where the file can only be read from its beginning."""
        start, _ = _head(file, node, 0)
        if is_one_split(file.path, encoding_of(node.encoding)):
            return [Split([start, None], room_of(file), file.size_bytes)]
        if start >= file.size_bytes:
            return []
        ranges = nominal_ranges(start, file.size_bytes, node.split_bytes)
        return [Split([first, stop], stop - first, stop - first) for first, stop in ranges]

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a byte range."""
        encoding = encoding_of(node.encoding)
        begin, sample = _head(file, node, 1 << 16)
        start, stop = part
        if stop is not None:
            start, stop = (record_start(file, place, begin, LINES) for place in (start, stop))
        with opened(file, encoding, stop) as reader:
            if stop is None:
                places = Places(file, line_ends(array(read_fully(reader, start, file.name)), None))
            else:
                reader.seek(start)
                places = Places(file)
            parser = Parser(spans_of(node.layout), schema, _dialect(node), encoding, places)
            parts = Blocks(reader, start, stop, block_bytes(sample, want), LINES, file.name)
            yield from chunked((parser(block) for block in parts), want)


@dataclass(frozen=True)
class Parser:
    """Turns blocks of lines into records of `schema`."""

    spans: Sequence[Span]
    schema: pa.Schema
    dialect: Dialect
    encoding: str
    places: Places

    def __call__(self, block: Block) -> Piece:
        """The records of a block."""
        piece = self._parsed(block)
        self.places.leave(block)
        return piece

    def _parsed(self, block: Block) -> Piece:
        if block.fault:
            text = cut_text(to_utf8(block.data[: TEXT_BYTES + 2], self.encoding))
            place = self.places.said(block, [0])[0]
            return Piece(
                pa.RecordBatch.from_pylist([], schema=self.schema), [Fault(0, text, "width", f"{place}: {block.fault}")]
            )
        data = to_utf8(block.data, self.encoding)
        spans = Spans.of(array(data), LINES)
        texts = line_texts(data, spans)
        batch, reasons = self._records(texts)
        ordered = sorted(reasons)
        where = (
            self.places.said(Block(data, block.offset), [int(spans.starts[number]) for number in ordered])
            if ordered
            else ()
        )
        faults = [
            Fault(number, spans.text(data, number), reasons[number][0], f"{place}: {reasons[number][1]}")
            for number, place in zip(ordered, where, strict=True)
        ]
        return Piece(batch, faults)

    def _records(self, raw: pa.BinaryArray) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
        """The records that fit, and of the others by number the reject code and why."""
        sound, reasons = self.whole(raw)
        others = np.delete(np.arange(len(raw)), list(reasons))
        kinds = {field.name: field.type for field in self.schema}
        columns = {span.name: self._values(sound, span, kinds[span.name]) for span in self.spans if span.name in kinds}
        found = sift(pa.table({name: columns[name] for name in kinds}), kinds, self.dialect)
        arrays = list(found.columns.values())
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema) if arrays else _counted(len(sound))
        for row, bad in found.bad.items():
            said = f"column {bad.column!r}: {shown(bad.text)} is no {duckdb_name(kinds[bad.column])}"
            reasons[int(others[row])] = (bad.code, said)
        kept = np.ones(len(others), bool)
        kept[list(found.bad)] = False
        return batch.filter(pa.array(kept)) if found.bad else batch, reasons

    def whole(self, raw: pa.BinaryArray) -> tuple[pa.StringArray, dict[int, tuple[str, str]]]:
        """The lines that are as long as the layout says, and of the others by number the reject code and why."""
        lines, unread = fitted(raw, pa.string(), lambda each: each.cast(pa.string()))
        reasons = dict.fromkeys(unread, ("encoding", f"is no text in {self.encoding}; set `encoding` to what it is"))
        lines = pc.utf8_rtrim(lines, "\r\n")
        lengths = pc.utf8_length(lines)
        width = max(span.stop for span in self.spans)
        for row in pc.indices_nonzero(pc.fill_null(pc.not_equal(lengths, width), False)).to_pylist():  # rejects only
            reasons[row] = ("width", f"{lengths[row].as_py()} characters where a record has {width}")
        if not reasons:
            return lines, reasons
        return lines.take(pa.array(np.delete(np.arange(len(lines)), list(reasons)))), reasons

    def _values(self, records: pa.StringArray, span: Span, kind: pa.DataType) -> pa.BinaryArray:
        """A column's fields, null where they stand for null."""
        values = span.taken(records, kind)
        nulls = pa.array(list(self.dialect.null_values), pa.string())
        return pc.if_else(pc.is_in(values, nulls), pa.scalar(None, pa.string()), values).cast(pa.binary())


def _counted(rows: int) -> pa.RecordBatch:
    """Records of which no column is wanted."""
    return pa.record_batch([pa.nulls(rows)], ["nothing"]).select([])


def _dialect(node: Get) -> Dialect:
    return Dialect(SEPARATOR, "", "", tuple(node.null_values), node.decimal_separator)


def _head(file: File, node: Get, sample_bytes: int) -> tuple[int, memoryview]:
    """Where the first record begins, behind a byte-order mark and the lines to leave out, and some records from there."""
    encoding = encoding_of(node.encoding)
    with opened(file, encoding) as reader:
        held = read_fully(reader, len(UTF8_MARK) + sample_bytes, file.name)
        start = len(UTF8_MARK) if encoding == UTF8 and held.startswith(UTF8_MARK) else 0
        if node.skip_rows:
            held += read_fully(reader, MOST_SKIPPED_BYTES, file.name)
            ends = record_ends(array(held[start:]), LINES)
            if len(ends) < node.skip_rows and len(held) >= MOST_SKIPPED_BYTES:
                raise Invalid(f"{file.name}: its first {node.skip_rows} lines do not end within {len(held) >> 20} MiB")
            start += int(ends[node.skip_rows - 1]) if len(ends) >= node.skip_rows else len(held) - start
    rest = held[start : start + sample_bytes]
    end = last_end(array(rest), LINES) if len(rest) == sample_bytes else len(rest)
    return start, to_utf8(memoryview(rest)[: end or len(rest)], encoding)


def _inferred(file: File, node: Get, spans: Sequence[Span]) -> dict[str, pa.DataType]:
    """The columns' types as their values in the head of a file tell."""
    _, sample = _head(file, node, SAMPLE_BYTES)
    if not len(sample):
        return {}
    parser = Parser(spans_of(node.layout), pa.schema([]), _dialect(node), UTF8, Places(file, 0))
    records, _ = parser.whole(line_texts(sample, Spans.of(array(sample), LINES)))
    if not len(records):
        return {}
    columns = [span.guessed(span.cut(records)) for span in spans]
    lines = columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, SEPARATOR)
    text = "\n".join(lines.to_pylist()).encode()
    return infer.infer(text + b"\n", [span.name for span in spans], _dialect(node))
