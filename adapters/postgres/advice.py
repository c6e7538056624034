"""What is wrong where no connection can be made, and what to do about it, in the words of a connection's fields."""

from __future__ import annotations

import os
import re

_ADVICE = (
    (r"root certificate file .* does not exist", "give the certificate of the authority that signed the server's as `tls_root`, or `tls_root: system` for those that this machine trusts"),
    (r"certificate verify failed|unable to get (local )?issuer", "the server's certificate is expired, or signed by none of {root}; give the certificate of the authority that signed it as `tls_root`"),
    (r"does not match host name", "give `host` as the certificate names it, or check only who signed it: `tls: verify-ca`"),
    (r"server does not support SSL", "have the server take encrypted connections (`ssl = on`), or let `tls` be `prefer`"),
    (r"pg_hba\.conf entry .*no encryption", "the server wants the connection encrypted: `tls: require`"),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", "have the server's pg_hba.conf take this user and database from this machine"),
    (r"certificate authentication failed|requires a valid client certificate", "give the client's certificate in `url`: `sslcert`, `sslkey`"),
    (r"no password supplied", "name a secret in `password`, or give libpq's password file a line for this server"),
    (r"password authentication failed", "check `user` and `password`"),
    (r"role .* does not exist|is not permitted to log in", "check `user`"),
    (r"database .* does not exist|permission denied for database", "check `database`, and whether the user may connect to it"),
    (r"definition of service", "no such service is in {services}; add it there, or give `host`"),
    (r"could not translate host name", "check `host`"),
    (r"timeout expired", "nothing answered within `connect_seconds`: is the server there, and does a firewall let this machine in?"),
)  # fmt: skip
"""What libpq and the server say of a connection that cannot be made, and what helps."""
_WRONG = re.compile(
    r"password|authentication|role .* does not exist|database .* does not exist|pg_hba\.conf|certificate|permission denied"
    r"|SSL|service|invalid .*(option|value|URI)|could not translate host name|is not permitted to log in|sslmode",
    re.IGNORECASE,
)
"""What nobody needs to wait for: a setting is wrong, here or there."""
_BROKEN_OFF = re.compile(r"SSL (connection has been closed|SYSCALL|error: unexpected eof)", re.IGNORECASE)
"""Words of TLS that speak of a lost line."""
_OF_LIBPQ = re.compile(r"\s*Either provide the file,.*?verification\.", re.DOTALL)
"""Advice that names libpq's settings."""


def told(text: str, root: str) -> str:
    """A fault of connecting in one line, with what to do about it.

    Args:
        root: The file of authorities that was to be checked against; empty: libpq's own.
    """
    said = " ".join(_OF_LIBPQ.sub("", text).split())
    places = {
        "root": f"the authorities in {root or '~/.postgresql/root.crt'}" if root != "system" else "those this machine trusts",
        "services": os.environ.get("PGSERVICEFILE", "~/.pg_service.conf"),
    }  # fmt: skip
    found = next((advice for words, advice in _ADVICE if re.search(words, said, re.IGNORECASE)), "")
    return f"{said}; {found.format(**places)}" if found else said


def is_wrong(text: str) -> bool:
    """Whether a setting is wrong, so that waiting does not help."""
    said = re.sub(r'connection to server at "[^"]*"', "", text)  # a host may be called service-1
    return bool(_WRONG.search(said)) and not _BROKEN_OFF.search(said)
