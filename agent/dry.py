"""Runs flows, or their beginnings, with nothing sent: previews, and the tests that live in a flow."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from agent.keeping import recall
from agent.prepare import Prepared, Request, job_of, prepare
from agent.samples import batch_of, same_value
from pipelines.drive import drive
from pipelines.errors import FlowError, Invalid
from pipelines.fetch import Fetch
from pipelines.finding import Asks
from pipelines.flow import FlowTest
from pipelines.job import Gathering, Job
from pipelines.node import Get, Post
from pipelines.plan import Plan, Station
from repository.project import Project


@dataclass(frozen=True)
class Verdict:
    """Whether a flow's test holds; if not, where what came differs from what was to come."""

    flow: str
    name: str
    differences: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.differences


def preview(request: Request, place: str, rows: int = 20) -> pa.Table:
    """The first records at a node (for a post: what it would deliver) or at one of its ports. Nothing is sent."""
    prepared = prepare(request)
    spots = _places(prepared, place)
    if len(spots) != 1:
        said = ", ".join(f"{node}.{port}" for node, port in spots)
        raise Invalid(f"what leaves by {place!r} comes from several nodes; name one of them: {said}")
    node, port = spots[0]
    job = _job(replace(prepared, plan=upstream(prepared.plan, [node])), request.project, {(node, port): rows}, {})
    recall(job, request.project)
    _drive(job)
    assert job.gathering is not None
    found = job.gathering.found.get((node, port), [])
    schema = prepared.plan.stations[node].outputs.get(port) if port != "in" else prepared.plan.stations[node].schema
    return pa.Table.from_batches(found, found[0].schema if found else schema).slice(0, rows)


def run_tests(request: Request) -> Iterator[Verdict]:
    """The results of a flow's tests, in order."""
    tests = prepare(request).flow.tests
    for test in tests:
        yield _tested(request, test)


def arriving(
    prepared: Prepared, project: Project, given: Mapping[str, Sequence[pa.RecordBatch]], wanted: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """What arrives at nodes and ports when gets give these records instead of reading. Nothing is sent."""
    places = {place: _places(prepared, place) for place in wanted}
    job = _job(prepared, project, dict.fromkeys(spot for spots in places.values() for spot in spots), given)
    _drive(job)
    assert job.gathering is not None
    found = job.gathering.found
    return {place: [row for spot in spots for row in _rows(found.get(spot, []))] for place, spots in places.items()}


def asks(station: Station) -> bool:
    """Whether a node asks a live system for each record, where a test gives what is there."""
    return isinstance(station.spec.config, Asks) and station.spec.config.asks()


def upstream(plan: Plan, nodes: Iterable[str]) -> Plan:
    """The part of a plan that leads to these nodes."""
    needed = set(nodes)
    for name in reversed(list(plan.stations)):
        if any(target in needed for targets in plan.stations[name].links.values() for target in targets):
            needed.add(name)
    stations = {
        name: replace(station, links={p: tuple(t for t in ts if t in needed) for p, ts in station.links.items()})
        for name, station in plan.stations.items()
        if name in needed
    }
    return replace(plan, stations=stations)


def _places(prepared: Prepared, place: str) -> list[tuple[str, str]]:
    """The nodes and ports by which records leave: several only of a flow that is used as a node."""
    links = prepared.flow.leaving(place)
    if not links:
        raise Invalid(f"flow {prepared.flow.name!r}: no records leave by {place!r}")
    running = [link for link in links if link.node in prepared.plan.stations] if len(links) > 1 else links
    return [_place(prepared, link.node, link.port) for link in running]


def _place(prepared: Prepared, node: str, port: str) -> tuple[str, str]:
    station = prepared.plan.stations.get(node)
    if station is None:
        there = ", ".join(prepared.plan.stations)
        raise Invalid(f"flow {prepared.flow.name!r} has no node {node!r} that gives records; there are: {there}")
    if isinstance(station.spec.config, Post):
        return node, "rejected" if port == "rejected" else "in"
    ports = (*station.spec.config.ports(), "rejected")
    if port and port not in ports:
        raise Invalid(f"node {node!r} has no port {port!r}; there are: {', '.join(ports)}")
    return node, port or ("out" if "out" in ports else ports[0])


def _job(
    prepared: Prepared,
    project: Project,
    wanted: Mapping[tuple[str, str], int | None],
    given: Mapping[str, Sequence[pa.RecordBatch]],
) -> Job:
    unlogged = {name: replace(station, snapshots={}) for name, station in prepared.plan.stations.items()}
    quiet = replace(prepared, plan=replace(prepared.plan, stations=unlogged))
    return replace(job_of(quiet, project, {}, gathering=Gathering(wanted, given)), workers=1)


def _drive(job: Job) -> None:
    job.scope.staging.mkdir(parents=True, exist_ok=True)
    try:
        drive(job)
    finally:
        shutil.rmtree(job.scope.staging, ignore_errors=True)


def _tested(request: Request, test: FlowTest) -> Verdict:
    now = datetime.fromisoformat(test.now).astimezone(UTC) if test.now else None
    try:
        prepared = prepare(replace(request, values={**request.values, **test.parameters}), now)
        given = {
            station.name: [_given(prepared, test, station)]
            for station in prepared.plan.stations.values()
            if isinstance(station.spec.config, (Get, Fetch)) or asks(station)
        }
        found = arriving(prepared, request.project, given, list(test.then))
    except FlowError as fault:
        return Verdict(request.flow, test.name, (str(fault),))
    differences = [line for place, rows in test.then.items() for line in _differences(place, rows, found[place])]
    return Verdict(request.flow, test.name, tuple(differences))


def _given(prepared: Prepared, test: FlowTest, get: Station) -> pa.RecordBatch:
    """What a test gives in the place of a get: its columns may be any that the get has, needed or not."""
    config = get.spec.config
    if isinstance(config, Asks):
        there = config.asked_columns(get.schema, prepared.scope)
        return batch_of(test.given.get(get.name, []), there, f"test {test.name!r}: given: {get.name}")
    whole = prepared.checked.outputs[get.name]["out"]
    batch = batch_of(test.given.get(get.name, []), whole, f"test {test.name!r}: given: {get.name}")
    return batch.select(get.outputs["out"].names)


def _rows(batches: Sequence[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [row for batch in batches for row in batch.to_pylist()]


def _differences(place: str, expected: Sequence[Mapping[str, Any]], found: list[dict[str, Any]]) -> Iterator[str]:
    """Records are compared in any order, by the columns that the test names."""
    left = list(found)
    for row in expected:
        match = next((one for one in left if _same(row, one)), None)
        if match is None:
            yield f"{place}: {_told(row)} did not come"
        else:
            left.remove(match)
    for row in left:
        yield f"{place}: {_told(row)} came, and was not expected"


def _same(expected: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    return all(name in found and same_value(value, found[name]) for name, value in expected.items())


def _told(row: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in row.items()) + "}"
