"""A DuckDB over the committed files of some runs, for commands that read what runs have kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import Invalid
from repository.columns import literal
from repository.query_child import configure, explained, lock

LIMITS: Mapping[str, Any] = {"memory_bytes": 1 << 30, "threads": 2, "spill_bytes": 4 << 30}


@contextmanager
def opened(paths: Sequence[str]) -> Iterator[Any]:
    """A DuckDB that can open these files and nothing else."""
    import duckdb

    connection = duckdb.connect()
    try:
        with tempfile.TemporaryDirectory(prefix="processflow-kept-") as folder:
            configure(connection, dict(LIMITS), Path(folder))
            lock(connection, list(paths))
            yield connection
    except duckdb.Error as fault:
        raise Invalid(explained(fault, connection, dict(LIMITS))) from fault
    finally:
        connection.close()


def read_files(paths: Sequence[str], run: str | None = None) -> str:
    """SQL that reads committed files as one relation; of files that several runs share, just one run's rows."""
    files = f"read_parquet([{', '.join(map(literal, paths))}], hive_partitioning = false)"
    return files if run is None else f"(SELECT * FROM {files} WHERE run = {literal(run)})"
