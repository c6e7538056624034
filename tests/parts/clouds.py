"""Servers that speak as Google Cloud Storage and Azure do: fake-gcs-server and Azurite, which `make parts` fetches."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tests.parts import sharing

PARTS = Path(__file__).parents[2] / ".venv" / "parts"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has, and its key, as its documentation tells."""
SECRET = "PROCESSFLOW_TESTS_AZURE"
os.environ[SECRET] = KEY


@dataclass
class Google:
    """A server that speaks as Google Cloud Storage does, on 127.0.0.1; it asks nobody who they are."""

    NAME: ClassVar[str] = "fake-gcs-server"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGKILL
    folder: Path
    port: int
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Google:
        """A new server, not yet started."""
        return cls(folder, sharing.free_port())

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        words = [str(PARTS / "fake-gcs-server" / "fake-gcs-server"), "-backend", "memory", "-scheme", "http"]
        words += ["-host", "127.0.0.1", "-port", str(self.port), "-public-host", f"127.0.0.1:{self.port}"]
        words += ["-external-url", self.address]
        sharing.spawn(words, self, lambda: sharing.listens(self.port))

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it, and with it all that it kept."""
        sharing.end(self, how)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass
class Azure:
    """A server that speaks as Azure's blob storage does, on 127.0.0.1."""

    NAME: ClassVar[str] = "Azurite"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGKILL
    folder: Path
    port: int
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Azure:
        """A new server, not yet started."""
        return cls(folder, sharing.free_port())

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        program = PARTS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
        words = [sharing.program("node"), str(program), "--blobHost", "127.0.0.1", "--blobPort", str(self.port)]
        words += ["--location", str(self.folder / "data"), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        sharing.spawn(words, self, lambda: sharing.listens(self.port))

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it."""
        sharing.end(self, how)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"
