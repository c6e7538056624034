"""`python servers.py COMMAND…` serves the shop's API, the ERP's API and a mail server while a command runs.

The ports are those that `environments/local.yaml` names. The ERP gives numbers of its own, refuses orders that are too large, and once says that it is busy.
What the mail server gets lies in `.data/mail/` as text.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

FOLDER = Path(".data", "systems")
MAILS = Path(".data", "mail")
CREDIT = 120.0
"""What a customer may owe the ERP for one order."""
BUSY_AT = 120
"""The ERP's request that is told to come again."""


class Api(BaseHTTPRequestHandler):
    """What both APIs do: they know their callers, speak JSON, and keep connections open."""

    protocol_version = "HTTP/1.1"
    SHOWN_BY: ClassVar[str]

    def answer(self, status: int, content: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, text in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(body)

    def is_known(self) -> bool:
        known = self.headers.get("Authorization") == f"Bearer {os.environ[self.SHOWN_BY]}"
        if not known:
            self.answer(401, {"message": "who are you?"})
        return known

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Says nothing."""


class ShopApi(Api):
    """`GET /orders?updated_from=…&page=1&per_page=100`: the orders with their lines, and how many there are."""

    SHOWN_BY = "SHOP_TOKEN"

    def do_GET(self) -> None:
        if not self.is_known():
            return
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        size, page = min(int(asked.get("per_page", 100)), 100), int(asked.get("page", 1))
        since = asked.get("updated_from", "")
        with closing(sqlite3.connect(FOLDER / "shop.db")) as shop:
            (total,) = shop.execute("SELECT count(*) FROM orders WHERE updated_at >= ?", (since,)).fetchone()
            found = shop.execute(
                "SELECT id, customer, updated_at FROM orders WHERE updated_at >= ? ORDER BY updated_at, id LIMIT ? OFFSET ?",
                (since, size, size * (page - 1)),
            ).fetchall()
            orders = [
                {"id": number, "customer": customer, "updated_at": at, "lines": list(_lines(shop, number))}
                for number, customer, at in found
            ]
        self.answer(200, {"orders": orders, "meta": {"total": total}})


def _lines(shop: sqlite3.Connection, order: int) -> Iterator[dict[str, Any]]:
    for article, quantity, cents in shop.execute(
        "SELECT article, quantity, price_cents FROM lines WHERE order_id = ?", (order,)
    ):
        yield {"article": article, "quantity": quantity, "price": cents / 100}


class ErpApi(Api):
    """`POST /orders`: a new order gets a number of the ERP's own, a known one is changed and keeps it. Some are refused."""

    SHOWN_BY = "ERP_TOKEN"
    lock = threading.Lock()
    requests: ClassVar[int] = 0

    def do_POST(self) -> None:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_known():
            return
        with self.lock:
            type(self).requests += 1
            if self.requests == BUSY_AT:
                self.answer(503, {"message": "busy, please come again"}, {"Retry-After": "1"})
                return
            if content["total"] > CREDIT:
                told = (
                    f"{content['customer']['name']} may owe {CREDIT:.2f} for one order, this is {content['total']:.2f}"
                )
                self.answer(422, {"message": told})
                return
            with closing(sqlite3.connect(FOLDER / "erp.db")) as erp, erp:
                erp.execute("PRAGMA synchronous = off")
                erp.execute(
                    "INSERT INTO orders (order_no, content) VALUES (?, ?) ON CONFLICT (order_no) DO UPDATE SET content = excluded.content",
                    (content["order_no"], json.dumps(content)),
                )
                (number,) = erp.execute(
                    "SELECT number FROM orders WHERE order_no = ?", (content["order_no"],)
                ).fetchone()
        self.answer(201, {"number": f"SO-{10_000 + number}"})


class Mails(Message):
    """Keeps what comes as files."""

    def handle_message(self, message: Mail) -> None:
        MAILS.mkdir(parents=True, exist_ok=True)
        texts = [part.get_payload(decode=True) for part in message.walk() if part.get_content_type() == "text/plain"]
        text = b"".join(text for text in texts if isinstance(text, bytes)).decode()
        number = len(list(MAILS.iterdir())) + 1
        head = f"To: {message['To']}\nSubject: {message['Subject']}\n\n"
        (MAILS / f"{number:03}.txt").write_text(head + text, encoding="utf-8")


def serve(command: list[str]) -> int:
    """Serves all systems until a command has ended; its exit code."""
    text = Path("environments", "local.yaml").read_text(encoding="utf-8")
    connections = yaml.safe_load(text)["connections"]
    ports = {name: urlsplit(connections[name]["url"]).port or 0 for name in APIS}
    mails = Controller(Mails(), hostname="127.0.0.1", port=connections["mail"]["port"])
    try:
        servers = [ThreadingHTTPServer(("127.0.0.1", ports[name]), api) for name, api in APIS.items()]
        mails.start()
    except OSError as fault:
        print(f"a port of environments/local.yaml is taken; name another there: {fault}", file=sys.stderr)
        return 3
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return subprocess.run(command, check=False).returncode
    finally:
        mails.stop()


APIS = {"shop": ShopApi, "erp": ErpApi}

if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]))
