"""The node type `lookup`: adds columns of a small table, found by key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.align import unify
from pipelines.errors import Invalid, Problem
from pipelines.node import Example, Outcome, Piece, Rejects, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.literals import quoted
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.sql.wording import one_line
from pipelines.tables.keys import Keys
from pipelines.tables.relation import as_list, suggestion
from pipelines.tables.small import Shared, SmallTable, is_text_format, small_table, type_named, typed

NOT_FOUND = "not_found"
"""The reject code of a record whose key the table does not have."""
SHOWN_CHARACTERS = 200
COUNTRIES = "code,name,currency\nDE,Germany,EUR\nCH,Switzerland,CHF\n"

_keys: Shared[Keys] = Shared()


@dataclass(frozen=True)
class Found:
    """The table as one input meets it."""

    table: pa.RecordBatch
    keys: Keys
    schema: pa.Schema
    """The key columns in the type that they have in common with the input's, under the input's names."""


class Lookup(Transform):
    """Adds columns of a small table in the project folder, found by key; every record stays one record.

    The table is read once a process and version of its file. Keys are compared exactly: text and numbers do not meet,
    a null finds nothing. In CSV, and where JSON has text, a key is read as the type of the input's column; other CSV
    columns get a type that changes none of their values, so numbers with leading zeros stay text.
    """

    table: str = Field(examples=["tables/countries.csv", "tables/prices.parquet"])
    """The file, from the project folder: CSV, JSON lines or Parquet, by the end of its name."""
    on: str | list[str] | dict[str, str] = Field(examples=["country", {"country": "code"}])
    """The key: a column of both, several, or the input's columns to the table's."""
    take: list[str] | dict[str, str] | None = Field(default=None, examples=[["name"], {"country_name": "name"}])
    """The table's columns to add: their names, or new names to the table's. Without it all but those of the key."""
    missing: Literal["null", "reject"] = "null"
    """What becomes of a record whose key the table does not have: its new columns are null, or it is rejected with the
    code `not_found`."""
    duplicates: Literal["refuse", "first"] = "refuse"
    """What is made of a key that the table has twice: a problem, told before the run, or its first record counts."""
    columns: dict[str, str] = Field(default_factory=dict, examples=[{"since": "DATE", "rate": "DECIMAL(9, 4)"}])
    """DuckDB types of the table's columns, where the file does not tell them as they are meant."""

    category = "combine"
    examples = (
        Example(
            says="The country's name by its code; where the table does not know the code, null.",
            config={"table": "tables/countries.csv", "on": {"country": "code"}, "take": {"country_name": "name"}},
            records=[{"id": 1, "country": "CH"}, {"id": 2, "country": "XX"}],
            files={"tables/countries.csv": COUNTRIES},
            gives={
                "out": [
                    {"id": 1, "country": "CH", "country_name": "Switzerland"},
                    {"id": 2, "country": "XX", "country_name": None},
                ]
            },
        ),
        Example(
            says="All the table knows; a record it does not know is set aside.",
            config={"table": "tables/countries.csv", "on": "code", "missing": "reject"},
            records=[{"id": 1, "code": "DE"}, {"id": 2, "code": "XX"}, {"id": 3, "code": None}],
            files={"tables/countries.csv": COUNTRIES},
            gives={
                "out": [{"id": 1, "code": "DE", "name": "Germany", "currency": "EUR"}],
                "rejected": [
                    {
                        "id": 2,
                        "reject_code": "not_found",
                        "reject_message": "tables/countries.csv has no record with code = XX",
                    },
                    {
                        "id": 3,
                        "reject_code": "not_found",
                        "reject_message": "tables/countries.csv has no record with code = null",
                    },
                ],
            },
        ),
        Example(
            says="A key of two columns, and a type that the file does not tell.",
            config={
                "table": "tables/prices.jsonl",
                "on": ["sku", "currency"],
                "columns": {"price": "DECIMAL(9, 2)"},
            },
            records=[{"sku": "A-1", "currency": "EUR"}],
            files={"tables/prices.jsonl": '{"sku": "A-1", "currency": "EUR", "price": 9.5}\n'},
            gives={"out": [{"sku": "A-1", "currency": "EUR", "price": 9.5}]},
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        try:
            with borrowed(scope) as sandbox:
                if schema is None:
                    self._read(scope, sandbox)
                    return {"out": None}
                found = self._found(schema, scope, sandbox)
                return {"out": self._laid_out(schema, found.table)}
        except Invalid as fault:
            for problem in fault.problems:
                report(problem.at, problem.what, problem.fix)
        return {"out": None}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        found = self._found(schema, scope, sandbox)
        gives = self._laid_out(schema, found.table)
        taken = [found.table.column(name) for name in self._taken(found.table.schema).values()]

        def step(batch: pa.RecordBatch) -> Outcome:
            columns = [_as(batch.column(field.name), field.type) for field in found.schema]
            keys = pa.RecordBatch.from_arrays(columns, schema=found.schema)
            rows = found.keys.find(keys, sandbox)
            rejects = None
            places = None
            if self.missing == "reject" and len(unknown := np.flatnonzero(rows < 0)):
                rejects = self._rejects(pa.array(unknown), keys, sandbox)
                places = pa.array(np.flatnonzero(rows >= 0))
                batch, rows = batch.take(places), rows[rows >= 0]
            chosen = pa.array(rows, mask=rows < 0)
            added = [column.take(chosen) for column in taken]
            made = pa.RecordBatch.from_arrays([*batch.columns, *added], schema=gives)
            return Outcome({"out": Piece(made, places)}, rejects=rejects)

        return step

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return None if wanted is None else frozenset(self._on()) | (wanted & set(schema.names))

    def _on(self) -> dict[str, str]:
        """The input's key columns to the table's."""
        return dict(self.on) if isinstance(self.on, dict) else {name: name for name in as_list(self.on)}

    def _taken(self, table: pa.Schema) -> dict[str, str]:
        """New columns to the table's."""
        if isinstance(self.take, dict):
            return dict(self.take)
        if self.take is not None:
            return {name: name for name in self.take}
        return {name: name for name in table.names if name not in self._on().values()}

    def _laid_out(self, schema: pa.Schema, table: pa.RecordBatch) -> pa.Schema:
        added = [pa.field(new, table.schema.field(name).type) for new, name in self._taken(table.schema).items()]
        return pa.schema([*schema, *added])

    def _path(self, scope: Scope) -> Path:
        return scope.path(self.table)

    def _read(self, scope: Scope, sandbox: Sandbox) -> SmallTable:
        """The table, keys of a CSV as text unless their types are declared."""
        texts = dict.fromkeys(self._on().values(), "VARCHAR") if is_text_format(self._path(scope)) else {}
        limit_bytes = scope.environment.runner.memory_bytes // 2
        try:
            small = small_table(self._path(scope), self.table, {**texts, **self.columns}, limit_bytes, sandbox)
        except Invalid as fault:
            raise Invalid([_at(problem, ("table",)) for problem in fault.problems]) from fault
        for name in self.columns:
            if name not in small.table.schema.names:
                what = f"{self.table} has no column {name!r}"
                raise _wrong(("columns", name), what, small.table.schema.names, name)
        return small

    def _found(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Found:
        """The table with its keys made ready.

        Raises:
            Invalid: with all that is wrong about columns, types and keys.
        """
        small = self._read(scope, sandbox)
        problems = self._faulty_columns(schema, small.table.schema)
        if problems:
            raise Invalid(problems)
        table = self._keys_typed(small.table, schema, sandbox)
        kinds = pa.schema(
            [self._common(schema.field(mine), table.schema.field(its)) for mine, its in self._on().items()]
        )

        def made() -> Keys:
            columns = [
                _as(table.column(its), field.type) for its, field in zip(self._on().values(), kinds, strict=True)
            ]
            return Keys(pa.RecordBatch.from_arrays(columns, schema=kinds), sandbox)

        try:
            about = (self._path(scope), *self._on().values(), *sorted(self.columns.items()), kinds.to_string())
            keys = _keys.get(about, small, made)
        except duckdb.Error as fault:
            raise Invalid(Problem("", 0, 0, f"cannot be a key: {one_line(str(fault))}", at=("on",))) from fault
        if keys.repeated is not None and self.duplicates == "refuse":
            key = ", ".join(f"{name} = {table.column(name)[keys.repeated]}" for name in self._on().values())
            what = f"{self.table} has {key} more than once, again in record {keys.repeated + 1:,}"
            raise Invalid(
                Problem("", 0, 0, what, "mend the table, or take its first with `duplicates: first`", ("on",))
            )
        return Found(table, keys, kinds)

    def _faulty_columns(self, schema: pa.Schema, table: pa.Schema) -> list[Problem]:
        """Columns that are not there, or there already."""
        found: list[Invalid] = []
        for number, (mine, its) in enumerate(self._on().items()):
            at: tuple[str | int, ...] = ("on",) if isinstance(self.on, str) else ("on", number)
            at = ("on", mine) if isinstance(self.on, dict) else at
            if mine not in schema.names:
                found.append(_wrong(at, f"no column {mine!r} comes in", schema.names, mine))
            if its not in table.names:
                found.append(_wrong(at, f"{self.table} has no column {its!r}", table.names, its))
        for number, (new, its) in enumerate(self._taken(table).items()):
            at = ("take", new) if isinstance(self.take, dict) else ("take", number) if self.take else ()
            if its not in table.names:
                found.append(_wrong(at, f"{self.table} has no column {its!r}", table.names, its))
            elif new in schema.names:
                what = f"column {new!r} is there already"
                fix = "take it under a new name, such as `take: {NEW: " + its + "}`"
                found.append(Invalid(Problem("", 0, 0, what, fix, at)))
        return [problem for fault in found for problem in fault.problems]

    def _keys_typed(self, table: pa.RecordBatch, schema: pa.Schema, sandbox: Sandbox) -> pa.RecordBatch:
        """The table with keys that are text, in a file that knows little else, of the input's type."""
        if self.table.lower().endswith(".parquet"):
            return table
        types = {
            its: type_named(_plain(schema.field(mine).type), sandbox)
            for mine, its in self._on().items()
            if its not in self.columns and pa.types.is_string(table.schema.field(its).type)
        }
        try:
            return typed(table, types, self.table, sandbox)
        except (Invalid, duckdb.Error) as fault:
            what = f"{str(fault).split('; ')[0]}, as the input's column is"
            raise Invalid(Problem("", 0, 0, what, "mend the table, or cast the input's column", ("on",))) from fault

    def _common(self, mine: pa.Field, its: pa.Field) -> pa.Field:
        """The type that holds the input's values and the table's."""
        try:
            schemas = [pa.schema([pa.field(mine.name, _plain(field.type))]) for field in (mine, its)]
            return unify(schemas).field(0)
        except Invalid as fault:
            what = f"column {mine.name!r} is {mine.type}, {its.name!r} of {self.table} is {its.type}"
            fix = "make them one type, with a map before or with `columns`"
            raise Invalid(Problem("", 0, 0, what, fix, ("on",))) from fault

    def _rejects(self, rows: pa.Int64Array, keys: pa.RecordBatch, sandbox: Sandbox) -> Rejects:
        """Records without a counterpart, each with its key in words."""
        texts = [
            f"{quoted(name + ' = ')} || left(coalesce(CAST(k{number} AS VARCHAR), 'null'), {SHOWN_CHARACTERS})"
            for number, name in enumerate(keys.schema.names)
        ]
        unknown = keys.take(rows).rename_columns([f"k{number}" for number in range(keys.num_columns)])
        begin, and_then = quoted(f"{self.table} has no record with "), " || ', ' || "
        words = sandbox.prepare(f"{begin} || {and_then.join(texts)} AS words", unknown.schema)(unknown)
        return Rejects(rows, [NOT_FOUND] * len(rows), words.column(0).to_pylist())


def _wrong(at: tuple[str | int, ...], what: str, there: list[str], name: str) -> Invalid:
    return Invalid(Problem("", 0, 0, what, suggestion(name, there), at))


def _at(problem: Problem, at: tuple[str | int, ...]) -> Problem:
    return Problem(problem.path, problem.line, problem.column, problem.what, problem.fix, at)


def _plain(kind: pa.DataType) -> pa.DataType:
    """What a dictionary's values are."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type.equals(kind) else column.cast(kind)
