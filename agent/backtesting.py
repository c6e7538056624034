"""Runs a changed flow over what the last runs had read, sends nothing, and compares by key what would have come."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agent.comparing import compared
from agent.keeping import recall
from agent.prepare import Prepared, Request, flow_path, job_of, prepare
from agent.remembering import memories_of
from agent.report import report as report_of
from pipelines import journal
from pipelines.disk import file_name
from pipelines.drive import drive
from pipelines.errors import FlowError, Invalid
from pipelines.flowfile import load
from pipelines.job import Job, Watch
from pipelines.node import (
    Chunk,
    Get,
    Json,
    Outcome,
    Piece,
    Post,
    Schemas,
    Split,
    SplitPlan,
    Step,
    Transform,
    Want,
    Wide,
)
from pipelines.pace import AtOnce
from pipelines.plan import Plan, Station, number_phases
from pipelines.records import ROW_ID, SOURCE_BITS
from pipelines.remembering import Memory
from pipelines.scope import Scope
from pipelines.settle import all_facts, gather
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import as_list
from pipelines.wire import SpillWriter
from repository import lake
from repository.catalogue import Catalogue
from repository.differences import Side, Sides
from repository.kept import Kept
from repository.project import Project

Report = dict[str, Any]
SPLITS = 8
"""Into so many parts what a get had read is cut, at most."""


@dataclass(frozen=True)
class Backtest:
    """What somebody asks to be tried."""

    project: Project
    flow: str
    runs: int = 1
    """Over so many of the last runs."""
    run: str | None = None
    """Over this run instead."""
    places: Sequence[str] = ()
    """Nodes or ports to compare; none: the posts."""
    key: Sequence[str] = ()
    examples: int = 20
    values: Mapping[str, object] = field(default_factory=dict)
    """Parameters with another value than in the runs."""


class Captured(Get):
    """Gives again what a get gave in an earlier run, with the row ids that the records had."""

    path: str
    """An Arrow IPC file of them, with their row ids."""
    key: tuple[str, ...] = ()
    """The columns that identify a record."""

    def check(self, inputs: Schemas, scope: Scope, report: Any) -> Schemas:
        return {"out": None}

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        with pa.memory_map(self.path) as source, pa.ipc.open_file(source) as reader:
            batches = reader.num_record_batches
        edges = np.linspace(0, batches, min(SPLITS, max(batches, 1)) + 1, dtype=int).tolist()
        parts = list(itertools.pairwise(edges))
        # ordinals are those of the earlier run, the same for all parts: only the last one takes room
        rooms = [0] * (len(parts) - 1) + [(1 << SOURCE_BITS) - 1]
        return SplitPlan(tuple(Split(list(part), room) for part, room in zip(parts, rooms, strict=True)))

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        with pa.memory_map(self.path) as source, pa.ipc.open_file(source) as reader:
            for number in range(*split):
                batch = reader.get_batch(number)
                ids = batch.column(ROW_ID).to_numpy(zero_copy_only=False) & ((1 << SOURCE_BITS) - 1)
                records = batch.select(schema.names).cast(pa.schema([f.with_nullable(True) for f in schema]))
                yield Chunk(records, 0, pa.array(ids, pa.int64()))


class Recorder(Transform):
    """Stands where a post was: takes every record and sends none."""

    category: ClassVar[str] = "tests"
    key: tuple[str, ...] = ()
    """The columns that identify a record."""

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return _pass


def _pass(batch: pa.RecordBatch) -> Outcome:
    return Outcome({"out": Piece(batch)})


def backtest(asked: Backtest) -> list[Report]:
    """What today's flow would have given on what earlier runs read: a comparison for each, the oldest first.

    Raises:
        Invalid: there is no such run, it has kept too little, or the flow needs columns that it did not read.
    """
    found = []
    kept = Kept(asked.project.lake)
    for before in _runs(asked):
        with tempfile.TemporaryDirectory(prefix="backtest-", dir=_room(asked.project)) as folder:
            found.append(_tried(asked, kept, before, Path(folder)))
    return found


def _room(project: Project) -> Path:
    """Where what is tried lies: on the disk of the data logs, which has room for it."""
    place = project.home / "staging"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _runs(asked: Backtest) -> list[Report]:
    flow = load(flow_path(asked.project, asked.flow)).name
    catalogue = Catalogue(asked.project.catalogue_url)
    try:
        if asked.run is not None:
            reports = [catalogue.report(asked.run)]
        else:
            lines = [line for line in catalogue.runs(flow=flow, limit=None) if _is_whole_run(line)]
            reports = [catalogue.report(line["run"]) for line in lines[: asked.runs]]
    finally:
        catalogue.close()
    wrong = [report["run"] for report in reports if report["flow"] != flow]
    if wrong:
        raise Invalid(f"run {wrong[0]} is none of flow {flow!r}")
    if not reports:
        raise Invalid(f"flow {flow!r} has no finished run to be tried on; run it first")
    return reports[::-1]


def _is_whole_run(line: Mapping[str, Any]) -> bool:
    return line["status"] in ("done", "done_with_rejects") and line["trigger"] != "replay"


def _tried(asked: Backtest, kept: Kept, before: Report, folder: Path) -> Report:
    names = load(flow_path(asked.project, asked.flow)).parameters
    known = {name: value for name, value in before["parameters"].items() if name in names}
    moment = datetime.fromisoformat(before.get("now") or before["started"])
    prepared = prepare(Request(asked.project, asked.flow, before["environment"], {**known, **asked.values}), moment)
    notes: list[str] = []
    captured = {get.name: _captured(kept, before, get, folder, notes) for get in prepared.plan.gets()}
    is_part = any(rows < before["nodes"][name]["out"]["out"] for name, (_, rows) in captured.items())
    if is_part and any(isinstance(station.spec.config, Wide) for station in prepared.plan.stations.values()):
        raise Invalid(
            f"run {before['run']} has kept a part of what it read, and the flow has nodes that see records together; "
            "run it with `snapshot: all` on its gets, and try that run"
        )
    known = _remembered(asked.project, prepared, before)
    plan = _recording(prepared, {name: path for name, (path, _) in captured.items()}, asked.places)
    job = job_of(replace(prepared, plan=plan), Project(asked.project.folder, folder), {}, started=datetime.now(UTC))
    job = replace(job, memories=known, watch=Watch(clock=AtOnce()))
    if recall(job, asked.project):
        notes.append("nodes that recall see the values that are stored today, not those of then")
    after = _run(job)
    only = _row_ids([path for path, _ in captured.values()], folder) if is_part else None
    sides = Sides(Side(asked.project.lake, before["run"], only), Side(folder / "lake", after["run"]), same_ids=True)
    made = compared(sides, before, after, asked.places, asked.key, asked.examples)
    nodes = _counts(made["nodes"], prepared.plan)
    return {
        **made,
        "is_same": not is_part and not nodes and all(place["is_same"] for place in made["places"]),
        "after": after["version"],
        "status": after["status"],
        "error": after["error"],
        "notes": notes,
        "nodes": nodes,
        "is_whole": not is_part,
    }


def _remembered(project: Project, prepared: Prepared, before: Report) -> dict[str, Memory]:
    """What nodes remembered when the run began."""
    catalogue = Catalogue(project.catalogue_url)
    try:
        began = datetime.fromisoformat(before["started"])
        return memories_of(project, catalogue, prepared.plan, before["environment"], began, before=began)
    finally:
        catalogue.close()


def _captured(kept: Kept, before: Report, get: Station, folder: Path, notes: list[str]) -> tuple[str, int]:
    """A file of what a get gave in the run, and how many records that is."""
    place, left = f"{get.name}.out", before["nodes"].get(get.name, {}).get("out", {}).get("out", 0)
    if get.name not in before["nodes"]:
        raise Invalid(f"run {before['run']} had no node {get.name!r}, so there is nothing that it had read there")
    spill = SpillWriter(folder / f"{file_name(get.name)}.arrow")
    empty = get.schema.append(pa.field(ROW_ID, pa.int64()))
    spill.write(pa.RecordBatch.from_arrays([pa.array([], field.type) for field in empty], schema=empty))
    for table in kept.records(before["run"], place):
        missing = [name for name in get.schema.names if name not in table.schema.names]
        if missing:
            raise Invalid(
                f"the flow needs {', '.join(map(repr, missing))} of {get.name!r} today, which run {before['run']} "
                "did not read; with `snapshot: all` a get reads all columns"
            )
        for batch in table.select(empty.names).cast(empty).to_batches(max_chunksize=65_536):
            spill.write(batch)
    spill.close()
    if left and not spill.rows:
        raise Invalid(f"run {before['run']} has kept nothing of what {get.name!r} gave; `snapshot: all` keeps it")
    if spill.rows < left:
        notes.append(f"{get.name}: {spill.rows:,} of {left:,} records were kept, and only those are tried")
    return str(spill.path), spill.rows


def _recording(prepared: Prepared, captured: Mapping[str, str], places: Sequence[str]) -> Plan:
    """The plan with captured records in place of gets and recorders in place of posts; what is compared is kept whole."""
    wanted = {place.partition(".")[0] for place in places}
    stations = {}
    for name, station in prepared.plan.stations.items():
        config = station.spec.config
        key = tuple(as_list(getattr(config, "key", None)))
        changed: Get | Transform | None = None
        if isinstance(config, Get):
            changed = Captured(path=captured[name], key=key)
        elif isinstance(config, Post):
            changed = Recorder(key=key)
        spec = station.spec if changed is None else replace(station.spec, config=changed)
        keeps = isinstance(config, Post) or name in wanted
        snapshots = dict.fromkeys(config.ports(), "all") if keeps else {}
        stations[name] = replace(station, spec=spec, snapshots=snapshots)
    return number_phases(replace(prepared.plan, stations=stations), prepared.flow)


def _run(job: Job) -> Report:
    job.scope.staging.mkdir(parents=True, exist_ok=True)
    journal.save_job(job)
    fault: FlowError | None = None
    try:
        drive(job)
    except FlowError as found:
        fault = found
    facts = gather(job, [all_facts(job), *job.watch.partial])
    done = report_of(job, facts, ended=datetime.now(UTC), delivery={}, trigger="backtest", fault=fault)
    lake.commit(job.tap_plan.root, done, facts.pieces)
    return done


def _row_ids(paths: Sequence[str], folder: Path) -> Path:
    """A Parquet file of the row ids that were tried."""
    ids = []
    for path in paths:
        with pa.memory_map(path) as source, pa.ipc.open_file(source) as reader:
            ids.append(reader.read_all().select([ROW_ID]))
    target = folder / "tried.parquet"
    pq.write_table(pa.concat_tables(ids).rename_columns(["rid"]), target)
    return target


def _counts(nodes: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    """The counts that differ, without those that must: what a get could not read is not there, and nothing is delivered."""
    found: dict[str, Any] = {}
    for name, counts in nodes.items():
        if isinstance(counts, str):
            found[name] = counts
        elif name in plan.stations and not isinstance(plan.stations[name].spec.config, Get):
            left = {count: value for count, value in counts.items() if count != "delivered"}
            if left:
                found[name] = left
    return found
