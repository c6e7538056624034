"""Upsert and delete by key in files: the old records whose key does not come, then what comes.

DuckDB sees keys and positions only, within a memory limit and spilling to disk; the records themselves are streamed past
and keep the form they had, to the byte in CSV and JSON lines but for quotes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from adapters.file.writers import ARRIVED, Form
from pipelines.errors import Invalid, Unavailable

POSITION = "__position"
KEY_ROWS = 65_536

Batches = Callable[[Path], Iterator[pa.RecordBatch]]


class Keys:
    """The keys that came, ready to be compared with what is there."""

    def __init__(self, folder: Path, key: Sequence[str], memory_bytes: int) -> None:
        self._folder = folder
        self._key = tuple(key)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        limit = f"{max(memory_bytes // 1_000_000, 64)}MB"
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": limit,
            "threads": "2",
            "temp_directory": str(folder / "spill"),
        }
        self._connection = duckdb.connect(str(folder / "keys.duckdb"), config=config)
        self._tables = 0

    def __enter__(self) -> Keys:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def take(self, staged: Sequence[Path], batches: Batches) -> Dropped:
        """Takes the keys of the staged parts; gives the positions of records that a later one of the same key replaces."""
        reader = Numbered(staged, batches, [*self._key, ARRIVED])
        with _told(self._folder), self._seen_as("coming", reader):
            self._connection.execute("create or replace table staged as select * from coming")
        names = ", ".join(_quoted(name) for name in self._key)
        replaced = f"""
            select {POSITION} from (
                select {POSITION}, row_number() over (partition by {names} order by {ARRIVED} desc, {POSITION} desc) as n
                from staged
            ) where n > 1 order by {POSITION}"""
        return Dropped(reader.counts, self._positions(replaced))

    def found(self, olds: Sequence[Path], batches: Batches, raw_line: str | None) -> Dropped:
        """The positions of the old records whose key has come. With `raw_line` that column holds JSON."""
        columns = list(self._key) if raw_line is None else [raw_line]
        kinds = dict(self._connection.sql("select column_name, column_type from (describe staged)").fetchall())
        same = " and ".join(
            f"try_cast({_there(name, raw_line)} as {kinds[name]}) = staged.{_quoted(name)}" for name in self._key
        )
        reader = Numbered(olds, batches, columns)
        query = f"select there.{POSITION} from there semi join staged on {same} order by 1"
        try:
            with self._seen_as("there", reader):
                return Dropped(reader.counts, self._positions(query))
        except (duckdb.InvalidInputException, duckdb.ConversionException) as fault:
            raise Invalid(
                f"{olds[0]}: what is there cannot be read ({_short(fault)}); mend it, or use mode `replace`"
            ) from fault

    @contextmanager
    def _seen_as(self, name: str, reader: Numbered) -> Iterator[None]:
        """Lets DuckDB read batches; a fault of reading them is raised as itself."""
        self._connection.register(name, reader.batches)
        try:
            yield
        except duckdb.Error as fault:
            raise (reader.fault or fault) from fault
        finally:
            self._connection.unregister(name)

    def _positions(self, query: str) -> Iterator[pa.RecordBatch]:
        """The result as a table of its own, on disk where it is large, read from a cursor of its own."""
        self._tables += 1
        with _told(self._folder):
            self._connection.execute(f"create table positions_{self._tables} as {query}")
        return self._read(f"select * from positions_{self._tables}")

    def _read(self, query: str) -> Iterator[pa.RecordBatch]:
        cursor = self._connection.cursor()
        try:
            yield from cursor.sql(query).to_arrow_reader(KEY_ROWS)
        finally:
            cursor.close()


@dataclass
class Dropped:
    """Positions to leave out, ascending through all files, taken in one pass."""

    counts: list[int]
    """Records in each file, once all have been read."""
    _batches: Iterator[pa.RecordBatch]
    _held: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def any_before(self, end: int) -> bool:
        """Whether a position below `end` has not been taken yet."""
        self._hold(end)
        return bool(len(self._held) and self._held[0] < end)

    def before(self, end: int) -> np.ndarray:
        """The positions below `end` that have not been taken yet."""
        self._hold(end)
        cut = int(np.searchsorted(self._held, end))
        taken, self._held = self._held[:cut], self._held[cut:]
        return taken

    def _hold(self, end: int) -> None:
        while not len(self._held) or self._held[-1] < end:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._held = np.concatenate([self._held, batch.column(0).to_numpy()])


def kept(batches: Iterator[pa.RecordBatch], dropped: Dropped, start: int) -> Iterator[pa.RecordBatch]:
    """The records of a file whose first has position `start`, without the dropped ones."""
    for batch in batches:
        positions = dropped.before(start + batch.num_rows)
        if not len(positions):
            yield batch
        elif len(positions) < batch.num_rows:
            mask = np.ones(batch.num_rows, bool)
            mask[positions - start] = False
            yield batch.filter(pa.array(mask))
        start += batch.num_rows


def write_kept(form: Form, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> int:
    """A file of these batches, and how many records it has."""
    part = form.part(path, schema)
    try:
        for batch in batches:
            part.write(batch)
    finally:
        rows = part.close()
    return rows


class Numbered:
    """The columns of all files with each record's position, read once, batch by batch."""

    def __init__(self, paths: Sequence[Path], batches: Batches, columns: Sequence[str]) -> None:
        self.counts: list[int] = []
        """The records of each file, once it has been read."""
        self.fault: Exception | None = None
        """What went wrong while another library was reading."""
        self._columns = columns
        produced = self._produced(paths, batches)
        first = next(produced, None)
        if first is None:
            fields = [pa.field(name, pa.string()) for name in columns]
            first = pa.RecordBatch.from_pylist([], pa.schema([*fields, pa.field(POSITION, pa.int64())]))
        self.batches = pa.RecordBatchReader.from_batches(first.schema, self._alike(first, produced))

    def _produced(self, paths: Sequence[Path], batches: Batches) -> Iterator[pa.RecordBatch]:
        position = 0
        for path in paths:
            start = position
            for batch in batches(path):
                numbers = pa.array(np.arange(position, position + batch.num_rows))
                position += batch.num_rows
                for name in self._columns:
                    if name not in batch.schema.names:
                        raise Invalid(f"{path}: has no column {name!r}; there are: {', '.join(batch.schema.names)}")
                chosen = [batch.column(name) for name in self._columns]
                yield pa.RecordBatch.from_arrays([*chosen, numbers], [*self._columns, POSITION])
            self.counts.append(position - start)

    def _alike(self, first: pa.RecordBatch, produced: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """All batches with the first one's types."""
        yield first
        try:
            for batch in produced:
                yield batch if batch.schema.equals(first.schema) else batch.cast(first.schema)
        except Exception as fault:
            self.fault = fault
            raise


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Says what keeps DuckDB from working in its folder."""
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException) as fault:
        raise Unavailable(
            f"{folder}: comparing keys found no room ({_short(fault)}); make room, or raise the runner's `memory_bytes`"
        ) from fault


def _short(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _there(name: str, line: str | None) -> str:
    """SQL for a key column of what is there."""
    if line is None:
        return f"there.{_quoted(name)}"
    pointer = "/" + name.replace("~", "~0").replace("/", "~1")
    return f"json_extract_string(there.{_quoted(line)}, '" + pointer.replace("'", "''") + "')"
