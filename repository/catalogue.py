"""The catalogue: runs in progress and ended, where each source goes on reading, and the text of every flow version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from pipelines.errors import Bug, Invalid, Unavailable
from repository import seen
from repository import stored as stored_values
from repository.owner import Owner, this_process
from repository.schema import memories, positions, runs, versions
from repository.store import Store

if TYPE_CHECKING:
    from pipelines.stored import Change, Place, Values

Json = Any
RUNNING = "running"
BY_HAND = "by hand"
"""Stands for the run in positions that a person has set."""
SILENT_SECONDS = 60.0
"""A run of another machine whose owner has said nothing for so long is taken for dead."""


Line = dict[str, Any]
"""A run as lists show it: plain values, times as ISO 8601 text."""


class Catalogue:
    """What was deployed and what happened, in an SQL database that several processes may use at once."""

    def __init__(self, url: str) -> None:
        self._store = Store(url)

    def close(self) -> None:
        """Lets the database go."""
        self._store.close()

    def begin_run(
        self,
        run: str,
        flow: str,
        version: str,
        environment: str,
        started: datetime,
        *,
        trigger: str = "hand",
        parameters: Mapping[str, Json] | None = None,
        owner: Owner | None = None,
    ) -> None:
        """Writes down that a run has begun, and who runs it (this process, where nobody else is named).

        Raises:
            Unavailable: a run of this flow is in progress in this environment.
        """
        values = {
            "run": run,
            "flow": flow,
            "version": version,
            "environment": environment,
            "trigger": trigger,
            "status": RUNNING,
            "started": started,
            "heartbeat": datetime.now(UTC),
            "parameters": dict(parameters or {}),
            **_owned(owner or this_process()),
        }
        with self._store.writing() as connection:
            _refuse_while_running(connection, flow, environment)
            connection.execute(sa.insert(runs).values(values))

    def end_run(
        self,
        run: str,
        report: Mapping[str, Json],
        moved: Mapping[str, Json] | None = None,
        remembered: Sequence[Mapping[str, Json]] = (),
        changes: Sequence[Change] = (),
        columns: Mapping[str, str] | None = None,
    ) -> bool:
        """Ends a run, moves its positions (per node), lets the files of keys count that it remembers, stores the values that it
        has, and keeps the columns that its sources had: all or nothing. False: it had ended before, nothing was done."""
        ended = _moment(report.get("ended")) or datetime.now(UTC)
        values = {"status": report["status"], "ended": ended, "error": report.get("error"), "report": dict(report)}
        with self._store.writing() as connection:
            state = connection.execute(sa.select(runs).where(runs.c.run == run)).mappings().first()
            if state is None:
                raise Bug(f"run {run!r} ends, but never began in this catalogue")
            if state["status"] != RUNNING:
                return False
            connection.execute(sa.update(runs).where(runs.c.run == run).values(values))
            for node, position in (moved or {}).items():
                _move(connection, (state["environment"], state["flow"], node), position, run, ended)
            for line in remembered:
                connection.execute(sa.insert(memories).values(dict(line)))
            for change in changes:
                owner = stored_values.owner_of(change.place.where, state["environment"], state["flow"])
                stored_values.change(connection, owner, change, run, ended)
            seen.keep(connection, (state["environment"], state["flow"]), columns or {}, run, ended)
        return True

    def stored(self, environment: str, flow: str, place: Place) -> dict[str, Values]:
        """What nodes have stored in a place, as a flow in an environment sees it."""
        with self._store.reading() as connection:
            owner = stored_values.owner_of(place.where, environment, flow)
            return dict(stored_values.read(connection, owner, place.name))

    def stored_lines(self, environment: str, flow: str) -> list[Line]:
        """Per name what the flow has stored for itself: how many `values`, the `run` that changed one last, and `at`."""
        with self._store.reading() as connection:
            return stored_values.lines(connection, (environment, flow))

    def forget_stored(self, environment: str, flow: str, names: Sequence[str] | None = None) -> int:
        """Forgets what a flow has stored for itself under these names, or all; how many there were.

        Raises:
            Unavailable: a run of the flow is in progress.
        """
        with self._store.writing() as connection:
            _refuse_while_running(connection, flow, environment)
            return stored_values.forget(connection, (environment, flow), names)

    def fail_run(self, run: str, error: str) -> dict[str, Json]:
        """Ends a run that left nothing to report but why."""
        with self._store.reading() as connection:
            state = connection.execute(sa.select(runs).where(runs.c.run == run)).mappings().one()
        ended = datetime.now(UTC)
        report = {
            **_line(state),
            "status": "failed",
            "balanced": False,
            "ended": ended.isoformat(),
            "seconds": _seconds(state["started"], ended),
            "delivery": {},
            "error": error,
            "nodes": {},
        }
        self.end_run(run, report)
        return report

    def suspend_run(self, run: str, report: Mapping[str, Json] | None = None) -> None:
        """Leaves a run in progress without an owner: the next one that looks for dead runs takes it over."""
        nobody = _owned(Owner(this_process().host, 0, ""))
        told = {} if report is None else {"error": report.get("error"), "report": dict(report)}
        with self._store.writing() as connection:
            connection.execute(sa.update(runs).where(runs.c.run == run).values(**nobody, **told))

    def beat(self, run: str, at: datetime | None = None) -> None:
        """Says that the run's owner is alive."""
        with self._store.writing() as connection:
            connection.execute(sa.update(runs).where(runs.c.run == run).values(heartbeat=at or datetime.now(UTC)))

    def positions(self, flow: str, environment: str) -> dict[str, Json]:
        """Per node of a flow where it goes on reading."""
        wanted = sa.select(positions.c.node, positions.c.position).where(
            positions.c.flow == flow, positions.c.environment == environment
        )
        with self._store.reading() as connection:
            return {row.node: row.position for row in connection.execute(wanted)}

    def position_lines(self, flow: str | None = None, environment: str | None = None) -> list[Line]:
        """Every position with the run that left it and when, by flow and node."""
        wanted = sa.select(positions).order_by(positions.c.environment, positions.c.flow, positions.c.node)
        for column, value in ((positions.c.flow, flow), (positions.c.environment, environment)):
            wanted = wanted if value is None else wanted.where(column == value)
        with self._store.reading() as connection:
            return [{**row, "at": row["at"].isoformat()} for row in connection.execute(wanted).mappings()]

    def set_position(self, flow: str, environment: str, node: str, position: Json) -> None:
        """Lets a source go on reading from another place.

        Raises:
            Unavailable: a run of the flow is in progress: its end would move the position again.
        """
        with self._store.writing() as connection:
            _refuse_while_running(connection, flow, environment)
            _move(connection, (environment, flow, node), position, BY_HAND, datetime.now(UTC))

    def forget_positions(self, flow: str, environment: str, nodes: Sequence[str] | None = None) -> int:
        """Lets the flow's sources (or just these nodes) begin anew, and its nodes forget the keys that they remember; how
        many nodes had something to forget.

        Raises:
            Unavailable: a run of the flow is in progress: its end would move the positions again.
        """
        forgotten: set[str] = set()
        with self._store.writing() as connection:
            _refuse_while_running(connection, flow, environment)
            for table in (positions, memories):
                where = [table.c.flow == flow, table.c.environment == environment]
                if nodes is not None:
                    where.append(table.c.node.in_(nodes))
                forgotten.update(connection.execute(sa.select(table.c.node).where(*where)).scalars())
                connection.execute(sa.delete(table).where(*where))
        return len(forgotten)

    def columns_seen(self, flow: str, environment: str) -> dict[str, str]:
        """Per node of a flow the columns that its source had when a run last was done."""
        with self._store.reading() as connection:
            return seen.read(connection, (environment, flow))

    def forget_columns(self, flow: str, environment: str, nodes: Sequence[str] | None = None) -> int:
        """Lets the next run take whatever columns the sources have; of how many they were known. Refused while one runs."""
        with self._store.writing() as connection:
            _refuse_while_running(connection, flow, environment)
            return seen.forget(connection, (environment, flow), nodes)

    def memory_lines(self, flow: str, environment: str) -> list[Line]:
        """The files of keys that the flow's nodes remember, the oldest first."""
        wanted = sa.select(memories).where(memories.c.flow == flow, memories.c.environment == environment)
        with self._store.reading() as connection:
            return [dict(row) for row in connection.execute(wanted.order_by(memories.c.at)).mappings()]

    def swap_memories(self, old: Sequence[str], new: Mapping[str, Json]) -> None:
        """Lets one file of keys count in the place of several."""
        with self._store.writing() as connection:
            gone = connection.execute(sa.delete(memories).where(memories.c.path.in_(old))).rowcount
            if gone == len(old):  # else somebody has made the node forget meanwhile
                connection.execute(sa.insert(memories).values(dict(new)))

    def dead_runs(
        self,
        now: datetime | None = None,
        owner: Owner | None = None,
        wanted: Callable[[str, str], bool] = lambda flow, run: True,
    ) -> list[str]:
        """Takes over the runs in progress whose owner is gone: a process of this machine that ended, or one elsewhere
        that fell silent. Of several processes that ask, one gets each run; of those (flow, run) that are `wanted`."""
        silent = (now or datetime.now(UTC)) - timedelta(seconds=SILENT_SECONDS)
        with self._store.reading() as connection:
            states = connection.execute(sa.select(runs).where(runs.c.status == RUNNING)).mappings().all()
        dead = [state for state in states if _is_dead(state, silent) and wanted(state["flow"], state["run"])]
        return [state["run"] for state in dead if self._adopt(state, owner)]

    def has_ended(self, run: str) -> bool:
        """Whether a run is known and over."""
        with self._store.reading() as connection:
            state = connection.execute(sa.select(runs.c.status).where(runs.c.run == run)).first()
        return state is not None and state.status != RUNNING

    def owner(self, run: str) -> Owner | None:
        """Who runs a run in progress; None: it has ended."""
        with self._store.reading() as connection:
            state = connection.execute(sa.select(runs).where(runs.c.run == run)).mappings().one()
        if state["status"] != RUNNING:
            return None
        return Owner(state["owner_host"], state["owner_pid"], state["owner_since"])

    def _adopt(self, state: sa.RowMapping, owner: Owner | None) -> bool:
        unchanged = [
            runs.c[name] == state[name] for name in ("run", "status", "owner_host", "owner_pid", "owner_since")
        ]
        new = {"heartbeat": datetime.now(UTC), **_owned(owner or this_process())}
        with self._store.writing() as connection:
            return connection.execute(sa.update(runs).where(*unchanged).values(new)).rowcount == 1

    def runs(
        self,
        *,
        flow: str | None = None,
        environment: str | None = None,
        status: str | None = None,
        limit: int | None = 50,
    ) -> list[Line]:
        """The runs, latest first. One that nobody works on, and that waits to be finished, says `unfinished`."""
        wanted = sa.select(runs).order_by(runs.c.started.desc(), runs.c.run.desc()).limit(limit)
        for column, value in ((runs.c.flow, flow), (runs.c.environment, environment), (runs.c.status, status)):
            wanted = wanted if value is None else wanted.where(column == value)
        with self._store.reading() as connection:
            return [_line(row) for row in connection.execute(wanted).mappings()]

    def report(self, name: str) -> dict[str, Json]:
        """The report of a run, by its id, by the beginning of it that no other run has, or `last`.

        A run in progress has no counts yet: its report says that it is running, since when and where. One that waits to
        be finished has the counts of what it came to, where its process had time to write them down.
        """
        run = self._named(name)
        with self._store.reading() as connection:
            state = connection.execute(sa.select(runs).where(runs.c.run == run)).mappings().one()
        known = {**_line(state), "balanced": None, "delivery": {}, "nodes": {}}
        return {**known, **(state["report"] or {}), "status": state["status"]}

    def replays(self, run: str) -> list[str]:
        """The runs that replayed rejects of this one, the oldest first."""
        later = sa.select(runs.c.run).where(runs.c.report["replay_of"].as_string() == run).order_by(runs.c.run)
        with self._store.reading() as connection:
            return list(connection.execute(later).scalars())

    def forget_runs(self, names: Sequence[str]) -> int:
        """Removes ended runs from the lists; how many there were. Positions and flow versions stay."""
        gone = 0
        with self._store.writing() as connection:
            for first in range(0, len(names), 500):
                some = runs.c.run.in_(names[first : first + 500])
                gone += connection.execute(sa.delete(runs).where(some, runs.c.status != RUNNING)).rowcount
        return gone

    def _named(self, name: str) -> str:
        """The run that a person means."""
        if name == "last":
            latest = self.runs(limit=1)
            if not latest:
                raise Invalid("there is no run yet; start one with `processflow run FLOW`")
            return str(latest[0]["run"])
        begins = runs.c.run.startswith(name, autoescape=True)
        with self._store.reading() as connection:
            found = list(
                connection.execute(sa.select(runs.c.run).where(begins).order_by(runs.c.run).limit(5)).scalars()
            )
        if name in found or len(found) == 1:
            return name if name in found else str(found[0])
        if found:
            raise Invalid(f"several runs begin with {name!r}: {', '.join(found)}; write more of it")
        there = ", ".join(line["run"] for line in self.runs(limit=5)) or "none"
        raise Invalid(f"there is no run {name!r}; the latest are: {there}")

    def keep_version(self, flow: str, version: str, text: str, at: datetime | None = None) -> None:
        """Keeps the text of a flow's version, the first time it is seen."""
        known = sa.select(versions.c.version).where(versions.c.flow == flow, versions.c.version == version)
        with self._store.reading() as connection:
            if connection.execute(known).first():
                return
        with self._store.writing() as connection:
            if not connection.execute(known).first():
                values = {"flow": flow, "version": version, "text": text, "first_seen": at or datetime.now(UTC)}
                connection.execute(sa.insert(versions).values(values))

    def version_text(self, flow: str, version: str) -> str:
        """The text of a flow as it was in a version."""
        wanted = sa.select(versions.c.text).where(versions.c.flow == flow, versions.c.version == version)
        with self._store.reading() as connection:
            text = connection.execute(wanted).scalar()
        if text is None:
            raise Invalid(f"flow {flow!r} has no version {version!r} in this catalogue")
        return str(text)


