"""Compares all records of a source with what former runs knew of them, partition by partition, out of core.

What is known is kept as a log, in the files of a memory (`pipelines/remembering.py`): per run a row for each record that
was new or had changed, with the hash of its columns, and one without a hash for each that was gone. The latest row of a
key counts. Records of one key are compared together. What a run finds unchanged is not written again.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import journal
from pipelines.align import align
from pipelines.changes import DELETED, Changes
from pipelines.disk import file_name
from pipelines.errors import Bug
from pipelines.facts import Plain
from pipelines.job import Job
from pipelines.plan import Station
from pipelines.records import ROW_ID, SOURCE_BITS
from pipelines.remembering import (
    AT,
    BUCKET,
    BUCKETS,
    CAME,
    GROUP_ROWS,
    INSTANT,
    LOOKED_UP_ROWS,
    STRETCH,
    WITNESS,
    Memory,
    key_of,
    witness,
)  # fmt: skip
from pipelines.sql.carried import plain_schema
from pipelines.sql.literals import literal, name_of
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.workbench import Workbench
from pipelines.wide import heeded, with_row_id

HASH, ROW_IDS = "__hash", "__rids"
"""Columns of a log beside the key: the hash of a record's columns, null where it is gone; the row ids that tell of it."""
SUMS, LOG, KNOWN, CHANGED, GONE = "__sums", "__log", "__known", "__changed", "__gone"
PARTITION_BITS = 4
"""The first bits of a deleted record's place tell the partition."""
TICK = timedelta(microseconds=1)


@dataclass
class Difference:
    """What became of a partition: how many records came, what leaves by which port, and then the files of the log."""

    taken: int
    leaving: Iterator[tuple[str, pa.RecordBatch]]
    files: list[Plain] = field(default_factory=list)


def differing(job: Job, station: Station, split: Plain, sandbox: Sandbox, bench: Workbench) -> Difference:
    """What of a split's records is new, changed or gone. Take all that leaves before the next."""
    config = station.spec.config
    if not isinstance(config, Changes):
        raise Bug(f"node {station.name!r} tells no changes")
    schema = with_row_id(station.named_inputs[""])
    taken = bench.relation(CAME, [Path(path) for path in sorted(split["paths"].get("", ()))], schema)
    memory = job.memories.get(station.name)
    comparing = _Comparing(job, station, config, split["partitions"], bench, sandbox)
    if memory is None or job.entries:  # previews, tests and replays see no whole source: everything passes
        return Difference(taken, comparing.everything())
    made = Difference(taken, iter(()))
    made.leaving = comparing.told(memory, made.files)
    return made


