"""A real OpenSSH server for the tests, for files alone.

Started by root, it knows one user, `tester`, who comes with a key or a password and has a home folder in the server's own: the
server sees a user list of its own in place of the machine's, which is left as it is. Started by somebody else, its only user
is that one, with the key: only root may look at passwords.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.parts import sharing

PASSWORD = "its' secret"
SECRET = "PROCESSFLOW_TESTS_SFTP"
USER_ID = 53_219
SMALL_BYTES = 1 << 20
os.environ[SECRET] = PASSWORD

SETTINGS = """ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
AllowUsers {user}
ForceCommand internal-sftp -d {home}
Subsystem sftp internal-sftp
UseDNS no
MaxStartups 100
MaxSessions 100
LogLevel VERBOSE
"""


@dataclass
class Server:
    """A server on 127.0.0.1; `key` is the user's private key, `known_hosts` names the server's."""

    NAME: ClassVar[str] = "OpenSSH"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGTERM
    folder: Path
    port: int
    user: str
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Server:
        """A new server, not yet started."""
        server = cls(folder, sharing.free_port(), "tester" if _root() else pwd.getpwuid(os.getuid()).pw_name)
        for name in ("host_key", "key"):
            words = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(folder / name)]
            subprocess.run([sharing.program("ssh-keygen"), *words], check=True, stdin=subprocess.DEVNULL)
        kind, public, *_ = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {kind} {public}\n")
        server.small.mkdir(parents=True)
        words = {"port": server.port, "folder": folder, "user": server.user, "home": server.home}
        text = SETTINGS.format(**words, passwords="yes" if _root() else "no")
        (folder / "sshd_config").write_text(text)
        if _root():
            server._list_users()
        return server

    def _list_users(self) -> None:
        os.chown(self.home, USER_ID, USER_ID)
        os.chown(self.small, USER_ID, USER_ID)
        hashed = subprocess.run(
            [sharing.program("openssl"), "passwd", "-6", "-stdin"],
            input=PASSWORD, capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        user = f"{self.user}:x:{USER_ID}:{USER_ID}::{self.home}:/bin/sh\n"
        (self.folder / "passwd").write_text(Path("/etc/passwd").read_text() + user)
        (self.folder / "shadow").write_text(f"{self.user}:{hashed}:20000:0:99999:7:::\n")
        (self.folder / "shadow").chmod(0o600)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's empty folder, which its service makes at each start

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        words = [sharing.program("sshd"), "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if _root():
            lists = " && ".join(f'mount --bind "{self.folder / name}" /etc/{name}' for name in ("passwd", "shadow"))
            small = f'mount -t tmpfs -o size={SMALL_BYTES},uid={USER_ID},mode=700 none "{self.small}"'
            words = ["unshare", "--mount", "sh", "-c", f'{lists} && {small} && exec "$@"', "sh", *words]
        sharing.spawn(words, self, lambda: sharing.listens(self.port))

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it; connections that are open stay, as OpenSSH has it."""
        sharing.end(self, how)

    @property
    def home(self) -> Path:
        """The folder that the user sees first."""
        return self.folder / "home"

    @property
    def small(self) -> Path:
        """A folder in which only the server sees something, and which is full at `SMALL_BYTES`; where root starts it."""
        return self.home / "small"

    @property
    def key(self) -> Path:
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def password(self) -> str:
        if not _root():
            raise RuntimeError("only root can start a server that takes passwords: run the tests as root")
        return PASSWORD

    def folder_for(self, path: Path) -> Path:
        """A new folder in the user's home for a test's folder."""
        made = self.home / path.name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        if _root():
            os.chown(made, USER_ID, USER_ID)
        return made


def _root() -> bool:
    return os.geteuid() == 0
