"""Takes COPY's answer in large blocks: asyncpg gives whole buffers, where libpq gives one record a call."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapters.postgres.opening import KEEPALIVES, SETTINGS, UNLIMITED, Server, said, translated
from adapters.postgres.tls import context
from pipelines.errors import Invalid, Lost, Unavailable

if TYPE_CHECKING:
    from psycopg import Connection

BLOCK_BYTES = 4 << 20
SENT_BYTES = 256 << 10
"""What is sent on at once: small enough for both servers to work meanwhile."""
HEADER_BYTES = 19
TRAILER_BYTES = 2
"""Of COPY's binary format (https://www.postgresql.org/docs/current/sql-copy.html)."""


class Source:
    """A second connection, made as another was, whose COPY comes in large blocks.

    Args:
        pattern: A connection to the same database: this one is made as that was.
        snapshot: The snapshot to read; None: the state of this moment.
    """

    def __init__(self, server: Server, pattern: Connection[Any], snapshot: str | None) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None
        try:
            with self._said():
                self._connection = self._loop.run_until_complete(_open(pattern, server))
                self._loop.run_until_complete(_begin(self._connection, server, snapshot))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        if not self._loop.is_closed():
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def blocks(self, sql: str) -> Iterator[bytes]:
        """The answer to one SELECT, already accepted by the server, as CSV in blocks of whole records."""
        with self._said():
            yield from _copied(self._loop, self._connection, sql)

    def send(self, sql: str, write: Callable[[bytes], None], *, begins: bool, ends: bool) -> int:
        """Writes the answer to one SELECT in COPY's binary format, and gives the number of its records.

        `begins`, `ends`: whether it is the first and the last of those that make one stream.
        """
        held: list[bytes] = []
        skip = 0 if begins else HEADER_BYTES

        def flush(until: int | None = None) -> None:
            nonlocal skip
            block = b"".join(held)[skip:until]
            held.clear()
            skip = 0
            if block:
                write(block)

        async def output(data: bytes) -> None:
            if sum(map(len, held)) >= SENT_BYTES:  # what came last stays: it may end in the trailer
                flush()
            held.append(data)

        with self._said():
            told = self._loop.run_until_complete(self._connection.copy_from_query(sql, output=output, format="binary"))
        flush(None if ends else -TRAILER_BYTES)
        return int(str(told).rsplit(" ", 1)[-1])

    @contextmanager
    def _said(self) -> Iterator[None]:
        import asyncpg

        try:
            yield
        except asyncpg.PostgresError as fault:
            raise said(self._server, fault.sqlstate, str(fault), False) from fault
        except ssl.SSLCertVerificationError as fault:
            raise Invalid(f"{self._server.address}: {fault.verify_message or fault}; check `tls_root`") from fault
        except (OSError, asyncpg.InterfaceError) as fault:
            raise Unavailable(f"{self._server.address}: {str(fault) or 'the connection was lost'}") from fault


def blocks(server: Server, pattern: Connection[Any], snapshot: str | None, sql: str) -> Iterator[bytes]:
    """The answer to a query as CSV, in blocks of whole records, by a connection of its own."""
    source = Source(server, pattern, snapshot)
    try:
        yield from source.blocks(sql)
    finally:
        source.close()


def small(server: Server, connection: Connection[Any], snapshot: str | None, sql: str) -> Iterator[bytes]:
    """A small answer to a query as CSV, in one block, by the connection itself, which sees the snapshot already."""
    from psycopg.sql import SQL

    query = SQL("COPY (") + SQL(sql) + SQL("\n) TO STDOUT (FORMAT csv)")
    with translated(server), connection.cursor() as cursor, cursor.copy(query) as copy:
        block = b"".join(bytes(piece) for piece in copy)
    if block:
        yield block


async def _begin(connection: Any, server: Server, snapshot: str | None) -> None:
    """Begins a transaction that sees the snapshot, which is there as long as the connection that planned."""
    import asyncpg

    await connection.execute(f"SELECT {UNLIMITED}")
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    if snapshot is None:
        return
    try:
        await connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
    except (asyncpg.UndefinedObjectError, asyncpg.InvalidParameterValueError) as fault:
        raise Lost(
            f"{server.address}: the snapshot that this run reads is gone: the server was restarted, or the connection "
            f"that kept it was lost; a new run reads from the beginning of this one"
        ) from fault
    await connection.execute("SET LOCAL max_parallel_workers_per_gather = 0")


async def _open(pattern: Connection[Any], server: Server) -> Any:
    import asyncpg

    info = pattern.info
    name = server.word("application_name")
    given = {**SETTINGS, "lock_timeout": f"{int(server.lock_seconds * 1000)}ms", "application_name": name}
    if server.search_path:
        given["search_path"] = server.search_path
    found = await asyncpg.connect(
        host=info.hostaddr or info.host or None,  # a name may lead to another server, which has not this snapshot
        port=info.port,
        user=info.user,
        password=info.password or None,
        database=info.dbname,
        ssl=context(pattern),
        server_settings=given,
        timeout=float(server.word("connect_timeout")) or None,
        statement_cache_size=0,
        target_session_attrs="any",
        direct_tls=info.get_parameters().get("sslnegotiation") == "direct",
    )
    stay_awake(found._transport.get_extra_info("socket"), int(server.word("keepalives_idle")))
    return found


def stay_awake(line: socket.socket, seconds: int) -> None:
    """Has the system ask a silent peer whether it is still there, as `keepalives` has libpq's."""
    if line.family == socket.AF_UNIX:
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", seconds), ("TCP_KEEPINTVL", seconds), ("TCP_KEEPCNT", KEEPALIVES)):
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _copied(loop: asyncio.AbstractEventLoop, connection: Any, sql: str) -> Iterator[bytes]:
    """Steps the loop from block to block: what takes them holds the server back, and no thread is needed."""
    pieces: list[bytes] = []
    size = 0
    ready, taken = asyncio.Event(), asyncio.Event()

    async def output(data: bytes) -> None:
        nonlocal size
        pieces.append(data)
        size += len(data)
        if size >= BLOCK_BYTES:
            ready.set()
            await taken.wait()
            taken.clear()

    async def step() -> None:
        waiting = loop.create_task(ready.wait())
        await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        ready.clear()

    task = loop.create_task(connection.copy_from_query(sql, output=output, format="csv"))
    try:
        while True:
            loop.run_until_complete(step())
            if task.done():
                task.result()  # where the line broke, what came last may be no whole record: it is not given
            block = b"".join(pieces)
            pieces.clear()
            size = 0
            if block:
                yield block
            if task.done():
                return
            taken.set()
    finally:
        if not task.done():
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
