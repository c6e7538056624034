"""Says who holds a lock that a session waits for: seen while it waits, as afterwards nobody can tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapters.postgres.opening import LOCKED, Server, connect
from pipelines.errors import FlowError, Unavailable

if TYPE_CHECKING:
    from psycopg import Connection

LOOKS = 4
"""So often somebody looks while a lock is waited for, at least once even on a slow machine."""
_HOLDERS = (
    "SELECT DISTINCT b.pid, a.usename::text, a.application_name, "
    "to_char(a.xact_start, 'YYYY-MM-DD HH24:MI:SS') || ' UTC', a.state FROM unnest(pg_blocking_pids($1)) AS b(pid) "
    "LEFT JOIN pg_stat_activity a ON a.pid = b.pid ORDER BY 1"
)
"""Those that a session really waits for (https://www.postgresql.org/docs/current/functions-info.html)."""


@contextmanager
def watched(server: Server, connection: Connection[Any]) -> Iterator[None]:
    """Adds to what is said of a lock who holds it, and since when."""
    ended = threading.Event()
    seen: list[str] = []
    look = threading.Thread(target=_look, args=(server, connection.pgconn.backend_pid, ended, seen), daemon=True)
    look.start()
    try:
        yield
    except Unavailable as fault:
        ended.set()
        look.join(1)
        if LOCKED not in str(fault) or not seen:
            raise
        raise Unavailable(f"{fault}; {seen[-1]}") from fault
    finally:
        ended.set()
        look.join(1)  # it may be connecting to a server that is away


def _look(server: Server, pid: int, ended: threading.Event, seen: list[str]) -> None:
    """Looks now and then who is in the way, by a connection that is made when the session has taken long."""
    pause = server.lock_seconds / LOOKS
    if ended.wait(pause):
        return
    import psycopg

    try:
        connection = connect(server, read_only=True)
    except FlowError:
        return  # whoever waits finds out why
    try:
        while True:
            if rows := connection.execute(_HOLDERS, [pid]).fetchall():
                seen.append(f"held by {' and by '.join(_shown(*row) for row in rows)}")
            if ended.wait(pause):
                return
    except psycopg.Error:
        return
    finally:
        connection.close()


def _shown(pid: int, user: str | None, program: str | None, since: str | None, state: str | None) -> str:
    if not pid:
        return "a prepared transaction (pg_prepared_xacts lists them)"
    words = [
        f"user {user}" if user else "",
        program or "",
        f"in its transaction since {since}" if since else "",
        state or "",
    ]
    return f"process {pid} ({', '.join(filter(None, words))})"
