"""Finds records of a database's table, view or query by key: many keys a statement, each value as its column has it.

The database narrows down by what it takes for equal (its collation, its padding), so that its indexes serve; what comes
is then compared here, exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Invalid
from pipelines.finding import Hits
from pipelines.node import Chunk, Report, Want
from pipelines.scope import Scope
from pipelines.tables.keys import Keys, common, plain
from pipelines.tables.relation import Column, arrow_type_of, suggestion

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox
    from pipelines.tables.get import Reader, TableGet

KEYS_AT_ONCE = 1_000
KEPT = 2
"""So many records of a key are told: one that has more than one is ambiguous, however many there are."""


@dataclass(frozen=True)
class Matching:
    """The keys of one statement: the columns to compare, and per column the values, each of its column's own type."""

    columns: Sequence[Column]
    keys: pa.RecordBatch


def found_columns(get: TableGet, reader: Reader, scope: Scope) -> dict[str, Column]:
    """All columns of what a get reads, those of the types that it declares."""
    types = get.columns if isinstance(get.columns, dict) else {}
    there = {column.name: column for column in reader.columns(get, get.values(scope))}
    gone = [name for name in types if name not in there]
    if gone:
        raise Invalid(f"there is no column {gone[0]!r}; {suggestion(gone[0], list(there))}")
    return {
        name: replace(column, type=arrow_type_of(types[name])) if name in types else column
        for name, column in there.items()
    }


def check_find(get: TableGet, keys: pa.Schema, on: Mapping[str, str], scope: Scope, report: Report) -> pa.Schema | None:
    """The columns that can be found, and what is wrong with the key."""
    if get.model_copy(update={"columns": None}).check({}, scope, report)["out"] is None:
        return None
    types = get.columns if isinstance(get.columns, dict) else {}
    with get.reader(scope) as reader:
        try:
            there = found_columns(get, reader, scope)
        except Invalid as fault:
            report(("columns",), str(fault), "")
            return None
        for mine, its in on.items():
            if its not in there:
                report(("on",), f"there is no column {its!r}", suggestion(its, list(there)))
            elif its in types:
                report(("columns", its), "a key is compared as the database has it", "take it out of `columns`")
            elif (why := reader.unmatched(there[its])) or pa.types.is_nested(there[its].type):
                what = f"column {its!r} is {there[its].declared}, {why or 'which can be no key'}"
                report(("on",), what, "look it up by another column, or by a `query` that gives it as text")
            elif mine in keys.names:
                common(keys.field(mine), there[its].field())
    return pa.schema([column.field() for column in there.values()])


def find(
    get: TableGet,
    keys: pa.RecordBatch,
    on: Mapping[str, str],
    columns: Sequence[str],
    scope: Scope,
    sandbox: Sandbox,
    heed: Callable[[], None],
) -> Hits:
    """The records of some keys, with these columns."""
    with ExitStack() as opened:
        asking = _Asking(get, keys, on, columns, scope, sandbox, opened)
        for start in range(0, len(asking.rows), KEYS_AT_ONCE):
            heed()
            asking.ask(asking.rows[start : start + KEYS_AT_ONCE])
        return asking.hits()


