"""Reads a database's table, view or query: the fields, checks and the way of a position that all such adapters share.

An adapter says how its database is opened, what its tables look like and how a split is read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.finding import Hits
from pipelines.node import Chunk, Get, Json, Report, Schemas, Split, SplitPlan, Want
from pipelines.scope import Scope
from pipelines.tables import positions
from pipelines.tables.finding import Matching, check_find, find
from pipelines.tables.positions import Reach, Span
from pipelines.tables.relation import (
    Column,
    Names,
    Relation,
    arrow_type_of,
    as_list,
    is_number,
    named,
    relation,
    suggestion,
)

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox

SEEN = "__seen"
"""The temporary table of keys that a boundary span reads or leaves out."""


class Reader(Protocol):
    """A read-only connection to a database."""

    def tables(self) -> list[str]:
        """The names of tables and views."""

    def columns(self, get: TableGet, values: Mapping[str, object]) -> list[Column]:
        """All columns of what `get` reads, its parameters being `values`. `Invalid`: the query cannot be read; empty: there is no such table."""

    def rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        """The rows of a small answer; of `values` those that the statement names are bound."""

    def highest(self, cursor: str, column: Column) -> str:
        """SQL for the highest value of a column, in the order in which `restore` compares."""

    def capture(self, column: str) -> str:
        """SQL that gives a column's value in a form that a position keeps exactly."""

    def restore(self, parameter: str, column: Column) -> str:
        """SQL that gives a kept value back as one of the column's type."""

    def among(self, get: TableGet, keys: Sequence[Sequence[object]], values: Mapping[str, object]) -> str:
        """SQL that is true for the records of `get` with one of these keys; the statement may see what it puts aside for it."""

    def matching(self, get: TableGet, matching: Matching, values: dict[str, object]) -> str:
        """SQL that is true for the records of `get` with one of these keys, by a list that its indexes can be searched for;
        it may be true for more. What is bound is put into `values`."""

    def unmatched(self, column: Column) -> str:
        """Why a column's values cannot be compared by `matching`, as the end of a sentence; nothing: they can."""

    def whole(self, span: Json) -> Json:
        """A split's payload for all of a span in one piece, as it is now."""

    def splits(self, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
        """Cuts what `get` reads into splits, each of one of the spans; those marked are worth cutting."""

    def read(self, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        """The records of a split, by ascending ordinal."""


class Keeper(Reader, Protocol):
    """A reader that puts keys into a temporary table, and finds them there."""

    def same(self, one: str, other: str) -> str:
        """SQL that is true where both are equal or both are null."""

    def keep(self, keys: Sequence[Sequence[object]]) -> None:
        """Puts keys into the temporary table `SEEN`, columns `k0`, `k1`, …"""


def among_kept(reader: Keeper, get: TableGet, keys: Sequence[Sequence[object]], values: Mapping[str, object]) -> str:
    """SQL that is true for the records with one of these keys, which the reader keeps."""
    reader.keep(keys)
    place = get.relation()
    matches = " AND ".join(
        reader.same(reader.restore(f"{SEEN}.k{number}", get.column(reader, key, values)), place.column(key))
        for number, key in enumerate(as_list(get.key))
    )
    return f"EXISTS (SELECT 1 FROM {SEEN} WHERE {matches})"


def gone(get: TableGet, column: str, there: Collection[str]) -> Invalid:
    """What is to be said where a column that the check found is not among those that are there."""
    if get.table is not None and not there:
        return Invalid(f"there is no table {get.table!r} any more; it was there when the flow was checked")
    return Invalid(f"there is no column {column!r} any more; the table or query has changed since the flow was checked")


class TableGet(Get):
    """Reads a table, view or query of a database."""

    category: ClassVar[str] = "databases"

    connection: str
    """The connection's name."""
    table: str | None = None
    """The table or view to read; or `query`."""
    query: str | None = None
    """One SELECT in the database's own SQL; `$name` is a parameter or variable, bound and never pasted. It is read in
    one piece, in the order of `key` where that is given."""
    columns: Names | dict[str, str] | None = None
    """Which columns to read: names, or names to DuckDB types to read them as. Without it, all, as they are declared."""
    where: str | None = None
    """A condition in the database's own SQL, computed by the database; `$name` is bound and never pasted."""
    key: Names | None = None
    """The columns that identify a record. With `cursor` they tell records of equal cursor values apart."""
    cursor: str | None = None
    """A column that grows with every change: a run reads what is above the last run's highest value. With `key`,
    records that arrive later with that same value are read too, each once; without it they are not. A record that
    arrives with a lower value, or with none, is not read; those with none are counted in the run's notes."""

    @abstractmethod
    def reader(self, scope: Scope) -> AbstractContextManager[Reader]:
        """The database opened for reading."""

    def relation(self) -> Relation:
        return relation(self.table, self.query)

    def later(self, one: Json, other: Json) -> Json:
        return positions.later(one, other)

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        with self.reader(scope) as reader:
            return self.planned(reader, scope, position, want)

    def planned(self, reader: Reader, scope: Scope, position: Json, want: Want) -> SplitPlan:
        """The plan that a reader of the database finds."""
        if self.cursor is None:
            return SplitPlan(tuple(reader.splits(self, [({}, want.rows is None)])))
        of = [(self.table or "").casefold(), self.cursor.casefold()]
        after = position if position and position["of"] == of else None
        if want.rows is not None:  # for a look at some records the highest value need not be known
            span = Span(above=after["at"]) if after else Span()
            return SplitPlan(tuple(reader.splits(self, [(span.to_json(), False)])), position)
        reach, note = self.reach(reader, scope, after)
        if position and after is None:
            note = "; ".join(["another cursor than in the last run: read from the beginning", *filter(None, [note])])
        spans = [(span.to_json(), False) for span in reach.edges]
        if reach.bulk is not None:
            spans.insert(0, (reach.bulk.to_json(), after is None))
        found = None if reach.position is None else {**reach.position, "of": of}
        if after and "until" in after:
            found = after["then"]
        return SplitPlan(tuple(reader.splits(self, spans)), found, note)

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        with self.reader(scope) as reader:
            yield from reader.read(self, split, schema, scope, want)

    def check_find(self, keys: pa.Schema, on: Mapping[str, str], scope: Scope, report: Report) -> pa.Schema | None:
        return check_find(self, keys, on, scope, report)

    def find(
        self,
        keys: pa.RecordBatch,
        on: Mapping[str, str],
        columns: Sequence[str],
        scope: Scope,
        sandbox: Sandbox,
        heed: Callable[[], None],
    ) -> Hits:
        return find(self, keys, on, columns, scope, sandbox, heed)

    def position_at(self, scope: Scope, first: str, last: str | None, then: Json) -> Json:
        if self.cursor is None:
            return super().position_at(scope, first, last, then)
        with self.reader(scope) as reader:
            column = self.column(reader, self.cursor, self.values(scope))
            first, last = [self._cursor_value(reader, column, text) for text in (first, last)]
        position = positions.set_back(first, last, then, is_number(column.type))
        return {**position, "of": [(self.table or "").casefold(), self.cursor.casefold()]}

    def _cursor_value(self, reader: Reader, column: Column, text: str | None) -> Json:
        """A value that a person wrote, as positions keep it."""
        if text is None:
            return None
        value = positions.number_of(text) if is_number(column.type) else text
        if value is None:
            raise Invalid(f"cursor {column.name!r} holds numbers, and {text!r} is none")
        kept = reader.rows(f"SELECT {reader.capture(reader.restore('$__value', column))}", {"__value": value})
        return positions.packed(kept[0][0])

    def values(self, scope: Scope) -> dict[str, object]:
        """What the parameters of `where` and `query` are bound to."""
        names = [name for sql in (self.where, self.query) if sql for name in named(sql)]
        for name in names:
            if name not in scope.values:
                raise Invalid(f"${name} is no parameter or variable; {suggestion(name, sorted(scope.values))}")
        return {name: scope.values[name] for name in names}

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        if (self.table is None) == (self.query is None):
            report(("table",), "a table is read, or a query: one of them", "give `table` or `query`")
            return {"out": None}
        try:
            values = self.values(scope)
            with self.reader(scope) as reader:
                return {"out": self._checked(reader, values, report)}
        except Invalid as fault:
            for problem in fault.problems:
                report(("connection",), problem.what, problem.fix)
        return {"out": None}

    def _checked(self, reader: Reader, values: Mapping[str, object], report: Report) -> pa.Schema | None:
        try:
            there = reader.columns(self, values)
        except Invalid as fault:
            report(("query",) if self.query else ("table",), str(fault), "")
            return None
        if not there:
            report(("table",), f"there is no table {self.table!r}", suggestion(str(self.table), reader.tables()))
            return None
        fields = {"columns": as_list(self.columns), "key": as_list(self.key), "cursor": as_list(self.cursor)}
        names = [column.name for column in there]
        for place, wanted in fields.items():
            for name in wanted:
                if name not in names:
                    report((place,), f"there is no column {name!r}", suggestion(name, names))
        barriers = list(self.barriers(reader, there, values))
        for what, fix in barriers:
            report(("query",) if self.query else ("table",), what, fix)
        if self.where is not None and not barriers:
            try:
                reader.rows(f"SELECT 1 FROM {self.relation().sql} WHERE ({self.where}\n) LIMIT 0", values)
            except Invalid as fault:
                report(("where",), str(fault), "")
        try:
            return pa.schema([column.field() for column in self.picked(there)])
        except Invalid as fault:
            report(("columns",), str(fault), "")
            return None

    def barriers(
        self, reader: Reader, there: Sequence[Column], values: Mapping[str, object]
    ) -> Iterable[tuple[str, str]]:
        """Why the database would not let these columns be read, as far as they are asked for: what is in the way, and what to do about it."""
        return ()

    def picked(self, there: Sequence[Column]) -> list[Column]:
        """The columns that are read, in the order they are asked for."""
        if self.columns is None:
            return list(there)
        types = self.columns if isinstance(self.columns, dict) else {}
        by_name = {column.name: column for column in there}
        wanted = [by_name[name] for name in as_list(self.columns) if name in by_name]
        return [
            replace(column, type=arrow_type_of(types[column.name])) if column.name in types else column
            for column in wanted
        ]

    def reach(self, reader: Reader, scope: Scope, after: Json) -> tuple[Reach, str]:
        """What to read by cursor after a position, and a sentence about it."""
        place, values = self.relation(), self.values(scope)
        column = self.column(reader, str(self.cursor), values)
        cursor, keys = place.column(column.name), as_list(self.key)
        conditions = [f"({self.where}\n)"] if self.where else []
        nulls = f"SELECT count(*) FROM {place.sql} WHERE {' AND '.join([*conditions, f'{cursor} IS NULL'])}"
        missing = reader.rows(nulls, values)[0][0]
        note = f"{missing} records without {column.name} are not read" if missing else ""
        if after:
            sign = ">=" if keys or positions.includes_its_value(after) else ">"
            conditions.append(f"{cursor} {sign} {reader.restore('$__after', column)}")
            values["__after"] = positions.unpacked(after["at"])
            if "until" in after:
                conditions.append(f"{cursor} <= {reader.restore('$__until', column)}")
                values["__until"] = positions.unpacked(after["until"])
        found = " AND ".join(conditions) or "true"
        highest = f"SELECT {reader.capture(reader.highest(cursor, column))} FROM {place.sql} WHERE {found}"
        at = reader.rows(highest, values)[0][0]
        if at is None:
            return Reach(None, (), after), note
        as_number = not isinstance(at, str) or is_number(column.type)
        if not keys:
            return positions.reach(after, positions.packed(at), None, as_number), note
        boundary = self._keys_at(reader, place, column, at, values)
        return positions.reach(after, positions.packed(at), boundary, as_number), note

    def _keys_at(
        self, reader: Reader, place: Relation, column: Column, at: object, values: Mapping[str, object]
    ) -> list[Json]:
        names = as_list(self.key)
        picked = ", ".join(reader.capture(place.column(name)) for name in names)
        conditions = [f"{place.column(column.name)} = {reader.restore('$__at', column)}"]
        conditions += [f"({self.where}\n)"] if self.where else []
        found = reader.rows(
            f"SELECT {picked} FROM {place.sql} WHERE {' AND '.join(conditions)} LIMIT {positions.KEYS_MOST + 1}",
            {**values, "__at": at},
        )
        if len(found) > positions.KEYS_MOST:
            raise Invalid(
                f"cursor {column.name!r}: more than {positions.KEYS_MOST} records have its highest value {at!r}, too "
                f"many to tell apart by key; take a column that is finer, or leave out `key` where none arrive later"
            )
        return [[positions.packed(value) for value in row] for row in found]

    def column(self, reader: Reader, name: str, values: Mapping[str, object]) -> Column:
        """The column of a name."""
        there = {column.name: column for column in reader.columns(self, values)}
        if name not in there:
            raise Invalid(f"there is no column {name!r}; {suggestion(name, list(there))}")
        return there[name]

    def condition(self, reader: Reader, scope: Scope, span: Mapping[str, Json]) -> tuple[str, dict[str, object]]:
        """The SQL of `where` and a span, with what is bound; the keys of a boundary span are put where it sees them."""
        values = self.values(scope)
        conditions = [f"({self.where}\n)"] if self.where else []
        place = self.relation()
        if "matching" in span:
            conditions.append(reader.matching(self, span["matching"], values))
        elif span:
            column = self.column(reader, str(self.cursor), values)
            for name, sign in (("above", ">"), ("below", "<"), ("upto", "<="), ("at", "=")):
                if span.get(name) is not None:
                    values[f"__{name}"] = positions.unpacked(span[name])
                    conditions.append(f"{place.column(column.name)} {sign} {reader.restore(f'$__{name}', column)}")
        for name, word in (("only", ""), ("without", "NOT ")):
            if span.get(name) is not None:
                keys = [[positions.unpacked(value) for value in key] for key in span[name]]
                conditions.append(f"{word}{reader.among(self, keys, values)}")
        return " AND ".join(conditions) or "true", values
