"""Expressions of a flow: DuckDB SQL over the columns of a batch, bound at design time, computed batch by batch.

Binding and computing are DuckDB's own; nothing here reads SQL. A column's bare name is no computation: the column goes
through as it is, whatever its Arrow type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

import duckdb
import pyarrow as pa
from pydantic import Field

from pipelines.errors import Invalid
from pipelines.node import Report
from pipelines.scope import Scope
from pipelines.sql.faults import Fault, Faults
from pipelines.sql.halving import is_of_data
from pipelines.sql.parsed import Parsed, enclosed, parse
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.sql.wording import ONE_RECORD, explained, one_line

Expression = Annotated[str, Field(json_schema_extra={"format": "duckdb-expression"})]
"""A scalar expression in DuckDB SQL over the columns of the input; `$name` is a parameter or variable."""

NO_CONDITION = ("gives {}, not true or false", "compare it with something, such as x > 0 or x is not null")
SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wrong:
    """What is wrong with one expression, and what would be right."""

    name: str
    what: str
    fix: str = ""


@dataclass(frozen=True)
class Bound:
    """Expressions against the columns they will see: what they give, what they use, what is wrong."""

    schema: pa.Schema
    """A column for each expression in which nothing is wrong, in their order."""
    columns: Mapping[str, frozenset[str]]
    """The input's columns that each of them uses."""
    problems: tuple[Wrong, ...] = ()

    @property
    def used(self) -> frozenset[str]:
        """The input's columns that any of them uses."""
        return frozenset[str]().union(*self.columns.values())


@dataclass(frozen=True)
class Evaluated:
    """What expressions gave for a batch: a column each, a row for each input row, null where there was a fault."""

    columns: pa.RecordBatch
    faults: tuple[Fault, ...] = ()
    """By ascending row; a row may have one for each expression."""


@dataclass(frozen=True)
class Layout:
    """How expressions are computed: which are columns as they are, and one SELECT for the rest."""

    direct: Mapping[str, str]
    """Names of expressions that are a column, to that column."""
    computed: Mapping[str, str]
    """The others, spelled out for DuckDB, over columns as `taken` names them."""
    schema: pa.Schema
    """The columns that the computed ones use."""

    def select(self, names: Iterable[str] | None = None) -> str:
        return ", ".join(enclosed(self.computed[name], name) for name in names or self.computed)


def bind(
    expressions: Mapping[str, str],
    schema: pa.Schema,
    values: Mapping[str, object],
    sandbox: Sandbox,
    now: datetime = SOME_TIME,
) -> Bound:
    """What the expressions give over records of `schema`; problems are values, not errors."""
    parsed = dict(zip(expressions, parse(expressions.values(), sandbox), strict=True))
    problems = [wrong for name, each in parsed.items() for wrong in _faulty(name, each, schema, values)]
    bad = {wrong.name for wrong in problems}
    sound = {name: each for name, each in parsed.items() if name not in bad}
    types, more = _typed(sound, schema, values, sandbox, now)
    return Bound(
        pa.schema([pa.field(name, types[name]) for name in expressions if name in types]),
        {name: parsed[name].columns(schema) for name in expressions if name in types},
        tuple(sorted((*problems, *more), key=lambda wrong: list(expressions).index(wrong.name))),
    )


def _faulty(name: str, parsed: Parsed, schema: pa.Schema, values: Mapping[str, object]) -> Iterable[Wrong]:
    if parsed.what:
        yield Wrong(name, parsed.what, parsed.fix)
    for what, fix in parsed.missing(values):
        yield Wrong(name, what, fix)


def _typed(
    parsed: Mapping[str, Parsed], schema: pa.Schema, values: Mapping[str, object], sandbox: Sandbox, now: datetime
) -> tuple[dict[str, pa.DataType], list[Wrong]]:
    """The Arrow type of each, by preparing all at once, or, where that fails, one by one."""
    layout = lay(parsed, schema, values, now)
    if twins := _twins(layout.schema):
        return {}, [
            Wrong(name, f"uses columns {' and '.join(twins)}, which differ only in case", "rename one in a map before")
            for name, each in parsed.items()
            if each.columns(schema) & set(twins)
        ]
    types = {name: schema.field(column).type for name, column in layout.direct.items()}
    problems: list[Wrong] = []
    if not layout.computed:
        return types, problems
    try:
        prepared = sandbox.prepare(layout.select(), layout.schema)
        if not prepared.rows_of_nothing and not any(_strange(column.type) for column in prepared.schema):
            return types | {column.name: column.type for column in prepared.schema}, problems
    except duckdb.Error:
        pass  # one by one will tell which it was
    for name in layout.computed:
        one = lay({name: parsed[name]}, schema, values, now)
        found = _type_of(one.select(), one.schema, schema, sandbox)
        if isinstance(found, pa.DataType):
            types[name] = found
        else:
            problems.append(Wrong(name, *found))
    return types, problems


def _twins(schema: pa.Schema) -> list[str]:
    """Columns that DuckDB would take for one another."""
    folded = [name.lower() for name in schema.names]
    return [name for name in schema.names if folded.count(name.lower()) > 1]