class _Asking:
    """One search: what was found so far."""

    def __init__(
        self,
        get: TableGet,
        keys: pa.RecordBatch,
        on: Mapping[str, str],
        columns: Sequence[str],
        scope: Scope,
        sandbox: Sandbox,
        opened: ExitStack,
    ) -> None:
        self._get, self._scope, self._sandbox, self._opened = get, scope, sandbox, opened
        self._reader = opened.enter_context(get.reader(scope))
        there = found_columns(get, self._reader, scope)
        names = list(dict.fromkeys([*on.values(), *columns]))
        gone = [name for name in names if name not in there]
        if gone:
            raise Invalid(f"there is no column {gone[0]!r} any more; it has changed since the flow was checked")
        self._on = list(on.values())
        self._columns = [there[its] for its in self._on]
        self._schema = pa.schema([there[name].field() for name in names])
        self._gives = pa.schema([there[name].field() for name in columns])
        self._kinds = pa.schema([common(keys.schema.field(mine), there[its].field()) for mine, its in on.items()])
        typed = [_plain(keys.column(field.name)).cast(field.type) for field in self._kinds]
        self._index = Keys(pa.RecordBatch.from_arrays(typed, schema=self._kinds), sandbox)
        stored = [_stored(column, its.type) for column, its in zip(typed, self._columns, strict=True)]
        self._stored = pa.RecordBatch.from_arrays(stored, names=[f"k{number}" for number in range(len(stored))])
        whole = np.logical_and.reduce([column.is_valid().to_numpy(zero_copy_only=False) for column in stored])
        self.rows = np.flatnonzero(whole)
        """The keys that the table can have at all: no other value fits its columns."""
        self._seen = np.zeros(keys.num_rows, dtype=np.int64)
        self._found: list[pa.RecordBatch] = []
        self._places: list[np.ndarray] = []
        self._faults: dict[int, tuple[str, str]] = {}

    def ask(self, rows: np.ndarray) -> None:
        """Asks for some keys; where one of them spoils the answer for all, for fewer and fewer."""
        try:
            chunks = list(self._kept(rows))
        except Invalid as fault:
            self._reader = self._opened.enter_context(self._get.reader(self._scope))
            if not len(rows):
                raise
            self.ask(rows[:0])  # what is wrong with the statement itself is wrong without keys too
            self._halve(rows, ("refused", str(fault)))
            return
        bad = next((chunk.malformed.messages[0] for chunk, _ in chunks if chunk.malformed is not None), None)
        if bad is not None:
            self._halve(rows, ("type", bad))
            return
        for chunk, places in chunks:
            self._keep(chunk.batch, places)

    def hits(self) -> Hits:
        table = pa.Table.from_batches(self._found, self._gives).combine_chunks().to_batches()
        batch = table[0] if table else pa.RecordBatch.from_pylist([], schema=self._gives)
        places = np.concatenate(self._places) if self._places else np.empty(0, np.int64)
        return Hits(batch, pa.array(places, pa.int64()), self._faults)

    def _halve(self, rows: np.ndarray, fault: tuple[str, str]) -> None:
        if len(rows) == 1:
            self._faults[int(rows[0])] = fault
            return
        middle = len(rows) // 2
        self.ask(rows[:middle])
        self.ask(rows[middle:])

    def _kept(self, rows: np.ndarray) -> Iterator[tuple[Chunk, np.ndarray]]:
        """What the database gives for some keys: of each no more than are told, however many there are."""
        matching = Matching(self._columns, self._stored.take(pa.array(rows, pa.int64())))
        split = self._reader.whole({"matching": matching})
        left = np.full(len(self._seen), KEPT, dtype=np.int64)
        for chunk in self._reader.read(self._get, split, self._schema, self._scope, Want()):
            typed = [chunk.batch.column(its).cast(field.type) for its, field in zip(self._on, self._kinds, strict=True)]
            places = self._index.find(pa.RecordBatch.from_arrays(typed, schema=self._kinds), self._sandbox)
            chosen = []
            for row in np.flatnonzero(places >= 0):  # the records of at most a thousand keys
                if left[places[row]]:
                    left[places[row]] -= 1
                    chosen.append(row)
            batch = chunk.batch.take(pa.array(chosen, pa.int64()))
            yield replace(chunk, batch=batch), places[chosen]

    def _keep(self, batch: pa.RecordBatch, places: np.ndarray) -> None:
        if batch.num_rows:
            self._found.append(batch.select(self._gives.names))
            self._places.append(places)


def _plain(column: pa.Array) -> pa.Array:
    return column if column.type.equals(plain(column.type)) else column.cast(plain(column.type))


def _stored(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values as a column of the table has them; null where it can have no such value."""
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        return pa.array([_value(value, kind) for value in column], kind)  # one by one: which of them does not fit


def _value(value: pa.Scalar, kind: pa.DataType) -> object:
    try:
        return pc.cast(value, kind).as_py()
    except pa.ArrowInvalid:
        return None
