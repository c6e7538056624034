"""A plan as a Beam pipeline.

Fused (the default): for each phase one ParDo that runs splits through all of the phase's nodes and gives facts, a
GroupByKey that gathers the facts, and one ParDo that settles them and names the next phase's splits.

Unfused (`fused=False`): each node is a ParDo of its own and the elements between them are record batches, for engines
whose own shuffle is to move the data, and to hold the two against each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.coder import BatchCoder
from pipelines.errors import Bug
from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.kernel import Program
from pipelines.reading import begin
from pipelines.rounds import Gate
from pipelines.settle import settle
from pipelines.work import run_splits

Splits = list[dict[str, Any]]
Pair = tuple[int, dict[str, Any]]
Link = tuple[str, str]

beam.coders.registry.register_coder(pa.RecordBatch, BatchCoder)

_slots: dict[str, Job] = {}
_slots_lock = threading.Lock()


def put_job(slot: str, job: Job | None) -> None:
    """Lends a job to the pipeline that was compiled for this slot, in this process; None takes it back."""
    with _slots_lock:
        if job is None:
            _slots.pop(slot, None)
        else:
            _slots[slot] = job


@dataclass(frozen=True)
class JobSource:
    """Where a worker finds its job: in a slot of this process, so that a compiled pipeline serves many runs, or with it."""

    slot: str = ""
    job: Job | None = None

    def find(self) -> Job:
        found = self.job or _slots.get(self.slot)
        if found is None:
            raise Bug(f"no job lies in slot {self.slot!r}")
        return found


class PlanSplits(beam.DoFn):
    """Gives the splits of the first phase, a list for each."""

    def __init__(self, source: JobSource) -> None:
        self._source = source

    def process(self, element: bytes) -> Iterator[Splits]:
        job = self._source.find()
        with job.watch.faults():
            splits = begin(job, 0)
        yield from spread(splits, True)


def spread(splits: Splits, is_spread: bool) -> Iterator[Splits]:
    """All splits as one element for the threads of one process, or each alone; never none at all."""
    if is_spread and splits:
        yield from ([split] for split in splits)
    else:
        yield splits


class RunPhase(beam.DoFn):
    """Runs splits through all nodes of a phase and gives the facts.

    `prepares`: it first finds its splits itself, by planning or by settling the phase before, where one worker does
    all. Each further ParDo costs a small run some milliseconds.
    """

    def __init__(self, source: JobSource, phase: int, prepares: bool) -> None:
        self._source = source
        self._phase = phase
        self._prepares = prepares

    def process(self, element: Any) -> Iterator[tuple[int, Plain]]:
        job = self._source.find()
        with job.watch.faults():
            found = run_splits(job, self._phase, self._splits(job, element))
        for facts in found:
            yield self._phase, facts.plain()

    def _splits(self, job: Job, element: Any) -> Splits:
        if not self._prepares:
            given: Splits = element
            return given
        if self._phase == 0:
            return begin(job, 0)
        return settle(job, self._phase - 1, [Facts.of(plain) for plain in element[1]])


class Settle(beam.DoFn):
    """Ends a phase once all its facts are there, and gives the next one's splits."""

    def __init__(self, source: JobSource, phase: int, is_spread: bool) -> None:
        self._source = source
        self._phase = phase
        self._is_spread = is_spread

    def process(self, element: tuple[int, Iterable[Plain]]) -> Iterator[Splits]:
        job = self._source.find()
        with job.watch.faults():
            splits = settle(job, self._phase, [Facts.of(plain) for plain in element[1]])
        yield from spread(splits, self._is_spread)


