"""Letting records pass in their time: the clock that waits are counted against, and limits that all workers keep together."""

from __future__ import annotations

import fcntl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import pyarrow as pa

from pipelines.node import Outcome

SLICE_SECONDS = 0.1
"""So many seconds' worth of records pass a limit together, at least one."""
MOST_WAITING = 1_000
"""A limit whose next turn is further away than that of so many workers is of another time: the machine was restarted."""


class Clock(Protocol):
    """Tells the time and lets it pass."""

    def now(self) -> float:
        """Seconds since some moment that all processes of the machine have in common."""

    def wait(self, seconds: float) -> None:
        """Lets so much time pass. Raises what ends the run where that shall stop."""


class Waiting(Protocol):
    """What a wait listens to: `pipelines.job.Stop` is one."""

    def wait(self, seconds: float) -> None: ...


class RealClock:
    """The machine's clock; waits end at once where the run shall stop."""

    def __init__(self, stop: Waiting) -> None:
        self._stop = stop

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)


class AtOnce:
    """A clock for trials: every wait is over at once."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def wait(self, seconds: float) -> None:
        self._now += seconds


@runtime_checkable
class Paced(Protocol):
    """A step that lets records pass in their time: it is called with piece after piece of a batch, each when its turn has come."""

    def turns(self, batch: pa.RecordBatch, clock: Clock) -> Iterator[int]:
        """How many records are next, again and again until all have passed; waits before it says so."""

    def __call__(self, batch: pa.RecordBatch) -> Outcome: ...


class Limit:
    """So many records a second, for all that count in the same file: threads, processes and runs of one machine.

    The file holds the moment of the next turn. Who takes one moves it, under a lock, and waits for the turn without it.
    """

    def __init__(self, path: Path, per_second: float) -> None:
        self._path = path
        self._gap_seconds = 1 / per_second
        self._slice = max(1, int(per_second * SLICE_SECONDS))

    def turns(self, rows: int, clock: Clock) -> Iterator[int]:
        """How many of `rows` records may pass next, each time when they may."""
        while rows > 0:
            size = min(rows, self._slice)
            wait = self.take(size, clock.now())
            if wait > 0:
                clock.wait(wait)
            yield size
            rows -= size

    def take(self, rows: int, now: float) -> float:
        """Takes the next turn for so many records; gives the seconds until it comes."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            known = file.read(8)
            turn = struct.unpack("d", known)[0] if len(known) == 8 else now
            if not now <= turn <= now + MOST_WAITING * max(self._gap_seconds, SLICE_SECONDS):
                turn = now
            file.truncate(0)
            file.write(struct.pack("d", turn + rows * self._gap_seconds))
            file.flush()
        return float(turn - now)
