"""Writes PostgreSQL: one transaction that loads the staged records and finds those that the table refuses.

To append or replace, records are copied into the table itself. To upsert or delete, and where the table has references or
triggers, they are copied into a temporary table with the same checks, and one statement does the rest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa

from adapters.postgres.loading import Loader, Target
from adapters.postgres.locks import watched
from adapters.postgres.opening import Server, connect, translated
from adapters.postgres.reading import PostgresReader, target_sql
from adapters.postgres.replacing import empty
from adapters.postgres.types import PgColumn, declared_type, unfit
from pipelines.errors import Invalid
from pipelines.node import Outcome, Part, Piece, Rejects
from pipelines.records import without_ids
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work, receipts, record_keys
from pipelines.tables.spool import TOKENS, in_order

TOKENS_LOCK = 7_308_604_900_361_842
"""The advisory lock under which the table of tokens is made: two that make it at once would fail."""


AWAITED = (
    "SELECT pg_advisory_xact_lock(hashtextextended(concat_ws(' ', 'processflow', current_schema(), $token::text), 0))"
)
"""Waits for the end of a transaction that publishes this token: a commit whose answer was lost may still be under way."""


def is_published(server: Server, token: str) -> bool:
    """Whether the database holds the publication of a token, now that whoever was about to commit it has ended."""
    connection = connect(server, read_only=True)
    try:
        reader = PostgresReader(server, connection)
        reader.rows(AWAITED, {"token": token})
        return reader.published(token)
    finally:
        connection.close()


class PostgresSession:
    """One transaction on a database."""

    def __init__(self, server: Server, work: Work) -> None:
        self.server = server
        self.work = work
        self.connection = connect(server, read_only=False)
        self.reader = PostgresReader(server, self.connection)
        self._run("BEGIN ISOLATION LEVEL READ COMMITTED")

    def published(self, token: str) -> bool:
        with self._said():
            self.reader.rows(AWAITED, {"token": token})
            return self.reader.published(token)

    def record(self, token: str) -> None:
        with self._said():
            if not self.reader.kind(TOKENS):
                self._run(f"SELECT pg_advisory_xact_lock({TOKENS_LOCK})")
                self._run(
                    f"CREATE TABLE IF NOT EXISTS {TOKENS} (token text PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
                )
            self.reader.rows(f"INSERT INTO {TOKENS} (token) VALUES ($token) RETURNING token", {"token": token})
            self._run("SET CONSTRAINTS ALL IMMEDIATE")

    def commit(self) -> None:
        with self._said():
            self._run("COMMIT")
        self.connection.close()

    def rollback(self) -> None:
        self.connection.close()

    def load(self, parts: Sequence[Part]) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        with self._said():
            target = self.prepared()
            loader = Loader(self.server, self.connection, self.work, target)
            if not target.is_staged(self.work):
                first = 0
                for batch in in_order(parts):
                    started = time.perf_counter()
                    records = without_ids(batch)
                    faults = loader.copy(records, first)
                    first += batch.num_rows
                    yield batch, outcome(records, self.work, faults, 0, (time.perf_counter() - started) * 1000)
                return
            yield from self._load_staged(loader, parts)

    def prepared(self) -> Target:
        """The table, there and as empty as it is to be."""
        target = self._target()
        if self.work.mode == "replace":
            empty(self.reader, target)
        return target

    def _load_staged(self, loader: Loader, parts: Sequence[Part]) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        started, first = time.perf_counter(), 0
        loader.stage()
        refused: dict[int, tuple[str, str]] = {}
        for batch in in_order(parts):
            found = loader.copy(without_ids(batch), first)
            refused.update({first + row: fault for row, fault in found.items()})
            first += batch.num_rows
        refused.update(loader.finish(first))
        milliseconds, first = (time.perf_counter() - started) * 1000, 0
        for batch in in_order(parts):
            yield batch, outcome(without_ids(batch), self.work, refused, first, milliseconds)
            first += batch.num_rows

    def _run(self, sql: str) -> None:
        with translated(self.server):
            self.connection.execute(sql.encode())

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Closes what failed, and says of a lock who holds it."""
        try:
            with watched(self.server, self.connection):
                yield
        except Exception:
            self.connection.close()
            raise

    def _target(self) -> Target:
        """The table to write, made where it is missing."""
        work = self.work
        if not self.reader.kind(work.table):
            self._create()
        found = self.reader.table(work.table)
        if found is not None and (missing := work.missing(column.name for column in found.columns)):
            self._add(missing)
            found = self.reader.table(work.table)
        if found is None:
            raise Invalid(f"{self.server.address}: {work.table!r} is no table that can be written")
        columns: list[PgColumn] = []
        for name in work.written:
            near = [column for column in found.columns if column.name.casefold() == name.casefold()]
            exact = [column for column in near if column.name == name]
            if not near:
                raise Invalid(f"{self.server.address}: table {work.table!r} has no column {name!r}")
            chosen = (exact or near)[0]
            assert isinstance(chosen, PgColumn)
            if why := unfit(work.schema.field(name).type, chosen):
                raise Invalid(
                    f"{self.server.address}: table {work.table!r}, column {name!r}: {why}; has it changed since the flow was checked?"
                )
            columns.append(chosen)
        return Target.of(self.reader, work.table, columns)

    def _add(self, fields: Sequence[pa.Field]) -> None:
        lines = [
            f"ADD COLUMN IF NOT EXISTS {name_of(field.name)} {self.work.declared.get(field.name) or declared_type(field.type)}"
            for field in fields
        ]
        self._run(f"ALTER TABLE {target_sql(self.work.table)} {', '.join(lines)}")

    def _create(self) -> None:
        work = self.work
        if not work.create:
            raise Invalid(f"{self.server.address}: there is no table {work.table!r}, and `create` is off")
        lines = []
        for field in work.schema:
            declared = work.declared.get(field.name) or declared_type(field.type)
            lines.append(f"{name_of(field.name)} {declared}")
        if work.mode == "upsert":
            lines.append(f"PRIMARY KEY ({', '.join(name_of(name) for name in work.key)})")
        self._run(f"CREATE TABLE {target_sql(work.table)} ({', '.join(lines)})")


def outcome(
    batch: pa.RecordBatch, work: Work, refused: dict[int, tuple[str, str]], first: int, milliseconds: float
) -> Outcome:
    """What became of a batch whose first record has the place `first` among those that `refused` names."""
    bad = [row for row in range(batch.num_rows) if first + row in refused] if refused else []
    if not bad:
        return Outcome({"out": Piece(batch)}, receipts=receipts(batch, work.key, None, milliseconds))
    wrong = set(bad)
    rows = pa.array([row for row in range(batch.num_rows) if row not in wrong], pa.int64())
    taken = batch.take(rows)
    keys = record_keys(batch, work.key)
    found = [refused[first + row] for row in bad]
    messages = [message for _, message in found]
    if keys is not None:
        messages = [f"{keys[row].as_py()}: {message}" for row, message in zip(bad, messages, strict=True)]
    rejects = Rejects(pa.array(bad, pa.int64()), [code for code, _ in found], messages)
    return Outcome({"out": Piece(taken, rows)}, 0, rejects, receipts(taken, work.key, None, milliseconds))
