"""Opens SQLite databases and says in our words what SQLite says in its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import Invalid, Unavailable

AWAY = {
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
}
LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raises what SQLite raises as `Unavailable` (locked, disk full) or `Invalid` (the SQL, the file)."""
    try:
        yield
    except sqlite3.Error as fault:
        code = getattr(fault, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the extended codes lie above
        if code in LOCKED:
            raise Unavailable(f"{path}: the database is locked by another program ({fault})") from fault
        if code in AWAY:
            raise Unavailable(f"{path}: {fault}") from fault
        if code in DAMAGED:
            raise Invalid(f"{path}: is no SQLite database, or a damaged one ({fault})") from fault
        if code == sqlite3.SQLITE_READONLY:
            raise Invalid(f"{path}: cannot be written ({fault}); check the permissions of file and folder") from fault
        raise Invalid(f"{path}: {fault}") from fault


def open_read(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """A connection that can only read."""
    if not path.is_file():
        raise Invalid(f"{path}: there is no such file; give the path of an SQLite database")
    with translated(path):
        address = f"{path.resolve().as_uri()}?mode=ro"
        return sqlite3.connect(
            address, uri=True, timeout=lock_seconds, isolation_level=None, check_same_thread=False, cached_statements=16
        )


def open_write(path: Path, lock_seconds: float) -> sqlite3.Connection:
    """A connection with a write transaction begun; a database that is missing is made in a folder that is there."""
    if not path.parent.is_dir():
        raise Invalid(f"{path}: there is no folder {str(path.parent)!r}; make it, or give another path")
    with translated(path):
        connection = sqlite3.connect(path, timeout=lock_seconds, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            connection.close()
            raise
        return connection
