"""One run as the kernel sees it: the plan, what nodes may know, how it is logged, watched and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from pipelines.errors import Cancelled
from pipelines.facts import Facts, Plain
from pipelines.node import Json
from pipelines.pace import Clock, RealClock
from pipelines.plan import Plan, Station
from pipelines.publishing import due
from pipelines.remembering import Memory
from pipelines.scope import Scope
from pipelines.tap import Tap, TapPlan


class Meter:
    """Counts as they grow, for whoever watches: records per node and port, safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], int] = {}
        self._places: dict[str, int] = {}

    def expect(self, nodes: Iterable[str]) -> None:
        """Tells the nodes that will be seen, in their order."""
        self._places = {name: place for place, name in enumerate(nodes)}

    def add(self, node: str, port: str, rows: int) -> None:
        with self._lock:
            self._rows[node, port] = self._rows.get((node, port), 0) + rows

    def rows(self, node: str, port: str) -> int:
        return self._rows.get((node, port), 0)

    def seen(self) -> dict[tuple[str, str], int]:
        """Records so far by node and port, the nodes in their order."""
        with self._lock:
            return dict(sorted(self._rows.items(), key=lambda row: self._places.get(row[0][0], 0)))


class Stop:
    """A wish to stop, heard between two batches, and by what can end the work in hand."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._told: dict[object, Callable[[], None]] = {}
        self._why: Exception = Cancelled("cancelled")

    def ask(self, why: Exception) -> None:
        """Asks once; the first reason counts."""
        if not self._event.is_set():
            self._why = why
            self._event.set()
            for end in list(self._told.values()):
                end()

    def tell(self, end: Callable[[], None]) -> Callable[[], None]:
        """Has `end` called, by whoever asks, to end the work in hand; what is given takes that back."""
        key = object()
        self._told[key] = end

        def untell() -> None:
            self._told.pop(key, None)

        return untell

    def heed(self) -> None:
        """Raises the reason where somebody asked."""
        if self._event.is_set():
            raise self._why

    def wait(self, seconds: float) -> None:
        """Sleeps, but not through a wish to stop."""
        self._event.wait(seconds)
        self.heed()

    @property
    def asked(self) -> bool:
        return self._event.is_set()


@dataclass
class Watch:
    """The sides of a run that stay in this process."""

    meter: Meter = field(default_factory=Meter)
    stop: Stop = field(default_factory=Stop)
    clock: Clock | None = None
    """What waits are counted against; None: the machine's own clock."""
    fault: BaseException | None = None
    """What ended the run: engines hand on only its text."""
    partial: list[Facts] = field(default_factory=list)
    """What was done in a phase that did not end."""
    spills: list[Plain] = field(default_factory=list)
    """What phases have spilled so far, for runs without a journal."""

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Keeps the first fault raised inside, and lets it pass."""
        try:
            yield
        except BaseException as fault:
            self.fault = self.fault or fault
            raise


def clock_of(watch: Watch) -> Clock:
    """What the waits of a run are counted against."""
    return watch.clock or RealClock(watch.stop)


@dataclass
class Gathering:
    """Collects records at ports for previews and tests instead of logging them."""

    wanted: Mapping[tuple[str, str], int | None]
    """(node, port) to how many records are enough; None: all. Port `in` is what a node takes."""
    given: Mapping[str, Sequence[pa.RecordBatch]] = field(default_factory=dict)
    """What gets give instead of reading."""
    found: dict[tuple[str, str], list[pa.RecordBatch]] = field(default_factory=dict)

    def take(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        if (node, port) in self.wanted:
            self.found.setdefault((node, port), []).append(batch)

    def is_full(self) -> bool:
        """Whether every port has as many records as were asked for."""
        return all(
            limit is not None and sum(batch.num_rows for batch in self.found.get(place, ())) >= limit
            for place, limit in self.wanted.items()
        )


@dataclass(frozen=True)
class Job:
    """One run as the kernel sees it. Picklable, but for `watch` and `gathering`, which a remote worker has anew."""

    plan: Plan
    scope: Scope
    tap_plan: TapPlan
    open_tap: Callable[[TapPlan], Tap]
    positions: Mapping[str, Json] = field(default_factory=dict)
    """Per get where it goes on reading; absent: from the beginning."""
    workers: int = 2
    watch: Watch = field(default_factory=Watch)
    gathering: Gathering | None = None
    entries: Mapping[str, str] = field(default_factory=dict)
    """Records of an earlier run that enter here: per node an Arrow IPC file of them, with their row ids."""
    memories: Mapping[str, Memory] = field(default_factory=dict)
    """Per node that remembers keys what former runs have let through; absent: nothing is looked up nor remembered."""
    started: datetime | None = None
    """When it began, where that is not the moment that `now()` gives."""

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "watch": None, "gathering": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.__dict__["watch"] = Watch()

    @property
    def journal(self) -> Path:
        """Where the run writes down what it has decided."""
        return self.scope.staging / "journal"

    @property
    def is_dry(self) -> bool:
        """Whether nothing may reach a target: previews and tests."""
        return self.gathering is not None

    @property
    def began(self) -> datetime:
        """When it began."""
        return self.started or self.scope.now

    def forwards(self, phase: int) -> list[tuple[Station, Station]]:
        """The gets of a phase whose records are to be forwarded, each with the post that takes them."""
        stations = self.plan.stations
        return [
            (stations[post.forwards], post)
            for post in due(self.plan, phase)
            if post.phase == phase and post.forwards in stations and not self.is_dry
            if not {post.name, post.forwards} & set(self.entries)
        ]

    def token(self, node: str) -> str:
        """What names the publication of a post in this run, to its target."""
        return f"{self.scope.run}/{node}"
