"""A server in front of the tests' S3 that answers some requests itself, as S3 does on its bad days; the others it hands on.

with Faulty(server.port) as faulty:
    faulty.answer("PUT", "partNumber", 503, "SlowDown", times=2)
    …talk to faulty.address…
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive")
BODY = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>{code}</Code><Message>as the tests want it</Message><RequestId>1</RequestId></Error>"""


@dataclass
class Fault:
    """An answer to some requests: how often still (-1: for ever)."""

    method: str
    path: re.Pattern[str]
    status: int
    code: str
    left: int


@dataclass
class Faulty:
    """A port of its own in front of a server."""

    server_port: int
    certificates: Path | None = None
    """A folder with `server.pem` and `server.key`, to speak TLS with."""
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The methods and addresses of all requests."""
    answered: int = 0
    """So many requests were answered by faults."""

    def __enter__(self) -> Faulty:
        handler = type("Handler", (_Handler,), {"faulty": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        if self.certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificates / "server.pem", self.certificates / "server.key")
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http{'s' if self.certificates else ''}://127.0.0.1:{self._http.server_address[1]}"

    def answer(self, method: str, path: str, status: int, code: str, times: int = -1) -> None:
        """Answers requests whose address this pattern finds, so many times."""
        self.faults.append(Fault(method, re.compile(path), status, code, times))

    def found(self, method: str, path: str) -> Fault | None:
        """The fault that a request gets."""
        self.asked.append(f"{method} {path}")
        for fault in self.faults:
            if fault.left and fault.method == method and fault.path.search(path):
                fault.left -= 1
                self.answered += 1
                return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: Faulty

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.faulty.found(self.command, self.path)
        if fault is not None:
            said = BODY.format(code=fault.code).encode() if self.command != "HEAD" else b""
            self.send_response(fault.status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)
            return
        server = http.client.HTTPConnection("127.0.0.1", self.faulty.server_port)
        server.request(self.command, self.path, body, dict(self.headers))
        answer = server.getresponse()
        said = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in (*HOP_BY_HOP, "content-length", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", (answer.getheader("Content-Length") or "0") if not said else str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)
        server.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815 - the names that the base class asks for

    def log_message(self, *words: object) -> None:
        """Says nothing."""
