"""Reads JSON lines: one object a line, byte ranges in parallel, values of exact types.

A key that is missing is null. A line that is no object, or has a value that does not fit its column, is malformed: set
aside with its text, its line and the reason. Values are converted as DuckDB converts JSON, but whole numbers and
decimals are never rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from adapters.file import jsonhead
from adapters.file.blocks import Block, Blocks
from adapters.file.format import File
from adapters.file.infer import settled
from adapters.file.jsonfaults import Careful
from adapters.file.lines import TEXT_BYTES, Fault, Piece, Places, Spans, chunked, cut_text
from adapters.file.nested import replaced
from adapters.file.places import line_ends
from adapters.file.quotes import Quoting, array, last_end
from adapters.file.ranges import nominal_ranges, record_start
from adapters.file.source import (
    UTF8,
    UTF8_MARK,
    encoding_of,
    is_one_split,
    opened,
    read_fully,
    room_of,
    to_utf8,
)
from adapters.file.types import arrow_type
from pipelines.errors import Invalid, Problem
from pipelines.node import Chunk, Json, Split, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.file.get import Get

LINES = Quoting(0, None, returns_end=False)
SAMPLE_BYTES = 1 << 18
SAMPLED_FILES = 8
LEAST_BLOCK_BYTES, MOST_BLOCK_BYTES = 1 << 16, 8 << 20


class JsonLines:
    """Reads JSON lines."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """Keys by first sight in the heads of some files, their types declared or inferred."""
        declared = {name: json_type(name, text) for name, text in node.types().items()}
        kinds: dict[str, pa.DataType] = {}
        for file in files[:: max(len(files) // SAMPLED_FILES, 1)]:
            sample = _sample(file, node, SAMPLE_BYTES)
            for name, kind in jsonhead.infer(bytes(sample).split(b"\n"), declared).items():
                kinds[name] = jsonhead.common(kinds[name], kind) if name in kinds else kind
        twins = jsonhead.twins(list(kinds))
        if twins and not node.columns:
            what = f"{files[0].name}: keys {', '.join(map(repr, twins))} are empty or differ only in case"
            raise Invalid(Problem("", 0, 0, what, "name those to read under `columns`", ("columns",)))
        kinds = {name: kind for name, kind in kinds.items() if name not in twins or name in as_list(node.columns)}
        return settled({name: replaced(kind, _without_null) for name, kind in kinds.items()} | declared)

    def splits(self, file: File, node: Get) -> list[Split]:
        """Byte ranges, or one split where the file can only be read from its beginning."""
        start = _start(file, node)
        if is_one_split(file.path, encoding_of(node.encoding)):
            return [Split([start, None], room_of(file), file.size_bytes)]
        if start >= file.size_bytes:
            return []
        ranges = nominal_ranges(start, file.size_bytes, node.split_bytes)
        return [Split([first, stop], stop - first, stop - first) for first, stop in ranges]

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a byte range."""
        encoding, begin = encoding_of(node.encoding), _start(file, node)
        start, stop = part
        if stop is not None:
            start, stop = (record_start(file, place, begin, LINES) for place in (start, stop))
        with opened(file, encoding, stop) as reader:
            if stop is None:
                places = Places(file, line_ends(array(read_fully(reader, start, file.name)), None))
            else:
                reader.seek(start)
                places = Places(file)
            size = block_bytes(_sample(file, node, 1 << 16), want)
            parts = Blocks(reader, start, stop, size, LINES, file.name)
            with borrowed(Scope(project=file.path.parent)) as sandbox:
                parser = Parser(encoding, Careful(schema, sandbox), places)
                yield from chunked((parser(block) for block in parts), want)


def _without_null(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_null(kind) else kind


def json_type(name: str, text: str) -> pa.DataType:
    """A declared type. `Invalid` where it is none, or JSON has no such values."""
    try:
        kind = arrow_type(text)
    except Invalid as fault:
        raise Invalid(Problem("", 0, 0, f"column {name!r}: {fault}", at=("columns", name))) from fault
    if _is_strange(kind):
        fix = "read it as VARCHAR and convert it in a map"
        raise Invalid(Problem("", 0, 0, f"column {name!r}: JSON has no {text}", fix, ("columns", name)))
    return kind


def _is_strange(kind: pa.DataType) -> bool:
    """Whether JSON has no such values."""
    if pa.types.is_struct(kind) or pa.types.is_list(kind):
        return any(_is_strange(kind.field(index).type) for index in range(kind.num_fields))
    is_nested = pa.types.is_nested(kind) or pa.types.is_dictionary(kind)
    return bool(is_nested or pa.types.is_binary(kind) or pa.types.is_interval(kind))


def _start(file: File, node: Get) -> int:
    """Where the first line begins: behind a byte-order mark."""
    encoding = encoding_of(node.encoding)
    if encoding != UTF8:
        return 0
    with opened(file, encoding) as reader:
        return len(UTF8_MARK) if read_fully(reader, len(UTF8_MARK), file.name) == UTF8_MARK else 0


def _sample(file: File, node: Get, size: int) -> memoryview:
    """Some whole lines of the head."""
    encoding = encoding_of(node.encoding)
    with opened(file, encoding) as reader:
        held = read_fully(reader, size, file.name)
    held = held.removeprefix(UTF8_MARK) if encoding == UTF8 else held
    end = last_end(array(held), LINES) if len(held) >= size - len(UTF8_MARK) else len(held)
    return to_utf8(memoryview(held)[: end or len(held)], encoding)


def block_bytes(sample: memoryview, want: Want) -> int:
    """About as many bytes as a batch's records have."""
    records = max(bytes(sample).count(b"\n"), 1)
    rows = want.batch_rows if want.rows is None else min(want.rows, want.batch_rows)
    return min(max(len(sample) * rows // records * 49 // 50, LEAST_BLOCK_BYTES), MOST_BLOCK_BYTES)


class Parser:
    """Turns blocks of lines into records."""

    def __init__(self, encoding: str, careful: Careful, places: Places) -> None:
        self._encoding = encoding
        self._careful = careful
        self._places = places

    def __call__(self, block: Block) -> Piece:
        """The records of a block."""
        piece = self._parsed(block)
        self._places.leave(block)
        return piece

    def _parsed(self, block: Block) -> Piece:
        if block.fault:
            place = self._places.said(block, [0])[0]
            text = cut_text(to_utf8(block.data[: TEXT_BYTES + 2], self._encoding))
            return Piece(self._careful.nothing(), (Fault(0, text, "json", f"{place}: {block.fault}"),))
        data = to_utf8(block.data, self._encoding)
        spans = Spans.of(array(data), LINES)
        texts = line_texts(data, spans)
        records = self._careful.strict(texts)
        if records is not None:
            return Piece(records)
        batch, bad = self._careful(texts)
        if not bad:
            return Piece(batch)
        ordered = sorted(bad)
        where = self._places.said(Block(data, block.offset), [int(spans.starts[number]) for number in ordered])
        faults = [
            Fault(number, spans.text(data, number), bad[number][0], f"{place}: {bad[number][1]}")
            for number, place in zip(ordered, where, strict=True)
        ]
        return Piece(batch, faults)


def line_texts(data: memoryview, spans: Spans) -> pa.BinaryArray:
    """The lines as an array over the block's bytes; a blank line is white space at the end of the one before."""
    bounds = np.append(spans.starts, spans.stops[-1:]).astype(np.int32)
    if len(bounds) < 2:
        return pa.array([], pa.binary())
    return pa.BinaryArray.from_buffers(pa.binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