class _Comparing:
    """The comparison of some partitions of one node."""

    def __init__(
        self, job: Job, station: Station, config: Changes, partitions: Sequence[int], bench: Workbench, sandbox: Sandbox
    ) -> None:
        self._job, self._station, self._config, self._bench, self._sandbox = job, station, config, bench, sandbox
        self._partitions = list(partitions)
        schema = plain_schema(station.named_inputs[""])
        self._key = pa.schema([schema.field(name) for name in config.key])
        self._names = ", ".join(map(name_of, config.key))
        self._columns = ", ".join(map(name_of, schema.names))
        self._witness = witness(sandbox)

    def everything(self) -> Iterator[tuple[str, pa.RecordBatch]]:
        yield from self._leaving("out", f"SELECT * FROM {CAME} ORDER BY {ROW_ID}")
        self._bench.clear()

    def told(self, memory: Memory, files: list[Plain]) -> Iterator[tuple[str, pa.RecordBatch]]:
        """What leaves; in the end the file that the run adds to the log is among `files`."""
        self._sum_up()
        at = self._look_up(memory)
        same = self._same("s", "k")
        self._bench.run(
            f"CREATE OR REPLACE TEMP TABLE {CHANGED} AS SELECT s.* FROM {SUMS} s LEFT JOIN {KNOWN} k ON {same} "
            f"WHERE k.{HASH} IS NULL OR k.{HASH} <> s.{HASH}"
        )
        base = (self._station.number << SOURCE_BITS) + (self._partitions[0] << (SOURCE_BITS - PARTITION_BITS))
        gone = f"k.{HASH} IS NOT NULL" if self._is_whole() else "false"
        self._bench.run(
            f"CREATE OR REPLACE TEMP TABLE {GONE} AS SELECT {self._names}, "
            f"{base} + row_number() OVER (ORDER BY {self._names}) AS {ROW_ID} "
            f"FROM (SELECT k.* FROM {KNOWN} k ANTI JOIN {SUMS} s ON {self._same('k', 's')} WHERE {gone})"
        )
        changed = f"SELECT c.* FROM {CAME} c SEMI JOIN {CHANGED} s ON {self._same('c', 's')} ORDER BY {ROW_ID}"
        yield from self._leaving("out", changed)
        yield from self._leaving(DELETED, f"SELECT {self._names}, {ROW_ID} FROM {GONE} ORDER BY {ROW_ID}")
        files.extend(self._written(at))
        self._bench.clear()

    def _sum_up(self) -> None:
        """A row for each key that came, with the hash of its records, whatever their order."""
        hashed = f"SELECT {self._names}, {ROW_ID}, hash({self._columns}) AS h FROM {CAME}"
        self._bench.run(
            f"CREATE OR REPLACE TEMP TABLE {SUMS} AS SELECT {self._names}, hash(sum(h), count(*)) AS {HASH}, "
            f"list({ROW_ID}) AS {ROW_IDS} FROM ({hashed}) GROUP BY {self._names}"
        )

    def _look_up(self, memory: Memory) -> datetime:
        """Makes what is known of these partitions' keys a table; the time that this run's rows have, later than all others."""
        run = self._bench.run
        run(
            f"CREATE OR REPLACE TEMP TABLE {LOG} AS SELECT {self._names}, 0::UBIGINT AS {HASH}, now() AS {AT} "
            f"FROM {SUMS} LIMIT 0"
        )
        chosen = f"hash({self._names}) % {BUCKETS} IN ({', '.join(map(str, self._partitions))})"
        since = "" if memory.before is None else f" AND {AT} < {literal(memory.before)}"
        for path in memory.files:
            for table in log_of(path, self._key, self._witness, self._partitions):
                self._bench.lend(STRETCH, table)
                columns = f"{self._names}, {HASH}, {AT}"
                run(f"INSERT INTO {LOG} SELECT {columns} FROM {STRETCH} WHERE {chosen}{since}")
        run(
            f"CREATE OR REPLACE TEMP TABLE {KNOWN} AS SELECT {self._names}, arg_max_null({HASH}, {AT}) AS {HASH} "
            f"FROM {LOG} GROUP BY {self._names}"
        )
        ((latest,),) = self._bench.rows(f"SELECT max({AT}) FROM {LOG}")
        run(f"DROP TABLE {LOG}")
        return max(self._job.began, latest + TICK) if isinstance(latest, datetime) else self._job.began

    def _is_whole(self) -> bool:
        """Whether the source gave every record: one that could not be read is not one that is gone."""
        get = self._job.plan.stations[self._config.source]
        read = journal.load_phase(self._job, get.phase)
        return read is not None and not read.ledger.of(get.name).rejected

    def _written(self, at: datetime) -> Iterator[Plain]:
        """The file of what is new, changed or gone; none where nothing is."""
        path = self._job.scope.staging / "keys" / file_name(self._station.name) / f"{uuid.uuid4().hex}.parquet"
        bucket = f"(hash({self._names}) % {BUCKETS})::UTINYINT AS {BUCKET}"
        moment = f"{literal(at)}::TIMESTAMPTZ AS {AT}"
        rows = (
            f"SELECT {self._names}, {HASH}, {ROW_IDS} FROM {CHANGED} UNION ALL "
            f"SELECT {self._names}, NULL::UBIGINT, [{ROW_ID}] FROM {GONE}"
        )
        query = f"SELECT {self._names}, {HASH}, {bucket}, {moment}, {ROW_IDS} FROM ({rows}) ORDER BY {BUCKET}"
        total, writer = 0, None
        schema = pa.schema([*self._key, *LOG_COLUMNS, pa.field(ROW_IDS, pa.list_(pa.int64()))])
        try:
            for batch in heeded(self._bench, query, self._job):
                if writer is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    writer = pq.ParquetWriter(path, schema.with_metadata({WITNESS: self._witness}), compression="zstd")
                writer.write_table(pa.Table.from_batches([align(batch, schema)]), row_group_size=GROUP_ROWS)
                total += batch.num_rows
        finally:
            if writer is not None:
                writer.close()
        if total:
            yield {"path": str(path), "rows": total, "key": key_of(self._key, self._config.key)}

    def _leaving(self, port: str, query: str) -> Iterator[tuple[str, pa.RecordBatch]]:
        schema = self._station.outputs[port].append(pa.field(ROW_ID, pa.int64(), nullable=False))
        for batch in heeded(self._bench, query, self._job):
            yield port, align(batch, schema)

    def _same(self, one: str, other: str) -> str:
        names = map(name_of, self._config.key)
        return " AND ".join(f"{one}.{name} IS NOT DISTINCT FROM {other}.{name}" for name in names)


LOG_COLUMNS = (pa.field(HASH, pa.uint64()), pa.field(BUCKET, pa.uint8()), pa.field(AT, INSTANT))
UNLIKE = 0
"""Stands for every hash of a DuckDB that hashes otherwise: what was known counts as changed."""


def log_of(path: str, key: pa.Schema, now: bytes, partitions: Sequence[int]) -> Iterator[pa.Table]:
    """The rows of a file of the log that may lie in some partitions, some at a time: key, hash and time."""
    with pq.ParquetFile(path) as file:
        is_sound = (file.schema_arrow.metadata or {}).get(WITNESS) == now
        groups = [
            number for number in range(file.num_row_groups) if not is_sound or _may_hold(file, number, partitions)
        ]
        if not groups:
            return
        columns = [*key.names, HASH, AT]
        wanted = pa.schema([*key, LOG_COLUMNS[0], LOG_COLUMNS[2]])
        for batch in file.iter_batches(LOOKED_UP_ROWS, row_groups=groups, columns=columns, use_threads=False):
            table = pa.Table.from_batches([batch]).select(columns).cast(wanted)
            if not is_sound:
                hashes = table.column(HASH)
                unlike = pa.compute.if_else(hashes.is_valid(), pa.scalar(UNLIKE, pa.uint64()), hashes)
                table = table.set_column(len(key), LOG_COLUMNS[0], unlike)
            yield table


def _may_hold(file: pq.ParquetFile, number: int, partitions: Sequence[int]) -> bool:
    place = next(leaf for leaf in range(len(file.schema)) if file.schema.column(leaf).path == BUCKET)
    told = file.metadata.row_group(number).column(place).statistics
    return told is None or not told.has_min_max or any(told.min <= each <= told.max for each in partitions)
