"""Writes CSV and JSON lines: records rendered batch by batch, joined as bytes.

Parts that will be joined have no header; compressed parts are joined as they are, since both gzip and Zstandard read
members one after the other as one.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from adapters.file.text import json_text, lines, nested, text, unfit, unsupported, without_text
from adapters.file.writers import PartFile, Unfit
from pipelines.errors import Invalid

RENDER_BYTES = 32 << 20
"""Larger batches are rendered in halves, so that their text stays within 32-bit offsets and memory."""
BLOCK_BYTES = 4 << 20
GZIP_LEVEL = 6
"""Arrow's own is 9, which takes several times as long for a few per cent."""
LINE = "\n"
"""The column of `Jsonl.batches`: a record as its line, untouched. No column that comes in can be called so by mistake."""


class TextPart:
    """A text file being written, its head first, its tail last: with compression members of their own, so that they can be cut off."""

    held_bytes = 0

    def __init__(
        self,
        path: Path,
        compression: str | None,
        render: Callable[[pa.RecordBatch], pa.StringArray],
        head: bytes = b"",
        encoding: str = "utf-8",
        tail: bytes = b"",
    ) -> None:
        self.rows = 0
        self._render = render
        self._encoding = encoding
        self._path = path
        self._tail = compressed(tail, compression)
        self._file = path.open("wb")
        self._file.write(compressed(head, compression))
        self._out = _packer(self._file, compression)

    def write(self, batch: pa.RecordBatch) -> None:
        for piece in bounded(batch):
            written = self._render(piece)
            self._out.write(self._encoded(content_of(written)))
            self.rows += len(written)

    def _encoded(self, content: pa.Buffer) -> pa.Buffer | bytes:
        return content if self._encoding == "utf-8" else content.to_pybytes().decode().encode(self._encoding)

    def close(self) -> int:
        try:
            self._out.close()
        finally:
            self._file.close()
        if self._tail:
            with self._path.open("ab") as file:
                file.write(self._tail)
        return self.rows


@dataclass(frozen=True)
class Csv:
    """Writes CSV as RFC 4180 has it, with lines ended by a line feed: null and the empty text stay apart (`""`)."""

    suffix: str = ".csv"
    compression: str | None = None
    delimiter: str = ","
    header: bool = True
    quote: str = "needed"
    null: str = ""
    is_built_whole: ClassVar[bool] = False

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        return TextPart(path, self.compression, self.render, self.head(schema))

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        """The header once, the old records as they are, then the parts without theirs."""
        there = None if old is None else self.columns(old)
        if there is not None and list(there) != schema.names:
            raise Invalid(f"{old}: has the columns {', '.join(there)}; what is appended has {', '.join(schema.names)}")
        join_text(path, sources, old, self.head(schema), self.compression)

    def head(self, schema: pa.Schema) -> bytes:
        if not self.header:
            return b""
        names = pa.array(schema.names, pa.string())
        written: str = pc.binary_join(pa.array([self._quoted(names, True).to_pylist()]), self.delimiter)[0].as_py()
        return (written + "\n").encode()

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        """The header's columns; without a header their number is all there is to know, so they are not told."""
        if not self.header or not path.exists() or not path.stat().st_size:
            return None
        with _Said(path), uncompressed(path, self.compression) as source, self._open(source, None) as reader:
            return dict.fromkeys(reader.schema.names)

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Fields as text: null where nothing stands between the delimiters."""
        with _Said(path):
            names = list(self.columns(path) or schema.names)
            with uncompressed(path, self.compression) as source, self._open(source, names) as reader:
                yield from reader

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        found = _unfit(batch, as_json=False)
        if batch.num_columns == 1 and not self.null and batch.column(0).null_count:
            message = "a record of one null would be an empty line, which readers skip; give `null` a text such as NULL"
            found.append(Unfit(batch.column(0).is_null(), "empty_line", message))
        return found

    def unsupported(self, column: pa.Field) -> str:
        return unsupported(column.type)

    def render(self, batch: pa.RecordBatch) -> pa.StringArray:
        """A line each, with its line feed."""
        columns = [self._field(column) for column in batch.columns]
        columns[-1] = pc.binary_join_element_wise(columns[-1], "\n", "")
        return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, self.delimiter)

    def _field(self, column: pa.Array) -> pa.StringArray:
        if nested(column.type):
            written = pc.if_else(column.is_valid(), json_text(column), pa.scalar(None, pa.string()))
            is_text = True
        else:
            written = text(column)
            is_text = bool(pa.types.is_string(written.type) and pa.types.is_string(column.type))
        return pc.fill_null(self._quoted(written, is_text), self.null)

    def _quoted(self, written: pa.StringArray, is_text: bool) -> pa.StringArray:
        if self.quote == "needed" and not is_text and not self.null:
            return written
        if self.quote == "all" or (self.quote == "text" and is_text):
            return _wrapped(written)
        needs = pc.match_substring_regex(written, self._special) if is_text else pc.equal(written, self.null)
        if self.null and is_text:
            needs = pc.or_(needs, pc.equal(written, self.null))
        if not pc.any(needs).as_py():
            return written
        return pc.if_else(needs, _wrapped(written), written)

    @property
    def _special(self) -> str:
        """What must be quoted: structure, emptiness, and blanks at the ends, which some readers drop."""
        return rf'^$|^\s|\s$|["\r\n{re.escape(self.delimiter)}]|^\x{{FEFF}}'

    def _open(self, source: pa.NativeFile, names: Sequence[str] | None) -> pacsv.CSVStreamingReader:
        one = names is not None and len(names) == 1
        return pacsv.open_csv(
            source,
            pacsv.ReadOptions(
                use_threads=False,
                block_size=BLOCK_BYTES,
                column_names=None if self.header or names is None else list(names),
            ),
            pacsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True, ignore_empty_lines=not one),
            pacsv.ConvertOptions(
                check_utf8=True,
                column_types=None if names is None else {name: pa.string() for name in names},
                null_values=[self.null],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )


@dataclass(frozen=True)
class Jsonl:
    """Writes JSON lines: an object a record, every column in each."""

    suffix: str = ".jsonl"
    compression: str | None = None
    is_built_whole: ClassVar[bool] = False

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        return TextPart(path, self.compression, self.render)

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        join_text(path, sources, old, b"", self.compression)

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        return None

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Lines as they are; blank ones are left out."""
        with _Said(path), uncompressed(path, self.compression) as source:
            rest = b""
            while block := source.read(BLOCK_BYTES):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield _lines(whole + newline)
            if rest:
                yield _lines(rest + b"\n")

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        return _unfit(batch, as_json=True)

    def unsupported(self, column: pa.Field) -> str:
        return unsupported(column.type)

    def render(self, batch: pa.RecordBatch) -> pa.StringArray:
        """A line each, with its line feed."""
        written = batch.column(0) if batch.schema.names == [LINE] else lines(batch.schema.names, batch.columns)
        return pc.binary_join_element_wise(written, "\n", "")


