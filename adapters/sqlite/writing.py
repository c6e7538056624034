"""Writes SQLite: the one transaction that loads staged records, and the records that the table refuses."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import length_hint
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from adapters.sqlite.opening import open_write, translated
from adapters.sqlite.reading import SqliteReader
from adapters.sqlite.values import declared_type, stored
from pipelines.errors import Invalid
from pipelines.node import Outcome, Part, Piece, Rejects
from pipelines.records import without_ids
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work, receipts, record_keys
from pipelines.tables.relation import Column
from pipelines.tables.spool import TOKENS, in_order

Faults = dict[int, tuple[str, str]]
"""Per row a code and a message."""


class SqliteSession:
    """One write transaction on a database."""

    def __init__(self, path: Path, lock_seconds: float, work: Work) -> None:
        self.path = path
        self.work = work
        self.connection = open_write(path, lock_seconds)
        self._reader = SqliteReader(path, self.connection)

    def published(self, token: str) -> bool:
        return self._reader.published(token)

    def record(self, token: str) -> None:
        with translated(self.path):
            self.connection.execute(f"CREATE TABLE IF NOT EXISTS {TOKENS} (token TEXT PRIMARY KEY, at TEXT NOT NULL)")
            moment = datetime.now(UTC).isoformat(" ", "seconds")
            self.connection.execute(f"INSERT INTO {TOKENS} VALUES (?, ?)", (token, moment))

    def commit(self) -> None:
        with translated(self.path):
            self.connection.execute("COMMIT")
        self.connection.close()

    def rollback(self) -> None:
        self.connection.close()

    def load(self, parts: Sequence[Part]) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        work = self.work
        if not self._reader.kind(work.table):
            self._create()
        if work.mode == "replace":
            with translated(self.path):
                self.connection.execute(f"DELETE FROM {name_of(work.table)}")
        columns = {column.name.casefold(): column for column in self._reader.table_columns(work.table)}
        if missing := work.missing(columns):
            self._add(missing)
            columns = {column.name.casefold(): column for column in self._reader.table_columns(work.table)}
        for name in work.written:
            if name.casefold() not in columns:
                raise Invalid(f"{self.path}: table {work.table!r} has no column {name!r}")
        loader = _Loader(self.path, self._reader, work, [columns[name.casefold()] for name in work.written])
        for batch in in_order(parts):
            yield batch, loader(without_ids(batch))

    def _add(self, fields: Sequence[pa.Field]) -> None:
        for field in fields:
            declared = self.work.declared.get(field.name) or declared_type(field.type)
            with translated(self.path):
                self.connection.execute(
                    f"ALTER TABLE {name_of(self.work.table)} ADD COLUMN {name_of(field.name)} {declared}"
                )

    def _create(self) -> None:
        work = self.work
        if not work.create:
            raise Invalid(f"{self.path}: there is no table {work.table!r}, and `create` is off")
        is_keyed = work.mode == "upsert"
        lines = []
        for field in work.schema:
            declared = work.declared.get(field.name) or declared_type(field.type)
            lines.append(
                f"{name_of(field.name)} {declared}" + (" NOT NULL" if is_keyed and field.name in work.key else "")
            )
        if is_keyed:
            lines.append(f"PRIMARY KEY ({', '.join(name_of(name) for name in work.key)})")
        columns = ",\n  ".join(lines)
        with translated(self.path):
            self.connection.execute(f"CREATE TABLE {name_of(work.table)} (\n  {columns}\n)")


class _Loader:
    """Loads batches by one prepared statement."""

    def __init__(self, path: Path, reader: SqliteReader, work: Work, columns: Sequence[Column]) -> None:
        self._path = path
        self._reader = reader
        self._connection = reader.connection
        self._work = work
        self._columns = columns
        self._sql = statement(work)
        self._numbered_by = self._rowid_column()

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        started = time.perf_counter()
        work = self._work
        faults: Faults = {}
        values: list[list[object]] = []
        for name, column in zip(work.written, self._columns, strict=True):
            taken, wrong = stored(batch.column(name), column)
            values.append(taken)
            faults.update({row: ("type", f"column {name!r}: {words}") for row, words in wrong.items()})
        for name in work.key if work.mode in ("upsert", "delete") else ():
            missing = pc.indices_nonzero(pc.is_null(batch.column(name))).to_pylist()
            faults.update(dict.fromkeys(missing, ("key_null", f"key column {name!r} is null")))
        ids = self._load(list(zip(*values, strict=True)), faults)
        return _outcome(batch, work, faults, ids, (time.perf_counter() - started) * 1000)

    def _load(self, rows: list[tuple[object, ...]], faults: Faults) -> list[int | None]:
        """Loads all rows but the faulty, adds those that SQLite refuses to `faults`, and gives the others' rowids."""
        good = [row for row in range(len(rows)) if row not in faults] if faults else list(range(len(rows)))
        ids: list[int | None] = [None] * len(rows)
        with translated(self._path):
            self._connection.execute("SAVEPOINT batch")
            if not self._load_many(rows, good, faults, ids):
                self._connection.execute("ROLLBACK TO batch")
                self._load_singly(rows, good, faults, ids)
            self._connection.execute("RELEASE batch")
        if self._numbered_by:
            place = self._work.written.index(self._numbered_by)
            return [row[place] if isinstance(row[place], int) else None for row in rows]  # type: ignore[misc]
        return ids

    def _load_many(
        self, rows: list[tuple[object, ...]], good: Sequence[int], faults: Faults, ids: list[int | None]
    ) -> bool:
        """Whether every row was either taken or refused; a trigger may drop some without a word."""
        begin = 0
        while begin < len(good):
            feed = iter([rows[row] for row in good[begin:]])
            highest = self._highest()
            try:
                done = self._connection.executemany(self._sql, feed).rowcount
                stop = len(good)
                if self._work.mode != "delete" and done != stop - begin:
                    return False
            except (sqlite3.IntegrityError, sqlite3.DataError) as fault:
                # The statement stopped at the row taken last: those before it are in, it is not.
                stop = len(good) - length_hint(feed) - 1
                self._refuse(good[stop], fault, faults)
            self._number(ids, good[begin:stop], highest)
            begin = stop + 1
        return True

    def _load_singly(
        self, rows: list[tuple[object, ...]], good: Sequence[int], faults: Faults, ids: list[int | None]
    ) -> None:
        """One row at a time, where only so it shows which the table drops."""
        for row in good:
            ids[row] = None
            if row in faults:
                continue
            try:
                if self._connection.execute(self._sql, rows[row]).rowcount < 1:
                    faults[row] = ("refused", "the table dropped it without a message, as a trigger can")
            except (sqlite3.IntegrityError, sqlite3.DataError) as fault:
                self._refuse(row, fault, faults)

    def _refuse(self, row: int, fault: sqlite3.Error, faults: Faults) -> None:
        if not self._connection.in_transaction:
            raise Invalid(
                f"{self._path}: table {self._work.table!r} ended the transaction when it refused a record ({fault}); "
                f"its triggers must not use RAISE(ROLLBACK)"
            ) from fault
        faults[row] = ("refused", str(fault))

    def _rowid_column(self) -> str | None:
        """The delivered column that is the rowid; "" where SQLite numbers the records; None where nothing tells."""
        work, rows = self._work, self._reader.rows
        if work.mode not in ("append", "replace") or self._reader.kind(work.table) != "table":
            return None
        primary = rows("SELECT name, type FROM pragma_table_info($name) WHERE pk > 0", {"name": work.table})
        if len(primary) == 1 and str(primary[0][1]).upper() == "INTEGER":
            own = [name for name in work.written if name.casefold() == str(primary[0][0]).casefold()]
            if own:
                return own[0]
        triggers = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = $name COLLATE NOCASE"
        return None if rows(triggers, {"name": work.table})[0][0] else ""

    def _highest(self) -> int | None:
        if self._numbered_by != "":
            return None
        found = self._connection.execute(f"SELECT max(_rowid_) FROM {name_of(self._work.table)}").fetchone()[0]
        return found if isinstance(found, int) else 0

    def _number(self, ids: list[int | None], rows: Sequence[int], highest: int | None) -> None:
        """SQLite numbers one after the other, except at the end of its range."""
        if highest is None or not rows:
            return
        last = self._connection.execute("SELECT last_insert_rowid()").fetchone()[0]
        first = last - len(rows) + 1
        if first > highest:
            for place, row in enumerate(rows):
                ids[row] = first + place


