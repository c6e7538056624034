"""Runs the rejected records of an earlier run again: from the node that rejected them on, through the flow as it is today."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from agent.narrowing import downstream, meets, reached_from
from agent.prepare import Prepared, Request, business_keys, flow_path, job_of, prepare
from agent.remembering import memories_of
from agent.report import Report
from agent.runs import NO_FLOW, About, Execute, Host
from pipelines.disk import file_name
from pipelines.errors import Invalid
from pipelines.flowfile import load
from pipelines.job import Job, Watch
from pipelines.node import MALFORMED, Get, Post
from pipelines.plan import Plan, Station
from pipelines.records import ROW_ID
from pipelines.wire import SpillWriter
from repository.kept import Kept
from repository.pieces import REPLAYS, pack
from repository.project import Project

CUT_CHARACTERS = 64 << 10
"""The text of a malformed record is kept up to here; a longer one cannot be read again."""


@dataclass(frozen=True)
class Replay:
    """What somebody asks to be replayed."""

    project: Project
    run: str
    """The run whose rejects are meant: its name, the beginning of it, or `last`."""
    node: str | None = None
    """Only what this node rejected."""
    where: str | None = None
    """Only the rejects for which this holds."""
    again: bool = False
    """Also those that were replayed before."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Parameters with another value than in the run."""
    runner: str | None = None


