"""Fetches the pages of one source: one after the other where each names the next, side by side where a total is known."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.http import loop
from adapters.http.answers import Format, Page, page_of
from adapters.http.client import Answer, Client, Request, client
from adapters.http.connection import Connection
from adapters.http.paging import Ask, Paging, Told, identity, next_asked, page_asked
from adapters.http.retrying import said_of
from adapters.http.templates import address
from pipelines.errors import Invalid, Unavailable
from pipelines.scope import Scope

AHEAD_BYTES = 32 << 20
"""So much is fetched before it is wanted."""


class Refused(Invalid):
    """The API refuses this one request: it is the record's fault that asked for it."""


class NotThere(Refused):
    """There is nothing at this address."""


@dataclass(frozen=True)
class Source:
    """What is asked, with all values filled in."""

    connection: Connection
    method: str
    path: str
    """Ready to be sent."""
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    records: str | None = None
    format: Format | None = None
    encoding: str | None = None
    paging: Paging | None = None

    @property
    def plain(self) -> Ask:
        """What is asked of every page."""
        return Ask(self.query, self.body)

    async def page(self, asking: Client, ask: Ask) -> Page:
        """One page.

        Raises:
            NotThere: there is nothing at this address.
            Refused: the API says no.
        """
        return await asking.ask(self._request(ask), self._read)

    def _request(self, ask: Ask) -> Request:
        import json

        headers = {"Accept": ACCEPTED[self.format or "json"], **self.headers}
        body = None
        if ask.body is not None:
            body = json.dumps(ask.body, ensure_ascii=False, default=str).encode()
            headers.setdefault("Content-Type", "application/json")
        url = ask.address or address(self.connection.address, self.path, ask.query)
        return Request(self.method, url, headers, body)

    def _read(self, answer: Answer) -> Page:
        if answer.status in (404, 410):
            raise NotThere(f"{said_of(self.method, answer)}; correct the path, or the connection's `url`")
        if answer.status in (401, 407):
            raise Invalid(f"{said_of(self.method, answer)}; check the connection's `auth` and its secrets")
        if answer.status >= 300:
            raise Refused(said_of(self.method, answer))
        return page_of(answer, self.format, self.records, self.encoding)


ACCEPTED = {
    "json": "application/json, */*;q=0.5",
    "jsonl": "application/x-ndjson, application/jsonl, */*;q=0.5",
    "csv": "text/csv, */*;q=0.5",
    "xml": "application/xml, text/xml, */*;q=0.5",
}


async def one_by_one(source: Source, asking: Client, first: Ask) -> AsyncIterator[Page]:
    """Pages from `first` on, until the answers say there are no more.

    Raises:
        Invalid: the pages go round in a circle.
    """
    watch = Circles()
    ask: Ask | None = first
    while ask is not None:
        watch.heed_ask(ask)
        try:
            page = await source.page(asking, ask)
        except NotThere:
            if ask.number == 0:
                raise
            return  # some APIs have nothing at the address behind the last page
        watch.heed(page, ask)
        if page.count:
            yield page
        ask = next_asked(source.paging, source.plain, ask, told(page))


async def side_by_side(source: Source, asking: Client, asks: Sequence[Ask], most: int) -> AsyncIterator[Page]:
    """The pages asked for, in order, several under way at once."""
    watch = Circles()
    waiting = deque(asks)
    under_way: deque[tuple[Ask, asyncio.Task[Page]]] = deque()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < most:
                ask = waiting.popleft()
                under_way.append((ask, asyncio.ensure_future(source.page(asking, ask))))
            ask, task = under_way[0]
            page = await task
            under_way.popleft()
            watch.heed(page, ask)
            if page.count:
                yield page
    finally:
        for _, task in under_way:
            task.cancel()
        await asyncio.gather(*(task for _, task in under_way), return_exceptions=True)


def told(page: Page) -> Told:
    """What a page says about others."""
    return Told(page.count, page.document, page.headers, page.address)


