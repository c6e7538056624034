"""Delivers to a database's table in one transaction: the fields, checks and staging that all such adapters share.

An adapter says how its database is opened, what the table looks like, which value has which type there, and how staged
records are loaded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Invalid, Unavailable
from pipelines.node import Part, Post, Publication, Receipts, Report, Schemas, Writer
from pipelines.records import schema_without_ids
from pipelines.scope import Scope
from pipelines.tables.relation import Column, Names, Table, as_list, suggestion
from pipelines.tables.spool import Session, SpoolWriter, TablePublication

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox

Mode = Literal["append", "upsert", "replace", "delete"]


@dataclass(frozen=True)
class Work:
    """What a session is to do with the staged records."""

    table: str
    mode: Mode
    key: tuple[str, ...]
    schema: pa.Schema
    """The columns delivered."""
    create: bool
    declared: dict[str, str]
    """Types in the database's own words, for a table to be made."""
    add_columns: bool = False

    @property
    def written(self) -> list[str]:
        """The columns that reach the table: for a delete the key's."""
        return list(self.key) if self.mode == "delete" else self.schema.names

    def missing(self, there: Iterable[str]) -> list[pa.Field]:
        """The columns that are to be added to a table that has those."""
        known = {name.casefold() for name in there}
        fields = self.schema if self.add_columns and self.mode != "delete" else ()
        return [field for field in fields if field.name.casefold() not in known]


