"""The node type `lookup`: adds columns of a small table or of a live system, found by key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import duckdb
import pyarrow as pa
from pydantic import Field, model_validator

from pipelines.errors import Invalid, Problem
from pipelines.finding import Finds
from pipelines.node import Example, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.sql.wording import one_line
from pipelines.tables.keys import Keys, common, plain
from pipelines.tables.live import finding_get
from pipelines.tables.lookups import InSystem, InTable, Rules, keys_in, keys_of
from pipelines.tables.relation import as_list, suggestion
from pipelines.tables.small import Shared, SmallTable, is_text_format, small_table, type_named, typed

OWN_FIELDS = ("connection", "table", "query", "columns", "cursor", "key")
"""What `get` does not take: the node has it itself, or a lookup has no use for it."""
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
    """Adds columns of a small table or of a live system, found by key; every record stays one record.

    Keys are compared exactly: text and numbers do not meet, a null finds nothing.

    A file of the project is read once a process and version of it. In CSV, and where JSON has text, a key is read as the
    type of the input's column; other CSV columns get a type that changes none of their values, so numbers with leading
    zeros stay text.

    With `connection` a live system is asked: a database's `table` or `query`, or an API by what `get` says. The distinct
    keys of a batch are asked for together, a thousand a statement, or a request each where it is an API, several at once.
    What was answered, also that there is nothing, is kept for `cache_seconds` for all workers of the process. A key that
    the system does not take or cannot answer rejects its records with the system's message; a system that is away is
    asked again as `retry` says.
    """

    table: str | None = Field(default=None, examples=["tables/countries.csv", "tables/prices.parquet", "customers"])
    """The file, from the project folder: CSV, JSON lines or Parquet, by the end of its name. With `connection` the
    database's table or view."""
    connection: str | None = Field(default=None, examples=["shop"])
    """The connection of the live system to ask."""
    query: str | None = None
    """With `connection`: one SELECT in the database's own SQL, instead of `table`; `$name` is a parameter or variable."""
    get: dict[str, Any] = Field(default_factory=dict, examples=[{"path": "/customers/{customer_id}", "records": "@"}])
    """With `connection`: further fields of the adapter's get, as it documents them: `where` of a database; of an API
    `path`, `query`, `records` and others, in which `{name}` is a column of the key."""
    on: str | list[str] | dict[str, str] = Field(examples=["country", {"country": "code"}])
    """The key: a column of both, several, or the input's columns to the table's."""
    take: list[str] | dict[str, str] | None = Field(default=None, examples=[["name"], {"country_name": "name"}])
    """The table's columns to add: their names, or new names to the table's. Without it all but those of the key."""
    missing: Literal["null", "reject", "port"] = "null"
    """What becomes of a record whose key the table does not have: its new columns are null, it is rejected with the
    code `not_found`, or it leaves as it came by the port `missing`."""
    duplicates: Literal["refuse", "first"] = "refuse"
    """What is made of a key that the table has twice: a problem, told before the run, or its first record counts. Of a live
    system nobody knows before: the records are rejected with the code `ambiguous`, or the first that it gives counts."""
    columns: dict[str, str] = Field(default_factory=dict, examples=[{"since": "DATE", "rate": "DECIMAL(9, 4)"}])
    """DuckDB types of the table's columns, where the file or system does not tell them as they are meant. Of an API they
    have to be given."""
    cache_seconds: float = Field(default=60.0, ge=0)
    """How long an answer of a live system holds; 0: each batch asks anew."""
    cache_records: int = Field(default=100_000, ge=0)
    """How many answers are kept at most, and no more than an eighth of the environment's memory; the oldest go first."""

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
        Example(
            says="From a database's table, as it is now: there, customer 7 is Ada from Germany. Who is not there leaves by the "
            "port `missing`.",
            config={
                "connection": "shop",
                "table": "customers",
                "on": {"customer_id": "id"},
                "take": {"customer_name": "name", "country": "country"},
                "missing": "port",
            },
            records=[{"order_no": "WEB-1", "customer_id": 7}, {"order_no": "WEB-2", "customer_id": 99}],
            gives={
                "out": [{"order_no": "WEB-1", "customer_id": 7, "customer_name": "Ada", "country": "DE"}],
                "missing": [{"order_no": "WEB-2", "customer_id": 99}],
            },
        ),
        Example(
            says="From an API, a request for each key, its answers kept for five minutes.",
            config={
                "connection": "erp",
                "get": {"path": "/orders/{order_id}", "records": "@"},
                "columns": {"total": "DECIMAL(12, 2)"},
                "on": "order_id",
                "missing": "reject",
                "cache_seconds": 300,
            },
            records=[{"order_id": 2, "customer_id": 7}, {"order_id": 99, "customer_id": 8}],
            gives={
                "out": [{"order_id": 2, "customer_id": 7, "total": "2.50"}],
                "rejected": [
                    {
                        "order_id": 99,
                        "customer_id": 8,
                        "reject_code": "not_found",
                        "reject_message": "erp has no record with order_id = 99",
                    }
                ],
            },
        ),
    )

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        if self.connection is None:
            if self.table is None or self.query is not None or self.get:
                raise ValueError("a lookup needs `table`, a file, or `connection` and what to ask there")
        elif self.table is not None and self.query is not None:
            raise ValueError("a lookup asks for `table` or `query`, not both")
        for name in self.get:
            if name in OWN_FIELDS:
                raise ValueError(f"`get` takes no {name!r}: give it at the node itself, or leave it out")
        return self

    def ports(self) -> tuple[str, ...]:
        return ("out", "missing") if self.missing == "port" else ("out",)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        nothing: Schemas = dict.fromkeys(self.ports())
        try:
            if self.connection is not None:
                return self._check_live(schema, scope, report) or nothing
            with borrowed(scope) as sandbox:
                if schema is None:
                    self._read(scope, sandbox)
                    return nothing
                return self._gives(schema, self._found(schema, scope, sandbox).table.schema)
        except Invalid as fault:
            for problem in fault.problems:
                report(problem.at, problem.what, problem.fix)
        return nothing

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        if self.connection is None:
            found = self._found(schema, scope, sandbox)
            return InTable(self._rules(found.table.schema), found.table, found.keys, found.schema, sandbox)
        get = self._get(scope)
        there = self._there(get, schema, scope, _unheard)
        if there is None:
            raise Invalid(f"{self._name}: its columns cannot be told any more; check the flow")
        cache = (self.cache_seconds, self.cache_records)
        return InSystem(self._rules(there), get, there, schema, cache, scope, sandbox)

    def asks(self) -> bool:
        return self.connection is not None

    def asked_columns(self, schema: pa.Schema, scope: Scope) -> pa.Schema:
        there = self._there(self._get(scope), schema, scope, _unheard)
        if there is None:
            raise Invalid(f"{self._name}: its columns cannot be told any more; check the flow")
        keys = [pa.field(its, schema.field(mine).type) for mine, its in self._on().items() if its not in there.names]
        return pa.schema([*keys, *there])

    def open_given(self, there: pa.RecordBatch, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        kinds = self._kinds(schema, there.schema)
        own = pa.RecordBatch.from_arrays([there.column(its) for its in self._on().values()], kinds.names)
        rules = self._rules(there.schema)
        return InTable(rules, there, Keys(keys_in(own, kinds), sandbox), kinds, sandbox)

    @property
    def _name(self) -> str:
        """What is looked up in, for messages."""
        return ".".join(filter(None, (self.connection, self.table)))

    def _rules(self, there: pa.Schema) -> Rules:
        return Rules(self._name, self._on(), self._taken(there), self.missing, self.duplicates)

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

    def _gives(self, schema: pa.Schema, table: pa.Schema) -> Schemas:
        return {**dict.fromkeys(self.ports(), schema), "out": pa.schema([*schema, *self._rules(table).gives(table)])}

    def _get(self, scope: Scope) -> Finds:
        """The get of the live system."""
        given = {"table": self.table, "query": self.query, "columns": self.columns or None}
        fields = {name: value for name, value in given.items() if value is not None}
        return finding_get(str(self.connection), fields, self.get, scope)

    def _check_live(self, schema: pa.Schema | None, scope: Scope, report: Report) -> Schemas | None:
        """The columns that leave, where a live system is asked; None: they cannot be told, which is reported."""
        get = self._get(scope)

        def heard(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
            is_own = bool(at) and at[0] in type(self).model_fields and at[0] not in self.get
            report(at if is_own else ("get", *at), what, fix, warning=warning)

        there = None if schema is None else self._there(get, schema, scope, heard)
        return None if schema is None or there is None else self._gives(schema, there)

    def _there(self, get: Finds, schema: pa.Schema, scope: Scope, report: Report) -> pa.Schema | None:
        """The columns that the live system has."""
        there = get.check_find(keys_of(self._on(), schema), self._on(), scope, report)
        if there is not None and (problems := self._faulty_columns(schema, there, its_keys=False)):
            raise Invalid(problems)
        return there

    def _path(self, scope: Scope) -> Path:
        return scope.path(str(self.table))

    def _read(self, scope: Scope, sandbox: Sandbox) -> SmallTable:
        """The table, keys of a CSV as text unless their types are declared."""
        texts = dict.fromkeys(self._on().values(), "VARCHAR") if is_text_format(self._path(scope)) else {}
        limit_bytes = scope.environment.runner.memory_bytes // 2
        try:
            small = small_table(self._path(scope), str(self.table), {**texts, **self.columns}, limit_bytes, sandbox)
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
        kinds = self._kinds(schema, table.schema)

        def made() -> Keys:
            columns = pa.RecordBatch.from_arrays([table.column(its) for its in self._on().values()], kinds.names)
            return Keys(keys_in(columns, kinds), sandbox)

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

    def _faulty_columns(self, schema: pa.Schema, table: pa.Schema, *, its_keys: bool = True) -> list[Problem]:
        """Columns that are not there, or there already; with `its_keys` those of the table's key too."""
        found: list[Invalid] = []
        for number, (mine, its) in enumerate(self._on().items()):
            at: tuple[str | int, ...] = ("on",) if isinstance(self.on, str) else ("on", number)
            at = ("on", mine) if isinstance(self.on, dict) else at
            if mine not in schema.names:
                found.append(_wrong(at, f"no column {mine!r} comes in", schema.names, mine))
            if its_keys and its not in table.names:
                found.append(_wrong(at, f"{self._name} has no column {its!r}", table.names, its))
        for number, (new, its) in enumerate(self._taken(table).items()):
            at = ("take", new) if isinstance(self.take, dict) else ("take", number) if self.take else ()
            if its not in table.names:
                found.append(_wrong(at, f"{self._name} has no column {its!r}", table.names, its))
            elif new in schema.names:
                what = f"column {new!r} is there already"
                fix = "take it under a new name, such as `take: {NEW: " + its + "}`"
                found.append(Invalid(Problem("", 0, 0, what, fix, at)))
        return [problem for fault in found for problem in fault.problems]

    def _keys_typed(self, table: pa.RecordBatch, schema: pa.Schema, sandbox: Sandbox) -> pa.RecordBatch:
        """The table with keys that are text, in a file that knows little else, of the input's type."""
        if str(self.table).lower().endswith(".parquet"):
            return table
        types = {
            its: type_named(plain(schema.field(mine).type), sandbox)
            for mine, its in self._on().items()
            if its not in self.columns and pa.types.is_string(table.schema.field(its).type)
        }
        try:
            return typed(table, types, self._name, sandbox)
        except (Invalid, duckdb.Error) as fault:
            what = f"{str(fault).split('; ')[0]}, as the input's column is"
            raise Invalid(Problem("", 0, 0, what, "mend the table, or cast the input's column", ("on",))) from fault

    def _kinds(self, schema: pa.Schema, table: pa.Schema) -> pa.Schema:
        """The columns of the key, in the types in which they are compared."""
        return pa.schema([self._common(schema.field(mine), table.field(its)) for mine, its in self._on().items()])

    def _common(self, mine: pa.Field, its: pa.Field) -> pa.Field:
        """The type that holds the input's values and the table's."""
        try:
            return common(mine, its)
        except Invalid as fault:
            what = f"column {mine.name!r} is {mine.type}, {its.name!r} of {self._name} is {its.type}"
            fix = "make them one type, with a map before or with `columns`"
            raise Invalid(Problem("", 0, 0, what, fix, ("on",))) from fault


def _unheard(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
    """Problems were told when the whole flow was checked."""


def _wrong(at: tuple[str | int, ...], what: str, there: list[str], name: str) -> Invalid:
    return Invalid(Problem("", 0, 0, what, suggestion(name, there), at))


def _at(problem: Problem, at: tuple[str | int, ...]) -> Problem:
    return Problem(problem.path, problem.line, problem.column, problem.what, problem.fix, at)
