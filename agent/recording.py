"""Makes of a run a test that is kept: some of its records as `given`, what comes of them as `then`, in the flow's own file."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from agent.dry import arriving, asks, run_tests
from agent.masking import Mask
from agent.prepare import Prepared, Request, flow_path, prepare
from agent.samples import batch_of, same_value
from pipelines.errors import Invalid
from pipelines.flowfile import load
from pipelines.language import yamledit, yamltext
from pipelines.records import ROW_ID
from repository.catalogue import Catalogue
from repository.columns import literal, quoted
from repository.kept import Kept
from repository.project import Project

Records = dict[str, list[dict[str, Any]]]
NAME_MOST = 200


@dataclass(frozen=True)
class Recording:
    """What somebody asks to be recorded."""

    project: Project
    run: str
    name: str | None = None
    """The test's name; without it, one that names the run."""
    records: int = 10
    """About how many records a get gives."""
    mask: Sequence[str] = ()
    """Columns whose values must not stand in the test."""


@dataclass(frozen=True)
class Recorded:
    """A test that was written."""

    path: str
    name: str
    given: Mapping[str, int]
    then: Mapping[str, int]
    notes: tuple[str, ...]


def record(asked: Recording) -> Recorded:
    """Writes a test of a run into its flow's file, and makes sure that it passes.

    What comes of the records is what today's flow makes of them, masked as they are.

    Raises:
        Invalid: the run has kept no records, the flow needs columns that it did not read, or a mask hides nothing.
    """
    report, prepared = _prepared(asked)
    _refuse_lookups(prepared)
    captured = _captured(Kept(asked.project.lake), report["run"], prepared, asked.records)
    mask = Mask(asked.mask, secrets.token_bytes(16))
    given = {name: [_written(mask.record(row)) for row in rows] for name, rows in captured.items()}
    unseen = [name for name in asked.mask if name.lower() not in mask.seen]
    if unseen:
        raise Invalid(f"--mask {unseen[0]}: no record that was captured has such a column")
    notes: list[str] = []
    then = _then(asked.project, prepared, given, notes)
    name = _name(asked, prepared, report["run"])
    test = {
        "name": name,
        "now": prepared.scope.now.isoformat(),
        **({"parameters": _parameters(prepared, report)} if _parameters(prepared, report) else {}),
        "given": given,
        "then": then,
    }
    path = flow_path(asked.project, report["flow"])
    before = path.read_text("utf-8")
    path.write_text(_with_test(before, test), "utf-8")
    verdict = list(run_tests(Request(asked.project, str(path), report["environment"])))[-1]
    if not verdict.passed:
        path.write_text(before, "utf-8")
        raise Invalid(f"the test would not pass, so it was not written: {'; '.join(verdict.differences[:5])}")
    counts = [{name: len(rows) for name, rows in records.items()} for records in (given, then)]
    return Recorded(str(path), name, counts[0], counts[1], tuple(notes))


def _prepared(asked: Recording) -> tuple[dict[str, Any], Prepared]:
    catalogue = Catalogue(asked.project.catalogue_url)
    try:
        report = catalogue.report(asked.run)
    finally:
        catalogue.close()
    flow = load(flow_path(asked.project, report["flow"]))
    known = {name: value for name, value in report["parameters"].items() if name in flow.parameters}
    moment = datetime.fromisoformat(report.get("now") or report["started"])
    return report, prepare(Request(asked.project, report["flow"], report["environment"], known), moment)


def _captured(kept: Kept, run: str, prepared: Prepared, most: int) -> Records:
    """Per get some records of the run: of each way through the flow a few, and of further gets those that meet them."""
    places = kept.rids(run, most)
    found: Records = {}
    for get in prepared.plan.gets():
        place = f"{get.name}.out"
        if place not in places:
            raise Invalid(f"run {run} has kept no record of {get.name!r}; run the flow with `snapshot: sample` there")
        source = next(iter(places[place]))
        own = [rids[source] for rids in places.values() if source in rids]
        chosen = _chosen([*own, kept.ends(run, place, most)], most)
        rows = _rows(kept.records(run, place, chosen), get.schema, get.name)
        if found or not rows:
            names = [name for name in get.schema.names if _values(found, name, prepared)]
            meeting = [f"{quoted(name)} IN ({_list(_values(found, name, prepared))})" for name in names]
            also = kept.records(run, place, None, " AND ".join(meeting) or "true", most)
            rows = _rows(also, get.schema, get.name) or rows
        found[get.name] = rows
    return found


