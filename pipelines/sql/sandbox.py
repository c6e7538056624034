"""A locked-down DuckDB for expressions: in memory, in this thread, without files, network, extensions or settings.

Opening the database costs some 20 ms, a connection of its own to it 0.04 ms: one database serves a process, each
worker thread borrows a `Sandbox`, and what a sandbox has prepared stays ready for the next run that borrows it.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pipelines.errors import Bug, Cancelled

if TYPE_CHECKING:
    from pipelines.scope import Scope

LEAST_BYTES = 1 << 27
KEPT_STATEMENTS = 256
"""How many prepared statements a sandbox keeps; the longest unused goes first."""
NO_COLUMN = "__nothing"
"""Stands in where a statement uses no column at all, so that DuckDB knows the number of records."""

ERROR_IN_A_BOX = "CREATE MACRO error(message) AS [NULL][CAST('!' || message AS BIGINT)]"
"""DuckDB lets no `error(…)` into a `TRY`, because it takes it for volatile; this one fails just as well."""

_lock = threading.Lock()
_idle: dict[tuple[int, int], list[Sandbox]] = {}


class Sandbox:
    """A DuckDB connection for the expressions of one thread, opened at its first use.

    With `careful` it belongs to a database that computes each expression by itself: DuckDB would otherwise move what
    two expressions share out of a `TRY`, where its fault is not caught.
    """

    def __init__(self, limit_bytes: int = LEAST_BYTES, careful: bool = False) -> None:
        self.limit_bytes = limit_bytes
        self._is_careful = careful
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._prepared: OrderedDict[tuple[str, pa.Schema, str], Prepared] = OrderedDict()
        self._beside: Sandbox | None = None
        self._count = 0
        self.remembered: dict[object, object] = {}
        """What was found out about expressions with this sandbox, by whoever asked; grows with the flows' texts."""

    @classmethod
    def borrow(cls, scope: Scope) -> Sandbox:
        """A sandbox for the calling thread, warm where an earlier run has given one back."""
        limit_bytes = max(scope.environment.runner.memory_bytes // 4, LEAST_BYTES)
        with _lock:
            idle = _idle.get((os.getpid(), limit_bytes))
            return idle.pop() if idle else cls(limit_bytes)

    def give_back(self) -> None:
        """Lets another thread borrow it. Not to be used by this one any more."""
        with _lock:
            _idle.setdefault((os.getpid(), self.limit_bytes), []).append(self)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        if self._connection is None:
            with _lock:
                self._connection = _database(os.getpid(), self.limit_bytes, self._is_careful).cursor()
        return self._connection

    @property
    def careful(self) -> Sandbox:
        """The sandbox whose `TRY` catches every fault."""
        if self._is_careful:
            return self
        if self._beside is None:
            self._beside = Sandbox(self.limit_bytes, careful=True)
        return self._beside

    def prepare(self, items: str, schema: pa.Schema, then: str = "") -> Prepared:
        """`SELECT items` over batches of `schema`, planned once. DuckDB's errors are the caller's to explain.

        `then` stands behind its `FROM`, as an `ORDER BY` does.
        """
        key = (items, schema, then)
        found = self._prepared.get(key)
        if found is None:
            self._count += 1
            found = self._prepared[key] = Prepared(self.connection, f"__batch_{self._count}", items, schema, then)
            if len(self._prepared) > KEPT_STATEMENTS:
                self._prepared.popitem(last=False)[1].close()
        else:
            self._prepared.move_to_end(key)
        return found

    def interrupt(self) -> None:
        """Ends the statement that its thread is running, if any, from another thread."""
        if self._beside is not None:
            self._beside.interrupt()
        if self._connection is not None:
            self._connection.interrupt()

    def fetch(self, query: str, parameters: list[object]) -> list[tuple[object, ...]]:
        """The rows of a query that touches no records."""
        rows: list[tuple[object, ...]] = self.connection.execute(query, parameters).fetchall()
        return rows

    def close(self) -> None:
        """Ends it; it opens again when used again."""
        if self._beside is not None:
            self._beside.close()
        if self._connection is not None:
            self._connection.close()
        self._prepared.clear()
        self._connection = self._beside = None

    def __reduce__(self) -> tuple[type[Sandbox], tuple[int, bool]]:
        return type(self), (self.limit_bytes, self._is_careful)


@contextmanager
def borrowed(scope: Scope) -> Iterator[Sandbox]:
    """A sandbox for as long as the block lasts."""
    sandbox = Sandbox.borrow(scope)
    try:
        yield sandbox
    finally:
        sandbox.give_back()


class Prepared:
    """One SELECT of a list, planned once and run over batch after batch.

    `schema` is what comes out, whatever comes in; rows keep their order and, unless the list has an aggregate, number, where
    nothing else stands behind its `FROM`.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, name: str, items: str, schema: pa.Schema, then: str = ""
    ) -> None:
        self._connection = connection
        self._name = name
        self._items = items
        self._then = then
        self._taken = schema
        self._given = _Given(schema)
        self._is_open = False
        nothing = self._open()
        self.schema: pa.Schema = nothing.schema
        self.rows_of_nothing: int = nothing.num_rows
        """0; 1 where the list aggregates."""

    def _open(self) -> pa.Table:
        self._connection.register(self._name, self._given)
        try:
            self._connection.execute(f'PREPARE "{self._name}" AS SELECT {self._items} FROM "{self._name}" {self._then}')
            nothing = self._run()
        except BaseException:
            self._connection.unregister(self._name)
            raise
        self._is_open = True
        return nothing

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The list computed over the batch's columns that it uses."""
        if not self._is_open:
            self._open()
        self._given.batch = _picked(batch, self._taken)
        try:
            found = self._run()
        finally:
            self._given.batch = None
        if not found.schema.equals(self.schema):
            raise Bug(f"DuckDB gave {found.schema} where it had announced {self.schema}")
        batches = found.combine_chunks().to_batches()
        return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=self.schema)

    def _run(self) -> pa.Table:
        try:
            return self._connection.sql(f'EXECUTE "{self._name}"').to_arrow_table()
        except duckdb.InterruptException as fault:
            raise Cancelled("a statement was interrupted") from fault
        except UnicodeDecodeError as fault:  # DuckDB cuts a value that it quotes, perhaps within a character
            raise duckdb.ConversionException("a value cannot be converted") from fault

    def close(self) -> None:
        """Frees the plan; it is made anew where the statement is used once more."""
        self._is_open = False
        self._connection.execute(f'DEALLOCATE "{self._name}"')
        self._connection.unregister(self._name)


