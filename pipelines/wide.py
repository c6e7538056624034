"""How records come together that lie apart: spilled by partitions, and each partition worked by one SELECT."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipelines.align import align
from pipelines.changes import Changes
from pipelines.disk import file_name
from pipelines.early import EARLY, RAW, Early, Groups, put_together
from pipelines.errors import Bug, Cancelled
from pipelines.exploding import refuse_explosion
from pipelines.facts import Plain
from pipelines.job import Job
from pipelines.node import Wide
from pipelines.order import Order
from pipelines.plan import Station
from pipelines.ranges import in_order
from pipelines.records import ROW_ID
from pipelines.remembering import CAME, keep_unseen
from pipelines.sql.carried import plain_schema
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.workbench import Workbench
from pipelines.wire import SpillWriter, read_spill

PARTITIONS = 16
HELD_BYTES, HELD_BATCHES = 16 << 20, 4
"""What a worker holds per input before it spills: so many bytes, or full batches."""
SPLIT_BYTES, SPLIT_BATCHES = 64 << 20, 16
"""Partitions that are smaller together share a split."""
Leaving = Generator[pa.RecordBatch, None, None]
"""What leaves a wide node, with row ids; closed, it lets go of what works at it."""
RELATION = "input"
"""What the relation of an input without a name is called."""


def relation_of(name: str) -> str:
    return name or RELATION


def with_row_id(schema: pa.Schema) -> pa.Schema:
    """The columns as they are spilled and worked, and the row id."""
    return plain_schema(schema).append(pa.field(ROW_ID, pa.int64(), nullable=False))


class Intake:
    """The taking half of a wide node in one worker thread: spills records by partition."""

    def __init__(self, station: Station, job: Job, sandbox: Sandbox) -> None:
        self._station = station
        self._job = job
        self._ports = {
            name: _Port(station, name, schema, job, sandbox) for name, schema in station.named_inputs.items()
        }

    def put(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        """Takes a batch that left (node, port), with row ids."""
        for link in self._station.spec.inputs:
            if (link.node, link.port) == (node, port):
                self._ports[link.into].put(batch)

    def close(self) -> list[Plain]:
        """The spilled files."""
        return [spill for port in self._ports.values() for spill in port.close()]


class _Port:
    def __init__(self, station: Station, name: str, schema: pa.Schema, job: Job, sandbox: Sandbox) -> None:
        config = station.spec.config
        if not isinstance(config, Wide):
            raise Bug(f"node {station.name!r} is not wide")
        by = config.partition_by(name, station.named_inputs)
        self._node, self._name, self._job = station.name, name, job
        self._schema = with_row_id(schema)
        self._early = _early(station, self._schema, job, sandbox)
        keys = self._early.keys if self._early is not None else plain_schema(schema)
        self._numbers = sandbox.prepare(f"(hash({', '.join(by)}) % {PARTITIONS})::TINYINT AS p", keys) if by else None
        self._order = Order(config.ordered_by(), self._schema, sandbox) if config.ordered_by() else None
        most = config.most_kept()
        self._most_kept = None if most is None else max(most, 1)  # a file tells of what came
        self._gone: Counter[str] = Counter()
        self._held: list[pa.RecordBatch] = []
        self._held_bytes = self._held_rows = 0
        self._spills: dict[str, SpillWriter] = {}

    def put(self, batch: pa.RecordBatch) -> None:
        aligned = align(batch, self._schema)
        self._held.append(aligned)
        self._held_bytes += aligned.nbytes
        self._held_rows += aligned.num_rows
        if self._held_bytes >= HELD_BYTES or self._held_rows >= HELD_BATCHES * self._job.plan.batch_rows:
            self._spill()

    def close(self) -> Iterator[Plain]:
        self._spill()
        for kind, spill in self._spills.items():
            spill.close()
            partition = int(kind.removeprefix(EARLY))
            yield {
                "wide": self._node,
                "input": EARLY if kind.startswith(EARLY) else self._name,
                "partition": partition,
                "path": str(spill.path),
                "rows": spill.rows,
                "came": spill.rows + self._gone[kind],
                "bytes": spill.path.stat().st_size,
            }

    def _spill(self) -> None:
        if not self._held:
            return
        batch = pa.concat_batches(self._held)
        self._held, self._held_bytes, self._held_rows = [], 0, 0
        groups = self._early(batch) if self._early is not None else None
        if groups is None:
            self._early = None  # what follows is hardly otherwise
            for partition, rows in self._parts(batch):
                self._writer(str(partition)).write(rows)
            return
        parts = list(self._parts(groups))
        for partition, rows in parts:
            self._writer(f"{EARLY}{partition}").write(rows)
        self._gone[f"{EARLY}{parts[0][0]}"] += batch.num_rows - groups.num_rows

    def _parts(self, batch: pa.RecordBatch) -> Iterable[tuple[int, pa.RecordBatch]]:
        if self._order is not None:
            first = self._order.places(batch).slice(0, self._most_kept)
            self._gone["0"] += batch.num_rows - len(first)
            return [(0, batch.take(first))]
        if self._numbers is None:
            return [(0, batch)]
        numbers = self._numbers(batch).column(0).to_numpy(zero_copy_only=False)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=PARTITIONS))
        sorted_rows = batch.take(pa.array(order))
        return [
            (partition, sorted_rows.slice(start, end - start))
            for partition, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True))
            if end > start
        ]

    def _writer(self, kind: str) -> SpillWriter:
        if kind not in self._spills:
            name = f"{file_name(self._node)}.{self._name}.{kind}.{uuid.uuid4().hex}.arrow"
            self._spills[kind] = SpillWriter(self._job.scope.staging / "wide" / name)
        return self._spills[kind]


def _groups(station: Station, job: Job, sandbox: Sandbox) -> Groups | None:
    config = station.spec.config
    if not isinstance(config, Wide) or "out" not in station.outputs:
        return None
    return config.groups(station.named_inputs, station.outputs["out"], job.scope.inside(station.name), sandbox)


def _early(station: Station, schema: pa.Schema, job: Job, sandbox: Sandbox) -> Early | None:
    groups = _groups(station, job, sandbox)
    if groups is None:
        return None
    has_descent = station.snapshots.get("out", "none") != "none" and not job.is_dry
    early = Early(groups, schema, sandbox, has_descent)
    return early if early.is_exact else None


def wide_splits(spills: Iterable[Plain], job: Job, phase: int) -> Iterator[Plain]:
    """The splits that work what wide nodes of a phase took: partitions, small ones together; at least one a node."""
    found: dict[str, dict[int, list[Plain]]] = {}
    for spill in spills:
        if "wide" in spill and job.plan.stations[spill["wide"]].phase == phase:
            found.setdefault(spill["wide"], {}).setdefault(spill["partition"], []).append(spill)
    for name, station in job.plan.stations.items():
        if isinstance(station.spec.config, Wide) and station.phase == phase and station.lent is None:
            parts = found.get(name, {})
            if isinstance(station.spec.config, Changes):  # where nothing came, something may be gone
                parts = {partition: parts.get(partition, []) for partition in range(PARTITIONS)}
            for partitions, spills in _together(parts, SPLIT_BATCHES * job.plan.batch_rows):
                weight = sum(spill["bytes"] for spill in spills)
                paths: dict[str, list[str]] = {}
                for spill in spills:
                    paths.setdefault(spill["input"], []).append(spill["path"])
                came = sum(spill["came"] for spill in spills)
                head = {"kind": "wide", "node": name, "partitions": partitions}
                yield {**head, "paths": paths, "came": came, "weight": weight}


def _together(parts: Mapping[int, list[Plain]], most_rows: int) -> Iterator[tuple[list[int], list[Plain]]]:
    """The partitions, small ones together, with what was spilled of each."""
    held: list[Plain] = []
    numbers: list[int] = []
    for number, spills in sorted(parts.items()):
        size = sum(spill["bytes"] for spill in (*held, *spills))
        rows = sum(spill["rows"] for spill in (*held, *spills))
        if held and (size > SPLIT_BYTES or rows > most_rows):
            yield numbers, held
            held, numbers = [], []
        held, numbers = [*held, *spills], [*numbers, number]
    if numbers or not parts:
        yield numbers, held


def open_bench(job: Job) -> Workbench:
    """A workbench for one worker thread of a job."""
    limit = job.scope.environment.runner.memory_bytes // (2 * max(job.workers, 1))
    return Workbench(job.scope.staging / "workbench", limit)


def work(
    job: Job,
    station: Station,
    split: Plain,
    sandbox: Sandbox,
    bench: Workbench,
    then: Callable[[Workbench], None] | None = None,
) -> tuple[int, Leaving]:
    """How many records a split holds, and what leaves the node for them, with row ids; take all of it before the next.

    `then` is called at the end."""
    config = station.spec.config
    if not isinstance(config, Wide):
        raise Bug(f"node {station.name!r} is not wide")
    if by := config.ordered_by():
        runs = [
            batch for paths in split["paths"].values() for path in sorted(paths) for batch in read_spill(Path(path))
        ]
        return split["came"], _in_order(job, station, runs, by, config.most_kept())
    memory, key = job.memories.get(station.name), config.remembered_key()
    early = [Path(path) for path in sorted(split["paths"].get(EARLY, ()))]
    rows = {
        name: bench.relation(
            RAW if early else relation_of(name) if memory is None else CAME,
            [Path(path) for path in sorted(split["paths"].get(name, ()))],
            with_row_id(schema),
        )
        for name, schema in station.named_inputs.items()
    }
    refuse_explosion(bench, station, job, rows)
    if memory is not None:
        keep_unseen(bench, RELATION, key, memory, sandbox)
    groups = _groups(station, job, sandbox) if early else None
    if groups is not None:
        query = put_together(bench, RELATION, groups, early, has_raw=any(rows.values()))
    else:
        query = config.query(station.named_inputs, job.scope.inside(station.name), sandbox)
    return split["came"], _given(bench, query, job, station, config, then)


def _in_order(
    job: Job, station: Station, runs: Sequence[pa.RecordBatch], by: tuple[str, ...], limit: int | None
) -> Leaving:
    schema = station.outputs["out"].append(pa.field(ROW_ID, pa.int64(), nullable=False))
    with closing(in_order(job, runs, by, limit)) as batches:
        for batch in batches:
            yield align(batch, schema)


def _given(
    bench: Workbench,
    query: str,
    job: Job,
    station: Station,
    config: Wide,
    then: Callable[[Workbench], None] | None,
) -> Leaving:
    schema = station.outputs["out"].append(pa.field(ROW_ID, pa.int64(), nullable=False))
    for batch in heeded(bench, query, job, then, keeps_order=config.keeps_order):
        yield align(batch, schema)
    bench.clear()


def heeded(
    bench: Workbench,
    query: str,
    job: Job,
    then: Callable[[Workbench], None] | None = None,
    *,
    keeps_order: bool = False,
) -> Iterator[pa.RecordBatch]:
    """What a SELECT gives, and then what `then` does; where somebody wants the run to stop, the SELECT ends."""
    untell = job.watch.stop.tell(bench.interrupt)
    try:
        for batch in bench.batches(query, job.plan.batch_rows, keeps_order=keeps_order):
            if batch.num_rows:
                yield batch
        if then is not None:
            then(bench)
    except Cancelled:
        job.watch.stop.heed()
        raise
    finally:
        untell()


def described(config: Wide, schemas: Mapping[str, pa.Schema], query: str, sandbox: Sandbox) -> pa.Schema:
    """The columns that a wide node's SELECT gives, without the row id; DuckDB's errors are the caller's to explain."""
    con = sandbox.connection.cursor()
    try:
        for name, schema in schemas.items():
            con.register(relation_of(name), with_row_id(schema).empty_table())
        found = con.sql(query).to_arrow_table().schema
    finally:
        con.close()
    return pa.schema([field for field in found if field.name != ROW_ID])


def column(name: str) -> str:
    """A column's name as SQL has it."""
    return name_of(name)


def spilled_splits(spills: list[Plain], job: Job, phase: int) -> Iterator[Plain]:
    """The splits of a phase: what earlier phases spilled for its stations."""
    links = {(link.node, link.port) for station in job.plan.stations.values() for link in station.taken_in(phase)}
    for spill in spills:
        if "wide" not in spill and (spill["node"], spill["port"]) in links and spill["rows"]:
            yield {"kind": "spill", "node": spill["node"], "port": spill["port"], "path": spill["path"]}
