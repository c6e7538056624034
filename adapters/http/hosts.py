"""Which addresses may be reached, and which of them get the connection's credentials."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.errors import Invalid

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver, ResolveResult
    from yarl import URL

PrivateAddresses = bool | Sequence[str]
"""Whether addresses that are not of the public internet may be reached, or those of which networks."""


def is_home(url: URL, home: URL) -> bool:
    """Whether an address is the connection's own server; the same host by TLS where the connection has none is too."""
    if (url.scheme, url.host, url.port) == (home.scheme, home.host, home.port):
        return True
    is_upgrade = home.scheme == "http" and url.scheme == "https" and home.is_default_port() and url.is_default_port()
    return is_upgrade and url.host == home.host


def check_address(host: str, allowed: PrivateAddresses) -> None:
    """Raises `Invalid` where a numeric address may not be reached; names are checked when they are resolved."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return
    if not may_reach(address, allowed):
        raise Invalid(refusal(host, host))


def may_reach(address: ipaddress.IPv4Address | ipaddress.IPv6Address, allowed: PrivateAddresses) -> bool:
    """Whether the environment lets an address be reached."""
    if allowed is True:
        return True
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_global and not address.is_multicast:
        return True
    networks = [ipaddress.ip_network(text) for text in allowed or ()]
    return any(address.version == network.version and address in network for network in networks)


def refusal(host: str, address: str) -> str:
    """What is said of an address that may not be reached."""
    of = host if host == address else f"{host} is {address}, which"
    return (
        f"{of} is no address of the public internet, and this environment refuses those; set `private_addresses` of "
        f"the environment to true or to the networks that may be reached"
    )


def resolver(allowed: PrivateAddresses) -> AbstractResolver:
    """Resolves names and refuses what may not be reached, at the moment of use: a name cannot change in between."""
    from aiohttp import abc
    from aiohttp.resolver import ThreadedResolver

    class Resolver(abc.AbstractResolver):
        def __init__(self) -> None:
            self._inner = ThreadedResolver(asyncio.get_running_loop())

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            found = await self._inner.resolve(host, port, family)
            for each in found:
                if not may_reach(ipaddress.ip_address(each["host"].partition("%")[0]), allowed):
                    raise Invalid(refusal(host, each["host"]))
            return found

        async def close(self) -> None:
            await self._inner.close()

    return Resolver()
