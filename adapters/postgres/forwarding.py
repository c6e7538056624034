"""Forwards a table's records into another by COPY's binary frames: nobody looks at them, and both servers count them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from adapters.postgres.copying import Source
from adapters.postgres.loading import Target
from adapters.postgres.opening import LOCKED, Server, translated
from adapters.postgres.reading import PostgresReader, reader, statement
from adapters.postgres.replacing import referring
from adapters.postgres.types import PgColumn, is_same
from adapters.postgres.writing import PostgresSession
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json
from pipelines.passage import NotForwarded
from pipelines.scope import Scope
from pipelines.sql.literals import name_of
from pipelines.tables.get import TableGet

if TYPE_CHECKING:
    from pipelines.tables.post import Work

ROWS_LEAST = 10_000
"""By the planner's guess: fewer are read, which is as quick, and leaves more in the data log."""


class PostgresPassage:
    """One transaction on the target, into which the splits of a get are copied one after the other."""

    def __init__(self, get: TableGet, source: Server, session: PostgresSession, scope: Scope, token: str) -> None:
        self._get = get
        self._source = source
        self._session = session
        self._scope = scope
        self._token = token

    def forward(self, splits: Sequence[Json], heed: Callable[[], None]) -> Iterator[int]:
        try:
            yield from self._forwarded(splits, heed)
        except Invalid as fault:  # reading finds out which record it is, or says the same with its place
            raise NotForwarded(str(fault)) from fault
        except Unavailable as fault:
            if LOCKED in str(fault) or "the snapshot that this run reads is gone" in str(fault):
                raise NotForwarded(str(fault)) from fault
            raise

    def commit(self) -> None:
        self._session.record(self._token)
        self._session.commit()

    def abandon(self) -> None:
        self._session.rollback()

    def _forwarded(self, splits: Sequence[Json], heed: Callable[[], None]) -> Iterator[int]:
        if any(split["first"] is None for split in splits):
            raise NotForwarded("it reads no table by ranges of blocks")
        with reader(self._source) as there:
            queries = self._queries(there, splits)
            if self._session.published(self._token):
                raise NotForwarded("it was published before")
            target = self._session.prepared()
            unlike = list(_differences(there.typed_columns(self._get, {}), target, self._session.work))
            if unlike or not target.is_plain:
                raise NotForwarded("; ".join(unlike) or "the table has triggers, references or is none")
            if self._session.work.mode == "replace" and referring(self._session.reader, target.sql):
                raise NotForwarded("other tables refer to it")
            source = Source(self._source, there.connection, splits[0]["snapshot"])
            try:
                yield from self._copied(source, queries, target, heed)
            finally:
                source.close()
        with translated(self._session.server):
            self._session.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")

    def _queries(self, there: PostgresReader, splits: Sequence[Json]) -> list[str]:
        """What each split copies; not worth it where that is little."""
        place = self._get.relation()
        items = [place.column(name) for name in self._session.work.written]
        queries, rows = [], 0
        for split in splits:
            there.seen = None
            condition, values = self._get.condition(there, self._scope, split["span"])
            queries.append(statement(there, self._get, split, items, condition, values))
            with translated(self._source):
                plan = there.connection.execute(f"EXPLAIN (FORMAT JSON) {queries[-1]}".encode()).fetchall()[0][0]
            rows += int((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]["Plan Rows"])
        if rows < ROWS_LEAST:
            raise NotForwarded(f"there are some {rows:,} records, fewer than {ROWS_LEAST:,}")
        return queries

    def _copied(
        self, source: Source, queries: Sequence[str], target: Target, heed: Callable[[], None]
    ) -> Iterator[int]:
        """Copies all splits as one stream; gives of each the number of its records, the sum of which the target counts too."""
        names = ", ".join(name_of(column.name) for column in target.columns)
        into = f"COPY {target.sql} ({names}) FROM STDIN (FORMAT binary)"
        sent = 0
        with translated(self._session.server), self._session.connection.cursor() as cursor:
            with cursor.copy(into.encode()) as copy:

                def write(block: bytes) -> None:
                    heed()
                    copy.write(block)

                for number, query in enumerate(queries, 1):
                    rows = source.send(query, write, begins=number == 1, ends=number == len(queries))
                    sent += rows
                    yield rows
            if cursor.rowcount != sent:
                raise NotForwarded(f"of {sent:,} records the table took {cursor.rowcount:,}")


def _differences(columns: Sequence[PgColumn], target: Target, work: Work) -> Iterator[str]:
    """Where a column of the source is of another type than the one it goes into."""
    there = {column.name: column for column in columns}
    for name, into in zip(work.written, target.columns, strict=True):
        if not is_same(there[name].pg, into.pg):
            yield f"column {name!r} is {there[name].declared} there and {into.declared} here"
