"""A server that speaks S3 for the tests: moto's, in a process of its own; what it keeps is in that process's memory."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tests.parts import sharing

if TYPE_CHECKING:
    from botocore.client import BaseClient

KEY = "TESTERSKEY"
PASSWORD = "its/secret+key"
SECRET = "PROCESSFLOW_TESTS_S3"
REGION = "eu-central-1"
os.environ[SECRET] = PASSWORD


@dataclass
class Server:
    """A server on 127.0.0.1; buckets are addressed by path."""

    NAME: ClassVar[str] = "moto's S3"
    ENDS_BY: ClassVar[signal.Signals] = signal.SIGKILL
    folder: Path
    port: int
    pid: int = 0

    @classmethod
    def made(cls, folder: Path) -> Server:
        """A new server, not yet started."""
        return cls(folder, sharing.free_port())

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        sharing.spawn(
            [sys.executable, "-m", "tests.parts.s3", str(self.port)], self, lambda: sharing.listens(self.port)
        )

    def end(self, how: signal.Signals = ENDS_BY) -> None:
        """Ends it, and with it all that it kept."""
        sharing.end(self, how)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> BaseClient:
        """A client of boto3 that may do everything."""
        import boto3

        words: dict[str, Any] = {"aws_access_key_id": KEY, "aws_secret_access_key": PASSWORD, "region_name": REGION}
        return boto3.client("s3", endpoint_url=self.address, **words)

    def bucket(self, path: Path) -> str:
        """A bucket for a test's folder; it is made when it is first asked for."""
        name = f"t{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name


if __name__ == "__main__":
    from moto.server import ThreadedMotoServer

    ThreadedMotoServer(ip_address="127.0.0.1", port=int(sys.argv[1])).start()
    signal.pause()
