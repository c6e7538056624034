"""How a flow will be run: the passes, in order, that make a plan of a checked flow. Each is small and pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from pipelines.align import unify
from pipelines.changes import Changes
from pipelines.errors import Invalid
from pipelines.flow import Flow, Link, NodeSpec, RejectPolicy, Retry
from pipelines.language.flowlinks import live, order, placed
from pipelines.node import Get, Post, Transform, Wide
from pipelines.phases import borrowing, phased
from pipelines.records import rejected_schema
from pipelines.rounds import AGAIN, Gate
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox


@dataclass(frozen=True)
class Station:
    """A node as it will run: its schemas, its phase, where its ports lead."""

    spec: NodeSpec
    schema: pa.Schema
    """Of its input, after the union of several links; of a get, what it gives."""
    outputs: Mapping[str, pa.Schema]
    """Per port, `rejected` included."""
    links: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Per port the nodes that take from it."""
    named_inputs: Mapping[str, pa.Schema] = field(default_factory=dict)
    """Of a wide node: per input its columns."""
    idle: Mapping[Link, pa.Schema] = field(default_factory=dict)
    """Its links from nodes that do not run: their columns stay, null in every record."""
    phase: int = 0
    borrows: str | None = None
    """Of a wide node: the input that is waited for, to be lent to all workers where it is small."""
    lent_phase: int = 0
    """The phase in which that input arrives; else its own."""
    lent: tuple[tuple[str, int], ...] | None = None
    """Where that input is lent: its files, and the rows of each."""
    waits_for: frozenset[str] = frozenset()
    """Of a get: the wide nodes that borrow, and whose other inputs it feeds."""
    number: int = 0
    """Of a get: its place among the flow's gets, the high bits of its row ids."""
    wanted: frozenset[str] | None = None
    """Of a get: the columns that anything needs; None: all."""
    forwards: str = ""
    """Of a post: the get whose records go into it without being looked at, as long as both systems agree."""
    snapshots: Mapping[str, str] = field(default_factory=dict)
    retry: Retry = Retry()
    rejects: RejectPolicy = RejectPolicy()
    source: pa.Schema | None = None
    """Of a get whose source has other columns than the last run saw: what it reads, to be brought to what it gives."""

    @property
    def name(self) -> str:
        return self.spec.name

    def taken_in(self, phase: int) -> Iterator[Link]:
        """The links by which records come to it in a phase."""
        for link in self.spec.inputs:
            if phase == (self.lent_phase if self.borrows is not None and link.into == self.borrows else self.phase):
                yield link


@dataclass(frozen=True)
class Plan:
    """What the kernel runs: stations in topological order, in phases."""

    flow: str
    version: str
    stations: Mapping[str, Station]
    batch_rows: int = 65_536

    @property
    def phases(self) -> int:
        last = [
            station.phase + (isinstance(station.spec.config, Wide) and station.lent is None)
            for station in self.stations.values()
        ]
        return 1 + max(last, default=0)

    def gets(self) -> list[Station]:
        return [station for station in self.stations.values() if isinstance(station.spec.config, Get)]

    def posts(self) -> list[Station]:
        return [station for station in self.stations.values() if isinstance(station.spec.config, Post)]

    def links(self) -> list[tuple[str, str, str]]:
        """Every link: node, port, next node."""
        return [
            (station.name, port, target)
            for station in self.stations.values()
            for port, targets in station.links.items()
            for target in targets
        ]


def plan(
    flow: Flow,
    inputs: Mapping[str, pa.Schema | None],
    outputs: Mapping[str, Mapping[str, pa.Schema | None]],
    scope: Scope,
    sandbox: Sandbox,
    named_inputs: Mapping[str, Mapping[str, pa.Schema | None]] | None = None,
    sources: Mapping[str, pa.Schema] | None = None,
) -> Plan:
    """The plan of a checked flow; inputs and outputs are the schemas that the check carried along."""
    flow = placed(flow)
    planned = name_inputs(lay(flow, inputs, outputs), named_inputs or {})
    planned = _replaced(planned, {name: {"source": schema} for name, schema in (sources or {}).items()})
    for each_pass in (number_sources, number_phases, keep_snapshots):
        planned = each_pass(planned, flow)
    return find_forwards(carry_schemas(prune_columns(planned, sandbox), scope), scope)