class TablePost(Post):
    """Delivers records to a table of a database, all in one transaction."""

    category: ClassVar[str] = "databases"
    keeps_ids: ClassVar[bool] = True
    needs_unique: ClassVar[bool] = False
    """Whether an upsert needs a unique index on its key."""

    connection: str
    """The connection's name."""
    table: str
    """The table to write."""
    mode: Mode = "append"
    """`append` inserts; `upsert` updates the record with the same `key` or inserts it, the last in the order of the
    source winning; `replace` empties the table first; `delete` deletes the records with these keys."""
    key: Names | None = None
    """The columns that identify a record: needed to upsert and delete, and named in receipts. A record without one of
    them is rejected there."""
    create: bool = True
    """Whether a table that is missing is made, with a column for each column delivered and, to upsert, a unique key."""
    add_columns: bool = False
    """Whether columns that are delivered and that the table does not have are added to it (`ALTER TABLE`), null in records
    that are there; types as for a table that is made."""
    columns: Names | dict[str, str] | None = None
    """Which columns to deliver: names, or names to types in the database's own words for a table to be made. Without
    it, all."""

    @abstractmethod
    def address(self, scope: Scope) -> str:
        """The database, without secrets."""

    @abstractmethod
    def session(self, scope: Scope, work: Work) -> Session:
        """A connection with one transaction begun."""

    @abstractmethod
    def described(self, scope: Scope) -> tuple[Table | None, list[str]]:
        """The table, if it is there, and the names of all tables."""

    @abstractmethod
    def unfit(self, kind: pa.DataType, column: Column | None) -> str:
        """Why a column of this type cannot be written (to a column that is there), or nothing."""

    def barriers(self, schema: pa.Schema, scope: Scope) -> Sequence[tuple[str, str]]:
        """Why the database would not let records be delivered: what is in the way, and what to do about it."""
        return ()

    def target(self, scope: Scope) -> str:
        return f"{self.address(scope)}#{self.table.casefold()}"

    def delivery(self) -> tuple[str, str]:
        return "effectively once", "records and the publication's token are committed in one transaction"

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        return SpoolWriter(scope.staging / "spool")

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        work = self.work(schema)
        return TablePublication(lambda: self.session(scope, work), parts, token)

    def work(self, schema: pa.Schema) -> Work:
        """What this post does with records of a schema."""
        delivered = self._delivered(schema_without_ids(schema))
        declared = self.columns if isinstance(self.columns, dict) else {}
        key = tuple(as_list(self.key))
        return Work(self.table, self.mode, key, delivered, self.create, declared, self.add_columns)

    def _delivered(self, schema: pa.Schema) -> pa.Schema:
        if self.columns is None:
            return schema
        return pa.schema([schema.field(name) for name in as_list(self.columns) if name in schema.names])

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = next(iter(inputs.values()), None)
        if self.mode in ("upsert", "delete") and not self.key:
            report(("mode",), f"mode {self.mode!r} needs `key`", "name the columns that identify a record")
        try:
            table, names = self.described(scope)
            barriers = () if schema is None else self.barriers(schema_without_ids(schema), scope)
        except Invalid as fault:
            for problem in fault.problems:
                report(("connection",), problem.what, problem.fix)
            return {"out": schema}
        except Unavailable as fault:
            report(("connection",), str(fault), "its columns cannot be checked now", warning=True)
            return {"out": schema}
        if table is None and (not self.create or self.mode == "delete"):
            report(("table",), f"there is no table {self.table!r}", suggestion(self.table, names))
        elif schema is not None:
            self._check_columns(schema_without_ids(schema), table, report)
        for what, fix in barriers:
            report(("table",), what, fix)
        return {"out": schema}

    def _check_columns(self, schema: pa.Schema, table: Table | None, report: Report) -> None:
        for place, wanted in (("columns", as_list(self.columns)), ("key", as_list(self.key))):
            for name in wanted:
                if name not in schema.names:
                    report((place,), f"the records have no column {name!r}", suggestion(name, schema.names))
        work = self.work(schema)
        for name in work.key:
            if name in schema.names and name not in work.schema.names:
                report(("columns",), f"key column {name!r} is not delivered", "add it to `columns`")
        there = {column.name.casefold(): column for column in table.columns} if table else {}
        for field in (field for field in work.schema if field.name in work.written):
            column = there.get(field.name.casefold())
            is_added = column is None and self.add_columns and self.mode != "delete"
            if table is not None and not is_added and (column is None or not column.is_written):
                what = "no column" if column is None else "a generated column, which cannot be written:"
                fix = suggestion(field.name, [column.name for column in table.columns])
                report(
                    ("table",),
                    f"table {self.table!r} has {what} {field.name!r}",
                    f"{fix}; or leave it out, or set `add_columns`",
                )
            elif why := self.unfit(field.type, column):
                report(("table",), f"column {field.name!r}: {why}", "cast it with a map")
        if table is not None and self.mode != "delete":
            self._check_table(work, table, report)

    def _check_table(self, work: Work, table: Table, report: Report) -> None:
        given = {name.casefold() for name in work.schema.names}
        for column in table.columns:
            if column.must_be_given and column.name.casefold() not in given:
                report(("table",), f"column {column.name!r} of table {self.table!r} is not null", "deliver it too")
        key = frozenset(name.casefold() for name in work.key)
        if self.needs_unique and self.mode == "upsert" and key and key not in table.unique:
            names = ", ".join(work.key)
            fix = f"create unique index {self.table}_key on {self.table} ({names})"
            report(("key",), f"table {self.table!r} has no unique index on ({names})", fix)


def receipts(batch: pa.RecordBatch, key: Sequence[str], ids: pa.StringArray | None, milliseconds: float) -> Receipts:
    """Receipts for the records of a batch."""
    return Receipts(record_keys(batch, key), ids, "ok", milliseconds)


def record_keys(batch: pa.RecordBatch, key: Sequence[str]) -> pa.StringArray | None:
    """Each record's key as text, several columns joined by `|`; None where no key is declared."""
    texts = [_as_text(batch.column(name)) for name in key if name in batch.schema.names]
    if len(texts) < 2:
        return texts[0] if texts else None
    return pc.binary_join_element_wise(*texts, "|", null_handling="replace", null_replacement="")


def _as_text(column: pa.Array) -> pa.StringArray:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_nested(column.type) or "binary" in str(column.type):
        # Neither bytes nor nested values cast to text; as keys they are rare.
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.string())
