"""The process that answers one query: it sees the committed files of the views that the query names, and nothing else.

Reads a request (JSON) from its standard input, writes the answer to its standard output and what became of it (JSON,
one line) to its standard error. It imports neither Beam nor SQLAlchemy, and pyarrow only for the format `arrow`.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.errors import Invalid
from repository import formats
from repository.columns import literal
from repository.guard import Asked, asked, listed, plain_message, unknown_table
from repository.manifest import read
from repository.views import View, Views

ADDRESS_SPACE_BYTES = 8 << 30
"""Beyond DuckDB's own limit: what code, threads and the allocator reserve without using it."""

PARSED_LEVELS = 20_000
"""How deep a parsed query may be: a sum of many terms is a deep one."""


def main() -> None:
    """Answers the request on standard input."""
    request = json.loads(sys.stdin.buffer.readline())
    sys.setrecursionlimit(PARSED_LEVELS)
    _limit(request["limits"])
    try:
        with tempfile.TemporaryDirectory(prefix="processflow-query-") as folder:
            said = answer(request, Path(folder), sys.stdout.buffer)
    except Invalid as fault:
        said = {"invalid": str(fault)}
    except BrokenPipeError:
        said = {"rows": 0, "truncated": False}  # whoever reads has seen enough
    sys.stderr.write("\n" + json.dumps(said) + "\n")


def answer(request: dict[str, Any], folder: Path, out: BinaryIO) -> dict[str, Any]:
    """Writes the answer to `out`; how many rows, and whether there were more."""
    import duckdb

    limits = request["limits"]
    connection = duckdb.connect()
    relation = None
    try:
        views = Views(Path(request["root"]), read(Path(request["root"])))
        wanted = asked(connection, request["sql"])
        configure(connection, limits, folder)
        made = _make(connection, views, wanted)
        lock(connection, [path for view in made for path in view.files])
        relation = connection.sql(_listing(views) if wanted.wants_list else request["sql"])
        if relation is None:
            raise Invalid("a query is one SELECT that gives rows; write a SELECT")
        return formats.write(connection, relation, request["format"], limits["rows"], request["width"], out)
    except duckdb.Error as fault:
        if "Broken pipe" in str(fault):
            raise BrokenPipeError from fault
        raise Invalid(explained(fault, connection, limits)) from fault
    finally:
        connection.close()


def _limit(limits: dict[str, Any]) -> None:
    """Bounds that the system enforces, should DuckDB's own fail or nobody be left to end this process."""
    memory, seconds = limits["memory_bytes"], max(1, int(limits["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory + ADDRESS_SPACE_BYTES, memory + ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds * limits["threads"], seconds * limits["threads"] + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def configure(connection: Any, limits: dict[str, Any], folder: Path) -> None:
    for name, value in {
        "memory_limit": f"{limits['memory_bytes'] >> 20}MiB",
        "threads": limits["threads"],
        "temp_directory": str(folder),
        "max_temp_directory_size": f"{limits['spill_bytes'] >> 20}MiB",
        "TimeZone": "UTC",
        "python_enable_replacements": False,
        "enable_progress_bar": False,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }.items():
        connection.execute(f"SET {name} = {literal(str(value))}")


def _make(connection: Any, views: Views, wanted: Asked) -> list[View]:
    """Creates the views that the query names."""
    made: dict[tuple[str, str], View] = {}
    for name in (*wanted.tables, *wanted.perhaps):
        view = views.find(name)
        if view is not None:
            made[view.schema, view.name] = view
        elif name in wanted.tables:
            raise unknown_table(name, views.names())
    views.make(connection, list(made.values()))
    return list(made.values())


def _listing(views: Views) -> str:
    """What SHOW TABLES gives: every view as a query writes it, though none but the named ones is made."""
    return f'SELECT unnest([{", ".join(map(literal, views.names()))}]) AS "table"'


def lock(connection: Any, paths: list[str]) -> None:
    """From here on nothing but these files can be read, nothing written, and nothing of this changed."""
    allowed = ", ".join(literal(path) for path in dict.fromkeys([*paths, formats.STANDARD_OUTPUT]))
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def explained(fault: Exception, connection: Any, limits: dict[str, Any]) -> str:
    """DuckDB's fault in plain words; for an unknown column, with the columns that are there."""
    import duckdb

    text = str(fault)
    if isinstance(fault, duckdb.OutOfMemoryException):
        return (
            f"the query needs more than its {limits['memory_bytes'] >> 20} MiB of memory; "
            "take fewer rows or columns, or raise the limit"
        )
    missing = text.partition('Referenced column "')[2].partition('" not found')[0]
    missing = missing or text.partition('does not have a column named "')[2].partition('"')[0]
    if missing:
        rows = connection.execute(
            "SELECT DISTINCT column_name FROM duckdb_columns() WHERE NOT internal AND table_name NOT LIKE 'recent %' "
            "AND NOT starts_with(column_name, '__')"
        ).fetchall()
        return f'there is no column "{missing}"; {listed(missing, sorted(name for (name,) in rows))}'
    return plain_message(text)


if __name__ == "__main__":
    main()