class _Given:
    """What DuckDB scans: the batch of the moment, none of its buffers copied."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = pa.schema([_taken(field) for field in schema]) if len(schema) else _NOTHING
        self.batch: pa.RecordBatch | None = None

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batches = [] if self.batch is None else [self.batch]
        return pa.RecordBatchReader.from_batches(self.schema, batches).__arrow_c_stream__(requested_schema)


_NOTHING = pa.schema([pa.field(NO_COLUMN, pa.null())])


def _taken(field: pa.Field) -> pa.Field:
    """The field as DuckDB takes it: half floats it does not know, labels of extensions could change its mind, and
    of empty lists it cannot read elements that stand in a dictionary.
    """
    kind = pa.float32() if pa.types.is_float16(field.type) else _decoded_inside(field.type)
    return pa.field(field.name, kind)


def _decoded_inside(kind: pa.DataType) -> pa.DataType:
    """The type, lists in it without dictionaries."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = (
            kind.value_type.value_type if pa.types.is_dictionary(kind.value_type) else _decoded_inside(kind.value_type)
        )
        return pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _decoded_inside(field.type), field.nullable) for field in kind])
    return kind


def _picked(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    if not len(schema):
        return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows)], schema=_NOTHING)
    columns = []
    for field in schema:
        column = batch.column(field.name)
        if not column.type.equals(field.type):
            raise Bug(f"column {field.name!r} came as {column.type} where {field.type} was announced")
        kind = _taken(field).type
        columns.append(column if kind.equals(field.type) else column.cast(kind))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([_taken(field) for field in schema]))


@cache
def _database(process: int, limit_bytes: int, careful: bool) -> duckdb.DuckDBPyConnection:
    """The process's database, opened once; `process` keeps a forked child from using its parent's."""
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "enable_external_access": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": f"{limit_bytes}B",
        # Some functions meet values with an internal error, after which DuckDB refuses every connection to protect what
        # it stores. Here nothing is stored, and one record must not end the work on all others.
        "disable_database_invalidation": True,
    }
    if careful:
        settings["disabled_optimizers"] = "common_subexpressions"
    database = duckdb.connect(":memory:", config=settings)
    database.execute("SET GLOBAL TimeZone = 'UTC'; SET lock_configuration = true")
    if careful:
        database.execute(ERROR_IN_A_BOX)
    atexit.register(database.close)
    return database
