"""TLS for asyncpg as libpq means it: what checks one driver's connection checks the other's
(https://www.postgresql.org/docs/current/libpq-ssl.html)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

SYSTEM = "system"
"""The word by which libpq takes the certificates that the machine trusts."""
OLDEST = "TLSv1.2"
_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}


class _Named(ssl.SSLContext):
    """Checks and asks for a host by its name where the connection is made to its address."""

    name: str

    def wrap_bio(self, *words: Any, **named: Any) -> ssl.SSLObject:
        return super().wrap_bio(*words, **{**named, "server_hostname": self.name})


def context(pattern: Connection[Any]) -> ssl.SSLContext | bool:
    """TLS as a connection of libpq has it: where that is encrypted this is, and the certificate is checked as far as there."""
    if not pattern.pgconn.ssl_in_use:
        return False
    words = pattern.info.get_parameters()
    found = _Named(ssl.PROTOCOL_TLS_CLIENT)
    found.name = pattern.info.host
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    found.minimum_version = _VERSIONS[words.get("ssl_min_protocol_version", OLDEST)]
    if newest := words.get("ssl_max_protocol_version"):
        found.maximum_version = _VERSIONS[newest]
    found.set_alpn_protocols(["postgresql"])
    _trust(found, words)
    _show(found, words)
    return found


def _trust(found: ssl.SSLContext, words: dict[str, str]) -> None:
    """A file of authorities that is there is checked against in every mode, also in `require`; without one nothing is."""
    mode, root = words.get("sslmode", "prefer"), words.get("sslrootcert")
    if root == SYSTEM:
        found.set_default_verify_paths()
        mode = "verify-full"  # libpq takes no other with it
    else:
        authorities = Path(root) if root else _own("root.crt")
        if not authorities.exists() and not mode.startswith("verify"):
            return
        found.load_verify_locations(authorities)
    found.verify_mode = ssl.CERT_REQUIRED
    found.check_hostname = mode == "verify-full"
    revoked = Path(words["sslcrl"]) if "sslcrl" in words else _own("root.crl")
    lists = Path(words["sslcrldir"]) if "sslcrldir" in words else None
    if root != SYSTEM and (lists or revoked.exists()):
        found.load_verify_locations(revoked if revoked.exists() else None, lists)
        found.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN


def _show(found: ssl.SSLContext, words: dict[str, str]) -> None:
    """The client's own certificate, where there is one."""
    if words.get("sslcertmode") == "disable":
        return
    shown = Path(words["sslcert"]) if "sslcert" in words else _own("postgresql.crt")
    if shown.exists():
        key = words.get("sslkey") or _own("postgresql.key")
        found.load_cert_chain(shown, key, words.get("sslpassword") or "")


def _own(name: str) -> Path:
    """A file in the user's folder of libpq."""
    return Path("~/.postgresql").expanduser() / name
