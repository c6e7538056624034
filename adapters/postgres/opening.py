"""Opens connections to PostgreSQL and says in our words what server and drivers say in theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapters.postgres import advice
from pipelines.errors import FlowError, Invalid, Unavailable

if TYPE_CHECKING:
    from psycopg import Connection as Driver

LOCKED = "locked by another session"
KEEPALIVES = 3
"""After so many unanswered questions a silent line counts as lost."""
SETTINGS = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "client_encoding": "UTF8",
    "xmloption": "content",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "synchronize_seqscans": "off",
}
"""What makes the text of a value the same on every server."""
_AWAY = ("08", "53", "57", "58", "40", "55")
"""Classes of SQLSTATE that may pass: connection, resources, intervention, system, transaction, object in use
(https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

READ_ONLY = (
    "the database takes no writes: it is a standby, or default_transaction_read_only is on; name the primary, or have it "
    "switched off for the user"
)
UNLIMITED = ", ".join(
    f"CASE WHEN current_setting('{name}', true) IS NOT NULL THEN set_config('{name}', '0', false) END"
    for name in ("idle_session_timeout", "transaction_timeout")
)
"""Takes off the limits that newer servers know: a connection waits while other nodes work."""


@dataclass(frozen=True)
class Server:
    """Where a database is and how it is opened. The password is never shown."""

    words: str
    """What libpq is given, without the password."""
    address: str
    """Host, port and database, for people and to tell targets apart."""
    lock_seconds: float
    search_path: str = ""
    password: str | None = field(default=None, repr=False)

    def word(self, name: str) -> str:
        """One of libpq's words, as it was given; nothing where it was not."""
        from psycopg import conninfo

        return str(conninfo.conninfo_to_dict(self.words).get(name) or "")


def address_of(words: str) -> str:
    """Host, port and database of libpq's words, without user and password."""
    from psycopg import conninfo

    given = conninfo.conninfo_to_dict(words)
    place = (
        given.get("host") or given.get("hostaddr") or (f"service {given['service']}" if "service" in given else "local")
    )
    port = f":{given['port']}" if "port" in given else ""
    return f"{place}{port}/{given.get('dbname') or given.get('user') or ''}"


def has_password(url: str) -> bool:
    """Whether an address holds a password."""
    return bool(re.match(r"\w+://[^@]*:[^@]+@", url) or re.search(r"(^|[?&\s])password\s*=", url))


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """Raises what psycopg and asyncpg raise as `Unavailable` (away, locked, full) or `Invalid` (the SQL, a name)."""
    import psycopg

    try:
        yield
    except FlowError:
        raise
    except psycopg.Error as fault:
        words, detail = fault.diag.message_primary or str(fault), fault.diag.message_detail
        if detail and (fault.sqlstate or "").startswith("23"):
            words = f"{_first(words)}: {_first(detail)}"
        raise said(server, fault.sqlstate, words, isinstance(fault, psycopg.OperationalError)) from fault


def said(server: Server, sqlstate: str | None, text: str, is_operational: bool) -> FlowError:
    """What a fault means for the reader."""
    words = _first(text)
    if sqlstate == "55P03":
        return Unavailable(f"{server.address}: {LOCKED}; {words}")
    if sqlstate is None:
        return (Unavailable if is_operational else Invalid)(f"{server.address}: {words}")
    if sqlstate == "42501":
        user = server.word("user")
        return Invalid(
            f"{server.address}: {words}; have its owner grant it to {f'user {user!r}' if user else 'the user'}"
        )
    if sqlstate == "25006":
        return Invalid(f"{server.address}: {words}; {READ_ONLY}")
    if sqlstate[:2] in _AWAY:
        return Unavailable(f"{server.address}: {words}")
    return Invalid(f"{server.address}: {words}")


def _first(text: str) -> str:
    """The message without the statement that is quoted below it."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0] if lines else "the connection was lost"


def connect(server: Server, *, read_only: bool) -> Driver[Any]:
    """A connection without an open transaction."""
    import psycopg

    options = {**SETTINGS, "lock_timeout": f"{int(server.lock_seconds * 1000)}ms"}
    if server.search_path:
        options["search_path"] = server.search_path
    if read_only:
        options["default_transaction_read_only"] = "on"
    secret = {} if server.password is None else {"password": server.password}
    try:
        found = psycopg.connect(server.words, autocommit=True, cursor_factory=psycopg.RawCursor, **secret)  # type: ignore[arg-type]
    except (psycopg.Error, UnicodeError) as fault:
        words = f"{server.address}: cannot connect: {advice.told(str(fault), server.word('sslrootcert'))}"
        raise (Invalid if advice.is_wrong(str(fault)) else Unavailable)(words) from fault
    with translated(server):
        items = ", ".join(f"set_config('{name}', ${number}, false)" for number, name in enumerate(options, 1))
        found.execute(f"SELECT {items}, {UNLIMITED}", list(options.values()))
    found.prepare_threshold = None
    return found
