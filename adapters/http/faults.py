"""What aiohttp raises, in our words: `Invalid` where something is to be edited, `Unavailable` where it may work later."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from pipelines.errors import FlowError, Invalid, Unavailable

SHOWN_CHARACTERS = 300


def explained(shown: str, fault: Exception, timeout_seconds: float) -> FlowError:
    """A fault of a request to the address `shown`. Its own text is not passed on whole: it may hold what was sent."""
    import aiohttp

    said: tuple[tuple[type[Exception], Callable[[Any], FlowError]], ...] = (
        (aiohttp.ClientConnectorCertificateError, lambda one: Invalid(_untrusted(shown, one))),
        (aiohttp.ClientConnectorDNSError, lambda one: _no_host(shown, one)),
        (aiohttp.ClientSSLError, lambda one: Invalid(f"{shown}: no TLS connection can be made: {_first(one)}")),
        (
            aiohttp.ClientProxyConnectionError,
            lambda one: Unavailable(f"{shown}: the proxy cannot be reached: {_first(one)}"),
        ),
        (aiohttp.ClientHttpProxyError, lambda one: _proxy(shown, one)),
        (aiohttp.InvalidURL, lambda one: Invalid(f"{shown}: is no address that can be asked")),
        (TimeoutError, lambda one: Unavailable(f"{shown}: no whole answer within {timeout_seconds:g} s")),
        (aiohttp.ClientConnectorError, lambda one: Unavailable(f"{shown}: cannot be reached: {_first(one)}")),
        (aiohttp.ClientPayloadError, lambda one: Unavailable(f"{shown}: the answer broke off before its end")),
        (aiohttp.ServerDisconnectedError, lambda one: Unavailable(f"{shown}: hung up without an answer")),
        (aiohttp.ClientResponseError, lambda one: Unavailable(f"{shown}: its answer is no HTTP: {one.message[:100]}")),
    )
    for kind, made in said:
        if isinstance(fault, kind):
            return made(fault)
    return Unavailable(f"{shown}: the connection was lost: {_first(fault)}")


def _untrusted(shown: str, fault: Any) -> str:
    why = getattr(fault.certificate_error, "verify_message", "") or _first(fault.certificate_error)
    return f"{shown}: its certificate is not trusted: {why}; name its authority's file by `tls: {{ca: FILE}}`"


def _proxy(shown: str, fault: Any) -> FlowError:
    kind = Invalid if fault.status in (401, 403, 407) else Unavailable
    return kind(f"{shown}: the proxy answered {fault.status}; check `proxy`, its user and password")


def _no_host(shown: str, fault: Any) -> FlowError:
    """A name that nobody knows is to be edited; a name server that does not answer may answer later."""
    errno = getattr(getattr(fault, "os_error", None), "errno", None)
    if errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
        return Invalid(f"{shown}: no host has this name; correct the connection's `url`")
    return Unavailable(f"{shown}: the host's name cannot be looked up: {_first(fault)}")


def _first(fault: BaseException) -> str:
    """A fault's own words; those of the system under it where there are any."""
    found = str(getattr(fault, "os_error", "") or fault) or type(fault).__name__
    return " ".join(found.split())[:SHOWN_CHARACTERS]
