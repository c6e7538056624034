"""`file.post`: writes records to files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import pyarrow as pa
from pydantic import Field

from adapters.file import delivering
from adapters.file.connection import place_of
from adapters.file.delivering import StorePublication
from adapters.file.encodings import Encoding
from adapters.file.forms import Compression, Format, form_of
from adapters.file.layout import Layout
from adapters.file.post_check import columns_there, misfits, problems
from adapters.file.publish import FilePublication, is_done
from adapters.file.publish_build import Builder
from adapters.file.target import Target
from adapters.file.writers import ARRIVED, Form, Staging, StagingWriter, plain_schema
from adapters.file.writers_parquet import ParquetForm
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.node import Example, Part, Publication, Report, Schemas, Writer
from pipelines.node import Post as PostKind
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import Names, as_list


class Post(PostKind):
    """Writes records to a file, or to a folder of files: CSV, JSON lines, Parquet, Avro, Excel, XML, fixed width.

    Nothing shows before all records are written; then the file is renamed into place, so that whoever reads it finds
    the old or the new one whole. After a crash the run goes on where it was and delivers nothing twice.
    """

    connection: str | None = Field(default=None, examples=["lake"])
    """Where the files go, by the name of a connection of adapter `file`: S3, SFTP, Google Cloud Storage, Azure. Without
    it they stay on this machine."""
    path: str = Field(min_length=1, examples=["out/orders.parquet", "out/orders/", "out/year={year}/"])
    """Where to, from the project folder or the connection's. A file's name gives that one file; a path that ends in `/` a folder of parts,
    which is quicker for bulk. `{column}` stands for a value of the record: `out/{country}.csv` gives a file for each
    country, `out/year={year}/` a folder for each year, with `year` in the path and no longer in the files. Missing
    folders are made."""
    format: Format | None = None
    """`csv`, `jsonl`, `parquet`, `avro`, `excel` (.xlsx), `xml`, told by the suffix of `path`, or `fixed`: records of fixed width. A folder without
    a suffix gets Parquet."""
    mode: Literal["append", "upsert", "replace", "delete"] = "append"
    """`append` adds to what is there: a file is written again with the new records at its end, a folder gets new parts.
    `replace` puts these records in the place of what was there (with `{column}` in a file's name only the files of the
    values that come, a folder whole). `upsert` replaces the records of the same `key` and adds the others, `delete`
    removes the records whose `key` comes. Where a key comes twice in a run, the record that arrives last wins; a
    source that is read in several splits has no order between them, so dedupe before where that matters."""
    key: Names = Field(default_factory=list, examples=["order_id", ["order_id", "line"]])
    """The column or columns that tell records apart. Records in which one is null are rejected."""
    compression: Compression | None = None
    """`zstd` (the default of Parquet), `snappy`, `gzip` (the default of Avro, as its `deflate`) or `none` for Parquet and Avro;
    for text it follows the suffix: `.gz`, `.zst`."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1, examples=[";"])
    """CSV: what stands between two values; a comma, in `.tsv` a tab."""
    header: bool = True
    """CSV, Excel: whether the first line names the columns."""
    quoting: Literal["needed", "text", "all"] = "needed"
    """CSV: which values stand in quotes: where needed, every text, or every value that is not null. An empty text is
    always quoted, so that it differs from null. Nested values are written as JSON."""
    null: str = ""
    """CSV, fixed width: what stands for null; in CSV never in quotes."""
    layout: Layout | None = Field(default=None, examples=[{"order_id": {"width": 8, "pad": "0"}, "name": 20}])
    """Fixed width: the columns, each with its width in characters, or with `width`, `at` (the place of its first character,
    from 1; else behind the column before), `align` (`left`, `right`; else text left) and `pad` (what fills its width). A
    value that is longer, or that would not read back the same, is rejected."""
    encoding: Encoding = "utf-8"
    """Fixed width: how characters are written: `utf-8`, `latin-1`, `cp1252` and the like."""
    records: str = Field(default="records/record", min_length=1, examples=["orders/order"])
    """XML: the path to a record's element, from the root. Without a `template` these elements are written, and in each record an
    element for each column: nested ones within, lists as repeated ones, nothing for null."""
    template: str | None = Field(
        default=None, examples=['<orders><order no="{order_id}"><total>{total}</total></order></orders>']
    )
    """XML: the document with one record, in which `{column}` and `{column.field}` stand for values (`{{` for a brace). An attribute
    or an element that has only a value which is null is left out. An element with `each="{lines}"` is written for each item of
    that list; within it an item's fields are named as columns are."""
    attribute_prefix: str = Field(default="", examples=["@"])
    """XML, without a template: what the names of columns begin with that are written as attributes."""
    sheet: str = Field(default="data", min_length=1, max_length=31)
    """Excel: the sheet's name."""
    split_sheets: bool = False
    """Excel: whether records beyond the 1,048,576 rows of a sheet go on in further ones, `data 2` and so on. Without it they
    are refused before anything is written."""

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
        Example(
            config={
                "path": "out/orders.xml",
                "records": "orders/order",
                "template": '<orders><order no="{order_id}"><total>{total}</total></order></orders>',
                "mode": "replace",
            },
            records=[{"order_id": 1, "total": 9.5}, {"order_id": 2, "total": None}],
            gives={"out": [{"order_id": 1, "total": 9.5}, {"order_id": 2, "total": None}]},
            says="XML by a template; what is null is left out.",
        ),
        Example(
            config={
                "path": "out/orders.txt",
                "format": "fixed",
                "layout": {"order_id": {"width": 6, "pad": "0"}, "name": 4},
            },
            records=[{"order_id": 1, "name": "Anna"}, {"order_id": 2, "name": "Robert"}],
            gives={
                "out": [{"order_id": 1, "name": "Anna"}],
                "rejected": [{"order_id": 2, "name": "Robert", "reject_code": "too_long"}],
            },
            says="Records of fixed width; what does not fit is rejected, never cut.",
        ),
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The key's columns."""
        return tuple(as_list(self.key))

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        """Reports what the path, the format and what is there already cannot take."""
        schema = next(iter(inputs.values()), None)
        found = list(problems(self))
        try:
            if schema is not None and not any(at == ("path",) for at, _, _ in found):
                found += misfits(self, schema, scope)
        except Invalid as fault:
            found += [(("path",), problem.what, problem.fix) for problem in fault.problems]
        except Unavailable as fault:
            report(("path",), str(fault), "what is there cannot be looked at now", warning=True)
        for at, what, fix in found:
            report(at, what, fix)
        return {"out": schema}

    def target(self, scope: Scope) -> str:
        """The absolute path, links followed; the address in a store."""
        target = self.into(scope)
        if target.store is not None:
            return f"{target.store.address}/{self.path.lstrip('/')}"
        return str(target.root / target.pattern) + ("/" if target.is_folder else "")

    def delivery(self) -> tuple[str, str]:
        """Effectively once, by rename."""
        if self.connection is not None:
            return "effectively once", "what was uploaded shows in one step for each file, once for each run"
        if self.mode == "append" and self.path.endswith("/"):
            return "effectively once", "parts carry the run's name, so that adding them again changes nothing"
        return "effectively once", "the finished file is renamed into place once for each run"

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        """A writer of part files in the run's folder."""
        self._must_fit(schema, scope)
        target = self.into(scope)
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
        name = token_name(token)
        target = self.into(scope, name)
        form = self.form()
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
        if target.store is not None:
            return StorePublication(target.store, builder, _mark(scope, name), self._left(scope))
        return FilePublication(builder, _mark(scope, name))

    def is_published(self, scope: Scope, token: str) -> bool:
        """Whether this publication shows whole."""
        store = place_of(self.connection, scope).store
        if store is not None:
            return delivering.is_done(store, _mark(scope, token_name(token)))
        return is_done(_mark(scope, token_name(token)), token_name(token))

    def sweep(self, scope: Scope, token: str) -> None:
        """Removes what a run that died had brought to a store."""
        notes = delivering.notes_of(_mark(scope, token_name(token)))
        if not notes.exists():
            return
        try:
            store = place_of(self.connection, scope).store
            assert store is not None, "only what goes to a store is noted"
            delivering.discard(store, notes)
        except FlowError:
            # The store is away, or refuses: the next run that delivers there removes it.
            self._left(scope).mkdir(parents=True, exist_ok=True)
            notes.replace(self._left(scope) / notes.name)

    def _left(self, scope: Scope) -> Path:
        return scope.project / ".processflow" / "left" / str(self.connection)

    def into(self, scope: Scope, name: str = "") -> Target:
        """Where to; `name` is that of a publication."""
        return Target.of(self.path, scope, place_of(self.connection, scope).store, name)

    def form(self) -> Form:
        """How the files are written."""
        return form_of(self)

    def _must_fit(self, schema: pa.Schema, scope: Scope) -> None:
        found = [*problems(self)]
        found = found or [*misfits(self, schema, scope)]
        if found:
            raise Invalid("; ".join(f"{self.path}: {what}; {fix}" for _, what, fix in found))

    def _stored(self, schema: pa.Schema, target: Target, form: Form) -> pa.Schema:
        """The columns as the files will hold them: as the one file does that is there and goes on."""
        coming = plain_schema(target.stored(schema))
        single = not target.is_folder and not target.columns
        there = columns_there(target, form) if single and self.mode != "replace" else None
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
