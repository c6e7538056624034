"""Reads Avro: blocks in parallel, only the columns wanted, values with their exact logical types.

A record that cannot be decoded takes the rest of its block with it, as nothing tells where the next one begins; a value
that is none of its type only its record. A damaged or cut file gives the blocks that are whole; what is lost is set
aside with its place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from adapters.file.avro_blocks import MARKER_BYTES, Block, Bytes, Header, blocks, framed, head_of, read_header, unpacked
from adapters.file.avro_schema import Taken, taken_apart
from adapters.file.avro_values import as_records
from adapters.file.fitting import exactly, fitted, gathered
from adapters.file.format import File
from adapters.file.lines import Fault, Piece, chunked
from adapters.file.source import UTF8, compression_of, opened, room_of
from adapters.file.types import duckdb_name
from pipelines.align import unify
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Split, Want

if TYPE_CHECKING:
    from adapters.file.get import Get

GROUP_BYTES = 4 << 20
"""Blocks are decoded together up to so many bytes."""
MOST_EMPTY_RECORDS = 1 << 20
"""How many records a block may have that take no bytes."""
MARKER = b"processflow_read"
SHOWN_CHARACTERS = 200
assert len(MARKER) == MARKER_BYTES


class Avro:
    """Reads Avro files."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """The columns of all files: by name, widened where that loses nothing, null where a file lacks them."""
        found: pa.Schema | None = None
        for file in files:
            own = pa.schema(list(_opened_header(file)[1].kind))
            try:
                found = own if found is None else unify([found, own])
            except Invalid as fault:
                raise Invalid(f"{file.name}: {fault} (compared with the files before it)") from fault
        return pa.schema([]) if found is None else found

    def splits(self, file: File, node: Get) -> list[Split]:
        """Runs of blocks, as their own frames tell; room is their records."""
        header, _ = _opened_header(file)
        start = header.size_bytes
        if compression_of(file.path) is not None:
            return [Split([start, None, 0], room_of(file), file.size_bytes)]
        found: list[Split] = []
        passed = first = 0
        with opened(file, UTF8) as reader:
            source = Bytes(reader, file.name, can_go_back=True)
            source.skip(start)
            for block in blocks(source, header, None, with_data=False):
                passed += max(block.count, 1)
                if block.stop - start >= node.split_bytes or source.place >= file.size_bytes:
                    found.append(Split([start, block.stop, first], passed - first, block.stop - start))
                    start, first = block.stop, passed
        return found

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a run of blocks."""
        start, stop, first = part
        header, taken = _opened_header(file)
        with opened(file, UTF8, stop) as reader:
            source = Bytes(reader, file.name, can_go_back=stop is not None)
            if stop is None:
                source.take(start)
            else:
                source.skip(start)
            decoder = Decoder(file.name, taken, schema, want, first)
            yield from chunked(decoder.pieces(blocks(source, header, stop), header.codec), want)


def _opened_header(file: File) -> tuple[Header, Taken]:
    with opened(file, UTF8) as reader:
        header = read_header(reader, file.name)
    try:
        return header, taken_apart(header.schema)
    except Invalid as fault:
        raise Invalid(f"{file.name}: {fault}") from fault


@dataclass(frozen=True)
class Lost:
    """Records that cannot be read, from a place on."""

    block: Block
    count: int
    why: str


@dataclass(frozen=True)
class Group:
    """Some blocks and their bytes, or what is lost instead."""

    held: Sequence[tuple[Block, bytes]] = ()
    lost: Lost | None = None


