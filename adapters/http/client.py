"""Asks an HTTP API: limits, credentials, redirects, retries, and faults in our words. Lives on the loop."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.http import hosts
from adapters.http.connection import Connection
from adapters.http.faults import explained
from adapters.http.limiting import Limiter
from adapters.http.retrying import MOST_BODY_BYTES, RETRIED, pause_asked, said_of
from adapters.http.signing import Signer
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.scope import Scope

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

T = TypeVar("T")
SENT_AT_ONCE_BYTES = 1 << 18
"""Longer bodies are sent piece by piece, so that other requests go on meanwhile."""
MOST_REDIRECTS = 10
BLOCK_BYTES = 1 << 16
AGENT = "processflow"
ASKING = ("GET", "HEAD")

_clients: dict[tuple[int, str], Client] = {}


@dataclass(frozen=True)
class Request:
    """What is asked, without what shows who asks."""

    method: str
    url: str
    """The whole address, its special signs written as `%xx`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class Answer:
    """What came back, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    address: str
    """Where it came from, without secrets; of a redirected request, the last place."""
    seconds: float = 0.0


def client(connection: Connection, scope: Scope) -> Client:
    """The process's client of a connection: its limits, tokens and open connections are shared by all runs. On the loop."""
    allowed = scope.environment.private_addresses
    about = (os.getpid(), f"{connection.model_dump_json()} {scope.project} {allowed!r}")
    found = _clients.get(about)
    if found is None:
        found = _clients[about] = Client(connection, scope.project, allowed)
    return found


async def close_all() -> None:
    """Closes every open connection of this process."""
    for about, each in list(_clients.items()):
        if about[0] == os.getpid():
            del _clients[about]
            await each.close()


