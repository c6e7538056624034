"""Writes Parquet: Zstandard, large row groups, dictionaries only for columns with few distinct values."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adapters.file.parquet import plain_type
from adapters.file.parquet_join import Unjoinable, join
from adapters.file.writers import PartFile, Unfit
from pipelines.align import align
from pipelines.errors import Invalid

GROUP_ROWS = 262_144
GROUP_BYTES = 64 << 20
"""A row group is written once this many records or bytes are held; smaller ones cost more time than they save memory."""
SAMPLE_ROWS = 20_000
FEW = 0.2
"""A column has few distinct values where a sample has at most this share."""
READ_ROWS = 65_536


class ParquetPart:
    """A Parquet file being written."""

    def __init__(self, path: Path, schema: pa.Schema, compression: str) -> None:
        self.rows = 0
        self.held_bytes = 0
        self._path = path
        self._schema = schema
        self._compression = compression
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._out: pa.NativeFile | None = pa.OSFile(str(path), "wb")
        self._writer: pq.ParquetWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        while batch.num_rows:
            taken = batch.slice(0, GROUP_ROWS - self._held_rows)
            self._held.append(taken)
            self._held_rows += taken.num_rows
            self.held_bytes += taken.nbytes
            if self._held_rows >= GROUP_ROWS or self.held_bytes >= GROUP_BYTES:
                self._write_group()
            batch = batch.slice(taken.num_rows)

    def close(self) -> int:
        try:
            if self._held or self._writer is None:
                self._write_group()
            assert self._writer is not None
            self._writer.close()
            self.rows = self._writer.writer.metadata.num_rows
        finally:
            if self._out is not None:
                self._out.close()
        return self.rows

    def _write_group(self) -> None:
        group = pa.Table.from_batches(self._held, self._schema)
        self._held, self._held_rows, self.held_bytes = [], 0, 0
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._out,
                self._schema,
                compression=self._compression,
                use_dictionary=few_distinct(group.slice(0, SAMPLE_ROWS)),
                write_statistics=certain(self._schema),
            )
        if group.num_rows:
            self._writer.write_table(group, row_group_size=group.num_rows)


def certain(schema: pa.Schema) -> list[str]:
    """The columns whose statistics readers may believe: the format leaves NaN out of them, and not all readers know."""
    return [
        column.name
        for column in schema
        if not pa.types.is_nested(column.type) and not pa.types.is_floating(column.type)
    ]


@dataclass(frozen=True)
class ParquetForm:
    """Writes Parquet files."""

    suffix: str = ".parquet"
    compression: str = "zstd"
    is_built_whole: ClassVar[bool] = False

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        return ParquetPart(path, schema, self.compression)

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        """Copies row groups as they are; only where an old file is laid out otherwise are all read and written again."""
        every = [*([] if old is None else [old]), *sources]
        if not every:
            ParquetPart(path, schema, self.compression).close()
            return
        try:
            join(path, every)
        except Unjoinable:
            part = ParquetPart(path, schema, self.compression)
            try:
                for source in every:
                    for batch in self.batches(source, schema):
                        part.write(batch)
            finally:
                part.close()

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        if not path.exists():
            return None
        with _read(path) as parquet:
            return {field.name: plain_type(field.type) for field in parquet.schema_arrow}

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with _read(path) as parquet:
            try:
                for batch in parquet.iter_batches(READ_ROWS, use_threads=False):
                    yield align(batch, schema)
            except (pa.ArrowException, OSError) as fault:
                raise _unreadable(path, fault) from fault

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        return []

    def unsupported(self, column: pa.Field) -> str:
        """Asks the writer itself, with a file of no records."""
        try:
            pq.write_table(pa.schema([column]).empty_table(), io.BytesIO())
        except (pa.ArrowException, NotImplementedError):
            return f"Parquet has no type for {column.type}; cast it with a map"
        return ""


def few_distinct(sample: pa.Table) -> list[str]:
    """The paths of the columns, nested ones too, of which a sample has few distinct values."""
    found: list[str] = []
    for name, column in zip(sample.column_names, sample.columns, strict=True):
        for path, leaf in _leaves(name, column.combine_chunks()):
            if _countable(leaf.type) and pc.count_distinct(leaf).as_py() <= max(1, FEW * len(leaf)):
                found.append(path)
    return found


def _leaves(path: str, array: pa.Array) -> Iterator[tuple[str, pa.Array]]:
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    if pa.types.is_struct(array.type):
        for index, field in enumerate(array.type):
            yield from _leaves(f"{path}.{field.name}", array.field(index))
    elif pa.types.is_map(array.type):
        yield from _leaves(f"{path}.key_value.key", array.keys)
        yield from _leaves(f"{path}.key_value.value", array.items)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _leaves(f"{path}.list.element", array.values)
    else:
        yield path, array


def _countable(kind: pa.DataType) -> bool:
    """Types whose distinct values can be counted; of booleans a dictionary saves nothing."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_integer(kind)
        or (pa.types.is_floating(kind) and not pa.types.is_float16(kind))
        or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind))
        or pa.types.is_decimal128(kind)
        or pa.types.is_binary(kind)
    )


def _read(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except (pa.ArrowException, OSError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:
            raise
        raise _unreadable(path, fault) from fault


def _unreadable(path: Path, fault: Exception) -> Invalid:
    reason = " ".join(str(fault).split())
    return Invalid(f"{path}: what is there cannot be read as Parquet ({reason}); mend it, or use mode `replace`")
