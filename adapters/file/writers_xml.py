"""Writes XML: by a template, or an element for each column. What XML cannot hold, or would not say again, is rejected.

Parts are whole documents. They are joined by what stands between their heads and tails, which are all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.jsonfaults import Careful
from adapters.file.quotes import RECORD_LIMIT_BYTES
from adapters.file.text import holding, nested, unfit, unsupported, without_text
from adapters.file.writers import PartFile, Unfit
from adapters.file.writers_text import BLOCK_BYTES, LINE, TextPart, compressed, uncompressed
from adapters.file.xml import Converter
from adapters.file.xml_records import Parser, Steps
from adapters.file.xml_template import NAME, Document, Element, Scope, document_of, plain_document, written
from pipelines.errors import Invalid
from pipelines.scope import Scope as World
from pipelines.sql.sandbox import borrowed

NOT_IN_XML = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x{FFFE}\x{FFFF}]"


@dataclass(frozen=True)
class XmlForm:
    """Writes XML files."""

    records: str
    template: str | None = None
    attribute_prefix: str = ""
    suffix: str = ".xml"
    compression: str | None = None
    is_built_whole: ClassVar[bool] = False

    def document(self, schema: pa.Schema) -> Document:
        """What is written once, and for each record. Raises `ValueError`: the template is none."""
        if self.template is not None:
            return document_of(self.template, self.records)
        return plain_document(self.records, schema, self.attribute_prefix)

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        document = self.document(schema)
        return TextPart(
            path,
            self.compression,
            lambda batch: render(document.record, batch),
            document.head.encode(),
            tail=document.tail.encode(),
        )

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        """One document of the records of all."""
        document = self.document(schema)
        head, tail = (compressed(each.encode(), self.compression) for each in (document.head, document.tail))
        with path.open("wb") as out:
            out.write(head)
            for source in [*([] if old is None else [old]), *sources]:
                _copy_between(source, head, tail, out)
            out.write(tail)

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        return None

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The records, read as `file.get` does, and beside their columns each as it stands."""
        steps = Steps.of(self.records, {})
        parser = Parser(
            str(path),
            steps,
            attribute_prefix=self.attribute_prefix,
            encoding=None,
            wanted=set(schema.names),
            raw_bytes=RECORD_LIMIT_BYTES,
        )
        with uncompressed(path, self.compression) as source, borrowed(World(project=path.parent)) as sandbox:
            converter = Converter(str(path), schema, Careful(schema, sandbox))
            for records in parser.records(source):
                if not records:
                    continue
                piece = converter.piece(records)
                if piece.faults:
                    raise Invalid(f"{piece.faults[0].message}; mend it, or use mode `replace`")
                raw = pa.array([record.raw for record in records], pa.binary()).cast(pa.string())
                yield piece.batch.append_column(LINE, raw)

    def unsupported(self, column: pa.Field) -> str:
        if self.template is not None:
            return ""
        return _misnamed(column, self.attribute_prefix) or _unwritable(column.type) or unsupported(column.type)

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        found: list[Unfit] = []
        needed = (
            None if self.template is None else {value.path[0] for value in self.document(batch.schema).record.values()}
        )
        for column, values in zip(batch.schema, batch.columns, strict=True):
            if needed is not None and column.name not in needed:
                continue
            masks = [
                (unfit(values, as_json=False), "no_text", without_text(column.type)),
                (holding(values, _controls), "no_text", "holds a character that XML has not; replace it with a map"),
            ]
            if self.template is None:
                empty = "is or holds an empty list, which XML does not tell from null; make it null with a map"
                masks.append((holding(values, _empty_lists), "empty_list", empty))
            found += [Unfit(mask, code, words, values, column.name) for mask, code, words in masks if mask is not None]
        return found


def render(record: Element, batch: pa.RecordBatch) -> pa.StringArray:
    """A record each, with a line feed; those that were there as they are."""
    if LINE in batch.schema.names:
        return pc.binary_join_element_wise(batch.column(LINE), "\n", "")
    scope = Scope(dict(zip(batch.schema.names, batch.columns, strict=True)), batch.num_rows)
    return pc.binary_join_element_wise(written(record, scope), "\n", "")


def _controls(array: pa.Array) -> pa.BooleanArray | None:
    return pc.match_substring_regex(array, NOT_IN_XML) if pa.types.is_string(array.type) else None


def _empty_lists(array: pa.Array) -> pa.BooleanArray | None:
    return pc.equal(pc.list_value_length(array), 0) if pa.types.is_list(array.type) else None


def _misnamed(column: pa.Field, attribute_prefix: str) -> str:
    """Why a column, or a field inside of it, cannot be an element's or attribute's name."""
    name = column.name
    is_attribute = bool(attribute_prefix) and name.startswith(attribute_prefix)
    name = name.removeprefix(attribute_prefix) if is_attribute else name
    if not NAME.fullmatch(name) or name.lower().startswith("xml"):
        return f"{name!r} can be no name in XML, which has letters, digits and _; rename it with a map"
    if is_attribute and nested(column.type):
        return "a nested value can be no attribute; rename it with a map"
    kind = column.type
    while pa.types.is_list(kind):
        kind = kind.value_type
    fields = [kind.field(index) for index in range(kind.num_fields)] if pa.types.is_struct(kind) else []
    return next(filter(None, (_misnamed(each, attribute_prefix) for each in fields)), "")


def _unwritable(kind: pa.DataType) -> str:
    """Why no element can hold values of a type and say them again."""
    if pa.types.is_map(kind):
        return "a map's keys are no names of elements; make it a list or text with a map"
    if pa.types.is_list(kind) and pa.types.is_list(kind.value_type):
        return "XML has no lists of lists; make the inner ones objects with a map"
    inner = [kind.field(index).type for index in range(kind.num_fields)] if nested(kind) else []
    return next(filter(None, map(_unwritable, inner)), "")


def _copy_between(source: Path, head: bytes, tail: bytes, out: BinaryIO) -> None:
    """What stands in a document between its head and its tail."""
    size = source.stat().st_size
    with source.open("rb") as file:
        begins = file.read(len(head)) == head
        file.seek(max(size - len(tail), 0))
        if not begins or file.read() != tail or size < len(head) + len(tail):
            what = f"{source}: begins or ends otherwise than what would be written"
            raise Invalid(f"{what}, so nothing can be added to it; use mode `replace`, or a folder")
        file.seek(len(head))
        left = size - len(head) - len(tail)
        while left:
            left -= out.write(file.read(min(left, BLOCK_BYTES)))
