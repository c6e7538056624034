"""Writes DuckDB: stages the records beside the table, finds those it would refuse, loads the others in one transaction.

In DuckDB a statement that fails ends its transaction, and there are no savepoints. So what the catalogue knows of the
table (types, not null, checks, unique keys, references) is asked of the staged records first, by queries. Should
the table refuse something all the same, the records are found by halving, each attempt in a transaction of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.duckdb.opening import open_write, translated
from adapters.duckdb.reading import DuckdbReader, loses, target_sql
from adapters.duckdb.refusing import FITTED, ORDER, REFUSED, find_refused
from pipelines.errors import Invalid
from pipelines.node import Outcome, Part, Piece, Rejects
from pipelines.records import without_ids
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work, receipts, record_keys
from pipelines.tables.relation import Column, Table
from pipelines.tables.spool import TOKENS, in_order

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

STAGED = "__staged"
GOOD = f"{ORDER} NOT IN (SELECT place FROM {REFUSED})"
TRIES_MOST = 10_000
"""So many attempts to find refused records by halving."""


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The Arrow type that DuckDB is given for this one."""
    if isinstance(kind, pa.ExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_decimal(kind) and kind.precision <= 38:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_null(kind):
        return pa.string()
    return pa.date32() if pa.types.is_date64(kind) else kind


def plain(column: pa.Array) -> pa.Array:
    if isinstance(column.type, pa.ExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = plain_type(column.type)
    return column if column.type.equals(kind) else column.cast(kind)


def unfit(kind: pa.DataType, column: Column | None) -> str:
    """Why values of a type cannot go into a column (None: one made for them), or nothing."""
    return _unfit(kind, None if column is None else column.declared)


@lru_cache(maxsize=1_024)
def _unfit(kind: pa.DataType, declared: str | None) -> str:
    import duckdb

    given = pa.table({"item": pa.array([], plain_type(kind))}) if not pa.types.is_decimal256(plain_type(kind)) else None
    if given is None:
        return f"DuckDB has no type for {kind}"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", given)
        try:
            source = str(connection.execute("DESCRIBE FROM given").fetchall()[0][1])
            if declared is None or source == declared:
                return ""
            connection.execute(f"SELECT TRY_CAST(item AS {declared}) FROM given").fetchall()
        except duckdb.CatalogException:
            return ""  # a type of the database's own, such as a named enum: its values tell
        except duckdb.Error:
            return f"{kind} does not fit {declared}" if declared else f"DuckDB has no type for {kind}"
    is_text = source == "VARCHAR"
    if is_text and (loses(declared, "INTEGER") or declared == "BOOLEAN"):
        return f"{kind} does not fit {declared}"
    return f"{kind} does not fit {declared}" if (source, declared) == ("DOUBLE", "FLOAT") else ""


class DuckdbSession:
    """One connection that writes, with one transaction for everything that shows."""

    def __init__(self, path: Path, work: Work, memory_bytes: int) -> None:
        self.path = path
        self.work = work
        self.connection: DuckDBPyConnection = open_write(path, memory_bytes)
        self.reader = DuckdbReader(path, self.connection)
        self._is_begun = False
        self._halved: dict[int, str] = {}

    def published(self, token: str) -> bool:
        return self.reader.published(token)

    def record(self, token: str) -> None:
        self._begin()
        self._run(f'CREATE TABLE IF NOT EXISTS {TOKENS} (token VARCHAR PRIMARY KEY, "at" TIMESTAMPTZ NOT NULL)')
        with translated(self.path):
            self.connection.execute(f"INSERT INTO {TOKENS} VALUES (?, ?)", [token, datetime.now(UTC)])

    def commit(self) -> None:
        with translated(self.path):
            self.connection.commit()
        self.connection.close()

    def rollback(self) -> None:
        self.connection.close()

    def load(self, parts: Sequence[Part]) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        started = time.perf_counter()
        self._stage(parts)
        if self._attempt("true"):
            self._halve(sum(part.rows for part in parts))
        refused = {
            place: (code, message) for place, code, message in self.reader.rows(f"FROM {REFUSED} ORDER BY 1", {})
        }
        milliseconds = (time.perf_counter() - started) * 1000
        done = 0
        for batch in in_order(parts):
            yield batch, _outcome(without_ids(batch), self.work, refused, done, milliseconds)
            done += batch.num_rows

    def _run(self, sql: str) -> int:
        """Runs a statement and gives the number of records it changed."""
        with translated(self.path):
            found = self.connection.execute(sql).fetchall()
        return int(found[0][0]) if found and isinstance(found[0][0], int) else 0

    def _begin(self) -> None:
        if not self._is_begun:
            with translated(self.path):
                self.connection.begin()
            self._is_begun = True

    def _stage(self, parts: Sequence[Part]) -> None:
        """Copies the spools into a temporary table, which DuckDB keeps on disk where memory ends."""
        fields = [pa.field(name, plain_type(self.work.schema.field(name).type)) for name in self.work.written]
        schema = pa.schema([*fields, pa.field(ORDER, pa.int64())])

        def batches() -> Iterator[pa.RecordBatch]:
            done = 0
            for batch in in_order(parts):
                columns = [plain(batch.column(name)) for name in self.work.written]
                places = pa.array(range(done, done + batch.num_rows), pa.int64())
                done += batch.num_rows
                yield pa.RecordBatch.from_arrays([*columns, places], schema=schema)

        with translated(self.path):
            self.connection.register("__given", pa.RecordBatchReader.from_batches(schema, batches()))
            self.connection.execute(f"CREATE TEMP TABLE {STAGED} AS FROM __given")
            self.connection.unregister("__given")
        self._run(f"CREATE TEMP TABLE {REFUSED} (place BIGINT, code VARCHAR, message VARCHAR)")

    def _table(self) -> Table:
        """The table to write, made where it is missing; emptied for a replacement."""
        work = self.work
        if not self.reader.is_table(work.table):
            self._create()
        found = self.reader.table(work.table)
        assert found is not None
        if missing := work.missing(column.name for column in found.columns):
            staged = {column.name: column.declared for column in self.reader.selected(STAGED)}
            for field in missing:
                declared = work.declared.get(field.name) or staged[field.name]
                self._run(f"ALTER TABLE {target_sql(work.table)} ADD COLUMN {name_of(field.name)} {declared}")
            found = self.reader.table(work.table)
            assert found is not None
        there = {column.name.casefold() for column in found.columns}
        for name in work.written:
            if name.casefold() not in there:
                raise Invalid(f"{self.path}: table {work.table!r} has no column {name!r}")
        if work.mode == "replace":
            self._run(f"DELETE FROM {target_sql(work.table)}")
        return found

    def _create(self) -> None:
        work = self.work
        if not work.create:
            raise Invalid(f"{self.path}: there is no table {work.table!r}, and `create` is off")
        staged = {column.name: column.declared for column in self.reader.selected(STAGED)}
        lines = [f"{name_of(name)} {work.declared.get(name) or staged[name]}" for name in work.schema.names]
        self._run(f"CREATE TABLE {target_sql(work.table)} ({', '.join(lines)})")

    def _fit(self, table: Table) -> None:
        """Casts what is staged to the table's types, and notes what the cast would change."""
        self._run(f"DELETE FROM {REFUSED}")
        staged = {column.name: column.declared for column in self.reader.selected(STAGED)}
        wanted = {column.name.casefold(): column.declared for column in table.columns}
        items: list[str] = []
        for name in self.work.written:
            column, source, target = name_of(name), staged[name], wanted[name.casefold()]
            if source == target:
                items.append(column)
                continue
            cast = f"TRY_CAST({column} AS {target})"
            items.append(f"{cast} AS {column}")
            wrong = f"{column} IS NOT NULL AND {cast} IS NULL"
            if loses(source, target):
                wrong += f" OR TRY_CAST({cast} AS {source}) IS DISTINCT FROM {column}"
            words = f"'column ' || $name || ': ' || left(CAST({column} AS VARCHAR), 60) || ' does not fit ' || $type"
            self.reader.rows(
                f"INSERT INTO {REFUSED} SELECT {ORDER}, 'type', {words} FROM {STAGED} WHERE {wrong}",
                {"name": repr(name), "type": target},
            )
        self._run(f"CREATE OR REPLACE TEMP VIEW {FITTED} AS SELECT {', '.join([ORDER, *items])} FROM {STAGED}")

    def _attempt(self, good: str) -> str:
        """Loads what `good` lets through in a new transaction, left open; where it fails, says why."""
        import duckdb

        self._begin()
        table = self._table()
        self._fit(table)
        find_refused(self.reader, self.work, table)
        for place, message in self._halved.items():
            self.reader.rows(
                f"INSERT INTO {REFUSED} VALUES ($place, 'refused', $message)", {"place": place, "message": message}
            )
        if self.reader.rows(f"SELECT 1 FROM {REFUSED} LIMIT 1", {}):
            good = f"{good} AND {GOOD}"
        sql = statement(self.work, good)
        refusals = (duckdb.ConstraintException, duckdb.ConversionException, duckdb.OutOfRangeException)
        try:
            with translated(self.path):
                self.connection.execute(sql).fetchall()
        except Invalid as fault:
            if not isinstance(fault.__cause__, refusals):
                raise
            self._undo()
            return str(fault.__cause__).split("\n", 1)[0]
        return ""

    def _undo(self) -> None:
        self.connection.rollback()
        self._is_begun = False

    def _halve(self, count: int) -> None:
        """Finds the records that the table refuses for a reason its catalogue does not tell."""
        waiting = [(0, count)]
        for _ in range(TRIES_MOST):
            if not waiting:
                break
            first, end = waiting.pop()
            message = self._attempt(f"{ORDER} >= {first} AND {ORDER} < {end}")
            if not message:
                self._undo()
            elif end - first == 1:
                self._halved[first] = message
            else:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]
        why = self._attempt("true")
        if why:
            raise Invalid(f"{self.path}: table {self.work.table!r} refuses the records together, not one by one: {why}")


def statement(work: Work, good: str) -> str:
    """What is done with the staged records that `good` lets through."""
    table, names, keys = (
        target_sql(work.table),
        [name_of(name) for name in work.written],
        [name_of(name) for name in work.key],
    )
    listed = ", ".join(names)
    if work.mode == "delete":
        matches = " AND ".join(f"__s.{key} = __t.{key}" for key in keys)
        return f"DELETE FROM {table} AS __t WHERE EXISTS (SELECT 1 FROM {FITTED} AS __s WHERE {good} AND {matches})"
    if work.mode != "upsert":
        order = "" if good == "true" else f" ORDER BY {ORDER}"  # a plain scan keeps the order as it is
        return f"INSERT INTO {table} ({listed}) SELECT {listed} FROM {FITTED} WHERE {good}{order}"
    last = f"row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY {ORDER} DESC) = 1"
    changed = [name for name in names if name not in keys]
    update = f"WHEN MATCHED THEN UPDATE SET {', '.join(f'{name} = __s.{name}' for name in changed)} " if changed else ""
    matches = " AND ".join(f"__t.{key} = __s.{key}" for key in keys)
    values = ", ".join(f"__s.{name}" for name in names)
    return (
        f"MERGE INTO {table} AS __t USING (SELECT * FROM {FITTED} WHERE {good} QUALIFY {last}) AS __s ON {matches} "
        f"{update}WHEN NOT MATCHED THEN INSERT ({listed}) VALUES ({values})"
    )


def _outcome(
    batch: pa.RecordBatch, work: Work, refused: dict[object, tuple[object, object]], first: int, milliseconds: float
) -> Outcome:
    bad = [row for row in range(batch.num_rows) if first + row in refused] if refused else []
    if not bad:
        return Outcome({"out": Piece(batch)}, receipts=receipts(batch, work.key, None, milliseconds))
    wrong = set(bad)
    rows = pa.array([row for row in range(batch.num_rows) if row not in wrong], pa.int64())
    taken = batch.take(rows)
    keys = record_keys(batch, work.key)
    found = [refused[first + row] for row in bad]
    messages = [str(message) for _, message in found]
    if keys is not None:
        messages = [f"{keys[row].as_py()}: {message}" for row, message in zip(bad, messages, strict=True)]
    rejects = Rejects(pa.array(bad, pa.int64()), [str(code) for code, _ in found], messages)
    return Outcome({"out": Piece(taken, rows)}, 0, rejects, receipts(taken, work.key, None, milliseconds))
