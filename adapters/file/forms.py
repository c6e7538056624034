"""Which format a post writes, and how: by its fields and the suffix of its path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adapters.file.layout import spans_of
from adapters.file.source import encoding_of
from adapters.file.writers import Form
from adapters.file.writers_avro import AvroForm
from adapters.file.writers_excel import ExcelForm
from adapters.file.writers_fixed import FixedForm
from adapters.file.writers_parquet import ParquetForm
from adapters.file.writers_text import Csv, Jsonl
from adapters.file.writers_xml import XmlForm
from pipelines.errors import Invalid

if TYPE_CHECKING:
    from adapters.file.post import Post

Format = Literal["csv", "jsonl", "parquet", "avro", "fixed", "excel", "xml"]
Compression = Literal["none", "gzip", "zstd", "snappy"]

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".avro": "avro",
    ".xlsx": "excel",
    ".xml": "xml",
}
PACKED: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
PACKED_SUFFIX: dict[str, str] = {"gzip": ".gz", "zstd": ".zst"}
BINARY: dict[str, Compression] = {"parquet": "zstd", "avro": "gzip", "excel": "gzip"}
"""The formats that compress within themselves, and how they do unless told."""
FIELDS: dict[str, tuple[str, ...]] = {
    "delimiter": ("csv",),
    "header": ("csv", "excel"),
    "quoting": ("csv",),
    "null": ("csv", "fixed"),
    "layout": ("fixed",),
    "encoding": ("fixed",),
    "sheet": ("excel",),
    "split_sheets": ("excel",),
    "records": ("xml",),
    "template": ("xml",),
    "attribute_prefix": ("xml",),
}
"""The fields that are for some formats only."""


def told_format(node: Post) -> tuple[Format, Compression | None, str]:
    """The format, the compression that the suffix tells, and the suffix.

    Raises:
        Invalid: neither `format` nor the path tells it.
    """
    name = node.path.rstrip("/").rsplit("/", 1)[-1].lower()
    packed = next((packed for ending, packed in PACKED.items() if name.endswith(ending)), None)
    suffix = Path(name.removesuffix(".gz").removesuffix(".zst")).suffix
    kind = node.format or FORMATS.get(suffix) or ("parquet" if node.path.endswith("/") else None)
    if kind is None:
        known = ", ".join(FORMATS)
        raise Invalid(f"path {node.path!r} does not tell the format; end it with one of {known}, or set `format`")
    return kind, packed, suffix


def form_of(node: Post) -> Form:
    """How a post's files are written."""
    kind, packed, suffix = told_format(node)
    compression = node.compression or packed or BINARY.get(kind, "none")
    if kind == "parquet":
        return ParquetForm(compression=compression)
    if kind == "avro":
        return AvroForm(compression=compression)
    if kind == "excel":
        return ExcelForm(node.sheet, node.header, node.split_sheets)
    codec = None if compression == "none" else compression
    ending = PACKED_SUFFIX.get(compression, "")
    if kind == "jsonl":
        return Jsonl(".jsonl" + ending, codec)
    if kind == "xml":
        return XmlForm(node.records, node.template, node.attribute_prefix, ".xml" + ending, codec)
    if kind == "fixed":
        return FixedForm(spans_of(node.layout), ".txt" + ending, codec, encoding_of(node.encoding), node.null)
    delimiter = node.delimiter or ("\t" if suffix == ".tsv" else ",")
    return Csv(".csv" + ending, codec, delimiter, node.header, node.quoting, node.null)