class RunNode(beam.DoFn):
    """Runs one node alone: splits or batches in, batches out by port, facts at the end of the bundle."""

    def __init__(self, source: JobSource, node: str, link: Link | None) -> None:
        self._source = source
        self._node = node
        self._link = link

    def start_bundle(self) -> None:
        job = self._source.find()
        self._left: list[tuple[str, pa.RecordBatch]] = []
        self._program = Program(job, job.plan.stations[self._node].phase, self._node, self._forward)

    def _forward(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        self._left.append((port, batch))

    def process(self, element: Any) -> Iterator[Any]:
        if self._link is None:
            for split in element:
                if split["node"] == self._node:
                    self._program.read(split)
        else:
            self._program.push(*self._link, element)
        yield from self._leaving()

    def _leaving(self) -> Iterator[Any]:
        left, self._left = self._left, []
        for port, batch in left:
            yield beam.pvalue.TaggedOutput(port, batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        facts = self._program.close().plain()
        yield WindowedValue((0, facts), MIN_TIMESTAMP, (GlobalWindow(),))


def compiled(root: beam.Pipeline, source: JobSource, phases: int) -> None:
    """Adds the fused pipeline of a job with that many phases. It depends on nothing else, so it serves any such job."""
    begun = root | "impulse" >> beam.Impulse()
    for phase in range(phases):
        begun = (
            begun
            | f"run {phase}" >> beam.ParDo(RunPhase(source, phase, True)).with_output_types(Pair)
            | f"gather {phase}" >> beam.GroupByKey()
        )
    begun | "settle" >> beam.ParDo(Settle(source, phases - 1, False)).with_output_types(Splits)


def compiled_spread(root: beam.Pipeline, source: JobSource, phases: int) -> None:
    """The same for a cluster: each split is an element of its own, and goes to any worker."""
    splits = root | "impulse" >> beam.Impulse() | "plan" >> beam.ParDo(PlanSplits(source)).with_output_types(Splits)
    for phase in range(phases):
        splits = (
            splits
            | f"spread {phase}" >> beam.Reshuffle()
            | f"run {phase}" >> beam.ParDo(RunPhase(source, phase, False)).with_output_types(Pair)
            | f"gather {phase}" >> beam.GroupByKey()
            | f"settle {phase}" >> beam.ParDo(Settle(source, phase, True)).with_output_types(Splits)
        )


def compiled_unfused(root: beam.Pipeline, source: JobSource) -> None:
    """Adds the pipeline of a one-phase job with a ParDo for each node and record batches between them."""
    job = source.find()
    if job.plan.phases != 1:
        raise Bug("only plans of one phase run unfused")
    if any(isinstance(station.spec.config, Gate) for station in job.plan.stations.values()):
        raise Bug("a plan with a loop runs fused: a pipeline goes round in no circle")
    splits = root | "impulse" >> beam.Impulse() | "plan" >> beam.ParDo(PlanSplits(source)).with_output_types(Splits)
    gives: dict[Link, Any] = {}
    facts: list[Any] = []
    for station in job.plan.stations.values():
        links = [(node, port) for node, port, target in job.plan.links() if target == station.name]
        inputs: list[tuple[Link | None, Any]] = [(link, gives[link]) for link in dict.fromkeys(links)]
        ports = [port for port, targets in station.links.items() if targets]
        given: dict[str, list[Any]] = {port: [] for port in ports}
        for link, coming in inputs or [(None, splits)]:
            label = station.name if link is None else f"{station.name} from {link[0]}.{link[1]}"
            outputs = coming | label >> beam.ParDo(RunNode(source, station.name, link)).with_output_types(
                Pair, **dict.fromkeys(ports, pa.RecordBatch)
            ).with_outputs(*ports, main="facts")
            facts.append(outputs["facts"])
            for port in ports:
                given[port].append(outputs[port])
        for port in ports:
            gives[station.name, port] = given[port] | f"{station.name}.{port}" >> beam.Flatten()
    (
        facts
        | "all facts" >> beam.Flatten()
        | "gather" >> beam.GroupByKey()
        | "settle" >> beam.ParDo(Settle(source, 0, False)).with_output_types(Splits)
    )
