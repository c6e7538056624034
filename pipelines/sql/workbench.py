"""A DuckDB that works on more than memory holds: over spilled files, within a limit, in a folder of the run's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.errors import Cancelled, Failed, Unavailable
from pipelines.sql.literals import name_of
from pipelines.sql.wording import one_line
from pipelines.wire import read_spill

LEAST_BYTES = 128 << 20


class Workbench:
    """One DuckDB for one thread. Reads relations of spilled batches; spills what it cannot hold into `folder`.

    It serves one piece of work after another: opening one takes as long as adding up a hundred thousand records.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._relations: set[str] = set()
        self._has_made = False
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "memory_limit": f"{max(limit_bytes, LEAST_BYTES)}B",
                "temp_directory": str(folder / uuid.uuid4().hex),
                "autoload_known_extensions": False,
                "autoinstall_known_extensions": False,
            },
        )
        self._connection.execute(
            "SET GLOBAL TimeZone = 'UTC'; SET enable_external_access = false; SET lock_configuration = true"
        )

    def relation(self, name: str, paths: Sequence[Path], schema: pa.Schema) -> int:
        """Makes the batches of some files a relation, read where they lie; how many rows it has."""
        batches = [batch for path in paths for batch in read_spill(path)]
        table = pa.Table.from_batches(batches, schema)
        self.lend(name, table)
        return int(table.num_rows)

    def keep(self, name: str, paths: Sequence[Path], schema: pa.Schema) -> int:
        """Makes a table of the batches of some files, that stays until the end; how many rows it has."""
        rows = self.relation("__kept", paths, schema)
        self.run(f"CREATE TABLE {name_of(name)} AS FROM __kept")
        self.clear()
        return rows

    def lend(self, name: str, table: pa.Table) -> None:
        """Makes a table in memory a relation, until another takes its name, or all are let go of."""
        self._connection.register(name, table)
        self._relations.add(name)

    def clear(self) -> None:
        """Lets go of all relations, and of what statements have made for a while."""
        for name in self._relations:
            self._connection.unregister(name)
        self._relations.clear()
        for kind in ("view", "table") if self._has_made else ():
            found = self.rows(f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE temporary AND NOT internal")
            self.run("".join(f"DROP {kind} {name_of(str(name))}; " for (name,) in found) or "SELECT 1")
        self._has_made = False

    def run(self, statements: str) -> None:
        """Runs statements of ours; what they make is temporary."""
        self._has_made = True
        with _told():
            self._connection.execute(statements).fetchall()

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """What a small SELECT of ours gives."""
        with _told():
            found: list[tuple[object, ...]] = self._connection.sql(query).fetchall()
        return found

    def batches(self, query: str, rows: int, *, keeps_order: bool = False) -> Iterator[pa.RecordBatch]:
        """What a SELECT gives, in batches of at most so many rows. Ordered results are laid down first, to be bounded.

        Raises:
            Cancelled: it was interrupted.
            Failed: a value cannot be computed, or the result outgrows the memory that is allowed.
            Unavailable: there is no room for what is spilled.
        """
        with _told():
            if keeps_order:
                self.run(f"CREATE TEMP TABLE __ordered AS {query}")
                query = "SELECT * FROM __ordered"
            yield from self._connection.sql(query).to_arrow_reader(rows)

    def interrupt(self) -> None:
        """Ends the SELECT that is being worked, from another thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Ends it; its files go with the run's folder."""
        self._connection.close()


@contextmanager
def _told() -> Iterator[None]:
    """DuckDB's faults as what to do about them."""
    try:
        yield
    except duckdb.InterruptException as fault:
        raise Cancelled("a statement was interrupted") from fault
    except duckdb.OutOfMemoryException as fault:
        raise Failed(f"{one_line(str(fault))}; raise the environment's memory_bytes, or narrow the records") from fault
    except duckdb.IOException as fault:
        raise Unavailable(one_line(str(fault))) from fault
    except duckdb.Error as fault:
        raise Failed(one_line(str(fault))) from fault
