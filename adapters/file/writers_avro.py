"""Writes Avro: the columns' types with Avro's logical types, every one of which may be null, in blocks of some hundred KiB.

Parts are whole files. They are joined by copying their blocks as they are, each with the marker of the one file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.avro import Decoder
from adapters.file.avro_blocks import MARKER_BYTES, Block, Bytes, Header, blocks, framed, head_of, packed, read_header
from adapters.file.avro_schema import avro_schema, taken_apart, unwritable
from adapters.file.avro_values import as_written
from adapters.file.source import Reader
from adapters.file.writers import PartFile, Unfit
from pipelines.align import align
from pipelines.errors import Invalid
from pipelines.node import Want

BLOCK_BYTES = 256 << 10
MEND = "mend what is there, or use mode `replace`"
MOST_SECONDS = (1 << 63) // 1_000
CODECS = {"none": "null", "gzip": "deflate", "snappy": "snappy", "zstd": "zstandard"}
"""Avro's names of the compressions: its deflate is gzip without a frame."""


class AvroPart:
    """An Avro file being written."""

    held_bytes = 0

    def __init__(self, path: Path, schema: pa.Schema, codec: str) -> None:
        self.rows = 0
        self._codec = codec
        self._marker = os.urandom(MARKER_BYTES)
        written = avro_schema(schema)
        self._taken = taken_apart(written)
        self._file = path.open("wb")
        self._file.write(head_of(written, codec, self._marker))

    def write(self, batch: pa.RecordBatch) -> None:
        import fastavro

        content = io.BytesIO()
        columns = [as_written(column, each.type) for column, each in zip(batch.columns, self._taken.raw, strict=True)]
        raw = pa.RecordBatch.from_arrays(columns, schema=pa.schema(list(self._taken.raw)))
        # Records are encoded one by one: there is no columnar encoder.
        fastavro.writer(
            content, self._taken.plain, raw.to_pylist(), sync_interval=BLOCK_BYTES, sync_marker=self._marker
        )
        content.seek(0)
        header = read_header(content, "records")
        for block in blocks(Bytes(content, "records"), header, None):
            self._file.write(framed(block.count, packed(block.data, self._codec), self._marker))
            self.rows += block.count

    def close(self) -> int:
        self._file.close()
        return self.rows


@dataclass(frozen=True)
class AvroForm:
    """Writes Avro files."""

    suffix: str = ".avro"
    compression: str = "gzip"
    is_built_whole: ClassVar[bool] = False

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        return AvroPart(path, schema, CODECS[self.compression])

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        """The blocks of all files as they are; only where an old file is written otherwise all are written anew."""
        every = [*([] if old is None else [old]), *sources]
        header = Header(avro_schema(schema), CODECS[self.compression], os.urandom(MARKER_BYTES), 0)
        if any(not _is_like(source, header) for source in every):
            return self._rewrite(path, every, schema)
        with path.open("wb") as out:
            out.write(head_of(header.schema, header.codec, header.marker))
            for source in every:
                for block in _blocks_of(source):
                    out.write(framed(block.count, block.data, header.marker))
        return None

    def _rewrite(self, path: Path, sources: Sequence[Path], schema: pa.Schema) -> None:
        part = self.part(path, schema)
        try:
            for source in sources:
                for batch in self.batches(source, schema):
                    part.write(batch)
        finally:
            part.close()

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        if not path.exists():
            return None
        with path.open("rb", buffering=0) as file:
            return {field.name: field.type for field in taken_apart(_header_of(file, path).schema).kind}

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with path.open("rb", buffering=0) as file:
            header = _header_of(file, path)
            taken = taken_apart(header.schema)
            own = pa.schema([field for field in taken.kind if field.name in schema.names])
            decoder = Decoder(str(path), taken, own, Want(), 0)
            for piece in decoder.pieces(blocks(Bytes(file, str(path)), header, None), header.codec):
                if piece.faults:
                    raise Invalid(f"{piece.faults[0].message}; {MEND}")
                yield align(piece.batch, schema)

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        found: list[Unfit] = []
        for column, values in zip(batch.schema, batch.columns, strict=True):
            for bad, words in _unfit(values):
                if pc.any(bad).as_py():
                    found.append(Unfit(pc.fill_null(bad, False), "out_of_range", words, values, column.name))
        return found

    def unsupported(self, column: pa.Field) -> str:
        return unwritable(column)


def _header_of(file: Reader, path: Path) -> Header:
    try:
        return read_header(file, str(path))
    except Invalid as fault:
        raise Invalid(f"{fault}; {MEND}") from fault


def _is_like(path: Path, wanted: Header) -> bool:
    with path.open("rb", buffering=0) as file:
        header = _header_of(file, path)
    return (header.schema, header.codec) == (wanted.schema, wanted.codec)


def _blocks_of(path: Path) -> Iterator[Block]:
    with path.open("rb", buffering=0) as file:
        header = _header_of(file, path)
        for block in blocks(Bytes(file, str(path)), header, None):
            if block.fault:
                raise Invalid(f"{path}: at byte {block.offset}: {block.fault}; {MEND}")
            yield block


def _unfit(values: pa.Array) -> Iterator[tuple[pa.BooleanArray, str]]:
    """Where Avro has no such value, and why."""
    kind = values.type
    if pa.types.is_time(kind):
        count = values.view(pa.int32() if kind.bit_width == 32 else pa.int64())
        day = 86_400 * {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]
        outside = pc.or_(pc.less(count, 0), pc.greater_equal(count, day))
        yield outside, "lies outside of a day; make it null with a map"
    if pa.types.is_timestamp(kind) and kind.unit == "s":
        beyond = pc.greater(pc.abs(values.view(pa.int64())), MOST_SECONDS)
        yield beyond, "lies beyond what milliseconds can tell; make it null with a map"