class Client:
    """One connection, asked by everybody in this process."""

    def __init__(self, connection: Connection, project: Path, allowed: hosts.PrivateAddresses) -> None:
        from yarl import URL

        self._connection = connection
        self._project = project
        self._allowed = allowed
        self._home = URL(connection.address)
        self._limiter = Limiter(connection.limit.concurrent, connection.limit.per_second)
        self._signer = Signer(connection, project, self._token_post)
        self._session: ClientSession | None = None

    async def ask(self, request: Request, read: Callable[[Answer], T], retried: frozenset[int] = RETRIED) -> T:
        """What `read` makes of the answer; asked again where there is none, or `read` calls it `Unavailable`.

        Raises:
            Unavailable: for good: it has been asked as often as the connection says.
        """
        policy = self._connection.retry
        failed = 0
        has_renewed = False
        while True:
            pause = None
            try:
                answer = await self._once(request)
                if answer.status == 401 and not has_renewed and self._signer.refused():
                    has_renewed = True
                    continue
                if answer.status not in retried:
                    return read(answer)
                fault, pause = Unavailable(said_of(request.method, answer)), pause_asked(answer.headers, time.time())
            except Unavailable as found:
                fault = found
            except Invalid as found:
                text = self.clean(str(found))
                if text == str(found):
                    raise
                raise type(found)(text) from None
            failed += 1
            if failed >= policy.attempts or (pause is not None and pause > policy.after_seconds):
                waits = f"; it asks to wait {pause:g} s" if pause is not None else ""
                raise Unavailable(self.clean(f"{fault}{waits}"), asked_again=True) from None
            if pause is not None:
                self._limiter.hold(pause)
            await asyncio.sleep(policy.pause_seconds(failed) if pause is None else pause)

    def clean(self, text: str) -> str:
        """The text without any secret of the connection."""
        for secret in self._signer.known():
            text = text.replace(secret, "***")
        return text

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _once(self, request: Request) -> Answer:
        """One answer, with its redirects; what aiohttp raises in our words."""
        import aiohttp

        shown = request.url.partition("?")[0]
        try:
            async with self._limiter:
                return await self._followed(request)
        except FlowError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as fault:  # a time-out is an OSError
            raise explained(shown, fault, self._connection.timeout_seconds) from None

    async def _followed(self, request: Request) -> Answer:
        from yarl import URL

        method, url = request.method, URL(request.url, encoded=True)
        started = time.perf_counter()
        for _ in range(MOST_REDIRECTS + 1):
            hosts.check_address(url.host or "", self._allowed)
            is_home = hosts.is_home(url, self._home)
            headers, target = await self._made_ready(method, url, request, is_home)
            body = request.body if method == request.method else None
            content = BytesIO(body) if body is not None and len(body) > SENT_AT_ONCE_BYTES else body
            async with self._opened().request(
                method, target, data=content, headers=headers, allow_redirects=False, **self._proxied(target)
            ) as got:
                location = got.headers.get("Location")
                if got.status not in (301, 302, 303, 307, 308) or location is None:
                    answered = await _whole(got)
                    return Answer(got.status, got.headers, answered, _shown(url), time.perf_counter() - started)
            method, url = self._redirected(method, url, location, got.status)
        raise Invalid(f"{_shown(url)}: redirects again and again; set the connection's `url` to where the API is")

    async def _made_ready(self, method: str, url: URL, request: Request, is_home: bool) -> tuple[dict[str, str], URL]:
        """Headers and address as they are sent; credentials only to the connection's own server."""
        headers = {"User-Agent": AGENT}
        if not is_home:
            return headers | {name: value for name, value in request.headers.items() if name == "Accept"}, url
        names = self._connection.query
        for name in url.query:
            if name in names:  # a `next` address that has it already
                url = url.without_query_params(name)
        signed = await self._signer.signed(method, url.raw_path_qs, url.host or "", request.body)
        if signed.query:
            url = url.extend_query(signed.query)
        return headers | dict(request.headers) | signed.headers, url

    def _redirected(self, method: str, url: URL, location: str, status: int) -> tuple[str, URL]:
        from yarl import URL

        there = url.join(URL(location))
        if there.scheme not in ("http", "https") or not there.host:
            raise Invalid(f"{_shown(url)}: redirects to {location!r:.80}, which is no address")
        if method in ASKING or status == 303:
            return ("GET" if status == 303 and method != "HEAD" else method), there
        if status in (307, 308) and hosts.is_home(there, self._home):
            return method, there
        raise Invalid(
            f"{_shown(url)}: redirects a {method} to {_shown(there)}, and records are not sent elsewhere than the "
            f"connection says; set its `url` to where the API is"
        )

    def _proxied(self, url: URL) -> dict[str, Any]:
        """How the request goes through the proxy."""
        proxy = self._connection.proxy
        if proxy is None:
            return {}
        if proxy.user is None:
            return {"proxy": proxy.url}
        password = "" if proxy.password is None else proxy.password.reveal(self._project)
        pair = base64.b64encode(f"{proxy.user}:{password}".encode()).decode()
        return {"proxy": proxy.url, "proxy_headers": {"Authorization": f"Basic {pair}"}}

    def _opened(self) -> ClientSession:
        if self._session is None:
            import aiohttp

            connection = self._connection
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=connection.limit.concurrent,
                    ssl=self._tls(),
                    resolver=hosts.resolver(self._allowed),
                    ttl_dns_cache=10,
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=connection.timeout_seconds, sock_connect=connection.connect_seconds
                ),
                requote_redirect_url=False,
            )
        return self._session

    def _tls(self) -> ssl.SSLContext | bool:
        tls = self._connection.tls
        if tls.ca is None and tls.certificate is None:
            return True
        try:
            made = ssl.create_default_context(cafile=self._file(tls.ca))
            if tls.certificate is not None:
                password = None if tls.key_password is None else tls.key_password.reveal(self._project)
                made.load_cert_chain(str(self._file(tls.certificate)), self._file(tls.key), password or "")
        except (OSError, ssl.SSLError) as fault:
            names = ", ".join(filter(None, (tls.ca, tls.certificate, tls.key)))
            raise Invalid(f"{names}: no certificate or key can be read from there: {fault}") from fault
        return made

    def _file(self, name: str | None) -> str | None:
        return None if name is None else str(self._project / Path(name).expanduser())

    async def _token_post(self, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        """Posts to a token server: never redirected, outside of the API's limits."""
        from yarl import URL

        target = URL(url)
        hosts.check_address(target.host or "", self._allowed)
        async with self._opened().post(
            target, data=body, headers=dict(headers), allow_redirects=False, **self._proxied(target)
        ) as got:
            return got.status, await _whole(got)


async def _whole(got: ClientResponse) -> bytes:
    """The answer's body, within bounds."""
    length = got.content_length
    if length is not None and length <= BLOCK_BYTES and "Content-Encoding" not in got.headers:
        return await got.read()
    blocks: list[bytes] = []
    size = 0
    async for block in got.content.iter_any():
        blocks.append(block)
        size += len(block)
        if size > MOST_BODY_BYTES:
            raise Invalid(
                f"{_shown(got.url)}: the answer is larger than {MOST_BODY_BYTES >> 20} MiB; ask for less at once by `paging`"
            )
    return b"".join(blocks)


def _shown(url: URL) -> str:
    """An address without its query, which may hold a key."""
    return str(url.with_query(None).with_fragment(None))
