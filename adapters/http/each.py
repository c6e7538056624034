"""Fetches for each record that comes in: several requests under way, the records' order kept, equal requests made once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from adapters.http import loop
from adapters.http.answers import Page
from adapters.http.asking import NotThere, Refused, Source, one_by_one
from adapters.http.client import Client, client
from adapters.http.paging import identity, page_asked
from adapters.http.records import Parser
from adapters.http.templates import Missing, places
from pipelines.errors import Unavailable
from pipelines.node import Outcome, Piece, Rejects
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

if TYPE_CHECKING:
    from adapters.http.get import Get

LEAST_IN_A_ROW = 3
"""So many requests in a row, or as many as are under way at once, must fail for good before the API counts as away."""


@dataclass
class Wanted:
    """One request, and what became of it."""

    source: Source
    pages: list[Page] = field(default_factory=list)
    fault: tuple[str, str] | None = None
    """Why it gave nothing: a reject code and a message."""
    start: int = 0
    stop: int = 0
    """Which of all records of the batch are its own."""


class Fetcher:
    """A get opened for one worker thread, fetching for each record of a batch."""

    def __init__(self, get: Get, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> None:
        self._get = get
        self._scope = scope
        self._gives = get.each_schema(schema)
        self._kept = get.kept(schema)
        self._fetched = pa.schema([column for column in self._gives if column.name not in self._kept])
        self._parser = Parser(self._fetched, get.records, sandbox)
        named = {*places(get.path), *places(get.query), *places(get.body)}
        self._named = [name for name in schema.names if name in named]

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        rejects: dict[int, tuple[str, str]] = {}
        rows = self._requests(batch, rejects)
        wanted = list({id(each): each for each in rows.values()}.values())
        loop.run(self._fetch(wanted))
        records = self._records(wanted)
        for row, each in rows.items():
            if each.fault is not None:
                rejects[row] = each.fault
            elif each.start == each.stop and self._get.missing == "reject":
                rejects[row] = ("not_found", f"{each.source.path}: there is nothing")
        kept = {row: each for row, each in rows.items() if row not in rejects}
        return self._outcome(batch, kept, records, rejects)

    def _requests(self, batch: pa.RecordBatch, rejects: dict[int, tuple[str, str]]) -> dict[int, Wanted]:
        """Each row's request; equal ones are one."""
        plain = batch.select(self._named).to_pylist() if self._named else [{}] * batch.num_rows
        found: dict[int, Wanted] = {}
        known: dict[str, Wanted] = {}
        for row, values in enumerate(plain):  # a request each
            try:
                source = self._get.source(self._scope, {**self._scope.values, **values})
            except Missing as fault:
                rejects[row] = ("path", str(fault))
                continue
            about = f"{source.path} {identity(source.plain)}"
            found[row] = known.setdefault(about, Wanted(source))
        return found

    async def _fetch(self, wanted: Sequence[Wanted]) -> None:
        """Makes all requests.

        Raises:
            Unavailable: the API is away.
        """
        if not wanted:
            return
        asking = client(wanted[0].source.connection, self._scope)
        most = wanted[0].source.connection.limit.concurrent
        shared, watch = iter(wanted), Watch(max(most, LEAST_IN_A_ROW))
        tasks = [asyncio.ensure_future(_work(shared, asking, watch)) for _ in range(min(most, len(wanted)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if watch.is_away or (watch.fault is not None and not watch.answers):
            raise Unavailable(str(watch.fault), asked_again=True)

    def _records(self, wanted: Sequence[Wanted]) -> pa.RecordBatch:
        """All records of all pages, once; a request with one that does not fit the columns is at fault itself."""
        pages = [page for each in wanted for page in each.pages]
        piece = self._parser(pages)
        owners = np.repeat(np.arange(len(wanted)), [sum(page.count for page in each.pages) for each in wanted])
        for fault in piece.faults:
            owner = wanted[int(owners[fault.number])]
            owner.fault = owner.fault or (fault.code, fault.message)
        good = owners[piece.numbers()]
        for number, each in enumerate(wanted):
            each.start, each.stop = (int(place) for place in np.searchsorted(good, [number, number + 1]))
        return piece.batch

    def _outcome(
        self,
        batch: pa.RecordBatch,
        rows: Mapping[int, Wanted],
        records: pa.RecordBatch,
        rejects: Mapping[int, tuple[str, str]],
    ) -> Outcome:
        places_, parents = [], []
        for row, each in rows.items():
            count = each.stop - each.start
            if not count and self._get.missing == "null":
                places_.append(np.array([-1]))
                parents.append(np.array([row]))
            elif count:
                places_.append(np.arange(each.start, each.stop))
                parents.append(np.full(count, row))
        taken = np.concatenate(places_) if places_ else np.empty(0, np.int64)
        from_rows = pa.array(np.concatenate(parents) if parents else np.empty(0, np.int64), pa.int64())
        chosen = pa.array(taken, pa.int64(), mask=taken < 0)
        columns = [
            batch.column(column.name).take(from_rows)
            if column.name in self._kept
            else records.column(column.name).take(chosen)
            for column in self._gives
        ]
        out = pa.RecordBatch.from_arrays(columns, schema=self._gives)
        left = sum(1 for each in rows.values() if each.stop > each.start or self._get.missing == "null")
        bad = sorted(rejects)
        refused = Rejects(pa.array(bad, pa.int64()), [rejects[row][0] for row in bad], [rejects[row][1] for row in bad])
        return Outcome({"out": Piece(out, from_rows)}, filtered=len(rows) - left, rejects=refused if bad else None)


@dataclass
class Watch:
    """Whether the API is still there."""

    most_in_a_row: int
    answers: int = 0
    in_a_row: int = 0
    fault: Unavailable | None = None

    @property
    def is_away(self) -> bool:
        return self.in_a_row >= self.most_in_a_row


async def _work(shared: Iterator[Wanted], asking: Client, watch: Watch) -> None:
    for each in shared:
        if watch.is_away:
            return
        first = page_asked(each.source.paging, each.source.plain, 0)
        try:
            async for page in one_by_one(each.source, asking, first):
                each.pages.append(page)
        except NotThere:
            each.pages.clear()
        except Refused as fault:
            each.fault = ("refused", str(fault))
        except Unavailable as fault:
            watch.fault = fault
            watch.in_a_row += 1
            each.fault = ("unavailable", str(fault))
            continue
        watch.answers += 1
        watch.in_a_row = 0
