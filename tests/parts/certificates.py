"""Certificates for the tests' servers: an authority of their own, and keys that it signed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.parts.sharing import program

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def make(folder: Path, *clients: str) -> None:
    """Writes `ca.pem`, `other-ca.pem` (which signed nothing), `server.pem` and `server.key` for localhost, and both for each client.

    Keys are PKCS #8 in PEM. They are good for two days.
    """
    for name in ("ca", "other-ca"):
        _openssl(folder, "req", "-x509", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2",
                 "-subj", f"/CN=tests {name}")  # fmt: skip
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name, subject in (("server", "localhost"), *((client, client) for client in clients)):
        _openssl(folder, "req", *KEY, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={subject}")
        _openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-out", f"{name}.pem", "-days", "2", "-extfile", "names")  # fmt: skip


def _openssl(folder: Path, *words: str) -> None:
    subprocess.run([program("openssl"), *words], cwd=folder, check=True, capture_output=True)