def statement(work: Work) -> str:
    """What is done with one record."""
    table = name_of(work.table)
    names = [name_of(name) for name in work.written]
    keys = [name_of(name) for name in work.key]
    if work.mode == "delete":
        return f"DELETE FROM {table} WHERE {' AND '.join(f'{key} = ?' for key in keys)}"
    sql = f"INSERT OR ABORT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    if work.mode == "upsert":
        changed = [name for name in names if name not in keys] or keys[:1]
        sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
        sql = sql.replace("INSERT OR ABORT", "INSERT", 1) + f" ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {sets}"
    return sql


def _outcome(batch: pa.RecordBatch, work: Work, faults: Faults, ids: list[int | None], milliseconds: float) -> Outcome:
    is_numbered = any(number is not None for number in ids)
    if not faults:
        texts = pa.array(ids, pa.int64()).cast(pa.string()) if is_numbered else None
        return Outcome({"out": Piece(batch)}, receipts=receipts(batch, work.key, texts, milliseconds))
    bad = sorted(faults)
    good = [row for row in range(batch.num_rows) if row not in faults]
    rows = pa.array(good, pa.int64())
    taken = batch.take(rows)
    texts = pa.array([ids[row] for row in good], pa.int64()).cast(pa.string()) if is_numbered else None
    keys = record_keys(batch, work.key)
    messages = [faults[row][1] if keys is None else f"{keys[row].as_py()}: {faults[row][1]}" for row in bad]
    rejects = Rejects(pa.array(bad, pa.int64()), [faults[row][0] for row in bad], messages)
    return Outcome({"out": Piece(taken, rows)}, 0, rejects, receipts(taken, work.key, texts, milliseconds))
