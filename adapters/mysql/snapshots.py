"""Keeps the transactions open in which all splits of a run are read, and hands out their connections.

MySQL gives a snapshot to one connection only. So a run opens several at the same moment and asks the server whether
anything was committed between the first and the last; where that is so each time, it reads by one connection alone. All
nodes of one run that read one database share them.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapters.mysql.opening import Server, connect, translated
from pipelines.errors import Unavailable

if TYPE_CHECKING:
    from pymysql import Connection as Driver

LOOSE_MOST = 4
"""So many sets are kept of reads that belong to no run, such as those of tests."""
TRIES = 10
SETTLE_SECONDS = 0.001
"""A commit that can be seen is counted after so long at the latest."""
WAIT_SECONDS = 600.0
BEGIN = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"


@dataclass
class Held:
    """Connections whose transactions see the same state."""

    name: str
    run: str
    server: Server
    free: list[Driver[Any]]
    count: int
    planned: set[str] = field(default_factory=set)
    """The nodes that have planned by it. One that plans again wants to see what has come since."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def take(self) -> Driver[Any]:
        """A connection of its own for the taker, until it is given back."""
        with self.changed:
            self.changed.wait_for(lambda: self.free or not self.count, WAIT_SECONDS)
            if not self.free:
                raise gone(self.server)
            return self.free.pop()

    def give_back(self, connection: Driver[Any]) -> None:
        """Takes a connection back; one that is broken is lost, and with it its transaction."""
        with self.changed:
            if connection.open:
                self.free.append(connection)
            else:
                self.count -= 1
            self.changed.notify_all()

    def close(self) -> None:
        with self.changed:
            for connection in self.free:
                closed(connection)
            self.free, self.count = [], 0
            self.changed.notify_all()


_MINE = uuid.uuid4().hex
_lock = threading.Lock()
_held: list[Held] = []


def gone(server: Server) -> Unavailable:
    return Unavailable(
        f"{server.address}: the snapshot that this run reads is gone: the server was restarted, or the connections that "
        f"kept it were lost; a new run reads from the beginning of this one"
    )


def closed(connection: Driver[Any]) -> None:
    """Ends a connection, whatever it is at."""
    with suppress(Exception):
        connection._force_close()


def of_run(run: str, server: Server, node: str) -> Held | None:
    """The connections by which a node is to plan: the run's own, if it has some that this node has not planned by."""
    if not run:
        return None
    with _lock:
        found = [held for held in _held if held.run == run and held.server.address == server.address][-1:]
    return found[0] if found and node not in found[0].planned and found[0].count else None


def named(name: str, server: Server) -> Held | None:
    """The connections of a name; None: another process keeps them, and nobody else can read by them."""
    with _lock:
        found = next((held for held in _held if held.name == name), None)
    if not name.startswith(_process()):
        return None
    if found is None:
        raise gone(server)
    return found


def _process() -> str:
    """This process among all: one that it forks is another."""
    return f"{_MINE}-{os.getpid()}"


def hold(server: Server, run: str, count: int) -> Held:
    """Opens up to `count` connections that see one state, and keeps them."""
    connections: list[Driver[Any]] = []
    try:
        while len(connections) < max(count, 1):
            connections.append(connect(server))
        with translated(server):
            _begin(connections)
    except BaseException:
        for connection in connections:
            closed(connection)
        raise
    held = Held(f"{_process()}-{uuid.uuid4().hex}", run, server, connections, len(connections))
    with _lock:
        _held.append(held)
        loose = [other for other in _held if not other.run]
    _let_go(loose[:-LOOSE_MOST])
    return held


def _begin(connections: list[Driver[Any]]) -> None:
    """Begins their transactions; those that cannot be shown to see one state are closed, but one."""
    for _ in range(TRIES):
        before = _commits_of_others(connections)
        for connection in connections:
            connection.query(BEGIN)
        if len(connections) == 1:
            return
        time.sleep(SETTLE_SECONDS)
        if before == _commits_of_others(connections):
            return
        for connection in connections:
            connection.query("ROLLBACK")
    connections[0].query(BEGIN)
    while len(connections) > 1:
        closed(connections.pop())


def _commits_of_others(connections: list[Driver[Any]]) -> int:
    """How often anybody else has committed since the server started.

    MariaDB counts the beginning of a snapshot as a commit too, so what these connections did is taken off.
    """
    return _commits(connections[0], "GLOBAL") - sum(_commits(connection, "SESSION") for connection in connections)


def _commits(connection: Driver[Any], whose: str) -> int:
    cursor = connection.cursor()
    cursor.execute(f"SHOW {whose} STATUS LIKE 'Handler_commit'")
    return int(cursor.fetchall()[0][1])


def release(run: str) -> None:
    """Ends the transactions that were kept for a run."""
    with _lock:
        found = [held for held in _held if held.run == run]
    _let_go(found)


def release_all() -> None:
    """Ends all transactions, at the end of the process."""
    with _lock:
        found = list(_held)
    _let_go(found)


def _let_go(some: list[Held]) -> None:
    for held in some:
        with _lock:
            if held in _held:
                _held.remove(held)
        held.close()


atexit.register(release_all)
