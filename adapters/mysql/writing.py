"""Writes MySQL and MariaDB: one transaction that loads the staged records and finds those that the table refuses.

The server ends a transaction when a table is made, so the table and that of the tokens are made before it begins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from adapters.mysql import snapshots
from adapters.mysql.cells import Faults
from adapters.mysql.loading import Loader, Target
from adapters.mysql.opening import Server, connect, translated
from adapters.mysql.reading import MyReader, target_sql
from adapters.mysql.types import MyColumn, made
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.node import Outcome, Part, Piece, Rejects
from pipelines.records import without_ids
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work, receipts, record_keys
from pipelines.tables.spool import TOKENS, in_order

ENGINES = ("InnoDB", "RocksDB", "ROCKSDB", "TokuDB", "ndbcluster", "")
"""Those that undo what is not committed; a view has none."""
SHOWN = 5
"""So many other sessions are named in a message."""


class MySession:
    """One transaction on a database."""

    def __init__(self, server: Server, work: Work) -> None:
        self.server = server
        self.work = work
        self.connection = connect(server)
        self.reader = MyReader(server, self.connection)

    def published(self, token: str) -> bool:
        with self._said():
            return self.reader.published(token)

    def load(self, parts: Sequence[Part]) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        with self._said():
            self._make_tokens()
            target = self._target()
            self._run("START TRANSACTION")
            if self.work.mode == "replace":
                self._run(f"DELETE FROM {target.sql}")
            loader = Loader(self.server, self.connection, self.work, target)
            for batch in in_order(parts):
                started = time.perf_counter()
                records = without_ids(batch)
                faults = loader.load(records)
                yield batch, outcome(records, self.work, faults, (time.perf_counter() - started) * 1000)

    def record(self, token: str) -> None:
        with self._said():
            self.reader.rows(f"INSERT INTO {TOKENS} (token) VALUES ($token)", {"token": token})

    def commit(self) -> None:
        with self._said():
            self._run("COMMIT")
        self.connection.close()

    def rollback(self) -> None:
        snapshots.closed(self.connection)

    def _run(self, sql: str) -> None:
        with translated(self.server):
            self.connection.query(sql)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Closes what failed, and says of a lock who may hold it."""
        try:
            with translated(self.server):
                yield
        except Unavailable as fault:
            snapshots.closed(self.connection)
            if "locked by another session" not in str(fault):
                raise
            raise Unavailable(f"{fault}{self._others()}") from fault
        except BaseException:
            snapshots.closed(self.connection)
            raise

    def _others(self) -> str:
        """The sessions that have transactions open, where this user may see them."""
        sql = (
            "SELECT t.trx_mysql_thread_id, coalesce(p.user, '?'), timestampdiff(SECOND, t.trx_started, now()) "
            "FROM information_schema.innodb_trx t LEFT JOIN information_schema.processlist p "
            f"ON p.id = t.trx_mysql_thread_id WHERE t.trx_mysql_thread_id <> 0 ORDER BY t.trx_started LIMIT {SHOWN}"
        )
        try:
            connection = connect(self.server)
            try:
                found = MyReader(self.server, connection).rows(sql, {})
            finally:
                snapshots.closed(connection)
        except FlowError:
            return ""
        shown = ", ".join(f"{number} (user {user}, {seconds} s)" for number, user, seconds in found)
        return f"; transactions are open in session {shown}" if shown else ""

    def _make_tokens(self) -> None:
        if not self.reader.kind(TOKENS)[0]:
            self._run(
                f"CREATE TABLE IF NOT EXISTS {TOKENS} (token varchar(255) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY, "
                "at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)) ENGINE = InnoDB"
            )

    def _target(self) -> Target:
        """The table to write, made where it is missing."""
        work = self.work
        kind, engine = self.reader.kind(work.table)
        if not kind:
            self._create()
        elif engine not in ENGINES:
            raise Invalid(f"{self.server.address}: {without_transactions(work.table, engine)}")
        found = self.reader.table(work.table)
        if found is not None and (missing := work.missing(column.name for column in found.columns)):
            lines = [made(field.name, field.type, 0, work.declared.get(field.name)) for field in missing]
            self._run(f"ALTER TABLE {target_sql(work.table)} {', '.join(f'ADD COLUMN {line}' for line in lines)}")
            found = self.reader.table(work.table)
        if found is None:
            raise Invalid(f"{self.server.address}: {work.table!r} is no table that can be written")
        columns: list[MyColumn] = []
        for name in work.written:
            near = [column for column in found.columns if column.name.casefold() == name.casefold()]
            if not near:
                raise Invalid(f"{self.server.address}: table {work.table!r} has no column {name!r}")
            assert isinstance(near[0], MyColumn)
            columns.append(near[0])
        names = {column.name.casefold(): column.name for column in columns}
        keys = [names[name.casefold()] for name in work.key if name.casefold() in names]
        return Target(target_sql(work.table), columns, keys, self._has_other_keys(keys, set(names)))

    def _has_other_keys(self, keys: Sequence[str], written: set[str]) -> bool:
        """Whether an upsert could meet a record by another unique index."""
        if self.work.mode != "upsert":
            return False
        own = {name.casefold() for name in keys}
        number = self.reader.own_number(self.work.table)
        indexes = [set(names) for names in self.reader.unique(self.work.table).values()]
        others = [names for names in indexes if names != own and (names != {number} or number in written)]
        if others and not own <= self.reader.not_null(self.work.table):
            raise Invalid(
                f"{self.server.address}: table {self.work.table!r} has several unique indexes, and a column of the key "
                f"may be null, so that an upsert could change another record; declare {', '.join(keys)} not null"
            )
        return bool(others)

    def _create(self) -> None:
        work = self.work
        if not work.create:
            raise Invalid(f"{self.server.address}: there is no table {work.table!r}, and `create` is off")
        keys = len(work.key) if work.mode == "upsert" else 0
        lines = [
            made(field.name, field.type, keys if field.name in work.key else 0, work.declared.get(field.name))
            for field in work.schema
        ]
        if keys:
            lines.append(f"PRIMARY KEY ({', '.join(name_of(name) for name in work.key)})")
        self._run(
            f"CREATE TABLE {target_sql(work.table)} ({', '.join(lines)}) ENGINE = InnoDB "
            f"CHARACTER SET utf8mb4 COLLATE {self.reader.collation()}"
        )


def without_transactions(table: str, engine: str) -> str:
    return (
        f"table {table!r} is of the engine {engine}, which cannot undo what a run that fails has written; "
        f"ALTER TABLE {table} ENGINE = InnoDB"
    )


def outcome(batch: pa.RecordBatch, work: Work, faults: Faults, milliseconds: float) -> Outcome:
    """What became of a batch."""
    if not faults:
        return Outcome({"out": Piece(batch)}, receipts=receipts(batch, work.key, None, milliseconds))
    bad = sorted(faults)
    rows = pa.array([row for row in range(batch.num_rows) if row not in faults], pa.int64())
    taken = batch.take(rows)
    keys = record_keys(batch, work.key)
    messages = [faults[row][1] if keys is None else f"{keys[row].as_py()}: {faults[row][1]}" for row in bad]
    rejects = Rejects(pa.array(bad, pa.int64()), [faults[row][0] for row in bad], messages)
    return Outcome({"out": Piece(taken, rows)}, 0, rejects, receipts(taken, work.key, None, milliseconds))
