"""Makes a job of a flow's name: text, environment, check, values, plan. Everything that can be wrong is told here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from agent.columns import seen
from pipelines.check import Checked, check, check_file
from pipelines.environmentfile import load_environment
from pipelines.errors import Invalid, Problem
from pipelines.flow import Flow
from pipelines.flowfile import load
from pipelines.job import Gathering, Job, Watch
from pipelines.node import Wide
from pipelines.parameters import values
from pipelines.plan import Plan, plan
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tap import TapPlan
from repository.project import Project


@dataclass(frozen=True)
class Request:
    """What somebody asks to be run."""

    project: Project
    flow: str
    """The flow's name, or the path of its file."""
    environment: str = "local"
    values: Mapping[str, object] = field(default_factory=dict)
    """Parameters that are set."""
    runner: str | None = None
    """A runner other than the environment's."""
    trigger: str = "hand"


@dataclass(frozen=True)
class Examined:
    """A flow that was checked, and what it would run with."""

    flow: Flow
    text: str
    checked: Checked
    scope: Scope


@dataclass(frozen=True)
class Prepared(Examined):
    """A flow without problems, and its plan."""

    plan: Plan


def flow_path(project: Project, flow: str) -> Path:
    """The file of a flow given by name or path."""
    places = (Path(flow), project.folder / "flows" / f"{flow}.yaml", project.folder / "flows" / f"{flow}.yml")
    for path in places:
        if path.suffix in (".yaml", ".yml") and path.is_file():
            return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        if path.suffix in (".yaml", ".yml") and path.is_dir():
            raise Invalid(f"{path} is a folder; a flow is a file")
    files = [file for file in (project.folder / "flows").glob("*.y*ml") if file.is_file()]
    there = ", ".join(sorted(file.stem for file in files)) or "none"
    raise Invalid(f"no flow is called {flow!r} in {project.folder / 'flows'}; there are: {there}")


def run_id(now: datetime) -> str:
    """A run's name: its start and four signs of chance, so that names sort by time."""
    return f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def check_flow(request: Request, now: datetime | None = None) -> Examined:
    """Loads and checks a flow; its problems are in the result.

    Raises:
        Invalid: the text is no flow, or the environment or a parameter's value is wrong.
    """
    path = flow_path(request.project, request.flow)
    scope = scope_of(request, now)
    try:
        flow = load(path)
    except Invalid as fault:  # the nodes that can be read may have problems too: all are told at once
        raise Invalid(check_file(path, scope).faults or fault.problems) from fault
    known = seen(request.project, flow, request.environment)
    scope = replace(scope, flow=flow.name, version=flow.version, seen=known)
    sandbox = Sandbox.borrow(scope)
    try:
        scope = replace(scope, values=values(flow, scope.environment, request.values, sandbox))
    finally:
        sandbox.give_back()
    checked = check(flow, scope, path)
    whole = checked.flow or flow
    scope = replace(scope, version=whole.version, uses=checked.uses)
    return Examined(whole, _whole_text(path.read_text(encoding="utf-8"), checked), checked, scope)


def _whole_text(text: str, checked: Checked) -> str:
    """The text of a flow with those of the flows that it uses, each a document of its own behind it."""
    used = [f"--- # used by it: flow {name}\n{other}" for name, other in sorted(checked.texts.items())]
    return "\n".join([text.rstrip("\n"), *used]) + "\n" if used else text


def prepare(request: Request, now: datetime | None = None) -> Prepared:
    """Loads, checks and plans a flow. Systems that are away are asked again as the flow's `retry` says.

    Raises:
        Invalid: with every problem found, each with its place.
        Unavailable: a system that tells a node's columns stays away.
    """
    examined = check_flow(request, now)
    retry = examined.flow.settings.retry
    for failed in range(1, retry.attempts):
        if not examined.checked.unavailable or examined.checked.faults:
            break
        time.sleep(retry.pause_seconds(failed))
        examined = check_flow(request, now)
    faults = [problem for problem in examined.checked.problems if not problem.warning]
    if faults:
        raise Invalid(faults)
    if examined.checked.unavailable:
        raise examined.checked.unavailable[0]
    flow, checked, scope = examined.flow, examined.checked, examined.scope
    sandbox = Sandbox.borrow(scope)
    try:
        named, sources = checked.named_inputs, checked.sources
        planned = plan(flow, checked.inputs, checked.outputs, scope, sandbox, named, sources)
    finally:
        sandbox.give_back()
    return Prepared(flow, examined.text, checked, scope, planned)


def scope_of(request: Request, now: datetime | None = None) -> Scope:
    """Where and when a request would run.

    Raises:
        Invalid: the environment is unknown or wrong, or its runner is not at hand.
    """
    environment = load_environment(request.project.folder, request.environment)
    name = request.runner or environment.runner.name
    if name != "direct":
        raise Invalid(
            Problem("", 0, 0, f"runner {name!r} is not at hand in environment {environment.name}", "use direct")
        )
    return Scope(project=request.project.folder, environment=environment, now=now or datetime.now(UTC))


def business_keys(planned: Plan) -> dict[str, tuple[str, ...]]:
    """Per node the columns that tell its records apart to people: its own `key`, else that of the node before it."""
    found: dict[str, tuple[str, ...]] = {}
    before = {target: node for node, _port, target in reversed(planned.links())}
    for name, station in planned.stations.items():
        config = station.spec.config
        by = getattr(config, "by", None) if isinstance(config, Wide) and not config.keeps_records else None
        own = tuple(getattr(config, "key", None) or by or found.get(before.get(name, ""), ()))
        there = [set(schema.names) for port, schema in station.outputs.items() if port != "rejected"]
        if own and all(set(own) <= columns for columns in there):
            found[name] = own
    return found


def job_of(
    prepared: Prepared,
    project: Project,
    positions: Mapping[str, object],
    watch: Watch | None = None,
    gathering: Gathering | None = None,
    started: datetime | None = None,
) -> Job:
    """The job of a prepared flow, with a name and a folder of its own."""
    from repository.lake import open_tap  # not wanted where flows are only checked

    watch = watch or Watch()
    watch.meter.expect(prepared.plan.stations)
    run = run_id(started or prepared.scope.now)
    staging = project.staging(run)
    scope = replace(prepared.scope, run=run, staging=staging)
    snapshots = {
        f"{station.name}.{port}": policy
        for station in prepared.plan.stations.values()
        for port, policy in station.snapshots.items()
    }
    return Job(
        prepared.plan,
        scope,
        TapPlan(
            project.lake,
            staging,
            prepared.flow.name,
            prepared.flow.version,
            run,
            snapshots,
            business_keys(prepared.plan),
        ),
        open_tap,
        positions,
        scope.environment.runner.workers,
        watch,
        gathering,
        started=started,
    )
