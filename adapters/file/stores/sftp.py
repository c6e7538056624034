"""Files on an SSH server. What is written has a hidden name of its own beside the target until it is renamed."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.file.stores.sftpfaults import UnknownHost, explained
from adapters.file.stores.store import Entry, Missing, Note, Source
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json

if TYPE_CHECKING:
    from paramiko import PKey, SFTPAttributes, SFTPClient, SFTPFile, SSHClient

PORT = 22
IDLE = 4
"""So many connections are kept for the next who asks."""
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Settings:
    """How a server is reached."""

    host: str
    port: int
    user: str
    password: str | None = None
    key_file: Path | None = None
    key_password: str | None = None
    known_hosts: Path | None = None
    connect_seconds: float = 10.0
    timeout_seconds: float = 60.0

    def __repr__(self) -> str:
        return f"Settings({self.user!r}, {self.host!r}, {self.port})"

    @property
    def shown(self) -> str:
        """The server's name as `known_hosts` has it."""
        return self.host if self.port == PORT else f"[{self.host}]:{self.port}"


@dataclass(frozen=True)
class Sftp:
    """A folder on a server."""

    settings: Settings
    folder: str
    """Empty: where the user arrives; else without a `/` at its end, unless it is the root."""

    has_folders = True

    @property
    def address(self) -> str:
        port = "" if self.settings.port == PORT else f":{self.settings.port}"
        folder = self.folder if self.folder.startswith("/") else f"/~/{self.folder}"
        return f"sftp://{self.settings.user}@{self.settings.host}{port}{folder}".rstrip("/").removesuffix("/~")

    def look(self, path: str) -> Entry | None:
        with self._asked(path) as sftp:
            about = _looked(sftp, self._at(path))
        return _entry(path, about) if about is not None and stat.S_ISREG(about.st_mode or 0) else None

    def is_folder(self, path: str) -> bool:
        with self._asked(path) as sftp:
            return stat.S_ISDIR(_mode(sftp, self._at(path)))

    def list(self, prefix: str, depth: int | None) -> Iterator[Entry]:
        base, _, begin = prefix.rpartition("/")
        with self._asked(base) as sftp:
            yield from self._listed(sftp, base, begin, depth)

    def _listed(self, sftp: SFTPClient, folder: str, begin: str, depth: int | None) -> Iterator[Entry]:
        try:
            found = sftp.listdir_attr(self._at(folder) or ".")
        except FileNotFoundError:
            return
        for each in found:
            path = f"{folder}/{each.filename}" if folder else each.filename
            if not each.filename.startswith(begin):
                continue
            about = _looked(sftp, self._at(path)) if stat.S_ISLNK(each.st_mode or 0) else each
            mode = 0 if about is None else about.st_mode or 0
            if stat.S_ISREG(mode):
                yield _entry(path, about)
            elif stat.S_ISDIR(mode) and not stat.S_ISLNK(each.st_mode or 0) and depth != 0:
                yield from self._listed(sftp, path, "", None if depth is None else depth - 1)

    def open(self, entry: Entry) -> Source:
        held = ExitStack()
        shown = f"{self.address}/{entry.path}"
        with held:
            sftp = held.enter_context(line(self.settings, os.getpid()).borrowed(shown))
            with explaining(shown):
                file = held.enter_context(sftp.open(self._at(entry.path), "rb"))
                file._prefetch_thread = _quiet(file._prefetch_thread)
                about = _entry(entry.path, file.stat())
            if about != entry:
                raise Unavailable(f"{shown}: was changed after the run was planned; run again once it is complete")
            return Opened(file, shown, held.pop_all())

    def stage(self, local: Path, path: str, token: str, note: Note) -> Json:
        folder, _, name = path.rpartition("/")
        temporary = posixpath.join(folder, f".{name}.{token}.tmp")
        with self._asked(path) as sftp:
            step = {"path": path, "temporary": temporary, "folders": self._missing(sftp, folder)}
            note(step)
            for each in step["folders"]:
                try:
                    sftp.mkdir(self._at(each))
                except OSError:
                    if not stat.S_ISDIR(_mode(sftp, self._at(each))):  # else somebody else has made it meanwhile
                        raise
            sftp.put(str(local), self._at(temporary), confirm=False)
            self._check_size(sftp, temporary, local.stat().st_size)
        return step

    def _check_size(self, sftp: SFTPClient, path: str, size_bytes: int) -> None:
        """Blocks are sent without waiting for each one's answer, so what was refused shows in the size."""
        about = _looked(sftp, self._at(path))
        if about is None or about.st_size != size_bytes:
            written = 0 if about is None else about.st_size
            raise Unavailable(
                f"{self.address}/{path}: only {written} of {size_bytes} bytes could be written: "
                "as a rule its disk is full or a quota reached; make room there"
            )

    def finish(self, step: Json) -> None:
        final, temporary = self._at(step["path"]), self._at(step["temporary"])
        with self._asked(step["path"]) as sftp:
            if not _is_there(sftp, temporary):
                if _is_there(sftp, final):
                    return  # renamed before, and nobody heard it
                raise Missing(f"{self.address}/{step['temporary']}: what was written there is gone")
            if stat.S_ISDIR(_mode(sftp, final)):
                raise Invalid(
                    f"{self.address}/{step['path']}: is a folder; end `path` with '/', or choose another name"
                )
            try:
                sftp.posix_rename(temporary, final)
            except OSError:
                # A server without OpenSSH's extension cannot rename over a file: for a moment it is missing.
                if not _is_there(sftp, final):
                    raise
                sftp.remove(final)
                sftp.rename(temporary, final)

    def is_finished(self, step: Json) -> bool:
        with self._asked(step["path"]) as sftp:
            return not _is_there(sftp, self._at(step["temporary"])) and _is_there(sftp, self._at(step["path"]))

    def discard(self, step: Json) -> None:
        with self._asked(step["path"]) as sftp:
            with suppress(FileNotFoundError):
                sftp.remove(self._at(step["temporary"]))
            for each in reversed(step["folders"]):
                with suppress(OSError):  # somebody else has put something into it meanwhile
                    sftp.rmdir(self._at(each))

    def remove(self, path: str) -> None:
        with self._asked(path) as sftp, suppress(FileNotFoundError):
            sftp.remove(self._at(path))

    def test(self) -> str:
        with self._asked("") as sftp:
            count = len(sftp.listdir(self._at("") or "."))
        return f"SFTP server {self.address} with {count} file{'' if count == 1 else 's'} and folders"

    @contextmanager
    def _asked(self, path: str) -> Iterator[SFTPClient]:
        """A connection for a short talk about a path."""
        shown = f"{self.address}/{path}".rstrip("/")
        with line(self.settings, os.getpid()).borrowed(shown) as sftp, explaining(shown):
            yield sftp

    def _at(self, path: str) -> str:
        return posixpath.join(self.folder, path)

    def _missing(self, sftp: SFTPClient, folder: str) -> Sequence[str]:
        """Which folders have to be made, the outermost first."""
        missing: list[str] = []
        while folder and not _is_there(sftp, self._at(folder)):
            missing.insert(0, folder)
            folder = folder.rpartition("/")[0]
        return missing


