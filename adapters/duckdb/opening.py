"""Opens DuckDB databases and says in our words what DuckDB says in its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

CONFIG: dict[str, str | bool | int | float | list[str]] = {"autoinstall_known_extensions": "false"}
"""Nothing is fetched from the network because a query names it."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raises what DuckDB raises as `Unavailable` (locked, disk full, a conflict) or `Invalid` (the SQL, the file)."""
    import duckdb

    try:
        yield
    except duckdb.ConnectionException as fault:
        raise Unavailable(f"{path}: this process has the database open in another way; {_first(fault)}") from fault
    except duckdb.IOException as fault:
        if "not a valid DuckDB database" in str(fault) or "different version" in str(fault):
            raise Invalid(f"{path}: is no DuckDB database that this version reads ({_first(fault)})") from fault
        if "lock" in str(fault):
            raise Unavailable(f"{path}: the database is locked by another program; {_first(fault)}") from fault
        raise Unavailable(f"{path}: {_first(fault)}") from fault
    except (duckdb.OutOfMemoryException, duckdb.TransactionException) as fault:
        raise Unavailable(f"{path}: {_first(fault)}") from fault
    except duckdb.Error as fault:
        raise Invalid(f"{path}: {_first(fault)}") from fault


def _first(fault: Exception) -> str:
    """The message without the statement that DuckDB quotes below it."""
    return str(fault).split("\n", 1)[0].strip()


def open_read(path: Path, memory_bytes: int) -> DuckDBPyConnection:
    """A connection that can only read; several processes may hold one."""
    import duckdb

    if not path.is_file():
        raise Invalid(f"{path}: there is no such file; give the path of a DuckDB database")
    with translated(path):
        return _prepared(duckdb.connect(path, read_only=True, config=CONFIG), memory_bytes)


def open_write(path: Path, memory_bytes: int) -> DuckDBPyConnection:
    """A connection that writes: the only process that has the database open. A missing one is made."""
    import duckdb

    if not path.parent.is_dir():
        raise Invalid(f"{path}: there is no folder {str(path.parent)!r}; make it, or give another path")
    with translated(path):
        return _prepared(duckdb.connect(path, config=CONFIG), memory_bytes)


def _prepared(connection: DuckDBPyConnection, memory_bytes: int) -> DuckDBPyConnection:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    connection.execute(f"SET memory_limit = '{memory_bytes}B'")
    return connection