def lay(
    flow: Flow,
    inputs: Mapping[str, pa.Schema | None],
    outputs: Mapping[str, Mapping[str, pa.Schema | None]],
) -> Plan:
    """Stations in topological order, without start, disabled nodes and what only those feed."""
    runs = live(flow)
    stations = {name: _station(flow, flow.nodes[name], inputs, outputs) for name in order(flow) if name in runs}
    for station in list(stations.values()):
        idle = {
            link: schema
            for link in station.spec.inputs
            if link.node not in stations and (schema := outputs.get(link.node, {}).get(link.port)) is not None
        }
        stations[station.name] = replace(station, links=_links(flow, station, stations), idle=idle)
    return Plan(flow.name, flow.version, stations, flow.settings.batch_rows)


def name_inputs(planned: Plan, named: Mapping[str, Mapping[str, pa.Schema | None]]) -> Plan:
    """What each input of a wide node brings, by its name."""
    changes: dict[str, Mapping[str, object]] = {}
    for name, station in planned.stations.items():
        if isinstance(station.spec.config, Wide):
            schemas = {into: schema for into, schema in named.get(name, {}).items() if schema is not None}
            changes[name] = {"named_inputs": schemas or {"": station.schema}}
    return _replaced(planned, changes)


def _station(
    flow: Flow,
    spec: NodeSpec,
    inputs: Mapping[str, pa.Schema | None],
    outputs: Mapping[str, Mapping[str, pa.Schema | None]],
) -> Station:
    given = {port: schema for port, schema in outputs[spec.name].items() if schema is not None}
    schema = given.get("out") if isinstance(spec.config, Get) else inputs.get(spec.name)
    if schema is None:
        raise Invalid(f"node {spec.name!r}: its columns cannot be known before the run; declare them with `columns`")
    return Station(
        spec,
        schema,
        given,
        retry=spec.retry or flow.settings.retry,
        rejects=spec.rejects or flow.settings.rejects,
    )


def _links(flow: Flow, station: Station, stations: Mapping[str, Station]) -> dict[str, tuple[str, ...]]:
    ports: dict[str, tuple[str, ...]] = {}
    for spec, link in flow.consumers(station.name):
        if spec.name in stations:
            ports[link.port] = (*ports.get(link.port, ()), spec.name)
    config = station.spec.config
    return {**ports, AGAIN: (config.entrance,)} if isinstance(config, Gate) else ports


def number_sources(planned: Plan, flow: Flow) -> Plan:
    """Gives each get, and what tells of deleted records, the number that is the high part of its row ids."""
    telling = [station for station in planned.stations.values() if isinstance(station.spec.config, Changes)]
    numbers = {station.name: number for number, station in enumerate([*planned.gets(), *telling])}
    if len(numbers) > 255:
        raise Invalid(f"flow {flow.name!r} has {len(numbers)} gets; at most 255 can be told apart, split the flow")
    return _replaced(planned, {name: {"number": number} for name, number in numbers.items()})


def number_phases(planned: Plan, flow: Flow) -> Plan:
    """What follows a staged post or a wide node, or must wait for another node to end, runs in a later phase."""
    return replace(planned, stations=phased(borrowing(planned.stations)))


def keep_snapshots(planned: Plan, flow: Flow) -> Plan:
    """Per port which records the data log keeps."""
    return _replaced(
        planned,
        {
            station.name: {
                "snapshots": dict.fromkeys(
                    station.spec.config.ports(), station.spec.snapshot or flow.settings.snapshots
                )
            }
            for station in planned.stations.values()
        },
    )


Needs = dict[tuple[str, str], frozenset[str] | None]
"""Per station and input the columns that it needs there; None: all."""


def prune_columns(planned: Plan, sandbox: Sandbox) -> Plan:
    """Each get reads only columns that something downstream needs; all of them where its snapshot is to be whole."""
    needs: Needs = {}
    asked: dict[str, frozenset[str] | None] = {}
    for station in reversed(list(planned.stations.values())):
        wanted = asked[station.name] = _asked(station, planned, needs)
        config = station.spec.config
        if isinstance(config, Transform):
            needs[station.name, ""] = config.needs(wanted, station.schema, sandbox)
        elif isinstance(config, Wide):
            found = config.needs(wanted, station.named_inputs, sandbox)
            needs.update({(station.name, into): columns for into, columns in found.items()})
        else:
            needs[station.name, ""] = None
    return _replaced(planned, {get.name: _narrowed(get, asked[get.name]) for get in planned.gets()})


