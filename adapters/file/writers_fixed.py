"""Writes records of fixed width. A value that does not fit, or would not read back the same, is a reject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.blocks import Blocks
from adapters.file.dialect import Dialect
from adapters.file.fixed import SEPARATOR, Parser
from adapters.file.format import File
from adapters.file.jsonl import line_texts
from adapters.file.layout import Span
from adapters.file.lines import Places, Spans
from adapters.file.quotes import LINES, array
from adapters.file.source import to_utf8
from adapters.file.text import nested, text, unfit, unsupported, without_text
from adapters.file.writers import PartFile, Unfit
from adapters.file.writers_text import BLOCK_BYTES, LINE, TextPart, join_text, uncompressed
from pipelines.errors import Invalid


@dataclass(frozen=True)
class FixedForm:
    """Writes records of fixed width, a line each."""

    spans: Sequence[Span]
    suffix: str = ".txt"
    compression: str | None = None
    encoding: str = "utf-8"
    null: str = ""
    is_built_whole: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """How many characters a record has."""
        return max(span.stop for span in self.spans)

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        return TextPart(path, self.compression, self.render, encoding=self.encoding)

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        join_text(path, sources, old, b"", self.compression)

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        """Nothing is told of columns; but the records that are there have this layout's width."""
        if path.exists():
            with uncompressed(path, self.compression) as source:
                line, end, _ = source.read(4 * self.width + 2).partition(b"\n")
            there = len(line.rstrip(b"\r").decode(self.encoding, "replace"))
            if (line or end) and there != self.width:
                what = f"has {there if end else f'more than {there}'} characters in its first record"
                raise Invalid(f"{path}: {what}, and the layout has {self.width}; use mode `replace`, or another path")
        return None

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The records, read as `file.get` does, and beside their columns each as its line."""
        file = File(path, str(path), path.stat().st_size, 0, "")
        dialect = Dialect(SEPARATOR, "", "", (self.null,))
        with uncompressed(path, self.compression) as source:
            parser = Parser(self.spans, schema, dialect, self.encoding, Places(file, 0))
            for block in Blocks(source, 0, None, BLOCK_BYTES, LINES, str(path)):
                piece = parser(block)
                if piece.faults:
                    raise Invalid(f"{piece.faults[0].message}; mend it, or use mode `replace`")
                data = to_utf8(block.data, self.encoding)
                lines = line_texts(data, Spans.of(array(data), LINES)).cast(pa.string())
                yield piece.batch.append_column(LINE, pc.utf8_rtrim(lines, "\r\n"))

    def unsupported(self, column: pa.Field) -> str:
        if column.name not in {span.name for span in self.spans}:
            return "`layout` has no place for it; add it there, or drop it with a map"
        if nested(column.type):
            return "a nested value has no fixed width; take it apart with a map"
        return unsupported(column.type)

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        found: list[Unfit] = []
        for span in self.spans:
            column = batch.column(span.name)
            mask = unfit(column, as_json=False)
            if mask is not None:
                found.append(Unfit(mask, "no_text", without_text(column.type), column, span.name))
            for wrong, code, words in self._unfit_texts(span, column):
                if pc.any(wrong).as_py():
                    found.append(Unfit(wrong, code, words, column, span.name))
        return found

    def _unfit_texts(self, span: Span, column: pa.Array) -> Iterator[tuple[pa.BooleanArray, str, str]]:
        """Where a value's text does not fit, with a code and what is wrong with it."""
        values = text(column)
        wide = f"is longer than the {span.width} characters that `layout` gives it; shorten it with a map"
        yield _true(pc.greater(pc.utf8_length(values), span.width)), "too_long", wide
        if len(self.null) > span.width:
            yield column.is_null(), "too_long", f"is written as {self.null!r}, which is wider than it; set `null`"
        same = "is what stands for null; make it null with a map, or set `null`"
        yield _true(pc.equal(values, self.null)), "null_text", same
        is_text = pa.types.is_string(column.type)
        if is_text or span.pad not in "0 ":
            sign = re.escape(span.pad)
            ends = (f"^{sign}" if span.is_right(column.type) else f"{sign}$") if is_text else f"^{sign}|{sign}$"
            lost = f"has {span.pad!r} where its width is filled with that, so it would be lost; trim it with a map"
            yield _true(pc.match_substring_regex(values, ends)), "padding", lost
        if is_text:
            lines = "holds a line's end, which ends a record; replace it with a map"
            yield _true(pc.match_substring_regex(values, r"[\r\n]")), "line_end", lines
            foreign = f"has a character that {self.encoding} has not; replace it with a map, or set `encoding`"
            yield self._foreign(values), "encoding", foreign

    def _foreign(self, values: pa.StringArray) -> pa.BooleanArray:
        """Where a text has characters that the encoding lacks."""
        if self.encoding == "utf-8" or not pc.any(_true(pc.invert(pc.string_is_ascii(values)))).as_py():
            return pa.array(np.zeros(len(values), bool))
        # Only texts that are not plain ASCII are looked at: there is no columnar way to encode.
        return pa.array([value is not None and not self._encodes(value) for value in values.to_pylist()], pa.bool_())

    def _encodes(self, value: str) -> bool:
        try:
            value.encode(self.encoding)
        except UnicodeEncodeError:
            return False
        return True

    def render(self, batch: pa.RecordBatch) -> pa.StringArray:
        """A line each, with its line feed; those that were there as they are."""
        if LINE in batch.schema.names:
            return pc.binary_join_element_wise(batch.column(LINE), "\n", "")
        pieces: list[pa.Array | pa.Scalar] = []
        behind = 0
        for span in sorted(self.spans, key=lambda each: each.start):
            if span.start > behind:
                pieces.append(pa.scalar(" " * (span.start - behind)))
            column = batch.column(span.name)
            values = span.filled(text(column), column.type)
            pieces.append(pc.fill_null(values, self._empty(span, column.type)))
            behind = span.stop
        return pc.binary_join_element_wise(*pieces, pa.scalar("\n"), "")

    def _empty(self, span: Span, kind: pa.DataType) -> str:
        """How null is written: not as zeros, which are a number."""
        has_zeros = span.pad == "0" and not pa.types.is_string(kind)
        blank = replace(span, pad=" ") if has_zeros else span
        written: str = blank.filled(pa.array([self.null]), kind)[0].as_py()
        return written


def _true(mask: pa.Array) -> pa.BooleanArray:
    return pc.fill_null(mask, False)