def _chosen(places: Sequence[Sequence[int]], most: int) -> list[int]:
    """Row ids from all places in turn, so that few records pass as many ways as can be."""
    found: dict[int, None] = {}
    for turn in range(max(map(len, places), default=0)):
        for rids in places:
            if turn < len(rids) and len(found) < most:
                found[rids[turn]] = None
    return list(found)


def _rows(tables: Sequence[pa.Table], schema: pa.Schema, get: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for table in tables:
        missing = [name for name in schema.names if name not in table.schema.names]
        if missing:
            raise Invalid(
                f"the flow needs {', '.join(map(repr, missing))} of {get!r} today, which the run did not read; "
                "run the flow once and record that run"
            )
        rows += table.drop_columns([ROW_ID]).to_pylist()
    return rows


def _values(found: Records, name: str, prepared: Prepared) -> list[Any]:
    """The values of a column, and of those that joins take for the same, in what was captured so far."""
    names = {name}
    for station in prepared.plan.stations.values():
        on = getattr(station.spec.config, "on", None)
        if isinstance(on, dict):
            names |= {mine for mine, theirs in on.items() if theirs == name}
    rows = [row for some in found.values() for row in some]
    return list({row[one]: None for row in rows for one in names if isinstance(row.get(one), (int, str, Decimal))})


def _list(values: Sequence[Any]) -> str:
    return ", ".join(literal(value) if isinstance(value, str) else str(value) for value in values)


def _written(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as YAML has it. Record by record: a test is small."""
    return {name: _plain(value) for name, value in record.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value
    if isinstance(value, Decimal):
        return float(value) if Decimal(str(float(value))) == value else str(value)
    if isinstance(value, (datetime, time)) or hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    return str(value)


def _refuse_lookups(prepared: Prepared) -> None:
    """What a live system answered in the run is not kept: a test of it is written by hand."""
    for name, station in prepared.plan.stations.items():
        if asks(station):
            raise Invalid(
                f"node {name!r} asks a live system, whose answers no run keeps; write the test by hand, with `given`"
            )


def _then(project: Project, prepared: Prepared, given: Records, notes: list[str]) -> Records:
    """What comes to the posts, and is rejected anywhere. Fields that another computing gives otherwise are left out."""
    batches = {get.name: [batch_of(given[get.name], get.schema, f"given: {get.name}")] for get in prepared.plan.gets()}
    posts = [post.name for post in prepared.plan.posts()]
    rejecting = [f"{name}.rejected" for name in prepared.plan.stations]
    first, second = (arriving(prepared, project, batches, [*posts, *rejecting]) for _ in range(2))
    found: Records = {}
    for place, rows in first.items():
        if place in rejecting and not rows:
            continue
        unsteady = {
            name
            for one, other in zip(rows, second[place], strict=False)
            for name in one
            if not same_value(_plain(one[name]), other.get(name))
        } | ({"reject_message"} if place in rejecting else set())
        told = sorted(unsteady - {"reject_message"})
        if told:
            notes.append(f"{place}: {', '.join(told)} comes out otherwise each time, and is left out")
        found[place] = [_written({name: row[name] for name in row if name not in unsteady}) for row in rows]
    return found


def _parameters(prepared: Prepared, report: Mapping[str, Any]) -> dict[str, Any]:
    names = prepared.flow.parameters
    return {name: value for name, value in report["parameters"].items() if name in names and value is not None}


def _name(asked: Recording, prepared: Prepared, run: str) -> str:
    name = asked.name or f"what run {run} did comes out again"
    taken = {test.name for test in prepared.flow.tests}
    if name in taken:
        raise Invalid(f"the flow has a test {name!r}; give another name with --name")
    return name[:NAME_MOST]


def _with_test(text: str, test: Mapping[str, Any]) -> str:
    tests = yamltext.parse(text).value.get("tests")
    if tests is None:
        return yamledit.edit(text, ("tests",), [test])
    return yamledit.insert(text, ("tests", len(tests)), test)
