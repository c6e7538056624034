"""Reads XML: records at a path, streamed, with attributes, nested and repeated elements, values of exact types.

A document is well-formed or it is none: one that is cut short or damaged is `Invalid`, as nobody can tell what it would have
said. A record with a value that does not fit its column is set aside with its text, its line and the reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.file import jsonhead
from adapters.file.format import File
from adapters.file.infer import settled
from adapters.file.jsonfaults import Careful
from adapters.file.jsonl import json_type
from adapters.file.lines import Fault, Piece, chunked
from adapters.file.nested import replaced
from adapters.file.source import UTF8, opened, room_of
from adapters.file.xml_records import Parser, Record, Steps
from adapters.file.xml_shapes import Misshapen, Seen, Shape, whole
from pipelines.errors import Invalid, Problem
from pipelines.node import Chunk, Json, Split, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.file.get import Get

SAMPLE_RECORDS = 1_000
SAMPLE_BYTES = 8 << 20
SAMPLED_FILES = 8
PIECE_BYTES = 4 << 20
"""Records are converted together up to so many bytes of their text (of which at most 64 KiB each are held)."""
encoded = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode
EVERY = "*/*"
"""Where records are unless told: the elements in the root."""


class Xml:
    """Reads XML files."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """Elements and attributes by first sight in the heads of some files, their types declared or inferred."""
        declared = {name: json_type(name, text) for name, text in node.types().items()}
        found = Seen()
        for file in files[:: max(len(files) // SAMPLED_FILES, 1)]:
            for record in _sample(file, node):
                if not record.fault:
                    found.see(whole(record.tree))
        kinds = {name: replaced(each.kind(), _without_null) for name, each in found.inner.items()}
        twins = jsonhead.twins(list(kinds))
        if twins and not node.columns:
            what = f"{files[0].name}: elements {', '.join(map(repr, twins))} differ only in case"
            raise Invalid(Problem("", 0, 0, what, "name those to read under `columns`", ("columns",)))
        kinds = {name: kind for name, kind in kinds.items() if name not in twins or name in as_list(node.columns)}
        return settled(kinds | declared)

    def splits(self, file: File, node: Get) -> list[Split]:
        """The whole document: it can only be read from its beginning."""
        return [Split([], room_of(file), file.size_bytes)] if file.size_bytes else []

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a document."""
        parser = _parser(file, node, set(schema.names))
        rows = want.batch_rows if want.rows is None else max(1, min(want.rows, want.batch_rows))
        with opened(file, UTF8) as reader, borrowed(Scope(project=file.path.parent)) as sandbox:
            converter = Converter(file.name, schema, Careful(schema, sandbox))
            yield from chunked(converter.pieces(parser.records(reader), rows), want)


def _without_null(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_null(kind) else kind


def _parser(file: File, node: Get, wanted: set[str] | None) -> Parser:
    encoding = node.encoding if "encoding" in node.model_fields_set else None
    try:
        steps = Steps.of(node.records or EVERY, node.namespaces)
    except ValueError as fault:
        what, _, fix = str(fault).partition("; ")
        raise Invalid(Problem("", 0, 0, what, fix, ("records",))) from fault
    return Parser(file.name, steps, attribute_prefix=node.attribute_prefix, encoding=encoding, wanted=wanted)


def _sample(file: File, node: Get) -> Iterator[Record]:
    """The first records."""
    count = size = 0
    if not file.size_bytes:
        return
    with opened(file, UTF8) as reader:
        for records in _parser(file, node, None).records(reader):
            for record in records:
                yield record
                count, size = count + 1, size + len(record.raw)
            if count >= SAMPLE_RECORDS or size >= SAMPLE_BYTES:
                return


@dataclass(frozen=True)
class Converter:
    """Turns what was parsed into records of a schema."""

    name: str
    schema: pa.Schema
    careful: Careful

    def pieces(self, found: Iterator[Sequence[Record]], most_rows: int) -> Iterator[Piece]:
        """The records, a batch at a time."""
        held: list[Record] = []
        size = 0
        for records in found:
            held += records
            size += sum(len(record.raw) for record in records)
            while len(held) >= most_rows or size >= PIECE_BYTES:
                yield self.piece(held[:most_rows])
                held = held[most_rows:]
                size = sum(len(record.raw) for record in held)
        if held:
            yield self.piece(held)

    def piece(self, records: Sequence[Record]) -> Piece:
        """Some records; those that do not fit are set aside."""
        faults: dict[int, tuple[str, str]] = {}
        shape, texts, places = Shape(self.schema), list[bytes](), list[int]()
        for place, record in enumerate(records):  # the parser gives records one by one
            try:
                if record.fault:
                    raise Misshapen(record.fault)
                texts.append(encoded(shape(record.tree)).encode())
                places.append(place)
            except Misshapen as fault:
                faults[place] = ("xml", str(fault))
        raw = pa.array(texts, pa.binary())
        batch = self.careful.strict(raw)
        if batch is None:
            batch, bad = self.careful(raw)
            faults |= {places[row]: fault for row, fault in bad.items()}
        return Piece(batch, [self._fault(records[place], place, *faults[place]) for place in sorted(faults)])

    def _fault(self, record: Record, place: int, code: str, why: str) -> Fault:
        return Fault(place, record.raw.decode("utf-8", "replace"), code, f"{self.name} line {record.line}: {why}")
