"""`file.post`: writes records to CSV, JSON lines and Parquet files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from adapters.file.parquet import plain_type
from adapters.file.publish import FilePublication, is_done
from adapters.file.publish_build import Builder
from adapters.file.target import Target
from adapters.file.writers import ARRIVED, Form, Staging, StagingWriter, plain_schema
from adapters.file.writers_parquet import ParquetForm
from adapters.file.writers_text import Csv, Jsonl
from pipelines.align import unify
from pipelines.errors import Invalid
from pipelines.node import Example, Part, Publication, Report, Schemas, Writer
from pipelines.node import Post as PostKind
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import Names, as_list, suggestion

Format = Literal["csv", "jsonl", "parquet"]
Compression = Literal["none", "gzip", "zstd", "snappy"]

FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
PACKED: dict[str, Compression] = {".gz": "gzip", ".zst": "zstd"}
PACKED_SUFFIX: dict[str, str] = {"gzip": ".gz", "zstd": ".zst"}
NOT_A_DELIMITER = '"\r\n.-+: \\'

Problem = tuple[tuple[str, ...], str, str]
"""Where in the node, what, and what would be right."""


class Post(PostKind):
    """Writes records to a file, or to a folder of files: CSV, JSON lines or Parquet.

    Nothing shows before all records are written; then the file is renamed into place, so that whoever reads it finds
    the old or the new one whole. After a crash the run goes on where it was and delivers nothing twice.
    """

    path: str = Field(min_length=1, examples=["out/orders.parquet", "out/orders/", "out/year={year}/"])
    """Where to, from the project folder. A file's name gives that one file; a path that ends in `/` a folder of parts,
    which is quicker for bulk. `{column}` stands for a value of the record: `out/{country}.csv` gives a file for each
    country, `out/year={year}/` a folder for each year, with `year` in the path and no longer in the files. Missing
    folders are made."""
    format: Format | None = None
    """`csv`, `jsonl` or `parquet`. Told by the suffix of `path`; a folder without one gets Parquet."""
    mode: Literal["append", "upsert", "replace", "delete"] = "append"
    """`append` adds to what is there: a file is written again with the new records at its end, a folder gets new parts.
    `replace` puts these records in the place of what was there (with `{column}` in a file's name only the files of the
    values that come, a folder whole). `upsert` replaces the records of the same `key` and adds the others, `delete`
    removes the records whose `key` comes. Where a key comes twice in a run, the record that arrives last wins; a
    source that is read in several splits has no order between them, so dedupe before where that matters."""
    key: Names = Field(default_factory=list, examples=["order_id", ["order_id", "line"]])
    """The column or columns that tell records apart. Records in which one is null are rejected."""
    compression: Compression | None = None
    """`zstd` (the default), `snappy`, `gzip` or `none` for Parquet; for text it follows the suffix: `.gz`, `.zst`."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1, examples=[";"])
    """CSV: what stands between two values; a comma, in `.tsv` a tab."""
    header: bool = True
    """CSV: whether the first line names the columns."""
    quoting: Literal["needed", "text", "all"] = "needed"
    """CSV: which values stand in quotes: where needed, every text, or every value that is not null. An empty text is
    always quoted, so that it differs from null. Nested values are written as JSON."""
    null: str = ""
    """CSV: what stands for null, never in quotes."""

    category: ClassVar[str] = "files"
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            config={"path": "out/orders.csv", "mode": "replace"},
            records=[{"order_id": 1, "note": "a, b"}, {"order_id": 2, "note": None}],
            gives={"out": [{"order_id": 1, "note": "a, b"}, {"order_id": 2, "note": None}]},
            says="One CSV file, new with every run.",
        ),
        Example(
            config={"path": "out/orders/year={year}/", "format": "parquet"},
            records=[{"order_id": 1, "year": 2026}],
            gives={"out": [{"order_id": 1, "year": 2026}]},
            says="A folder of Parquet files for each year; every run adds its own.",
        ),
        Example(
            config={"path": "out/stock.jsonl", "mode": "upsert", "key": "sku"},
            records=[{"sku": "a", "left": 3}, {"sku": None, "left": 1}],
            gives={
                "out": [{"sku": "a", "left": 3}],
                "rejected": [{"sku": None, "left": 1, "reject_code": "key_null"}],
            },
            says="Keeps one line for each article up to date.",
        ),
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns."""
        return tuple(as_list(self.key))

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        """Reports what the path, the format and what is there already cannot take."""
        schema = next(iter(inputs.values()), None)
        found = list(self._problems())
        try:
            if schema is not None and not any(at == ("path",) for at, _, _ in found):
                found += self._misfits(schema, scope)
        except Invalid as fault:
            found += [(("path",), problem.what, problem.fix) for problem in fault.problems]
        for at, what, fix in found:
            report(at, what, fix)
        return {"out": schema}

    def target(self, scope: Scope) -> str:
        """The absolute path, links followed."""
        target = Target.of(self.path, scope)
        return str(target.root / target.pattern) + ("/" if target.is_folder else "")

    def delivery(self) -> tuple[str, str]:
        """Effectively once, by rename."""
        if self.mode == "append" and self.path.endswith("/"):
            return "effectively once", "parts carry the run's name, so that adding them again changes nothing"
        return "effectively once", "the finished file is renamed into place once for each run"

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        """A writer of part files in the run's folder."""
        self._must_fit(schema, scope)
        target = Target.of(self.path, scope)
        form = self.form()
        stored = self._stored(schema, target, form)
        if self.mode in ("upsert", "delete"):
            kept = [field for field in stored if self.mode == "upsert" or field.name in self.keys]
            staged = pa.schema([*kept, pa.field(ARRIVED, pa.int64())])
            staging = Staging(ParquetForm(), form if self.mode == "upsert" else ParquetForm(), target, self.keys)
            return StagingWriter(staging, staged, scope.staging / "parts")
        return StagingWriter(Staging(form, form, target, self.keys), stored, scope.staging / "parts")

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        """The parts of all writers on their way into place."""
        target = Target.of(self.path, scope)
        form = self.form()
        name = token_name(token)
        builder = Builder(
            form,
            target,
            self.mode,
            tuple(name for name in self.keys if name not in target.hive_columns),
            self._stored(schema, target, form),
            parts,
            name,
            scope.environment.runner.memory_bytes // 4,
            scope.staging / "parts" / f"keys-{name}",
        )
        return FilePublication(builder, _mark(scope, name))

    def is_published(self, scope: Scope, token: str) -> bool:
        """Whether this publication shows whole."""
        return is_done(_mark(scope, token_name(token)), token_name(token))

    def form(self) -> Form:
        """How the files are written."""
        kind, packed, suffix = self._format()
        compression = self.compression or packed or ("zstd" if kind == "parquet" else "none")
        if kind == "parquet":
            return ParquetForm(compression=compression)
        codec = None if compression == "none" else compression
        ending = PACKED_SUFFIX.get(compression, "")
        if kind == "jsonl":
            return Jsonl(".jsonl" + ending, codec)
        delimiter = self.delimiter or ("\t" if suffix == ".tsv" else ",")
        return Csv(".csv" + ending, codec, delimiter, self.header, self.quoting, self.null)

    def _format(self) -> tuple[Format, Compression | None, str]:
        """The format, the compression that the suffix tells, and the suffix."""
        name = self.path.rstrip("/").rsplit("/", 1)[-1].lower()
        packed = next((packed for ending, packed in PACKED.items() if name.endswith(ending)), None)
        suffix = Path(name.removesuffix(".gz").removesuffix(".zst")).suffix
        kind = self.format or FORMATS.get(suffix) or ("parquet" if self.path.endswith("/") else None)
        if kind is None:
            known = ", ".join(FORMATS)
            raise Invalid(f"path {self.path!r} does not tell the format; end it with one of {known}, or set `format`")
        return kind, packed, suffix

    def _problems(self) -> Iterator[Problem]:
        """What is wrong with the fields by themselves."""
        try:
            kind, packed, _ = self._format()
        except Invalid as fault:
            yield ("path",), str(fault).partition("; ")[0], str(fault).partition("; ")[2]
            return
        if self.mode in ("upsert", "delete") and not self.keys:
            yield ("mode",), f"mode {self.mode} tells records apart by `key`, which is missing", "set `key`"
        if kind != "csv":
            for name in sorted({"delimiter", "header", "quoting", "null"} & self.model_fields_set):
                yield (name,), f"{name} is for CSV, and this is {kind}", f"leave {name} away"
        if self.delimiter is not None and (self.delimiter in NOT_A_DELIMITER or self.delimiter.isalnum()):
            yield (
                ("delimiter",),
                f"{self.delimiter!r} occurs in values, so it cannot stand between them",
                "use , ; | or tab",
            )
        if any(each in self.null for each in '"\r\n' + (self.delimiter or ",")):
            yield ("null",), f"null {self.null!r} holds what CSV itself is made of", "use a word such as NULL"
        if packed is not None and (kind == "parquet" or self.compression not in (None, packed)):
            yield ("path",), "the suffix names another compression than the file will have", "let both say the same"
        if kind != "parquet" and self.compression == "snappy":
            yield ("compression",), f"snappy is no compression for {kind}", "use gzip or zstd"

    def _misfits(self, schema: pa.Schema, scope: Scope) -> Iterator[Problem]:
        """What of records of these columns cannot go there."""
        target, form = Target.of(self.path, scope), self.form()
        for what, fix in target.problems(schema):
            yield ("path",), what, fix
        for name in self.keys:
            if name not in schema.names:
                yield (
                    ("key",),
                    f"key names column {name!r}, which does not come in",
                    suggestion(name, schema.names),
                )
            elif pa.types.is_nested(schema.field(name).type):
                yield (
                    ("key",),
                    f"key column {name!r} is {schema.field(name).type}, which cannot be compared",
                    "use another",
                )
        if self.mode in ("upsert", "delete"):
            yield from self._key_misfits(target)
        stored = target.stored(schema)
        for field in stored if self.mode != "delete" else ():
            if what := form.unsupported(field.type):
                yield (
                    ("path",),
                    f"column {field.name!r} is {field.type}: {what.partition('; ')[0]}",
                    what.partition("; ")[2],
                )
        if self.mode != "replace":
            yield from self._clashes(stored, target, form)

    def _key_misfits(self, target: Target) -> Iterator[Problem]:
        beside = [name for name in target.columns if name not in self.keys]
        if beside and self.keys:
            what = (
                f"with mode {self.mode} a record must stay in its place, but {beside[0]!r} in the path is not in `key`"
            )
            yield ("key",), what, f"add {beside[0]!r} to `key`"
        if self.keys and all(name in target.hive_columns for name in self.keys):
            yield (
                ("key",),
                "every key column is in the path and none in the files",
                "add a column that tells records apart",
            )

    def _clashes(self, stored: pa.Schema, target: Target, form: Form) -> Iterator[Problem]:
        """Where what is there has other columns or types."""
        there = _there(target, form)
        if there is None:
            return
        for field in stored:
            if self.mode == "delete" and field.name not in self.keys:
                continue
            if field.name not in there:
                names = ", ".join(there)
                yield (
                    ("path",),
                    f"column {field.name!r} is not in the file that is there, which has: {names}",
                    "drop it with a map",
                )
            elif not _fits(field.type, there[field.name]):
                what = f"column {field.name!r} is {field.type}, but {there[field.name]} in the file that is there"
                yield ("path",), what, "cast it with a map, or use mode `replace`"

    def _must_fit(self, schema: pa.Schema, scope: Scope) -> None:
        found = [*self._problems()]
        found = found or [*self._misfits(schema, scope)]
        if found:
            raise Invalid("; ".join(f"{self.path}: {what}; {fix}" for _, what, fix in found))

    def _stored(self, schema: pa.Schema, target: Target, form: Form) -> pa.Schema:
        """The columns as the files will hold them: as the one file does that is there and goes on."""
        coming = plain_schema(target.stored(schema))
        single = not target.is_folder and not target.columns
        there = _there(target, form) if single and self.mode != "replace" else None
        if there is None:
            return coming
        fields = [pa.field(name, kind or _type_in(coming, name)) for name, kind in there.items()]
        return pa.schema(fields)


