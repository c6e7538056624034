"""A schema registry for tests. None of those that there are can be had here, so it follows Confluent's description of theirs.

It keeps schemas by subject, gives each an id, and refuses one that drops a column without a default, as compatibility does.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

USER, SECRET, PASSWORD = "reader", "PROCESSFLOW_TESTS_REGISTRY", "its registry's secret"


class Registry:
    """What it holds."""

    def __init__(self) -> None:
        self.schemas: list[str] = []
        self.subjects: dict[str, list[int]] = {}
        self.url = ""

    def keep(self, subject: str, schema: str) -> int:
        """The schema's id, from 1; 0 where it does not go with the one before."""
        known = self.subjects.setdefault(subject, [])
        if known and not _goes_with(json.loads(schema), json.loads(self.schemas[known[-1] - 1])):
            return 0
        if schema not in self.schemas:
            self.schemas.append(schema)
        number = self.schemas.index(schema) + 1
        if number not in known:
            known.append(number)
        return number

    def answer(self, method: str, path: list[str], body: Any) -> tuple[int, Any]:
        """Status and answer."""
        match (method, path):
            case ("GET", ["subjects"]):
                return 200, sorted(self.subjects)
            case ("GET", ["schemas", "ids", number]) if 0 < int(number) <= len(self.schemas):
                return 200, {"schema": self.schemas[int(number) - 1]}
            case ("GET", ["subjects", subject, "versions", "latest"]) if self.subjects.get(subject):
                number = self.subjects[subject][-1]
                return 200, {"subject": subject, "id": number, "schema": self.schemas[number - 1]}
            case ("POST", ["subjects", subject, "versions"]):
                number = self.keep(subject, body["schema"])
                return (200, {"id": number}) if number else (409, {"error_code": 409, "message": "incompatible"})
        return 404, {"error_code": 40401, "message": "not found"}


def _goes_with(new: Any, old: Any) -> bool:
    kinds = {field["name"]: field["type"] for field in new["fields"]}
    return all(kinds.get(field["name"], field["type"]) == field["type"] for field in old["fields"])


@contextmanager
def serving() -> Iterator[Registry]:
    """A registry that asks for a password."""
    registry = Registry()
    words = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Any) -> None:
            status, said = 401, {"error_code": 401, "message": "who asks?"}
            if self.headers.get("Authorization") == words:
                path = [unquote(step) for step in self.path.strip("/").split("/")]
                status, said = registry.answer(self.command, path, body)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *words: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