class Circles:
    """Notices pages that come again: an API that ignores what it is asked, or names a page it has named."""

    def __init__(self) -> None:
        self._asked: set[str] = set()
        self._last: Sequence[Any] | str = ()

    def heed_ask(self, ask: Ask) -> None:
        about = identity(ask)
        if about in self._asked:
            raise Invalid(
                f"paging goes round in a circle: page {ask.number + 1} is one that was read before ({about.partition('?')[0]:.200}); "
                f"check `from` and `parameter` of `paging`"
            )
        self._asked.add(about)

    def heed(self, page: Page, ask: Ask) -> None:
        content = page.text if page.kind == "csv" else page.records
        if ask.number and page.count and content == self._last:
            raise Invalid(
                f"{page.address}: pages {ask.number} and {ask.number + 1} hold the same records: the API seems to ignore "
                f"what tells them apart; check `parameter` of `paging`"
            )
        self._last = content


class Ahead:
    """Pages fetched on the loop and handed to one thread, some ahead of it; close it where not all are wanted."""

    def __init__(self, pages: AsyncIterator[Page]) -> None:
        self._pages = pages
        self._held: deque[Page] = deque()
        self._bytes = 0
        self._fault: BaseException | None = None
        self._is_done = False
        self._task: asyncio.Task[None] | None = None
        self._came: asyncio.Event | None = None
        self._room: asyncio.Event | None = None

    def __iter__(self) -> Iterator[Page]:
        try:
            while True:
                found, is_done = loop.run(self._take())
                yield from found
                if is_done:
                    return
        finally:
            loop.run(self._end())

    async def _take(self) -> tuple[list[Page], bool]:
        if self._task is None:
            self._came, self._room = asyncio.Event(), asyncio.Event()
            self._task = asyncio.ensure_future(self._fetch())
        assert self._came is not None
        assert self._room is not None
        if not self._held and not self._is_done:
            await self._came.wait()
        found = list(self._held)
        self._held.clear()
        self._bytes = 0
        self._came.clear()
        self._room.set()
        if not found and self._fault is not None:
            raise self._fault
        return found, self._is_done and self._fault is None

    async def _fetch(self) -> None:
        assert self._came is not None
        assert self._room is not None
        try:
            async for page in self._pages:
                self._held.append(page)
                self._bytes += len(page.text)
                self._came.set()
                while self._bytes >= AHEAD_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except Exception as fault:  # noqa: BLE001 - raised where the pages are taken
            self._fault = fault
        finally:
            self._is_done = True
            self._came.set()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        close = getattr(self._pages, "aclose", None)
        if close is not None:
            await close()


def first_pages(source: Source, scope: Scope, most_pages: int, enough_rows: int) -> list[Page]:
    """The first pages, to see what the records look like."""

    async def asked() -> list[Page]:
        found: list[Page] = []
        pages = one_by_one(source, client(source.connection, scope), page_asked(source.paging, source.plain, 0))
        async for page in pages:
            found.append(page)
            if len(found) >= most_pages or sum(each.count for each in found) >= enough_rows:
                break
        await pages.aclose()  # type: ignore[attr-defined]
        return found

    return loop.run(asked())


def tested(connection: Connection, scope: Scope) -> str:
    """What a connection's server answers to its test path.

    Raises:
        Invalid: it refuses the credentials.
        Unavailable: it cannot be reached.
    """
    url = address(connection.address, connection.test_path, {})
    started = time.perf_counter()

    def read(answer: Answer) -> Answer:
        return answer

    asking = client(connection, scope)

    async def asked() -> Answer:
        return await asking.ask(Request("GET", url, {"Accept": "*/*"}), read, frozenset({429, 503}))

    try:
        answer = loop.run(asked())
    except Unavailable as fault:
        raise Unavailable(f"{fault}; check the connection's `url`, and that the server runs") from fault
    milliseconds = (time.perf_counter() - started) * 1000
    if answer.status in (401, 403):
        raise Invalid(asking.clean(f"{said_of('GET', answer)}; check the connection's `auth` and its secrets"))
    if answer.status >= 500:
        raise Unavailable(asking.clean(said_of("GET", answer)))
    note = ""
    if answer.status >= 400:
        note = "; the server is there, and has nothing at this path: set `test_path` to one that it answers"
    return f"{answer.address} answered {answer.status} in {milliseconds:.0f} ms{note}"