def token_name(token: str) -> str:
    """The token as part of a file's name."""
    name = re.sub(r"[^A-Za-z0-9_-]", ".", token)
    return name if len(name) <= 80 else name[:40] + hashlib.sha256(token.encode()).hexdigest()[:32]


def _mark(scope: Scope, name: str) -> Path:
    return scope.staging / "parts" / f"published-{name}.json"


def _type_in(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type if name in schema.names else pa.null()


def _there(target: Target, form: Form) -> dict[str, pa.DataType | None] | None:
    """The columns of what is there already: of the file, or of a folder's first."""
    if target.columns and not target.is_folder:
        return None
    found: Path | None = target.root
    if target.is_folder:
        every = target.root.rglob(f"*{form.suffix}") if target.root.is_dir() else ()
        found = min((path for path in every if not path.name.startswith((".", "_"))), default=None)
    if found is None or not found.is_file():
        return None
    there = form.columns(found)
    return None if there is None else {name: kind for name, kind in there.items() if name not in target.hive_columns}


def _fits(coming: pa.DataType, there: pa.DataType | None) -> bool:
    """Whether every value of one type is one of the other."""
    if there is None:
        return True
    wide, narrow = plain_type(there), plain_type(coming)
    try:
        both = unify([pa.schema([pa.field("column", wide)]), pa.schema([pa.field("column", narrow)])])
    except Invalid:
        return False
    return bool(both.field(0).type.equals(wide))
