"""Reads Parquet: split by row groups, only the columns wanted, types exact.

A file that is cut short or damaged is `Invalid` with its name: Parquet keeps its index at its end, so that nothing of a
damaged row group can be told from the rest of it. Nothing is mapped into memory (a file cut short under the reader
would kill the process), and column chunks are streamed, so that a large row group needs little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from adapters.file.format import File
from adapters.file.stores.ahead import Ahead
from pipelines.align import unify
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Chunk, Json, Split, Want

if TYPE_CHECKING:
    from adapters.file.get import Get

SPLIT_BYTES = 32 << 20
SPLIT_ROWS = 1 << 20
"""Neighbouring row groups are read as one split up to these."""
BUFFER_BYTES = 1 << 20


class Parquet:
    """Reads Parquet files."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """The columns of all files: by name, widened where that loses nothing, null where a file lacks them."""
        found: pa.Schema | None = None
        for file in files:
            with opened(file) as parquet:
                own = _columns(parquet, file)
            try:
                found = own if found is None else unify([found, own])
            except Invalid as fault:
                raise Invalid(f"{file.name}: {fault} (compared with the files before it)") from fault
        return pa.schema([]) if found is None else found

    def splits(self, file: File, node: Get) -> list[Split]:
        """Runs of row groups; room is their rows."""
        with opened(file) as parquet:
            sizes = [_size(parquet, number) for number in range(parquet.metadata.num_row_groups)]
        found: list[Split] = []
        first, rows, size_bytes = 0, 0, 0
        for number, (group_rows, group_bytes) in enumerate(sizes):
            if number > first and (rows + group_rows > SPLIT_ROWS or size_bytes + group_bytes > SPLIT_BYTES):
                found.append(Split([first, number], rows, size_bytes))
                first, rows, size_bytes = number, 0, 0
            rows, size_bytes = rows + group_rows, size_bytes + group_bytes
        return [*found, Split([first, len(sizes)], rows, size_bytes)] if rows else found

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a run of row groups."""
        groups = list(range(*part))
        first = 0
        rows = want.batch_rows if want.rows is None else max(1, min(want.batch_rows, want.rows))
        with ahead(file) as stream, opened(file, stream) as parquet:
            own = _columns(parquet, file)
            here = [name for name in schema.names if name in own.names]
            for batch in _batches(parquet, groups, here, rows, stream):
                yield Chunk(_fitted(batch, schema, file), first)
                first += batch.num_rows
                if want.rows is not None and first >= want.rows:
                    return


def _batches(
    parquet: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str], rows: int, stream: Ahead | None
) -> Iterator[pa.RecordBatch]:
    """The records of some row groups; those of a store are fetched ahead, as far as they are wanted."""
    if stream is None:
        yield from parquet.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False)
        return
    stream.announce([_ranges(parquet, group, frozenset(columns)) for group in groups])
    for group in groups:
        yield from parquet.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False)
        stream.pass_group()


def _ranges(parquet: pq.ParquetFile, group: int, columns: frozenset[str]) -> list[tuple[int, int]]:
    """Where the wanted columns of a row group lie in the file."""
    about = parquet.metadata.row_group(group)
    found = []
    for number in range(about.num_columns):
        chunk = about.column(number)
        if chunk.path_in_schema in columns or chunk.path_in_schema.partition(".")[0] in columns:
            start = chunk.data_page_offset
            if chunk.has_dictionary_page and chunk.dictionary_page_offset:
                start = min(start, chunk.dictionary_page_offset)
            found.append((start, start + chunk.total_compressed_size))
    return found


@contextmanager
def ahead(file: File) -> Iterator[Ahead | None]:
    """The stream of a file that lies in a store; None for one on a path."""
    if file.store is None:
        yield None
        return
    with file.open() as stream:
        assert isinstance(stream, Ahead)
        yield stream


@contextmanager
def opened(file: File, stream: Ahead | None = None) -> Iterator[pq.ParquetFile]:
    """The file, open; what goes wrong with it, said with its name.

    Raises:
        Invalid: it is no Parquet file, cut short, encrypted or damaged.
        Unavailable: it cannot be read just now.
    """
    try:
        with (
            ahead(file) if stream is None else nullcontext(stream) as source,
            pq.ParquetFile(
                file.path if source is None else pa.PythonFile(source, "r"),
                pre_buffer=False,
                buffer_size=BUFFER_BYTES,
                coerce_int96_timestamp_unit="us",
            ) as parquet,
        ):
            yield parquet
    except PermissionError as fault:
        raise Unavailable(f"{file.name}: may not be read by this user; allow it, or run as one who may") from fault
    except FileNotFoundError as fault:
        raise Unavailable(f"{file.name}: is no longer there") from fault
    except (pa.ArrowException, OSError) as fault:
        reason = " ".join(str(fault).split())
        raise Invalid(
            f"{file.name}: cannot be read as Parquet: it is cut short, damaged or something else ({reason}); "
            f"fetch it again, or set `format` to what it is"
        ) from fault


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type records have here: dictionaries decoded, one kind of text, bytes and lists, extensions as stored."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_map(kind):
        return pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    if pa.types.is_struct(kind):
        return pa.struct([plain_field(kind.field(index)) for index in range(kind.num_fields)])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(plain_field(kind.value_field))
    return kind


def plain_field(field: pa.Field) -> pa.Field:
    """The field with its plain type and without what its writer noted about it."""
    return pa.field(field.name, plain_type(field.type), field.nullable)


def _columns(parquet: pq.ParquetFile, file: File) -> pa.Schema:
    schema = parquet.schema_arrow
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise Invalid(f"{file.name}: column {twice[0]!r} is there twice; write it again with a name for each column")
    return pa.schema([plain_field(field) for field in schema])


def _size(parquet: pq.ParquetFile, number: int) -> tuple[int, int]:
    group = parquet.metadata.row_group(number)
    return group.num_rows, sum(group.column(index).total_compressed_size for index in range(group.num_columns))


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, file: File) -> pa.RecordBatch:
    """Exactly the wanted columns, in their order and types."""
    columns: list[pa.Array] = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        columns.append(_cast(batch.column(index), field, file))
    if not columns:
        return batch.select([])
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, field: pa.Field, file: File) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if column.type.equals(field.type):
        return column
    try:
        return column.cast(field.type)
    except pa.ArrowException as fault:
        raise Invalid(f"{file.name}: column {field.name!r} is {column.type} and does not fit {field.type}") from fault
