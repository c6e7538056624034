"""A real MariaDB for the tests: Debian's server, which root starts as `nobody`.

It takes plain connections and TLS at one port. `alone` with `partial(Server.made, settings={...})` gives one with other settings.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pymysql

from tests.parts import certificates, sharing

USER = "tester"
PASSWORD = "its' \\ secret"
SECRET = "PROCESSFLOW_TESTS_MARIADB"
os.environ[SECRET] = PASSWORD
TABLES = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
LIGHT = ("--innodb-log-file-size=32M", "--innodb-flush-method=nosync", "--innodb-doublewrite=0")


@dataclass
class Server:
    """A server in a folder of its own, whose user `tester` may do everything."""

    NAME: ClassVar[str] = "MariaDB"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGTERM
    folder: Path
    port: int
    given: dict[str, str] = field(default_factory=dict)
    pid: int = 0

    @classmethod
    def made(cls, folder: Path, settings: dict[str, str] | None = None) -> Server:
        """A new server, not yet started."""
        certificates.make(folder)
        quoted = PASSWORD.replace("\\", "\\\\").replace("'", "''")
        (folder / "users.sql").write_text(
            f"CREATE USER IF NOT EXISTS {USER}@'%' IDENTIFIED BY '{quoted}';\n"
            f"GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION;\n"
        )
        sharing.given_to_nobody(folder, *folder.iterdir())
        _lay_out(folder)
        return cls(folder, sharing.free_port(), settings or {})

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        settings = {
            "datadir": self.folder / "data", "socket": self.folder / "socket", "pid-file": self.folder / "pid",
            "bind-address": "127.0.0.1", "port": self.port, "init-file": self.folder / "users.sql",
            "ssl-ca": self.folder / "ca.pem", "ssl-cert": self.folder / "server.pem",
            "ssl-key": self.folder / "server.key", "skip-name-resolve": 1, "local-infile": 1, "max-connections": 200,
            "character-set-server": "utf8mb4", "collation-server": "utf8mb4_general_ci", "max-allowed-packet": "256M",
            "innodb-flush-log-at-trx-commit": 0, "innodb-buffer-pool-size": "128M", "innodb-fast-shutdown": 2,
        }  # fmt: skip
        words = [f"--{name}={value}" for name, value in {**settings, **self.given}.items()]
        sharing.spawn(
            [sharing.program("mariadbd"), "--no-defaults", *LIGHT, *words], self, self._answers, nobody=True, again=True
        )

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it: `SIGKILL` as a crash would."""
        sharing.end(self, how)

    def connect(self, **words: Any) -> pymysql.Connection[Any]:
        """A connection of the driver; it is encrypted where `words` say so."""
        given: dict[str, Any] = {
            "host": "127.0.0.1", "port": self.port, "user": USER, "password": PASSWORD, "charset": "utf8mb4",
        }  # fmt: skip
        if not any(name.startswith("ssl") for name in words):
            given["ssl_disabled"] = True
        return pymysql.connect(**{**given, **words}, autocommit=True)

    def settings(self, database: str) -> dict[str, Any]:
        """A connection's settings."""
        return {
            "adapter": "mysql", "host": "127.0.0.1", "port": self.port, "user": USER, "database": database,
            "password": {"secret": SECRET}, "tls": "disable",
        }  # fmt: skip


def _lay_out(folder: Path) -> None:
    """Makes the system's own tables from the SQL that comes with the server, which its installer does with much beside."""
    data = folder / "data"
    data.mkdir()
    sharing.given_to_nobody(data)
    found = [place for name in ("mysql", "mariadb") if (place := Path("/usr/share") / name / TABLES[0]).exists()]
    if not found:
        raise RuntimeError(f"no {TABLES[0]} beside MariaDB's server; `make parts` installs Debian's")
    tables = "".join((found[0].parent / name).read_text() for name in TABLES)
    subprocess.run(
        [sharing.program("mariadbd"), "--no-defaults", "--bootstrap", f"--datadir={data}", "--log-warnings=0", *LIGHT],
        input=f"create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n{tables}".encode(),
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **sharing.as_nobody(),
    )  # fmt: skip


def database_of(path: Path) -> str:
    """The database on the server that stands for one in a test's folder."""
    return f"t{hashlib.sha256(str(path.parent).encode()).hexdigest()[:16]}"