def _refuse_while_running(connection: sa.Connection, flow: str, environment: str) -> None:
    same = (runs.c.flow == flow, runs.c.environment == environment, runs.c.status == RUNNING)
    other = connection.execute(sa.select(runs).where(*same)).mappings().first()
    if other is not None:
        raise Unavailable(
            f"flow {flow!r} is already running in environment {environment!r}: run {other['run']} since "
            f"{other['started'].isoformat(timespec='seconds')}, process {other['owner_pid']} on "
            f"{other['owner_host']}; wait for its end, or cancel it"
        )


def _move(connection: sa.Connection, place: tuple[str, str, str], position: Json, run: str, at: datetime) -> None:
    environment, flow, node = place
    key = {"environment": environment, "flow": flow, "node": node}
    connection.execute(sa.delete(positions).where(*(positions.c[name] == value for name, value in key.items())))
    connection.execute(sa.insert(positions).values(**key, position=position, run=run, at=at))


def _owned(owner: Owner) -> dict[str, str | int]:
    return {"owner_host": owner.host, "owner_pid": owner.pid, "owner_since": owner.since}


def _is_dead(state: sa.RowMapping, silent: datetime) -> bool:
    owner = Owner(state["owner_host"], state["owner_pid"], state["owner_since"])
    return not owner.is_alive if owner.is_here else bool(state["heartbeat"] < silent)


def _line(state: sa.RowMapping) -> Line:
    ended = state["ended"]
    return {
        "run": state["run"],
        "flow": state["flow"],
        "version": state["version"],
        "environment": state["environment"],
        "trigger": state["trigger"],
        "status": state["status"],
        "started": state["started"].isoformat(),
        "ended": ended.isoformat() if ended else None,
        "seconds": _seconds(state["started"], ended) if ended else None,
        "error": state["error"],
        "parameters": state["parameters"],
        **({"unfinished": True} if _is_left(state) else {}),
    }


def _is_left(state: sa.RowMapping) -> bool:
    """Whether a run is not over and nobody works on it, as far as this machine can know."""
    owner = Owner(state["owner_host"], state["owner_pid"], state["owner_since"])
    return bool(state["status"] == RUNNING and owner.is_here and not owner.is_alive)


def _seconds(started: datetime, ended: datetime) -> float:
    return round((ended - started).total_seconds(), 3)


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else text
