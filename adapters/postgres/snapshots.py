"""Keeps the transactions open whose snapshot all splits of a run are read from.

The connection that planned a read stays in its transaction until the run's reading ends, so that other threads, and other
processes, read the same state (https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION).
All nodes of one run that read one database share one snapshot.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from adapters.postgres.opening import Server, connect, translated
from pipelines.node import SplitPlan, Want

if TYPE_CHECKING:
    from psycopg import Connection

LOOSE_MOST = 4
"""So many snapshots are kept of reads that belong to no run, such as previews."""


@dataclass
class Held:
    """A snapshot by the name the server gave it, and the connection whose transaction keeps it."""

    run: str
    address: str
    name: str
    connection: Connection[Any]
    planned: set[str] = field(default_factory=set)
    """The nodes that have planned by it. One that plans again wants to see what has come since."""

    def is_alive(self) -> bool:
        import psycopg

        try:
            self.connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True


_lock = threading.Lock()
_held: list[Held] = []


def of_run(run: str, address: str, node: str) -> Held | None:
    """The snapshot by which a node is to plan: the run's own, if it has one that this node has not planned by."""
    if not run:
        return None
    with _lock:
        found = [held for held in _held if held.run == run and held.address == address][-1:]
    if not found or node in found[0].planned:
        return None
    if not found[0].is_alive():
        _close(found)
        return None
    return found[0]


def is_there(server: Server, name: str) -> bool:
    """Whether the transaction that keeps a snapshot is still open, in whatever process."""
    import psycopg

    connection = connect(server, read_only=True)
    try:
        with translated(server):
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            try:
                connection.execute(f"SET TRANSACTION SNAPSHOT '{name}'".encode())
            except (psycopg.errors.UndefinedObject, psycopg.errors.InvalidParameterValue):
                return False
    finally:
        connection.close()
    return True


def hold(held: Held) -> None:
    """Keeps a connection and its transaction."""
    with _lock:
        _held.append(held)
        loose = [other for other in _held if not other.run]
    _close(loose[:-LOOSE_MOST])


def release(run: str) -> None:
    """Ends the transactions that were kept for a run."""
    with _lock:
        found = [held for held in _held if held.run == run]
    _close(found)


def let_go(names: Iterable[str | None]) -> None:
    """Ends the transactions that belong to no run and keep these snapshots."""
    wanted = set(names)
    with _lock:
        found = [held for held in _held if held.name in wanted and not held.run]
    _close(found)


def release_all() -> None:
    """Ends all transactions, at the end of the process."""
    with _lock:
        found = list(_held)
    _close(found)


def _close(some: list[Held]) -> None:
    for held in some:
        with _lock:
            if held in _held:
                _held.remove(held)
        held.connection.close()


atexit.register(release_all)


def planned(table: str | None, plan: SplitPlan, want: Want) -> SplitPlan:
    """The plan as it is used: a look at some records keeps no snapshot; where the server keeps none, the note says so."""
    names = {split.payload["snapshot"] for split in plan.splits}
    if want.rows is not None:
        let_go(names)
        splits = (replace(split, payload={**split.payload, "snapshot": None}) for split in plan.splits)
        return replace(plan, splits=tuple(splits))
    if None in names and table:
        words = "the server keeps no snapshot for several connections: read in one piece"
        return replace(plan, note="; ".join(filter(None, [plan.note, words])))
    return plan
