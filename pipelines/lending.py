"""Lends a small input of a wide node to all workers: the other inputs then are worked as they pass, and never spilled.

What is lent was spilled once; each worker reads it once. Whether an input is small is known when all of it has arrived:
from then on the plan is another, with one phase less. It follows from what the phases before have written down, so every
worker, and a process that takes the run up again, comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from pipelines import journal
from pipelines.align import align
from pipelines.errors import Bug
from pipelines.exploding import refuse_explosion
from pipelines.facts import Plain
from pipelines.job import Job
from pipelines.node import Wide
from pipelines.phases import phased
from pipelines.placing import Places
from pipelines.plan import Station
from pipelines.records import ROW_ID
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.workbench import Workbench
from pipelines.wide import HELD_BATCHES, HELD_BYTES, Leaving, heeded, open_bench, relation_of, with_row_id
from pipelines.wire import read_spill

LENT_BYTES = 64 << 20
"""An input is lent up to this size on disk, and up to a share of the environment's memory."""
MEMORY_SHARE = 8


def lent_bytes(job: Job) -> int:
    """How large an input may be to be lent in this run."""
    return min(LENT_BYTES, job.scope.environment.runner.memory_bytes // (MEMORY_SHARE * max(job.workers, 1)))


def as_of(job: Job, phase: int) -> Job:
    """The job as its plan is when a phase begins: the inputs that have arrived and are small are lent."""
    waiting = [station.name for station in job.plan.stations.values() if station.borrows and station.lent is None]
    if not waiting:
        return job
    spills = list(_spilled(job, phase))
    stations = dict(job.plan.stations)
    for name in waiting:
        station = stations[name]
        files = [spill for spill in spills if spill.get("wide") == name and spill["input"] == station.borrows]
        if station.lent_phase < phase and sum(spill["bytes"] for spill in files) <= lent_bytes(job):
            paths = tuple(sorted((str(spill["path"]), int(spill["rows"])) for spill in files))
            stations = phased({**stations, name: replace(station, lent=paths)})
    return replace(job, plan=replace(job.plan, stations=stations))


def _spilled(job: Job, phase: int) -> Iterable[Plain]:
    if job.is_dry:
        return job.watch.spills
    known = [journal.load_phase(job, before) for before in range(phase)]
    return [spill for facts in known if facts is not None for spill in facts.spills]


def lent_splits(job: Job, phase: int) -> Iterator[Plain]:
    """For each node that borrows in a phase one split, which counts the records that it was lent."""
    for station in job.plan.stations.values():
        if station.lent is not None and station.phase == phase:
            yield {"kind": "lent", "node": station.name, "rows": sum(rows for _, rows in station.lent)}


class Borrower:
    """A wide node with a lent input in one worker thread: gathers what comes in by the others, and works it."""

    def __init__(self, station: Station, job: Job, sandbox: Sandbox) -> None:
        config = station.spec.config
        if not isinstance(config, Wide) or station.lent is None or station.borrows is None:
            raise Bug(f"node {station.name!r} borrows nothing")
        self._station, self._job = station, job
        self._query = config.query(station.named_inputs, job.scope.inside(station.name), sandbox)
        self._gives = station.outputs["out"].append(pa.field(ROW_ID, pa.int64(), nullable=False))
        self._schemas = {name: with_row_id(schema) for name, schema in station.named_inputs.items()}
        self._bench = open_bench(job)
        files = [Path(path) for path, _ in station.lent]
        self._places = _places(config, station, files, self._schemas)
        self._lent_rows = self._bench.keep(relation_of(station.borrows), files, self._schemas[station.borrows])
        self._most_rows = max(HELD_BATCHES * job.plan.batch_rows, self._lent_rows)
        self._most_bytes = HELD_BYTES + sum(path.stat().st_size for path in files)
        self._held: dict[str, list[pa.RecordBatch]] = {}
        self._held_rows = self._held_bytes = 0

    def put(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        """Takes a batch that left (node, port), with row ids."""
        for link in self._station.spec.inputs:
            if (link.node, link.port) == (node, port):
                self._held.setdefault(link.into, []).append(align(batch, self._schemas[link.into]))
                self._held_rows += batch.num_rows
                self._held_bytes += batch.nbytes

    @property
    def is_full(self) -> bool:
        """Whether what is held is enough to be worked: the lent input is hashed anew for each piece of work."""
        return self._held_rows >= self._most_rows or self._held_bytes >= self._most_bytes

    def work(self, then: Callable[[Workbench], None] | None = None) -> tuple[int, Leaving]:
        """How many records are held, and what leaves the node for them, with row ids; take all of it before the next."""
        taken, rows = self._held_rows, {self._station.borrows or "": self._lent_rows}
        for name, schema in self._schemas.items():
            if name != self._station.borrows:
                rows[name] = self._held_rows
                self._bench.lend(relation_of(name), pa.Table.from_batches(self._held.get(name, []), schema))
        refuse_explosion(self._bench, self._station, self._job, rows, alike=1 if self._places is not None else 0)
        held, self._held, self._held_rows, self._held_bytes = self._held, {}, 0, 0
        if self._places is not None:
            return taken, self._placed(self._places, held.get("left", []), then)
        return taken, self._given(then, taken)

    def _placed(self, places: Places, held: list[pa.RecordBatch], then: Callable[[Workbench], None] | None) -> Leaving:
        for batch in held:
            yield align(places.paired(batch, self._gives), self._gives)
        if then is not None and held:
            then(self._bench)
        self._bench.clear()

    def _given(self, then: Callable[[Workbench], None] | None, taken: int) -> Leaving:
        if not taken:
            return
        for batch in heeded(self._bench, self._query, self._job, then):
            yield align(batch, self._gives)
        self._bench.clear()  # what is kept stays

    def close(self) -> None:
        """Ends it; what was lent stays for the others."""
        self._bench.close()


def _places(config: Wide, station: Station, files: list[Path], schemas: Mapping[str, pa.Schema]) -> Places | None:
    """Where the records of a lent right input are by their key, if that can be told."""
    if station.borrows != "right":
        return None
    batches = [batch for file in files for batch in read_spill(file)]
    return Places.of(
        config.pairing(station.named_inputs), schemas["left"], pa.Table.from_batches(batches, schemas["right"])
    )
