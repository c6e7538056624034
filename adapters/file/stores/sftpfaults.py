"""What paramiko raises, in our words: `Invalid` where something is to be edited, `Unavailable` where it may work later."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipelines.errors import FlowError, Invalid, Unavailable

if TYPE_CHECKING:
    from paramiko import PKey, SSHClient

SHOWN_CHARACTERS = 200


class UnknownHost:
    """Refuses a server whose key nobody has vouched for, and says how to vouch for it."""

    HOW: ClassVar[str] = "`ssh-keyscan -p PORT HOST` writes it once you have compared its fingerprint"

    def __init__(self, host: str, known: Path, shown: str) -> None:
        self._host = host
        self._known = known
        self._shown = shown

    def missing_host_key(self, client: SSHClient, hostname: str, key: PKey) -> None:
        raise Invalid(
            f"{self._shown}: the server's key is not in {self._known}: it is {key.get_name()} {key.fingerprint}; "
            f"compare that with what the server's owner says, then add this line: "
            f"{self._host} {key.get_name()} {key.get_base64()}"
        )


@contextmanager
def explained(shown: str) -> Iterator[None]:
    """Says what went wrong in a talk about `shown`."""
    try:
        yield
    except FlowError:
        raise
    except Exception as fault:
        found = _explained(shown, fault)
        if found is None:
            raise
        raise found from fault


def _explained(shown: str, fault: Exception) -> FlowError | None:
    import paramiko

    if isinstance(fault, paramiko.BadHostKeyException):
        return Invalid(
            f"{shown}: the server shows another key than known_hosts has for it: {fault.key.get_name()} "
            f"{fault.key.fingerprint}; somebody may be in between: ask the server's owner before you change that line"
        )
    if isinstance(fault, paramiko.AuthenticationException):
        allowed = ", ".join(getattr(fault, "allowed_types", ()))
        which = f" (it takes: {allowed})" if allowed else ""
        return Invalid(f"{shown}: the server does not let this user in{which}; check `user`, `password` and `key_file`")
    if isinstance(fault, socket.gaierror):
        if fault.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return Invalid(f"{shown}: no host has this name; correct the connection's `url`")
        return Unavailable(f"{shown}: the host's name cannot be looked up: {_words(fault)}")
    if isinstance(fault, TimeoutError):
        return Unavailable(f"{shown}: no answer in time")
    if isinstance(fault, (paramiko.SSHException, EOFError, ConnectionError)):
        return Unavailable(f"{shown}: the connection was lost or cannot be made: {_words(fault)}")
    return _refused(shown, fault) if isinstance(fault, OSError) else None


def _refused(shown: str, fault: OSError) -> FlowError:
    """What the server says of a file, by the few codes that SFTP has."""
    import paramiko

    if isinstance(fault, paramiko.ssh_exception.NoValidConnectionsError):
        return Unavailable(f"{shown}: cannot be reached: {_words(fault)}")
    if isinstance(fault, PermissionError):
        return Invalid(f"{shown}: permission denied to this user; allow it, or choose another path")
    if isinstance(fault, FileNotFoundError):
        return Unavailable(f"{shown}: is gone; it was there when the run was planned")
    if fault.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPIPE, errno.EBADF):
        return Unavailable(f"{shown}: cannot be reached: {_words(fault)}")
    if _words(fault) == "Failure":
        return Unavailable(
            f"{shown}: the server could not do it and does not say why: as a rule its disk is full or a quota reached"
        )
    return Unavailable(f"{shown}: the server says: {_words(fault)}")


def _words(fault: BaseException) -> str:
    return " ".join((str(fault) or type(fault).__name__).split())[:SHOWN_CHARACTERS]
