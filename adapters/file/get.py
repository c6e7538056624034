"""Reads files: CSV, JSON lines, Parquet, Avro, Excel, XML, fixed width; one, a folder of them, or those that a pattern matches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import pyarrow as pa
from pydantic import AfterValidator, Field

from adapters.file import seen
from adapters.file.avro import Avro
from adapters.file.connection import place_of
from adapters.file.csv import Csv
from adapters.file.encodings import Encoding
from adapters.file.excel import Excel
from adapters.file.excel_cells import Range
from adapters.file.finding import FORMATS, found_in, suffix_of, watch
from adapters.file.fixed import FixedWidth
from adapters.file.format import File, Format
from adapters.file.jsonl import JsonLines
from adapters.file.layout import Layout
from adapters.file.parquet import Parquet
from adapters.file.ranges import RANGE_BYTES
from adapters.file.sieve import Sieve, cursor_value, packed_schema, united, unpacked_schema
from adapters.file.types import arrow_type
from adapters.file.xml import Xml
from pipelines import node
from pipelines.errors import Invalid, Problem, Unavailable
from pipelines.node import Chunk, Example, Json, Report, Schemas, Split, SplitPlan, Want
from pipelines.scope import Scope
from pipelines.sql.expressions import Expression, check_expressions, used_columns
from pipelines.sql.sandbox import borrowed
from pipelines.tables import positions
from pipelines.tables.relation import Names, as_list, is_number, suggestion

NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
READERS: dict[str, Format] = {
    "csv": Csv(),
    "jsonl": JsonLines(),
    "parquet": Parquet(),
    "avro": Avro(),
    "fixed": FixedWidth(),
    "excel": Excel(),
    "xml": Xml(),
}


def _one_mark(text: str) -> str:
    if len(text) > 1 or not text.isascii() or text in ("\n", "\r"):
        raise ValueError(f"{text!r} is more than one ASCII character")
    return text


def _cell_range(text: str) -> str:
    Range.of(text)
    return text


CellRange = Annotated[str, AfterValidator(_cell_range)]
Mark = Annotated[str, AfterValidator(_one_mark)]


class Get(node.Get):
    """Reads files: CSV, JSON lines, Parquet, Avro, Excel, XML, fixed width; one, a folder, or those that a pattern matches.

    Text is cut into byte ranges that are read side by side, Parquet into row groups, Avro into blocks, Excel
    into sheets; XML, `.gz`, `.zst` and `.bz2` files are read as a whole, streamed. A record that cannot be read, or has a value that does not fit its column, is set aside with its
    text, its line and the reason. A file that changes while it is read stops the run.
    """

    infers_types: ClassVar[bool] = True
    category: ClassVar[str] = "files"

    connection: str | None = Field(default=None, examples=["lake"])
    """Where the files are, by the name of a connection of adapter `file`: S3, SFTP, Google Cloud Storage, Azure. Without
    it they are on this machine."""
    path: str = Field(examples=["in/orders.csv", "in/", "in/orders-*.jsonl"])
    """A file, a folder (all its files and those below, but for names that begin with `.` or `_`) or a pattern with `*`,
    `?`, `**`; from the project folder, or the connection's. Taken as it is written: `$name` means nothing here."""
    format: Literal["csv", "jsonl", "parquet", "avro", "fixed", "excel", "xml"] | None = None
    """What the files are; without it their suffix tells: `.csv`, `.tsv`, `.txt`; `.jsonl`, `.ndjson`, `.json`;
    `.parquet`, `.pq`; `.avro`; `.xlsx`, `.xlsm`; `.xml`. `fixed` (records of fixed width) is always told."""
    columns: Names | dict[str, str] | None = Field(default=None, examples=[["id", "name"], {"id": "BIGINT"}])
    """Which columns to read: names, or names to DuckDB types to read them as. Without it all. Types that are not given
    are inferred from the heads of the files, the same for all files of a run; in CSV without a header the names are
    given to the columns in their order."""
    where: Expression | None = Field(default=None, examples=["status <> 'cancelled'"])
    """A condition over the files' columns; other records are not read at all."""
    key: Names | None = None
    """The columns that identify a record. With `cursor` they tell records of equal cursor values apart."""
    cursor: str | None = None
    """A column that grows with every change: a run gives the records above the last run's highest value. With `key`,
    records that arrive later with that same value are given too, each once. Records without a value are not given."""
    once: bool | Literal["hash"] = False
    """Whether each file is read once: what a finished run has read is not read again unless its size or time changed.
    `hash`: unless its content changed; a file of another size or time is read through to tell that."""
    filename: str | None = None
    """The name of a column to add, which holds each record's file as seen from the project folder or the connection's."""
    header: bool = True
    """CSV, Excel: whether the first record names the columns. Columns without a name are called `column_1` and so on."""
    delimiter: Mark | None = None
    """CSV: what stands between fields: `,` unless given, in `.tsv` files a tab."""
    quote: Mark = '"'
    """CSV: what encloses fields; empty: quotes mean nothing, as in files with stray ones."""
    escape: Mark = ""
    """CSV: what makes the next character a plain one, such as a backslash. A doubled quote is one quote in any case."""
    layout: Layout | None = Field(default=None, examples=[{"order_id": {"width": 8, "pad": "0"}, "name": 20}])
    """Fixed width: the columns, each with its width in characters, or with `width`, `at` (the place of its first character,
    from 1; else behind the column before), `align` (`left`, `right`; else text left) and `pad` (what fills its width)."""
    records: str | None = Field(default=None, examples=["orders/order", "*/o:order", "//order"])
    """XML: the path to the records, from the root; `*` is any name, `//order` is at any depth. Without it the elements within the
    root. An element is an object of its attributes and elements, its own text then `text`; one that is repeated is a list."""
    namespaces: dict[str, str] = Field(default={}, examples=[{"o": "urn:example:orders"}])
    """XML: prefixes that `records` uses, to their namespaces. A name without a prefix is of any."""
    attribute_prefix: str = Field(default="", examples=["@"])
    """XML: what stands before the names of attributes, to tell them from elements of the same name."""
    sheet: Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=1)] | None = Field(
        default=None, examples=["Orders", 2, "2026-*"]
    )
    """Excel: the sheet, by its name or its place from 1, or all that a pattern with `*` and `?` matches. Without it the first that
    is shown."""
    range: CellRange | None = Field(default=None, examples=["A3:F100", "B:F", "B2"])
    """Excel: which cells to read, header included."""
    merged: Literal["first", "all"] = "first"
    """Excel: whether of merged cells just the `first` has their value, as Excel keeps it, or `all` of them."""
    null_values: list[str] = Field(default=[""])
    """CSV, fixed width, Excel: fields that stand for null where they are not in quotes; in columns other than text also in quotes."""
    decimal_separator: Literal[".", ","] = "."
    """CSV, fixed width: what stands before the decimals of a number."""
    encoding: Encoding = "utf-8"
    """Text: how characters are written: `utf-8`, `latin-1`, `cp1252`, `utf-16` and what else Python knows.
    A byte-order mark is skipped."""
    skip_rows: int = Field(default=0, ge=0)
    """CSV, fixed width, Excel: how many lines or rows to leave out at the beginning of each file, before the header."""
    split_bytes: int = Field(default=RANGE_BYTES, ge=1)
    """About how many bytes of a text file are read as one piece by one worker."""

    examples = (
        Example(
            says="Types come from the values; what is no record is set aside with its line.",
            config={"path": "orders.csv"},
            files={"orders.csv": "order_id,total\n1,9.50\n2\n3,12.00\n"},
            gives={"out": [{"order_id": 1, "total": 9.5}, {"order_id": 3, "total": 12.0}]},
        ),
        Example(
            says="Declared types are exact; a pattern reads several files.",
            config={"path": "in/*.jsonl", "columns": {"id": "BIGINT", "total": "DECIMAL(18,2)"}, "where": "id > 1"},
            files={
                "in/a.jsonl": '{"id": 1, "total": 9.5, "note": "x"}\n',
                "in/b.jsonl": '{"id": 2, "total": 12.25}\n{"id": 3}\n',
            },
            gives={"out": [{"id": 2, "total": "12.25"}, {"id": 3, "total": None}]},
        ),
        Example(
            says="XML is read by the path to its records; attributes and elements are columns, repeated ones lists.",
            config={"path": "orders.xml", "records": "orders/order", "columns": {"id": "BIGINT", "sku": "VARCHAR[]"}},
            files={"orders.xml": '<orders><order id="1"><sku>a</sku><sku>b</sku></order><order id="2"/></orders>\n'},
            gives={"out": [{"id": 1, "sku": ["a", "b"]}, {"id": 2, "sku": None}]},
        ),
        Example(
            says="Columns of fixed width stand where `layout` says.",
            config={
                "path": "orders.txt",
                "format": "fixed",
                "layout": {"order_id": {"width": 6, "pad": "0"}, "name": 8, "total": 8},
                "columns": {"order_id": "BIGINT", "name": "VARCHAR", "total": "DECIMAL(9,2)"},
            },
            files={"orders.txt": "000001Anna        9.50\n000002Bob        12.00\n"},
            gives={
                "out": [
                    {"order_id": 1, "name": "Anna", "total": "9.50"},
                    {"order_id": 2, "name": "Bob", "total": "12.00"},
                ]
            },
        ),
    )

    def files(self, scope: Scope) -> list[File]:
        """The files there are now, by name."""
        return found_in(place_of(self.connection, scope), self.path)

    def types(self) -> dict[str, str]:
        """The DuckDB types that are declared, by column."""
        return dict(self.columns) if isinstance(self.columns, dict) else {}

    def reader(self, files: Sequence[File]) -> Format:
        """The format of the files. `Invalid` where their suffixes do not tell one."""
        if self.format is not None:
            return READERS[self.format]
        found = {FORMATS.get(suffix_of(file.path)): file for file in files}
        if None in found:
            what = f"{found[None].name}: its suffix tells no format"
            raise Invalid(Problem("", 0, 0, what, f"set `format` to one of {', '.join(READERS)}", ("format",)))
        if len(found) > 1:
            names = " and ".join(sorted(file.name for file in found.values()))
            what = f"{names} are of different formats"
            raise Invalid(
                Problem("", 0, 0, what, "read them by a pattern such as `in/*.csv`, in a node each", ("path",))
            )
        return READERS[str(next(iter(found)))]

    def _is_text(self, files: Sequence[File]) -> bool:
        return bool(files) and isinstance(self.reader(files), Csv)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        try:
            return {"out": self._checked(scope, report)}
        except Invalid as fault:
            for problem in fault.problems:
                report(problem.at or ("path",), problem.what, problem.fix)
        except Unavailable as fault:
            report(("path",), str(fault), "its columns cannot be checked now", warning=True)
        return {"out": None}

    def _checked(self, scope: Scope, report: Report) -> pa.Schema | None:
        files = self.files(scope)
        whole = self._whole(files)
        if whole is None:
            what = (
                f"{self.path}: {'the files are empty' if files else 'there is no file'}, so its columns are not known"
            )
            report(("path",), what, "give `columns` with their types, for runs that find nothing")
            return None
        if self.header and self._is_text(files) and any(map(NUMBER.fullmatch, whole.names)):
            what = f"the header of {files[0].name} holds numbers: {', '.join(whole.names)[:200]}"
            report(("header",), what, "set `header: false` where the first record is data", warning=True)
        for place, names in {"key": as_list(self.key), "cursor": as_list(self.cursor)}.items():
            for name in names:
                if name not in whole.names:
                    report((place,), f"there is no column {name!r}", suggestion(name, whole.names))
        if self.cursor in whole.names and pa.types.is_nested(whole.field(self.cursor).type):
            report(("cursor",), f"column {self.cursor!r} has no order", "take a number, a time or a text")
        if self.where is not None:
            check_expressions({"where": self.where}, whole, scope, report, conditions=["where"])
        return self._picked(whole)

    def _whole(self, files: Sequence[File]) -> pa.Schema | None:
        """All columns of the files, declared types over inferred ones; None where there is no file to tell."""
        declared = {name: _declared(name, text) for name, text in self.types().items()}
        if not files:
            return pa.schema(list(declared.items())) if declared else None
        found = self.reader(files).schema(files, self)
        if not len(found):
            return pa.schema(list(declared.items())) if declared else None
        fields = [pa.field(field.name, declared.get(field.name, field.type)) for field in found]
        return pa.schema(fields)

    def _picked(self, whole: pa.Schema) -> pa.Schema:
        """The columns that leave: those of `columns` in its order, or all, and that of `filename`."""
        names = as_list(self.columns) or whole.names
        missing = [name for name in names if name not in whole.names]
        if missing:
            raise Invalid(
                Problem("", 0, 0, f"there is no column {name!r}", suggestion(name, whole.names), ("columns",))
                for name in missing
            )
        picked = pa.schema([whole.field(name) for name in names])
        if self.filename is None:
            return picked
        if self.filename in picked.names:
            what = f"the files have a column {self.filename!r} of their own"
            raise Invalid(Problem("", 0, 0, what, "give another name", ("filename",)))
        return picked.append(pa.field(self.filename, pa.string()))

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        files = self.files(scope)
        changed = seen.unread(files, position) if self.once else files
        new = seen.unread_content(changed, position) if self.once == "hash" else changed
        also, after = self._also(files, scope), (position or {}).get("cursor")
        splits = [
            Split(
                [file.name, file.size_bytes, file.changed_ns, file.version, split.payload, also, after],
                split.room,
                split.weight_bytes,
            )
            for file in new
            for split in self.reader([file]).splits(file, self)
        ]
        reached = seen.later(position, seen.read_all(changed, by_hash=self.once == "hash")) if self.once else position
        if after and "until" in after:
            reached = after["then"]
        return SplitPlan(tuple(splits), reached, self._note(files, new))

    def _also(self, files: Sequence[File], scope: Scope) -> str:
        """The columns that `where` and `cursor` need, as text that travels with each split."""
        whole = None if self.where is None and self.cursor is None else self._whole(files)
        if whole is None:
            return ""
        names = {*as_list(self.cursor), *(as_list(self.key) if self.cursor is not None else ())}
        if self.where is not None:
            with borrowed(scope) as sandbox:
                names |= used_columns([self.where], whole, sandbox)
        return packed_schema(pa.schema([field for field in whole if field.name in names]))

    def _note(self, files: Sequence[File], new: Sequence[File]) -> str:
        if not self.once:
            return "" if len(files) == 1 else f"{len(files)} files"
        return f"{len(new)} new file{'s' * (len(new) != 1)}, {len(files) - len(new)} read before"

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        name, size_bytes, changed_ns, version, part, also, after = split
        place = place_of(self.connection, scope)
        file = File(place.path(name), name, size_bytes, changed_ns, version, place.store)
        watch(file)
        wanted = pa.schema([field for field in schema if want.columns is None or field.name in want.columns])
        given = 0
        for chunk in self._records(file, part, unpacked_schema(also), after, wanted, scope, want):
            yield chunk if self.filename not in wanted.names else _named(chunk, file, wanted)
            given += chunk.batch.num_rows
            if want.rows is not None and given >= want.rows:
                return
        watch(file)

    def _records(
        self, file: File, part: Json, also: pa.Schema, after: Json, wanted: pa.Schema, scope: Scope, want: Want
    ) -> Iterator[Chunk]:
        """The records of a part with the wanted columns of the file, those that are not to be read left out."""
        inner = pa.schema([field for field in wanted if field.name != self.filename])
        reader = self.reader([file])
        if self.where is None and self.cursor is None:
            return reader.read(file, part, self, inner, want)
        sieve = Sieve(self.where, self.cursor, as_list(self.key), after)
        outer = united(inner, also)
        return sieve(reader.read(file, part, self, outer, replace(want, rows=None)), outer, inner, scope)

    def later(self, one: Json, other: Json) -> Json:
        return seen.later(one, other)

    def names(self, scope: Scope) -> list[str] | None:
        """The names of all columns of the files, in their order; None where there is no file to tell."""
        whole = self._whole(self.files(scope))
        return None if whole is None else list(whole.names)

    def parse(self, texts: Sequence[str], schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        from adapters.file.again import parse

        return parse(self, texts, schema, scope, want)

    def position_at(self, scope: Scope, first: str, last: str | None, then: Json) -> Json:
        if self.cursor is None:
            return super().position_at(scope, first, last, then)
        whole = self._whole(self.files(scope))
        if whole is None or self.cursor not in whole.names:
            raise Invalid(f"cursor {self.cursor!r}: its type cannot be known, no file has it")
        kind = whole.field(self.cursor).type
        since, until = [None if text is None else cursor_value(text, kind, self.cursor) for text in (first, last)]
        return {"cursor": positions.set_back(since, until, then, is_number(kind))}


def _declared(name: str, text: str) -> pa.DataType:
    try:
        return arrow_type(text)
    except Invalid as fault:
        fix = "write one such as BIGINT, DECIMAL(18,2), VARCHAR, DATE or TIMESTAMP"
        raise Invalid(Problem("", 0, 0, f"column {name!r}: {fault}", fix, ("columns", name))) from fault


def _named(chunk: Chunk, file: File, wanted: pa.Schema) -> Chunk:
    """The chunk with the column that holds its file's name."""
    name = file.name.encode("utf-8", "replace").decode()
    columns = [
        chunk.batch.column(field.name)
        if field.name in chunk.batch.schema.names
        else pa.repeat(name, chunk.batch.num_rows)
        for field in wanted
    ]
    return replace(chunk, batch=pa.RecordBatch.from_arrays(columns, schema=wanted))
