"""APIs that nobody here wrote: Datasette over a SQLite file, and npm's json-server over a JSON file."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.parts.sharing import free_port

START_SECONDS = 60
JSON_SERVER = (
    Path(__file__).resolve().parents[2] / ".venv" / "parts" / "json-server" / "node_modules" / ".bin" / "json-server"
)


@contextmanager
def datasette(folder: Path, statements: Sequence[str]) -> Iterator[str]:
    """Datasette's address, serving the database `shop` that the statements make."""
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "datasette",
        "serve",
        "shop.db",
        "--port",
        str(port),
        "--setting",
        "max_returned_rows",
        "1000",
    ]
    with _running(command, folder, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def json_server(folder: Path, data: Mapping[str, Any]) -> Iterator[str]:
    """json-server's address, serving the lists of `data` by their names."""
    (folder / "db.json").write_text(json.dumps(data), encoding="utf-8")
    port = free_port()
    command = ["node", str(JSON_SERVER.resolve()), "--host", "127.0.0.1", "--port", str(port), "--quiet", "db.json"]
    with _running(command, folder, f"http://127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _running(command: Sequence[str], folder: Path, url: str) -> Iterator[None]:
    log = folder / "server.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        until = time.monotonic() + START_SECONDS
        while not _answers(url):
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text())
            time.sleep(0.02)
        yield
    finally:
        server.kill()
        server.wait()


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