def _type_of(select: str, used: pa.Schema, schema: pa.Schema, sandbox: Sandbox) -> pa.DataType | tuple[str, str]:
    try:
        prepared = sandbox.prepare(select, used)
    except duckdb.NotSupportedError as fault:
        kinds = ", ".join(sorted({str(column.type) for column in used}))
        return f"uses columns of types {kinds}: {one_line(str(fault))}", "pass such a column on with `keep`"
    except duckdb.Error as fault:
        return explained(str(fault), schema.names)
    if prepared.rows_of_nothing:
        return ONE_RECORD
    kind = prepared.schema.field(0).type
    if _strange(kind):
        return f"gives {kind}, which no batch can hold", "cast it, such as x::VARCHAR"
    return kind


def _strange(kind: pa.DataType) -> bool:
    """Types that Arrow holds only as bytes of DuckDB's own, or that nothing else reads."""
    return isinstance(kind, pa.BaseExtensionType) or pa.types.is_union(kind)


def lay(parsed: Mapping[str, Parsed], schema: pa.Schema, values: Mapping[str, object], now: datetime) -> Layout:
    """How sound expressions are computed over the columns that they use, and no others."""
    direct = {name: column for name, each in parsed.items() if (column := each.column(schema)) is not None}
    rest = {name: each for name, each in parsed.items() if name not in direct}
    used = frozenset[str]().union(*(each.columns(schema) for each in rest.values()))
    return Layout(
        direct,
        {name: each.spelled(schema, values, now) for name, each in rest.items()},
        pa.schema([pa.field(column.name, column.type) for column in schema if column.name in used]),
    )


class Evaluator:
    """Expressions made ready for one worker thread: planned once, then run over batch after batch.

    Raises:
        Invalid: where an expression does not bind; `check` told so before the run.
    """

    def __init__(self, expressions: Mapping[str, str], schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> None:
        bound = bind(expressions, schema, scope.values, sandbox, scope.now)
        if bound.problems:
            raise Invalid("; ".join(f"{wrong.name} {wrong.what}" for wrong in bound.problems))
        self.schema = bound.schema
        parsed = dict(zip(expressions, parse(expressions.values(), sandbox), strict=True))
        self._layout = layout = lay(parsed, schema, scope.values, scope.now)
        self._prepared = sandbox.prepare(layout.select(), layout.schema) if layout.computed else None
        gives = pa.schema([column for column in self.schema if column.name in layout.computed])
        self._faults = Faults(layout.computed, layout.schema, gives, sandbox)

    def __call__(self, batch: pa.RecordBatch) -> Evaluated:
        """The expressions computed for each record, in their order."""
        if self._prepared is None:
            return Evaluated(self._assembled(batch, None))
        faults: tuple[Fault, ...] = ()
        try:
            try:
                found = self._prepared(batch)
            except duckdb.OutOfMemoryException:
                raise
            except duckdb.Error as error:
                if not is_of_data(error):
                    raise
                found, faults = self._faults(batch)
        except duckdb.OutOfMemoryException as error:
            return self._in_halves(batch, error)
        return Evaluated(self._assembled(batch, found), faults)

    def _assembled(self, batch: pa.RecordBatch, found: pa.RecordBatch | None) -> pa.RecordBatch:
        columns = [
            batch.column(self._layout.direct[name])
            if found is None or name in self._layout.direct
            else found.column(name)
            for name in self.schema.names
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _in_halves(self, batch: pa.RecordBatch, error: duckdb.Error) -> Evaluated:
        """Half as many records at a time, where all at once did not fit into memory."""
        if batch.num_rows <= 1:
            message = f"{', '.join(self._layout.computed)}: {one_line(str(error))}"
            nothing = [pa.nulls(batch.num_rows, column.type) for column in self.schema]
            columns = pa.RecordBatch.from_arrays(nothing, schema=self.schema)
            return Evaluated(columns, (Fault(0, next(iter(self._layout.computed)), message),))
        half = batch.num_rows // 2
        first, second = self(batch.slice(0, half)), self(batch.slice(half))
        later = (replace(fault, row=fault.row + half) for fault in second.faults)
        return Evaluated(pa.concat_batches([first.columns, second.columns]), (*first.faults, *later))


def check_expressions(
    expressions: Mapping[str, str],
    schema: pa.Schema,
    scope: Scope,
    report: Report,
    places: Mapping[str, tuple[str | int, ...]] | None = None,
    conditions: Iterable[str] = (),
) -> Bound:
    """Binds the expressions of a node and reports what is wrong at each one's field.

    Args:
        places: where each stands inside the node's text; those missing stand at their own name.
        conditions: those that must give true or false.
    """
    with borrowed(scope) as sandbox:
        bound = bind(expressions, schema, scope.values, sandbox, scope.now)
    places = places or {}
    for wrong in bound.problems:
        report(places.get(wrong.name, (wrong.name,)), f"{shortened(expressions[wrong.name])}: {wrong.what}", wrong.fix)
    for name in conditions:
        kind = bound.schema.field(name).type if name in bound.schema.names else pa.bool_()
        if not (pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            what, fix = NO_CONDITION
            report(places.get(name, (name,)), f"{shortened(expressions[name])}: {what.format(kind)}", fix)
    return bound


def shortened(text: str) -> str:
    """An expression as a message names it."""
    text = " ".join(text.split())
    return f"expression {text!r}" if len(text) <= 60 else f"expression {text[:59] + '…'!r}"


def used_columns(expressions: Iterable[str], schema: pa.Schema, sandbox: Sandbox) -> frozenset[str]:
    """The columns of `schema` that any of the expressions uses."""
    return frozenset[str]().union(*(each.columns(schema) for each in parse(expressions, sandbox)))
