"""Runs a flow from its name to its report: recovered, prepared, executed, committed."""

from __future__ import annotations

import shutil
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from agent.columns import notes as changes_told
from agent.columns import written
from agent.keeping import changes, lay_down
from agent.knowing import notes
from agent.prepare import Prepared, Request, job_of, prepare
from agent.remembering import memories_of, remembered, tidy
from agent.report import Report, plain_values, report
from agent.unfinished import is_suspended, is_to_be_finished, suspend
from agent.unfinished import told as told_of
from pipelines import journal
from pipelines.drive import drive
from pipelines.entrance import Handed
from pipelines.errors import Bug, Cancelled, Failed, FlowError, Invalid, Unavailable
from pipelines.facts import Plain
from pipelines.job import Job, Watch
from pipelines.lean import importing_beam
from pipelines.node import Post
from pipelines.reading import renew
from pipelines.settle import all_facts, gather, release
from pipelines.telling import tell
from repository import lake
from repository.catalogue import Catalogue
from repository.project import Project

Execute = Callable[[Job], None]
NO_FLOW = ""
"""No flow has this name: of dead runs, those that had decided something are ended, and no others."""


@dataclass(frozen=True)
class About:
    """What a run's report says beyond what the run did; kept in its journal."""

    trigger: str = "hand"
    delivery: Mapping[str, Any] = field(default_factory=dict)
    also: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the report, such as `replay_of`."""
    pieces: Sequence[Plain] = ()
    """Pieces of the data log that count once the run is done."""
    moves_positions: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    """Per get the columns that its source had."""


class Host:
    """What stays between the runs of one process: the catalogue, and whatever executes jobs with its warm pipelines."""

    def __init__(self, project: Project, execute: Execute | None = None) -> None:
        project.prepare()
        self.project = project
        self.catalogue = Catalogue(project.catalogue_url)
        self._execute = execute or _on_beam

    def close(self) -> None:
        """Lets the catalogue go."""
        self.catalogue.close()

    def recover(self, flow: str | None = None) -> list[Report]:
        """Ends the runs whose process died: what they had decided is finished, the rest removed and called failed.

        With a flow, what has decided nothing, or waits for a system that was away, is left to `runs resume`, unless it
        is a run of this flow.

        Raises:
            Unavailable: a system is away without which a run cannot be finished.
        """

        for folder in self.project.staging("x").parent.glob("*"):
            if self.catalogue.has_ended(folder.name):  # its process died between the run's end and this
                shutil.rmtree(folder, ignore_errors=True)

        def wanted(of: str, run: str) -> bool:
            job = journal.load_job(self.project.staging(run)) if of != flow and flow is not None else None
            return job is None or (journal.load_phase(job, 0) is not None and not is_suspended(job))

        return [_recovered(self.project, self.catalogue, run) for run in self.catalogue.dead_runs(wanted=wanted)]

    def resume(self, run: str, watch: Watch | None = None) -> Report:
        """Goes on with a run whose process died, from what it had written down; gives its report.

        Raises:
            Invalid: it has ended, or is in progress.
        """
        name = self.catalogue.report(run)["run"]
        if self.catalogue.owner(name) is None:
            raise Invalid(f"run {name} has ended; start the flow again with `processflow run`")
        if name not in self.catalogue.dead_runs(wanted=lambda _, one: one == name):
            raise Invalid(f"run {name} is in progress; cancel it with `processflow runs cancel {name}`")
        return _recovered(self.project, self.catalogue, name, watch or Watch())

    def give_up(self, run: str) -> Report:
        """Ends a run that waits to be finished, as it is: nothing more is published."""
        self.catalogue.dead_runs(wanted=lambda _, one: one == run)
        job = journal.load_job(self.project.staging(run))
        if job is None:
            return _recovered(self.project, self.catalogue, run)
        about = journal.read(job.journal / "about") or About()
        return finish(job, self.catalogue, about, Cancelled("cancelled before it was finished"), for_good=True)

    def run(self, prepared: Prepared, watch: Watch | None = None, trigger: str = "hand") -> Report:
        """Runs a prepared flow, now, and gives its report, whatever became of it.

        Raises:
            Unavailable: the flow is already running here.
        """
        current = replace(prepared, scope=replace(prepared.scope, now=datetime.now(UTC)))
        environment = current.scope.environment.name
        job = job_of(current, self.project, self.catalogue.positions(current.flow.name, environment), watch)
        known = memories_of(self.project, self.catalogue, current.plan, environment, current.scope.now)
        job = replace(job, memories=known)
        about = About(trigger, current.checked.delivery_report(), columns=written(current.flow, current.checked))
        if told := list(changes_told(current.checked)):
            about = replace(about, also={"notes": told})
        return self.execute(job, current, about)

    def execute(self, job: Job, prepared: Prepared, about: About) -> Report:
        """Runs a job of a prepared flow and gives its report, whatever became of it.

        Raises:
            Unavailable: the flow is already running here.
        """
        self.catalogue.keep_version(prepared.flow.name, prepared.flow.version, prepared.text)
        self.catalogue.begin_run(
            job.scope.run,
            job.plan.flow,
            job.plan.version,
            job.scope.environment.name,
            job.began,
            trigger=about.trigger,
            parameters=plain_values(job.scope.values),
        )
        lay_down(job, self.catalogue)
        return _ended(job, self.catalogue, prepared, about, self._execute)


def run(request: Request, execute: Execute | None = None, watch: Watch | None = None) -> Report:
    """Runs a flow by its name and gives its report, after ending what dead runs left behind.

    Raises:
        Invalid: what was given is wrong; nothing was run.
        Unavailable: the flow is already running here.
    """
    host = Host(request.project, execute)
    try:
        host.recover(NO_FLOW)
        prepared = prepare(request)
        _runs_by_itself(prepared)
        host.recover(prepared.flow.name)
        return host.run(prepared, watch, request.trigger)
    finally:
        host.close()


def _runs_by_itself(prepared: Prepared) -> None:
    handed = [spec.name for spec in prepared.flow.nodes.values() if isinstance(spec.config, Handed)]
    if handed:
        raise Invalid(
            f"flow {prepared.flow.name!r} takes its records from flows that use it as a node ({handed[0]!r} declares "
            "their columns); run one of those, or test it with `processflow test`"
        )


def _on_beam(job: Job) -> None:
    with importing_beam():
        from agent.execute import Executor

    Executor().run(job)


def _ended(job: Job, catalogue: Catalogue, prepared: Prepared, about: About, execute: Execute) -> Report:
    fault: BaseException | None = None
    job.scope.staging.mkdir(parents=True, exist_ok=True)
    journal.save_job(job)
    journal.write(job.journal / "about", about)
    try:
        with _time_limit(job, prepared.flow.settings.timeout_seconds):
            execute(job)
    except KeyboardInterrupt:
        fault = Cancelled("cancelled from the keyboard")
    except FlowError as found:
        fault = found
    except Exception as found:  # noqa: BLE001 - whatever it is, the run gets its report
        fault = _unforeseen(job, found)
    return finish(job, catalogue, about, fault)


def _unforeseen(job: Job, found: Exception) -> Bug:
    """A fault that no rule of ours expects: its traceback goes to a file, its kind and text to the report."""
    path = job.tap_plan.root.parent / "faults" / f"{job.scope.run}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(traceback.format_exception(found)), encoding="utf-8")
    bug = Bug(f"a fault of ours: {type(found).__name__}: {found}; please report it with {path}")
    bug.__cause__ = found
    return bug


def finish(
    job: Job, catalogue: Catalogue, about: About, fault: BaseException | None = None, *, for_good: bool = False
) -> Report:
    """Makes a run's logs visible, moves its positions and removes its folder. Called again it does no harm.

    A run that stops between two publications keeps all that and is finished later, unless it is ended `for_good`.
    """
    release(job)
    facts = gather(job, [all_facts(job), *job.watch.partial])
    done = report(
        job,
        facts,
        ended=datetime.now(UTC),
        delivery=about.delivery,
        trigger=about.trigger,
        fault=fault,
        cancelled=isinstance(fault, Cancelled),
    )
    done |= about.also
    later = not for_good and is_to_be_finished(job, fault)
    if done["error"]:
        done["error"] += told_of(job, facts, later=later)
    if later:
        done["unfinished"] = True
        suspend(job)
        catalogue.suspend_run(job.scope.run, done)
        return done
    is_done = done["status"] in ("done", "done_with_rejects")
    lake.commit(job.tap_plan.root, done, [*facts.pieces, *(about.pieces if is_done else ())])
    for station in job.plan.posts():
        if isinstance(station.spec.config, Post) and not is_done:
            station.spec.config.sweep(job.scope.inside(station.name), job.token(station.name))
    if is_done and (told := [*notes(job, facts), *(tell(job, facts.positions) if about.moves_positions else ())]):
        done["notes"] = [*done.get("notes", ()), *told]
    project = Project(job.scope.project, job.tap_plan.root.parent)
    keys = remembered(project, job, facts) if is_done else []
    stored = changes(job) if is_done else []
    moves = is_done and about.moves_positions
    columns = getattr(about, "columns", {}) if moves else {}  # not there in what an older version wrote down
    catalogue.end_run(job.scope.run, done, facts.positions if moves else {}, keys, stored, columns)
    shutil.rmtree(job.scope.staging, ignore_errors=True)
    tidy(project, job, catalogue)
    return done


def _recovered(project: Project, catalogue: Catalogue, run: str, watch: Watch | None = None) -> Report:
    """Ends a run that was interrupted; with a `watch` it also reads what had not been read."""
    staging = project.staging(run)
    job = journal.load_job(staging)
    if job is None:
        shutil.rmtree(staging, ignore_errors=True)
        return catalogue.fail_run(run, "interrupted before anything was read; nothing was delivered")
    about = journal.read(job.journal / "about") or About()
    fault: FlowError | None = Failed(
        "interrupted while reading; nothing staged was published, the next run reads it again"
    )
    if watch is not None:
        job = replace(job, watch=watch)
        watch.meter.expect(job.plan.stations)
        renew(job)
        about = replace(about, also={**about.also, "resumed": datetime.now(UTC).isoformat()})
    if watch is not None or journal.load_phase(job, 0) is not None:
        fault = None
        try:
            drive(job)
        except Unavailable as away:
            catalogue.suspend_run(run)
            raise Unavailable(f"run {run} is to be finished first: {away}") from away
        except FlowError as found:
            fault = found
        except Exception as found:  # noqa: BLE001 - whatever it is, the run gets its report
            fault = _unforeseen(job, found)
    return finish(job, catalogue, about, fault)


@contextmanager
def _time_limit(job: Job, seconds: float | None) -> Iterator[None]:
    """Stops the job when its time is up."""
    if seconds is None:
        yield
        return
    late = Cancelled(f"the run took longer than timeout_seconds: {seconds:g} allows")
    timer = threading.Timer(seconds, job.watch.stop.ask, [late])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
