"""One of each real system for all of a session's processes: started when the first test asks, in a folder of its own.

A guard, which is a process of its own, ends a system when no test process that uses it is alive any more, so that neither a
cancelled session nor a killed worker leaves a server behind.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

NOBODY = 65_534
PORTS = (11_000, 32_000)
START_SECONDS = 60

GUARD = """
import os, shutil, signal, sys, time
server, how, users, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
while any(lives(int(name)) for name in os.listdir(users)):
    time.sleep(0.5)
if lives(server):
    os.kill(server, how)
until = time.monotonic() + 30
while lives(server):
    if time.monotonic() > until:
        os.kill(server, signal.SIGKILL)
    time.sleep(0.1)
shutil.rmtree(folder, ignore_errors=True)
"""


class Part(Protocol):
    """A system that tests talk to. It can be pickled, so that all processes know it."""

    NAME: ClassVar[str]
    ENDS_BY: ClassVar[signal.Signals]
    folder: Path
    pid: int

    def start(self) -> None:
        """Starts it, and waits until it answers."""


P = TypeVar("P", bound=Part)

_PROCESSES: dict[int, subprocess.Popen[bytes]] = {}


@contextmanager
def shared(made: Callable[[Path], P], place: Path) -> Iterator[P]:
    """The system that all processes of a test session share; `place` is a folder they all know."""
    users = place / "users"
    users.mkdir(parents=True, exist_ok=True)
    mine = users / str(os.getpid())
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mine.touch()
        known = place / "part"
        part: P | None = pickle.loads(known.read_bytes()) if known.exists() else None
        if part is None or not _lives(part.pid):
            part = _started(made)
            _guard(part, users)
            known.write_bytes(pickle.dumps(part))
    try:
        yield part
    finally:
        mine.unlink(missing_ok=True)
        for process in _PROCESSES.values():
            process.returncode = process.returncode or 0  # its end is the guard's: nobody here waits for it


@contextmanager
def alone(made: Callable[[Path], P]) -> Iterator[P]:
    """A system of one test's own, to do with as one likes."""
    part = _started(made)
    try:
        yield part
    finally:
        if part.pid in _PROCESSES:
            end(part)
        shutil.rmtree(part.folder, ignore_errors=True)


def place(base: Path, name: str) -> Path:
    """A folder that all processes of a test session know: workers have theirs in one of the session's own."""
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "parts" / name


def _started(made: Callable[[Path], P]) -> P:
    folder = Path(tempfile.mkdtemp(prefix="processflow-part-"))
    folder.chmod(0o755)
    try:
        part = made(folder)
        part.start()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return part


def _guard(part: Part, users: Path) -> None:
    words = [str(part.pid), str(int(part.ENDS_BY)), str(users), str(part.folder)]
    guard = subprocess.Popen(
        [sys.executable, "-c", GUARD, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    _PROCESSES[guard.pid] = guard


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def spawn(
    words: Sequence[str | Path], part: Part, answers: Callable[[], bool], *, nobody: bool = False, again: bool = False
) -> None:
    """Starts the process of a part and waits until it answers; what it says goes to `log` in the part's folder.

    Args:
        nobody: whether root runs it as `nobody`.
        again: whether it is started again where it ends at once, as after a crash whose remains are not gone yet.
    """
    log = part.folder / "log"
    until = time.monotonic() + START_SECONDS
    process = _process(words, part.folder, nobody)
    while not answers():
        ended = process.poll() is not None
        if time.monotonic() > until or (ended and not again):
            process.kill()
            process.wait()
            raise RuntimeError(f"{part.NAME} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        if ended:
            process = _process(words, part.folder, nobody)
        time.sleep(0.02)
    part.pid = process.pid
    _PROCESSES[part.pid] = process


def _process(words: Sequence[str | Path], folder: Path, nobody: bool) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True,
            **(as_nobody() if nobody else {}),
        )  # fmt: skip


def end(part: Part, how: signal.Signals | None = None) -> None:
    """Ends a part: `SIGKILL` as a crash would."""
    os.kill(part.pid, how or part.ENDS_BY)
    _PROCESSES.pop(part.pid).wait()


def as_nobody() -> dict[str, Any]:
    """The words by which root starts a process as `nobody`."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def given_to_nobody(*paths: Path) -> None:
    """Lets `nobody` have files where root made them."""
    if os.geteuid() == 0:
        for path in paths:
            os.chown(path, NOBODY, NOBODY)


def free_port() -> int:
    """A port that nobody has, out of those that no system gives to outgoing connections."""
    while True:
        port = random.randrange(*PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """Where a program that `make parts` installs is."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
    if found is None:
        raise RuntimeError(f"{name} is not installed; `make parts` installs it or names what to install")
    return found
