"""What fsspec's file systems raise, in our words: `Invalid` to edit something, `Unavailable` where it may work later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from adapters.file.stores.store import Missing
from pipelines.errors import FlowError, Invalid, Unavailable

SHOWN_CHARACTERS = 200
CREDENTIALS = {
    "gs": "`key` or `key_file`, and the roles of its service account",
    "az": "`account_key`, `sas_token`, or `tenant`, `client` and `client_secret`, and their roles",
}
"""What says who asks."""


@contextmanager
def explained(shown: str, kind: str) -> Iterator[None]:
    """Says what went wrong in a talk about `shown`."""
    try:
        yield
    except FlowError:
        raise
    except Exception as fault:  # noqa: BLE001 - each file system has faults of its own
        raise _explained(shown, kind, fault) from None  # its own text may hold what was sent


def _explained(shown: str, kind: str, fault: Exception) -> FlowError:
    status = _status(fault)
    if isinstance(fault, FileNotFoundError) or status == 404:
        return Missing(f"{shown}: is not there, or not any more; check the connection's `url`")
    if isinstance(fault, PermissionError) or status in (401, 403) or "Auth" in type(fault).__name__:
        return Invalid(f"{shown}: access is denied; check {CREDENTIALS[kind]}")
    if isinstance(fault, (ValueError, TypeError)) or (status is not None and 400 <= status < 500 and status != 429):
        return Invalid(f"{shown}: the request is refused: {_words(fault)}")
    return Unavailable(f"{shown}: the server is away or asks for less: {_words(fault)}")


def _status(fault: Exception) -> int | None:
    """The answer's code, where there was an answer."""
    for name in ("code", "status_code", "status"):
        found = getattr(fault, name, None)
        if isinstance(found, int) or (isinstance(found, str) and found.isdigit()):
            return int(found)
    return None


def _words(fault: BaseException) -> str:
    """A fault's first line, without the parameters that a request's address may hold."""
    return ((str(fault) or type(fault).__name__).splitlines() or [""])[0].partition("?")[0][:SHOWN_CHARACTERS]