def _asked(station: Station, planned: Plan, needs: Needs) -> frozenset[str] | None:
    """The columns of a station's outputs that its consumers need; None: all."""
    if "all" in station.snapshots.values() or station.source is not None:
        return None
    if "rejected" in station.links and not isinstance(station.spec.config, Get):
        return None
    found = [
        needs[target, link.into if isinstance(planned.stations[target].spec.config, Wide) else ""]
        for port, targets in station.links.items()
        if port != "rejected"
        for target in targets
        for link in planned.stations[target].spec.inputs
        if (link.node, link.port) == (station.name, port)
    ]
    return None if None in found else frozenset[str]().union(*(columns for columns in found if columns is not None))


def _narrowed(get: Station, wanted: frozenset[str] | None) -> dict[str, object]:
    if wanted is None:
        return {}
    schema = pa.schema([column for column in get.schema if column.name in wanted] or [get.schema.field(0)])
    wanted = frozenset(schema.names)  # a record without any column could not be counted
    return {"wanted": wanted, "schema": schema, "outputs": {**get.outputs, "out": schema}}


def carry_schemas(planned: Plan, scope: Scope) -> Plan:
    """What narrower reading means for what is behind it: inputs and outputs, anew."""
    stations = dict(planned.stations)
    for station in planned.stations.values():
        if isinstance(station.spec.config, Wide):
            stations[station.name] = _widened(station, stations, scope)
        if not isinstance(station.spec.config, Transform):
            continue
        schema = unify(
            [
                station.idle[link] if link in station.idle else stations[link.node].outputs[link.port]
                for link in station.spec.inputs
                if link in station.idle or link.node in stations
            ],
            station.spec.config.meets_by_place(),
        )
        if not schema.equals(station.schema):
            given = station.spec.config.check({"": schema}, scope.inside(station.name), _unheard)
            outputs = {port: columns for port, columns in given.items() if columns is not None}
            outputs["rejected"] = rejected_schema(schema)
            stations[station.name] = replace(station, schema=schema, outputs=outputs)
    return replace(planned, stations=stations)


def _widened(station: Station, stations: Mapping[str, Station], scope: Scope) -> Station:
    """A wide node whose inputs may have become narrower."""
    config = station.spec.config
    coming: dict[str, list[pa.Schema]] = {}
    for link in station.spec.inputs:
        if link.node in stations:
            coming.setdefault(link.into, []).append(stations[link.node].outputs[link.port])
    named = {**station.named_inputs, **{into: unify(schemas) for into, schemas in coming.items()}}
    if not isinstance(config, Wide) or all(named[into].equals(station.named_inputs[into]) for into in named):
        return station
    given = config.check(named, scope.inside(station.name), _unheard)
    outputs = {port: columns for port, columns in given.items() if columns is not None}
    return replace(station, named_inputs=named, outputs={**station.outputs, **outputs})


def find_forwards(planned: Plan, scope: Scope) -> Plan:
    """Posts that take all records of one get and nothing else, where nobody asks to see them, and the post can forward."""
    changes: dict[str, dict[str, object]] = {}
    for post in planned.posts():
        source = planned.stations.get(post.spec.inputs[0].node) if len(post.spec.inputs) == 1 else None
        if (
            source is None
            or source.source is not None
            or not isinstance(source.spec.config, Get)
            or not isinstance(post.spec.config, Post)
        ):
            continue
        is_alone = source.links.get("out") == (post.name,) and not post.links.get("out") and source.phase == post.phase
        is_seen = "all" in (*source.snapshots.values(), *post.snapshots.values())
        if (
            is_alone
            and not is_seen
            and post.spec.config.staged
            and post.spec.config.forwards(source.spec.config, scope.inside(post.name))
        ):
            changes[post.name] = {"forwards": source.name}
    return _replaced(planned, changes)


def _unheard(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
    """Problems were told when the whole flow was checked."""


def _replaced(planned: Plan, changes: Mapping[str, Mapping[str, object]]) -> Plan:
    stations = {
        name: replace(station, **changes.get(name, {}))  # type: ignore[arg-type]
        for name, station in planned.stations.items()
    }
    return replace(planned, stations=stations)
