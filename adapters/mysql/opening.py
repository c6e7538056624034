"""Opens connections to MySQL and MariaDB, and says in our words what server and driver say in theirs."""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.errors import FlowError, Invalid, Unavailable

if TYPE_CHECKING:
    from pymysql import Connection as Driver

Tls = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
CONNECT_SECONDS = 10
PORT = 3306
MODES = (
    "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION"
)
"""Standard quoting, and an error where a server would else store another value."""
LOCKED = 1205
DEADLOCK = 1213
AWAY = {
    1021, 1037, 1038, 1040, 1041, 1042, 1053, 1077, 1078, 1079, 1081, 1105, 1114, 1129, 1152, 1158, 1159, 1160, 1161,
    1180, 1184, 1203, 1206, 1226, 1317, 1412, 1615, 1836, 1927, 1969, 2002, 2003, 2005, 2006, 2012, 2013, 2014, 2055,
    3024, 3032, 3168, 4031,
}  # fmt: skip
"""What may pass: the network, resources, a server that is stopping, a statement that was interrupted
(https://mariadb.com/kb/en/mariadb-error-code-reference/, https://dev.mysql.com/doc/mysql-errors/8.4/en/)."""
ADVICE = {
    1044: "check the user's rights and `database`",
    1045: "check `user` and `password`",
    1049: "check `database`",
    1130: "let the server take this machine's address for the user",
    1698: "check `user` and `password`",
    2026: "check `tls` and `tls_root`",
}


@dataclass(frozen=True)
class Server:
    """Where a database is and how it is opened. The password is never shown."""

    host: str
    port: int
    database: str
    user: str
    tls: Tls
    tls_root: Path | None
    lock_seconds: float
    program: str
    password: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Host, port and database, for people and to tell targets apart."""
        place = self.host if self.host.startswith("/") else f"{self.host}:{self.port}"
        return f"{place}/{self.database}"


def connect(server: Server) -> Driver[Any]:
    """A connection without an open transaction, of which rows come as whole numbers, texts and bytes."""
    import pymysql
    from pymysql.constants import CLIENT, FIELD_TYPE

    whole = ("TINY", "SHORT", "LONG", "LONGLONG", "INT24", "YEAR")
    place = {"unix_socket": server.host} if server.host.startswith("/") else {"host": server.host, "port": server.port}
    try:
        found = pymysql.connect(
            **place,
            user=server.user,
            password=(server.password or "").encode(),
            database=server.database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            client_flag=CLIENT.LOCAL_FILES,
            conv={getattr(FIELD_TYPE, name): int for name in whole},
            program_name=server.program,
            **_tls(server),
        )
    except (pymysql.MySQLError, OSError, RuntimeError, ValueError) as fault:
        raise _refused(server, fault) from fault
    seconds = max(1, math.ceil(server.lock_seconds))
    settings = {
        "sql_mode": f"'{MODES}'", "time_zone": "'+00:00'", "lc_messages": "'en_US'", "wait_timeout": 86_400,
        "net_read_timeout": 3_600, "net_write_timeout": 3_600, "innodb_lock_wait_timeout": seconds,
        "lock_wait_timeout": seconds,
    }  # fmt: skip
    with translated(server):
        found.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        found.query("SET " + ", ".join(f"SESSION {name} = {value}" for name, value in settings.items()))
    return found


def _tls(server: Server) -> dict[str, Any]:
    if server.tls == "disable":
        return {"ssl_disabled": True}
    if server.tls == "prefer":
        return {}
    try:
        context = ssl.create_default_context(cafile=str(server.tls_root) if server.tls_root else None)
    except (OSError, ssl.SSLError) as fault:
        raise Invalid(f"{server.address}: `tls_root` {server.tls_root} cannot be read: {fault}") from fault
    context.check_hostname = server.tls == "verify-full"
    if server.tls == "require":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def _refused(server: Server, fault: Exception) -> FlowError:
    """What a connection that cannot be made means for the reader."""
    words = f"{server.address}: cannot connect: {said_by(fault)}"
    cause = getattr(fault, "original_exception", fault)
    if isinstance(cause, ssl.SSLError):
        return Invalid(f"{words}; {ADVICE[2026]}")
    code = code_of(fault)
    is_away = code in AWAY and not isinstance(cause, socket.gaierror)
    if is_away or (isinstance(fault, OSError) and not isinstance(cause, socket.gaierror)):
        return Unavailable(words)
    advice = ADVICE.get(code, "")
    return Invalid(f"{words}; {advice}" if advice else words)


@contextmanager
def translated(server: Server) -> Iterator[None]:
    """Raises what the driver raises as `Unavailable` (away, locked, full) or `Invalid` (the SQL, a name, a right)."""
    import pymysql

    try:
        yield
    except FlowError:
        raise
    except (pymysql.MySQLError, OSError) as fault:
        raise said(server, fault) from fault


def said(server: Server, fault: Exception) -> FlowError:
    """What a fault means for the reader."""
    words, code = said_by(fault), code_of(fault)
    if code == LOCKED:
        return Unavailable(f"{server.address}: locked by another session; {words}")
    if code == DEADLOCK:
        return Unavailable(f"{server.address}: two sessions waited for each other's locks; {words}")
    is_lost = isinstance(fault, OSError) or code == 0
    return (Unavailable if is_lost or code in AWAY else Invalid)(f"{server.address}: {words}")


def code_of(fault: Exception) -> int:
    """The number of a fault; 0: the connection is closed."""
    return fault.args[0] if fault.args and isinstance(fault.args[0], int) else -1


def said_by(fault: Exception) -> str:
    """The message in one line."""
    words = str(fault.args[1] if len(fault.args) > 1 else fault)
    return " ".join(words.split()) or "the connection was lost"