@dataclass(frozen=True)
class Opened:
    """A file that is held open: what takes its name meanwhile is another one."""

    file: SFTPFile
    shown: str
    held: ExitStack
    lanes = 1

    def fetch(self, start: int, stop: int) -> bytes:
        with explaining(self.shown):
            data = b"".join(self.file.readv([(start, stop - start)]))
        if len(data) != stop - start:
            raise Unavailable(f"{self.shown}: became shorter while the run was reading it; run again")
        return data

    def close(self) -> None:
        self.held.close()


@dataclass
class Line:
    """The connections to one server, for one user. Each serves one thread at a time."""

    settings: Settings
    _idle: list[tuple[SSHClient, SFTPClient]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def borrowed(self, shown: str) -> Iterator[SFTPClient]:
        """A connection, given back unless something went wrong with it."""
        client, sftp = self._taken(shown)
        try:
            yield sftp
        except BaseException:
            client.close()
            raise
        with self._lock:
            if len(self._idle) < IDLE:
                self._idle.append((client, sftp))
                return
        client.close()

    def _taken(self, shown: str) -> tuple[SSHClient, SFTPClient]:
        while True:
            with self._lock:
                if not self._idle:
                    break
                client, sftp = self._idle.pop()
            transport = client.get_transport()
            if transport is not None and transport.is_active() and _answers(sftp):
                return client, sftp
            client.close()
        return _connected(self.settings, shown)

    def close(self) -> None:
        """Closes what nobody uses."""
        with self._lock:
            for client, _ in self._idle:
                client.close()
            self._idle.clear()


def _answers(sftp: SFTPClient) -> bool:
    """Whether the server is still there: a line that broke while nobody used it shows that only when it is used."""
    import paramiko

    try:
        sftp.normalize(".")
    except (OSError, EOFError, paramiko.SSHException):
        return False
    return True


@lru_cache(maxsize=64)
def line(settings: Settings, process: int) -> Line:
    """The connections of a process to one server."""
    return Line(settings)


def _quiet(asking: Callable[..., None]) -> Callable[..., None]:
    """What paramiko's thread does that asks for many blocks at once. Where the line breaks the one that waits for them is
    told; the thread itself would only print it."""

    def ask(*words: object) -> None:
        with suppress(Exception):
            asking(*words)

    return ask


def explaining(shown: str) -> AbstractContextManager[None]:
    return explained(shown)


def _connected(settings: Settings, shown: str) -> tuple[SSHClient, SFTPClient]:
    import paramiko

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it has to say comes as exceptions
    client = paramiko.SSHClient()
    known = settings.known_hosts or Path("~/.ssh/known_hosts").expanduser()
    try:
        with explained(shown):
            if known.is_file():
                client.load_host_keys(str(known))
            elif settings.known_hosts is not None:
                raise Invalid(f"{shown}: `known_hosts` names {known}, which is no file; make it, as {UnknownHost.HOW}")
            client.set_missing_host_key_policy(UnknownHost(settings.shown, known, shown))
            is_told = settings.password is not None or settings.key_file is not None
            client.connect(
                settings.host,
                settings.port,
                settings.user,
                settings.password,
                _key(settings, shown),
                timeout=settings.connect_seconds,
                banner_timeout=settings.connect_seconds,
                auth_timeout=settings.timeout_seconds,
                channel_timeout=settings.timeout_seconds,
                allow_agent=not is_told,
                look_for_keys=not is_told,
            )
            sftp = client.open_sftp()
            sftp.get_channel().settimeout(settings.timeout_seconds)
    except BaseException:
        client.close()
        raise
    return client, sftp


def _key(settings: Settings, shown: str) -> PKey | None:
    import paramiko

    if settings.key_file is None:
        return None
    try:
        password = settings.key_password.encode() if settings.key_password else None
        return paramiko.PKey.from_path(settings.key_file, password)
    except FileNotFoundError as fault:
        raise Invalid(f"{shown}: there is no key file {settings.key_file}; correct `key_file`") from fault
    except PermissionError as fault:
        raise Invalid(f"{shown}: key file {settings.key_file} may not be read by this user") from fault
    except (TypeError, paramiko.PasswordRequiredException) as fault:
        raise Invalid(f"{shown}: key file {settings.key_file} has a password; name it in `key_password`") from fault
    except (ValueError, paramiko.SSHException) as fault:
        what = "is no private key, or `key_password` is not its password"
        raise Invalid(f"{shown}: key file {settings.key_file} {what}") from fault


def _entry(path: str, about: SFTPAttributes) -> Entry:
    return Entry(path, int(about.st_size or 0), int(about.st_mtime or 0) * 1_000_000_000, "")


def _looked(sftp: SFTPClient, path: str) -> SFTPAttributes | None:
    try:
        return sftp.stat(path)
    except FileNotFoundError:
        return None


def _mode(sftp: SFTPClient, path: str) -> int:
    about = _looked(sftp, path)
    return 0 if about is None else about.st_mode or 0


def _is_there(sftp: SFTPClient, path: str) -> bool:
    return _mode(sftp, path) != 0
