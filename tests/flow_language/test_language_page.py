"""What docs/language.md shows works as it is shown."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from agent.prepare import Request
from agent.runs import run
from pipelines.check import check_file
from pipelines.drive import drive
from pipelines.environmentfile import load_environment
from pipelines.flowfile import parse
from pipelines.flowschema import flow_schema
from pipelines.language.yamltext import parse as parse_yaml
from pipelines.scope import Scope
from repository.project import Project


@pytest.fixture
def page(repository_root: Path) -> list[tuple[str, str]]:
    """The page's blocks with their languages."""
    text = (repository_root / "docs" / "language.md").read_text(encoding="utf-8")
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def block(page: list[tuple[str, str]], begins: str) -> str:
    return next(text for _, text in page if text.startswith(begins))


def test_the_pages_flow_has_no_problems_in_the_pages_environment(page: list[tuple[str, str]], tmp_path: Path) -> None:
    flow, environment = block(page, "flow:"), block(page, "environment:")
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "local.yaml").write_text(environment)
    (tmp_path / "paid-orders.yaml").write_text(flow)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        shop.execute("create table orders (id integer primary key, status text, amount decimal(10,2))")
        shop.commit()
    with closing(sqlite3.connect(tmp_path / "erp.db")) as erp:
        erp.execute("create table orders (order_no text primary key, total decimal(12,2))")
        erp.execute("create table review (order_no text primary key, total decimal(12,2))")
        erp.commit()

    found = check_file(tmp_path / "paid-orders.yaml", Scope(tmp_path, load_environment(tmp_path)))

    assert [str(problem) for problem in found.problems] == []
    assert found.delivery.label == "effectively once"
    jsonschema.Draft202012Validator(flow_schema()).validate(parse_yaml(flow).value)


def test_the_pages_flow_can_be_used_as_a_node_as_the_page_says(page: list[tuple[str, str]], tmp_path: Path) -> None:
    used, text = block(page, "flow: net-price"), (Path(__file__).parents[2] / "docs" / "language.md").read_text("utf-8")
    web = re.findall(r"`(web: \{type: flow.*?\})`", text)[0]
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "net-price.yaml").write_text(used)
    (tmp_path / "orders.csv").write_text("quantity,price\n1,2.5\n")
    (tmp_path / "flows" / "outer.yaml").write_text(
        "flow: outer\nnodes:\n  start: {type: start}\n"
        "  orders: {type: file.get, from: start, path: orders.csv, columns: {quantity: INTEGER, price: DOUBLE}}\n"
        f"  {web}\n  end: {{type: end, from: web}}\n"
    )

    found = check_file(tmp_path / "flows" / "outer.yaml", Scope(tmp_path))

    assert [str(problem) for problem in found.problems] == []
    assert list(found.outputs) == ["start", "orders", "web/start", "web/net", "web/end", "end"]


def test_the_pages_python_builds_a_flow(page: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    exec(block(page, "from pipelines.builder"), {})

    assert list(parse(capsys.readouterr().out).nodes) == ["start", "orders", "paid", "size", "erp", "review"]


def test_the_pages_changes_of_a_text_work(page: list[tuple[str, str]]) -> None:
    names: dict[str, Any] = {"text": block(page, "flow:")}

    exec(block(page, "from pipelines.language.yamledit"), names)

    flow = parse(names["text"])
    assert (flow.nodes["orders"].config.table, flow.nodes["done"].type) == ("orders_2026", "end")  # type: ignore[attr-defined]


def test_the_pages_loop_asks_until_each_order_is_paid(page: list[tuple[str, str]], tmp_path: Path) -> None:
    loop = block(page, "paid:").replace("seconds: 30", "seconds: 0.01")
    (tmp_path / "flows").mkdir()
    (tmp_path / "environments").mkdir()
    (tmp_path / "orders.csv").write_text("order_no\n1\n2\n3\n")
    (tmp_path / "flows" / "outer.yaml").write_text(
        "flow: outer\nnodes:\n  start: {type: start}\n"
        "  orders: {type: file.get, from: start, path: orders.csv, columns: {order_no: BIGINT}}\n"
        + "".join(f"  {line}\n" for line in loop.splitlines())
        + "  out: {type: file.post, from: paid, path: paid.csv}\n"
    )
    with payments() as url:
        (tmp_path / "environments" / "local.yaml").write_text(
            f"connections:\n  payments: {{adapter: http, url: '{url}'}}\n"
        )

        done = run(Request(Project(tmp_path), "outer"), drive)

    assert (done["status"], done["error"]) == ("done", None)
    assert done["nodes"]["paid/end"]["out"] == {"again": 3, "out": 3}
    assert (tmp_path / "paid.csv").read_text() == "order_no,status\n1,paid\n2,paid\n3,paid\n"


@contextmanager
def payments() -> Iterator[str]:
    """An API in which order n is paid when it is asked for the nth time."""
    asked: Counter[str] = Counter()

    class Payments(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            order = self.path.rpartition("/")[2]
            asked[order] += 1
            body = json.dumps([{"status": "paid" if asked[order] >= int(order) else "open"}]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Payments)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
