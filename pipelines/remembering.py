"""Keys that former runs have let through: written where they leave a node, and looked up where they come again.

A memory is Parquet files of the key's columns as they were, so that keys are compared by value and never by a hash alone. Each
file is ordered by `BUCKET`, a part of the keys' hash: who looks for some keys reads the row groups of their buckets, a
stretch at a time, and holds no more than the keys it looks for. Should DuckDB ever hash otherwise, the files'
`WITNESS` tells, and they are read whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.align import align
from pipelines.facts import Plain
from pipelines.sql.carried import plain_type
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.workbench import Workbench

BUCKETS = 16
BUCKET, AT = "__bucket", "__at"
INSTANT = pa.timestamp("us", tz="UTC")
HELD_ROWS = 1 << 20
"""Keys that a worker holds before it writes them."""
GROUP_ROWS = 1 << 17
LOOKED_UP_ROWS = 1 << 20
"""Keys of a memory that are looked at together."""
WITNESS = b"processflow.hash"
CAME, SEEN, KEYS, STRETCH = "__came", "__seen", "__keys", "__stretch"


@dataclass(frozen=True)
class Memory:
    """What a node may know of former runs: the files that count, of them what was let through in a span of time."""

    files: tuple[str, ...] = ()
    since: datetime | None = None
    before: datetime | None = None


class KeyWriter:
    """Writes the keys of records that leave a node, in one worker thread."""

    def __init__(self, folder: Path, key: Sequence[str], at: datetime, sandbox: Sandbox) -> None:
        self._folder = folder
        self._key = list(key)
        self._at = at
        self._sandbox = sandbox
        self._held: list[pa.RecordBatch] = []
        self._rows = 0
        self._written: list[Plain] = []

    def put(self, batch: pa.RecordBatch) -> None:
        """Takes records that leave."""
        self._held.append(batch.select(self._key))
        self._rows += batch.num_rows
        if self._rows >= HELD_ROWS:
            self._write()

    def close(self) -> list[Plain]:
        """The files written."""
        self._write()
        return self._written

    def _write(self) -> None:
        if not self._rows:
            return
        keys = pa.Table.from_batches(self._held).combine_chunks().to_batches()[0]
        told = key_of(keys.schema, self._key)
        keys = align(keys, pa.schema([field.with_type(_kept(field.type)) for field in keys.schema]))
        self._held, self._rows = [], 0
        path = self._folder / f"{uuid.uuid4().hex}.parquet"
        dated = keys.append_column(AT, pa.repeat(pa.scalar(self._at, INSTANT), keys.num_rows))
        write_keys(path, bucketed(dated, self._key, self._sandbox), self._sandbox)
        self._written.append({"path": str(path), "rows": keys.num_rows, "key": told})


def _kept(kind: pa.DataType) -> pa.DataType:
    """The type in which Parquet keeps values: pyarrow does not read a null back among lists of a fixed size."""
    kind = plain_type(kind)
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind


def key_of(schema: pa.Schema, key: Sequence[str]) -> list[list[str]]:
    """A key's columns and their types: what two memories must have alike."""
    return [[name, str(schema.field(name).type)] for name in key]


def bucketed(batch: pa.RecordBatch, key: Sequence[str], sandbox: Sandbox) -> pa.Table:
    """Keys, with the time at which they were let through, and their buckets, ordered by those."""
    keys = batch.select(list(key))
    names = ", ".join(map(name_of, key))
    buckets = sandbox.prepare(f"(hash({names}) % {BUCKETS})::UTINYINT AS b", keys.schema)(keys).column(0)
    order = pc.sort_indices(buckets)
    columns = {**{name: batch.column(name) for name in key}, BUCKET: buckets, AT: batch.column(AT)}
    return pa.table(columns).take(order)


def write_keys(path: Path, table: pa.Table, sandbox: Sandbox) -> None:
    """Writes ordered keys as a file of a memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {**(table.schema.metadata or {}), WITNESS: witness(sandbox)}
    pq.write_table(table.replace_schema_metadata(metadata), path, compression="zstd", row_group_size=GROUP_ROWS)


def witness(sandbox: Sandbox) -> bytes:
    """How this DuckDB hashes: the same as long as buckets are the same."""
    found = sandbox.fetch(f"SELECT hash(1::BIGINT), hash('a'), hash(NULL::VARCHAR, 2::INTEGER), {BUCKETS}", [])
    return repr(found[0]).encode()


def stretches(
    path: str, key: Sequence[str], buckets: Collection[int] | None, now: bytes, memory: Memory
) -> Iterator[pa.Table]:
    """The keys of a file that lie in some buckets (None: all) and in the memory's span of time, some at a time."""
    with pq.ParquetFile(path) as file:
        if buckets is not None and (file.schema_arrow.metadata or {}).get(WITNESS) == now:
            groups = [number for number in range(file.num_row_groups) if _may_hold(file, number, buckets)]
        else:
            groups = list(range(file.num_row_groups))
        if not groups:
            return
        columns = [*key, *([AT] if memory.since or memory.before else [])]
        for batch in file.iter_batches(LOOKED_UP_ROWS, row_groups=groups, columns=columns, use_threads=False):
            table = pa.Table.from_batches([batch])
            for moment, holds in ((memory.since, pc.greater_equal), (memory.before, pc.less)):
                if moment is not None:
                    table = table.filter(holds(table.column(AT), pa.scalar(moment, INSTANT)))
            if table.num_rows:
                yield table.select(list(key))


def _may_hold(file: pq.ParquetFile, number: int, buckets: Collection[int]) -> bool:
    place = file.schema_arrow.get_field_index(BUCKET)
    told = file.metadata.row_group(number).column(_leaf(file, place)).statistics
    return told is None or not told.has_min_max or any(told.min <= bucket <= told.max for bucket in buckets)


def _leaf(file: pq.ParquetFile, place: int) -> int:
    """The column's number among Parquet's leaves: nested columns before it have several, so it is found by its name."""
    name = file.schema_arrow.field(place).name
    return next(leaf for leaf in range(len(file.schema)) if file.schema.column(leaf).path == name)


def keep_unseen(bench: Workbench, relation: str, key: Sequence[str], memory: Memory, sandbox: Sandbox) -> None:
    """Makes of the relation `CAME` one called `relation`, without the records whose key is remembered."""
    names = ", ".join(map(name_of, key))
    same = " AND ".join(f"a.{name} IS NOT DISTINCT FROM b.{name}" for name in map(name_of, key))
    bench.run(f"CREATE OR REPLACE TEMP TABLE {KEYS} AS SELECT DISTINCT {names} FROM {CAME}")
    bench.run(f"CREATE OR REPLACE TEMP TABLE {SEEN} AS SELECT * FROM {KEYS} LIMIT 0")
    found = bench.rows(f"SELECT DISTINCT hash({names}) % {BUCKETS} FROM {KEYS}")
    buckets, now = {int(str(bucket)) for (bucket,) in found}, witness(sandbox)
    for path in memory.files if buckets else ():
        for table in stretches(path, key, buckets, now, memory):
            bench.lend(STRETCH, table)
            bench.run(f"INSERT INTO {SEEN} SELECT a.* FROM {KEYS} a SEMI JOIN {STRETCH} b ON {same}")
    bench.run(
        f"CREATE OR REPLACE TEMP VIEW {name_of(relation)} AS SELECT a.* FROM {CAME} a ANTI JOIN {SEEN} b ON {same}; "
        f"DROP TABLE {KEYS}"
    )