def join_text(path: Path, sources: Sequence[Path], old: Path | None, head: bytes, compression: str | None) -> None:
    """One file: the head, the old content with its last line ended, the parts without the head they begin with."""
    packed = compressed(head, compression)
    with path.open("wb") as out:
        if old is not None and old.stat().st_size:
            _append(old, out, 0)
            out.write(b"" if _ends_in_newline(old, compression) else compressed(b"\n", compression))
        else:
            out.write(packed)
        for each in sources:
            _append(each, out, len(packed))


def _append(path: Path, out: BinaryIO, start: int) -> None:
    with path.open("rb") as source:
        source.seek(start)
        shutil.copyfileobj(source, out, BLOCK_BYTES)


def compressed(content: bytes, compression: str | None) -> bytes:
    """The content as a member of its own, the same bytes every time."""
    if compression is None or not content:
        return content
    if compression == "gzip":
        return gzip.compress(content, GZIP_LEVEL, mtime=0)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, compression) as out:
        out.write(content)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def _packer(file: BinaryIO, compression: str | None) -> Any:
    """What takes bytes and writes them, compressed, to the file."""
    if compression is None:
        return file
    if compression == "gzip":
        return gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0)
    return pa.CompressedOutputStream(file, compression)


def _ends_in_newline(path: Path, compression: str | None) -> bool:
    last = b"\n"
    if compression is None:
        with path.open("rb") as file:
            if file.seek(0, 2):
                file.seek(-1, 2)
                last = file.read(1)
        return last == b"\n"
    if not path.stat().st_size:
        return True
    with _Said(path), uncompressed(path, compression) as source:
        while block := source.read(BLOCK_BYTES):
            last = block[-1:]
    return last == b"\n"


def uncompressed(path: Path, compression: str | None) -> pa.NativeFile:
    return pa.input_stream(str(path), compression=compression)


class _Said:
    """Says with its name that a file can't be read as what it should be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, pa.ArrowException) or (isinstance(fault, OSError) and fault.errno is None):
            reason = " ".join(str(fault).split())
            raise Invalid(
                f"{self._path}: what is there cannot be read ({reason}); mend it, or use mode `replace`"
            ) from fault


def bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch in pieces that can be rendered as text."""
    if batch.num_rows <= 1 or batch.nbytes <= RENDER_BYTES:
        yield batch
        return
    half = batch.num_rows // 2
    yield from bounded(batch.slice(0, half))
    yield from bounded(batch.slice(half))


def content_of(written: pa.StringArray) -> pa.Buffer:
    """The bytes of all texts one after the other, without copying."""
    if not len(written):
        return pa.py_buffer(b"")
    offsets = np.frombuffer(written.buffers()[1], np.int32)
    first, last = int(offsets[written.offset]), int(offsets[written.offset + len(written)])
    return written.buffers()[2].slice(first, last - first)


def _lines(content: bytes) -> pa.RecordBatch:
    """Each line of text that ends in a line feed, without it."""
    ends = np.flatnonzero(np.frombuffer(content, np.uint8) == 10).astype(np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), ends + 1]).astype(np.int32)
    whole = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(content))
    written = pc.utf8_rtrim(whole, "\r\n")
    return pa.RecordBatch.from_arrays([written.filter(pc.not_equal(written, ""))], [LINE])


def _wrapped(written: pa.StringArray) -> pa.StringArray:
    return pc.binary_join_element_wise('"', pc.replace_substring(written, '"', '""'), '"', "")


def _unfit(batch: pa.RecordBatch, *, as_json: bool) -> list[Unfit]:
    found: list[Unfit] = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        mask = unfit(column, as_json=as_json)
        if mask is not None:
            found.append(Unfit(mask, "no_text", without_text(field.type), column, field.name))
    return found