@dataclass
class Entry:
    """The records that enter at one node, and the runs and row ids they come from."""

    node: str
    tables: list[pa.Table] = field(default_factory=list)
    taken: list[tuple[str, pa.Int64Array]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(table.num_rows for table in self.tables)


def replay(asked: Replay, execute: Execute | None = None, watch: Watch | None = None) -> Report:
    """Replays rejected records and gives the new run's report, which names the earlier run in `replay_of`.

    Rejects of earlier replays of the run are among them; what was taken up once is not, unless `again` says so.

    Raises:
        Invalid: there is nothing to replay, or today's flow cannot take the records as they are.
        Unavailable: the flow is running here.
    """
    host = Host(asked.project, execute)
    try:
        host.recover(NO_FLOW)
        before = host.catalogue.report(asked.run)
        host.recover(before["flow"])
        prepared = _prepared(asked, before)
        notes: list[str] = []
        entries = _entries(asked, before, prepared, notes)
        plan = _restricted(prepared, list(entries), notes)
        job = _job(asked, prepared, replace(prepared, plan=plan), watch)
        reached = reached_from(prepared.plan, list(entries))
        environment = job.scope.environment.name
        known = memories_of(asked.project, host.catalogue, plan, environment, job.began, nodes=reached)
        entering = {name: _written(job, entry) for name, entry in entries.items()}
        job = replace(job, memories=known, entries=entering)
        notes += _warnings(prepared, plan, asked)
        return host.execute(job, prepared, _about(job, before, prepared, entries, notes))
    finally:
        host.close()


def _prepared(asked: Replay, before: Report) -> Prepared:
    """Today's flow, with the environment, the parameters and the `now()` of the earlier run."""
    if before["status"] == "running":
        raise Invalid(f"run {before['run']} is in progress; replay it when it has ended")
    request = Request(asked.project, before["flow"], before["environment"], {}, asked.runner)
    parameters = load(flow_path(asked.project, before["flow"])).parameters
    known = {name: value for name, value in before["parameters"].items() if name in parameters}
    moment = datetime.fromisoformat(before.get("now") or before["started"])
    return prepare(replace(request, values={**known, **asked.values}), moment)


def _entries(asked: Replay, before: Report, prepared: Prepared, notes: list[str]) -> dict[str, Entry]:
    """Per node the records that enter there. Every reason why some cannot is told at once."""
    kept = Kept(asked.project.lake)
    runs = [before["run"], *kept.replays_of(before["run"])]
    found: dict[str, Entry] = {}
    faults: list[str] = []
    seen = 0
    for run, node, table in _rejects(asked, kept, runs):
        seen += table.num_rows
        fault = _fault(prepared.plan, node, table)
        if fault:
            faults.append(f"{table.num_rows:,} records rejected at {node!r} in run {run}: {fault}")
            continue
        fitting = _fitting(prepared.plan.stations[node], table, notes)
        if fitting.num_rows:
            entry = found.setdefault(node, Entry(node))
            entry.tables.append(fitting)
            entry.taken.append((run, fitting.column(ROW_ID).combine_chunks()))
    if asked.node is None and found:
        notes += faults
    elif faults:
        raise Invalid("; ".join(faults))
    if not found:
        raise Invalid(_nothing(asked, before, kept, seen))
    return found


def _rejects(asked: Replay, kept: Kept, runs: Sequence[str]) -> Iterator[tuple[str, str, pa.Table]]:
    """Run, node and records of what is meant. A condition on columns that only some nodes' records have means those.

    Raises:
        Invalid: the condition can be computed for no node's records.
    """
    places = [(run, node) for run in runs for node in kept.rejecting(run) if asked.node in (None, node)]
    refused: list[Invalid] = []
    for run, node in places:
        try:
            tables = kept.rejects(run, node, asked.where, again=asked.again)
        except Invalid as fault:
            refused.append(fault)
            continue
        for table in tables:
            yield run, node, table
    if refused and len(refused) == len(places):
        raise Invalid(f"--where {asked.where}: {refused[-1]}") from refused[-1]


def _nothing(asked: Replay, before: Report, kept: Kept, seen: int) -> str:
    """Why there is nothing to replay."""
    run, nodes = before["run"], kept.rejecting(before["run"])
    if seen:
        return f"no record that run {run} rejected fits the flow as it is today"
    if not nodes:
        return f"run {run} rejected no record"
    if asked.node is not None and asked.node not in nodes:
        return f"node {asked.node!r} rejected no record in run {run}; there are rejects of: {', '.join(nodes)}"
    if asked.where is not None:
        return f"no reject of run {run} that was not replayed before has {asked.where}"
    return f"all rejects of run {run} were replayed by {', '.join(kept.replays_of(run))}; --again replays them again"


def _fault(plan: Plan, node: str, table: pa.Table) -> str:
    """Why today's flow cannot take these records, or nothing."""
    station = plan.stations.get(node)
    columns = [name for name in table.schema.names if name != ROW_ID]
    if station is None:
        there = ", ".join(plan.stations)
        return f"the flow has no such node today; there are: {there}"
    if isinstance(station.spec.config, Get):
        if columns != MALFORMED.names:
            return f"{node!r} is a {station.spec.type} today and takes no records"
        if type(station.spec.config).parse is Get.parse:
            return f"a {station.spec.type} cannot read them from their text alone; let it read its source again"
        return ""
    if columns == MALFORMED.names and MALFORMED.names != station.schema.names:
        return f"they are texts of a source, and {node!r} is a {station.spec.type} today"
    missing = [name for name in station.schema.names if name not in columns]
    if missing:
        return (
            f"they have no column {', '.join(map(repr, missing))}, which the node needs today; "
            f"they have: {', '.join(columns)}"
        )
    return ""


def _fitting(station: Station, table: pa.Table, notes: list[str]) -> pa.Table:
    """The records as the node takes them today; those with a value that is none of its column's type are left out."""
    wanted = MALFORMED if isinstance(station.spec.config, Get) else station.schema
    if wanted is MALFORMED:
        lengths = pa.compute.utf8_length(table.column(0))
        short = table.filter(pa.compute.less(lengths, CUT_CHARACTERS))
        if short.num_rows < table.num_rows:
            cut = table.num_rows - short.num_rows
            notes.append(f"{cut:,} records malformed at {station.name!r} stay: their text is longer than what is kept")
        table = short
    schema = pa.schema([*(field.with_nullable(True) for field in wanted), pa.field(ROW_ID, pa.int64(), nullable=False)])
    cast, unfit = _cast(table.select(schema.names), schema)
    if unfit:
        notes.append(f"{unfit:,} records rejected at {station.name!r} stay: a value is none of its column's type today")
    return cast


def _cast(table: pa.Table, schema: pa.Schema) -> tuple[pa.Table, int]:
    """The rows whose values are of the schema's types, and how many are not; found by halves."""
    try:
        return table.cast(schema), 0
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if table.num_rows <= 1:
            return schema.empty_table(), table.num_rows
    half = table.num_rows // 2
    (first, one), (second, other) = _cast(table.slice(0, half), schema), _cast(table.slice(half), schema)
    return pa.concat_tables([first, second]), one + other


def _restricted(prepared: Prepared, entries: Sequence[str], notes: list[str]) -> Plan:
    """What the records pass. A post that would put them in the place of all that is there adds them instead."""
    plan = downstream(prepared.plan, prepared.flow, entries)
    stations = dict(plan.stations)
    for post in plan.posts():
        if getattr(post.spec.config, "mode", None) == "replace":
            config = post.spec.config.model_copy(update={"mode": "append"})
            stations[post.name] = replace(post, spec=replace(post.spec, config=config))
            notes.append(f"{post.name} adds the records to what is there, although its mode is replace")
    return replace(plan, stations=stations)


def _job(asked: Replay, whole: Prepared, current: Prepared, watch: Watch | None) -> Job:
    job = job_of(current, asked.project, {}, watch, started=datetime.now(UTC))
    return replace(job, tap_plan=replace(job.tap_plan, keys=business_keys(whole.plan)))


def _written(job: Job, entry: Entry) -> str:
    """The file from which the records enter."""
    spill = SpillWriter(job.scope.staging / "replay" / f"{file_name(entry.node)}.arrow")
    for table in entry.tables:
        for batch in table.to_batches(max_chunksize=job.plan.batch_rows):
            spill.write(batch)
    spill.close()
    return str(spill.path)


def _warnings(prepared: Prepared, plan: Plan, asked: Replay) -> Iterator[str]:
    """What the delivery label says of records that come once more, and what sees other records than in a whole run."""
    posts = prepared.checked.delivery.posts
    for post in plan.posts():
        label, reason = posts.get(post.name, ("", ""))
        if label.startswith("at least once"):
            yield f"{post.name} delivers at least once ({reason}): a record that it took before may be there twice"
        elif asked.again and getattr(post.spec.config, "mode", None) in ("append", "replace"):
            yield f"{post.name} appends: what an earlier replay delivered is there twice"
    for name in meets(plan):
        yield f"{name} sees only the records that are replayed, not those that the earlier run delivered"


def _about(job: Job, before: Report, prepared: Prepared, entries: Mapping[str, Entry], notes: Sequence[str]) -> About:
    also: dict[str, Any] = {
        "replay_of": before["run"],
        "now": job.scope.now.isoformat(),
        "replayed": {name: entry.rows for name, entry in entries.items()},
        "notes": list(notes),
    }
    rows = [(name, of, ids) for name, entry in entries.items() for of, ids in entry.taken]
    taken = pa.RecordBatch.from_arrays(
        [
            pa.array([name for name, _, _ in rows]),
            pa.array([of for _, of, _ in rows]),
            pa.array([ids for _, _, ids in rows], REPLAYS.field("rids").type),
        ],
        schema=REPLAYS,
    )
    piece = pack({"table": "replays"}, taken, job.scope.staging / "replay" / "taken.ipc")
    posts = {post.name for post in job.plan.posts() if isinstance(post.spec.config, Post)}
    delivery = prepared.checked.delivery_report()
    delivery["posts"] = {name: label for name, label in delivery["posts"].items() if name in posts}
    return About("replay", delivery, also, [piece], moves_positions=False)