class Columns:
    """Turns records of one schema, decoded as integers and bytes, into columns of another."""

    def __init__(self, taken: Taken, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = taken.plain
        here = {field.name for field in taken.raw} & set(schema.names)
        self._raw = {field.name: field.type for field in taken.raw if field.name in here}
        self._kinds = {field.name: field.type for field in taken.kind if field.name in here}
        fields = [each for each in taken.plain["fields"] if each["name"] in here]
        # Without a schema to read by, which is needed to leave out columns, it is decoded in half the time.
        self.plain = None if len(fields) == len(taken.plain["fields"]) else taken.plain | {"fields": fields}
        """The schema to read by, for just these columns; None: all are read."""

    def __call__(self, rows: list[Any]) -> tuple[pa.RecordBatch, dict[int, str]]:
        """The records that fit, and by row why others do not."""
        bad: dict[int, str] = {}
        columns: dict[str, pa.Array] = {}
        for name, raw in self._raw.items():
            values = [row[name] for row in rows]  # decoded one by one: there is no columnar decoder
            kind, wanted = self._kinds[name], self._schema.field(name).type
            array, unread = gathered(values, raw)
            columns[name], unfit = fitted(array, wanted, partial(_converted, kind=kind, wanted=wanted))
            for row in [*unread, *unfit]:  # rejects only
                bad.setdefault(row, f"column {name!r}: {_shown(values[row])} is no {duckdb_name(wanted)}")
        arrays = [columns.get(field.name, pa.nulls(len(rows), field.type)) for field in self._schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema) if arrays else _counted(len(rows))
        sound = np.ones(len(rows), bool)
        sound[list(bad)] = False
        return batch.filter(pa.array(sound)) if bad else batch, bad

    def record(self, data: bytes) -> Any:
        """One record that stands alone. Raises whatever the decoder runs into."""
        import fastavro

        source = io.BytesIO(data)
        found = fastavro.schemaless_reader(source, self._writer, self.plain)
        if rest := len(data) - source.tell():
            raise ValueError(f"has {rest} bytes more than its record")
        return found


class Decoder:
    """Turns blocks into records of a schema."""

    def __init__(self, name: str, taken: Taken, schema: pa.Schema, want: Want, first: int) -> None:
        self._name = name
        self._schema = schema
        self._writer = taken.plain
        self._columns = Columns(taken, schema)
        self._reader = self._columns.plain
        self._rows = want.batch_rows if want.rows is None else max(1, min(want.rows, want.batch_rows))
        self._passed = first

    def pieces(self, found: Iterator[Block], codec: str) -> Iterator[Piece]:
        """The records of blocks, and what is lost of them."""
        rows: list[Any] = []
        for more, lost in self._decoded(_groups(found, codec, self._rows)):
            rows += more
            while len(rows) >= self._rows or (rows and lost is not None):
                yield self._piece(rows[: self._rows])
                rows = rows[self._rows :]
            if lost is not None:
                yield self._lost(lost)
        if rows:
            yield self._piece(rows)

    def _decoded(self, groups: Iterator[Group]) -> Iterator[tuple[list[Any], Lost | None]]:
        """Records, each of them an object of integers and bytes, a batch at a time at most."""
        import fastavro

        for group in groups:
            frames = [framed(block.count, data, MARKER) for block, data in group.held]
            content = io.BytesIO(b"".join([head_of(self._writer, "null", MARKER), *frames]))
            reader = fastavro.block_reader(content, self._reader)
            for (block, _), decoded in zip(group.held, reader, strict=True):
                records, left, fault = iter(decoded), block.count, ""
                while left and not fault:
                    rows: list[Any] = []
                    fault = _taken(rows, islice(records, min(left, self._rows)))
                    left -= len(rows)
                    why = f"record {block.count - left + 1} of the block cannot be decoded ({fault})"
                    yield rows, Lost(block, left, why) if fault else None
                rest: Any = decoded
                if not left and rest.bytes_.read(1):
                    yield [], Lost(block, 1, f"has more bytes than its {block.count} records")
            if group.lost is not None:
                yield [], group.lost

    def _piece(self, rows: list[Any]) -> Piece:
        """Records of the schema; those with a value that is none of its type are set aside."""
        batch, bad = self._columns(rows)
        faults = [self._fault(row, repr(rows[row]), "type", bad[row]) for row in sorted(bad)]
        self._passed += len(rows)
        return Piece(batch, faults)

    def _fault(self, row: int, text: str, code: str, why: str) -> Fault:
        return Fault(row, text[: 64 << 10], code, f"{self._name} record {self._passed + row + 1}: {why}")

    def _lost(self, lost: Lost) -> Piece:
        """A record set aside for each that is lost, so that they are counted."""
        place = f"the block at byte {lost.block.offset}: {lost.why}"
        faults = [self._fault(row, "", "avro", place) for row in range(max(lost.count, 1))]
        self._passed += len(faults)
        return Piece(pa.RecordBatch.from_pylist([], schema=self._schema), faults)


def _groups(found: Iterator[Block], codec: str, most_rows: int) -> Iterator[Group]:
    """Blocks to decode at once: small ones together."""
    held: list[tuple[Block, bytes]] = []
    size = rows = 0
    for block in found:
        lost = None
        try:
            data = _content(block, codec)
            held.append((block, data))
            size, rows = size + len(data), rows + block.count
        except ValueError as fault:
            lost = Lost(block, block.count if block.count <= len(block.data) else 1, str(fault))
        if lost is not None or size >= GROUP_BYTES or rows >= most_rows:
            yield Group(held, lost)
            held, size, rows = [], 0, 0
    yield Group(held)


def _content(block: Block, codec: str) -> bytes:
    """The bytes of a block's records. Raises `ValueError`: there is something wrong with them."""
    if block.fault:
        raise ValueError(block.fault)
    data = unpacked(block.data, codec)
    if block.count > max(len(data), MOST_EMPTY_RECORDS):
        raise ValueError(f"says that it has {block.count} records in {len(data)} bytes")
    return data


def _taken(rows: list[Any], records: Iterator[Any]) -> str:
    """Adds records to `rows`, and says why they end too early, if they do."""
    try:
        rows.extend(records)
    except Exception as fault:  # noqa: BLE001 - the decoder raises whatever it runs into in damaged bytes
        return f"{type(fault).__name__}: {fault}" if str(fault) else type(fault).__name__
    return ""


def _converted(array: pa.Array, kind: pa.DataType, wanted: pa.DataType) -> pa.Array:
    return exactly(as_records(array, kind), wanted)


def _shown(value: Any) -> str:
    words = repr(value)
    return words if len(words) <= SHOWN_CHARACTERS else f"{words[:SHOWN_CHARACTERS]}…"


def _counted(rows: int) -> pa.RecordBatch:
    """Records of which no column is wanted."""
    return pa.record_batch([pa.nulls(rows)], ["nothing"]).select([])
