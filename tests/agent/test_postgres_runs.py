"""Flows from PostgreSQL to PostgreSQL: run, killed, cut off at each stage, the server restarted in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters import postgres as adapter
from adapters.postgres import snapshots, writing
from agent.prepare import Request
from agent.runs import run
from tests.agent.projects import COMMAND, leftovers, project, report, run_here
from tests.parts.postgres import Server, schema_of
from tests.parts.proxy import Proxy
from tests.parts.sharing import alone

ORDERS = 50_000
FLOW = """flow: nightly
nodes:
  start: {type: start}
  orders: {type: postgres.get, from: start, connection: shop, table: orders, key: [id], cursor: changed_at}
  shaped:
    type: map
    from: orders
    fields: {id: id, who: upper(who), total: "CAST(total * 2 AS decimal(12,2))"}
  kept: {type: postgres.post, from: shaped, connection: shop, table: kept, mode: upsert, key: [id]}
"""


@pytest.fixture(scope="module")
def server(postgres: Server) -> Iterator[Server]:
    """The server that the whole session shares."""
    yield postgres
    snapshots.release_all()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server to do with as one likes."""
    with alone(Server.made) as found:
        yield found
        snapshots.release_all()


def shop(server: Server, folder: Path, port: int | None = None) -> Any:
    """A project whose connection is a schema of its own with orders in it, every 1000th of which `kept` refuses."""
    schema = schema_of(folder / "shop")
    with closing(server.connect(options=f"-c search_path={schema}")) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            "CREATE TABLE orders AS SELECT n::bigint AS id, 'customer ' || n % 77 || repeat(' and co', 25) AS who, (n % 997)::numeric(10,2) AS total, "
            f"'2024-01-01'::timestamptz + n * interval '1 second' AS changed_at FROM generate_series(1, {ORDERS}) n"
        )
        connection.execute(
            "CREATE TABLE kept (id bigint PRIMARY KEY CHECK (id % 1000 <> 7), who text, total numeric(12,2))"
        )
    settings = server.settings(schema) | {"lock_seconds": 1}
    if port is not None:
        settings["port"] = port
    text = json.dumps({"environment": "local", "connections": {"shop": settings}})
    return project(folder, FLOW, {"environments/local.yaml": text})


def rows(server: Server, folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(server.connect(options=f"-c search_path={schema_of(folder / 'shop')}")) as connection:
        found = connection.execute(sql)
        return found.fetchall() if found.description else []


def is_whole(server: Server, folder: Path) -> bool:
    """Whether each order that `kept` takes is there as the flow makes it, and no other."""
    wrong = (
        "SELECT count(*) FROM (SELECT * FROM orders WHERE id % 1000 <> 7) o FULL JOIN kept k ON k.id = o.id "
        "WHERE k.id IS NULL OR o.id IS NULL OR k.who <> upper(o.who) OR k.total <> o.total * 2"
    )
    return rows(server, folder, wrong) == [(0,)]


def test_a_flow_reads_maps_and_upserts_and_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    made = shop(server, tmp_path)

    first = run(Request(made, "nightly"))
    rows(server, tmp_path, "UPDATE orders SET who = 'new', changed_at = '2025-01-01' WHERE id IN (5, 6)")
    second = run(Request(made, "nightly"))

    assert (first["status"], second["status"]) == ("done_with_rejects", "done")
    assert first["nodes"]["kept"]["rejected"] == ORDERS // 1000
    assert first["nodes"]["kept"]["delivered"] == ORDERS - ORDERS // 1000
    assert second["nodes"]["orders"]["out"]["out"] == 2
    assert is_whole(server, tmp_path)
    assert leftovers(made) == []
    idle = f"application_name = 'processflow nightly' AND state LIKE 'idle%' AND query LIKE '%{schema_of(tmp_path / 'shop')}%'"
    assert rows(server, tmp_path, f"SELECT count(*) FROM pg_stat_activity WHERE {idle}") == [(0,)]


@pytest.mark.parametrize(
    "moment", [rb"COPY \(SELECT", rb"COPY pg_temp", rb"INSERT INTO .*kept", rb"INSERT INTO _processflow", rb"COMMIT\0"]
)
def test_a_line_cut_at_any_moment_is_tried_again_and_delivers_once(
    server: Server, tmp_path: Path, moment: bytes
) -> None:
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, proxy.port)
        proxy.cut_at(moment, heard=True)
        found = run_here(made, "nightly")
        snapshots.release_all()

    assert proxy.cuts == 1
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert found["nodes"]["kept"]["delivered"] == ORDERS - ORDERS // 1000
    assert is_whole(server, tmp_path)


def test_a_server_killed_while_it_loads_is_asked_again_when_it_is_back(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, killed = shop(own_server, tmp_path), []
    record = writing.PostgresSession.record

    def killing(session: writing.PostgresSession, token: str) -> None:
        if not killed:
            killed.append(token)
            own_server.end(signal.SIGKILL)
            own_server.start()
        record(session, token)

    monkeypatch.setattr(writing.PostgresSession, "record", killing)

    found = run_here(made, "nightly")

    assert len(killed) == 1
    assert found["status"] == "done_with_rejects"
    assert is_whole(own_server, tmp_path)


def test_a_server_killed_while_it_is_read_fails_the_run_and_the_next_reads_everything(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, killed = shop(own_server, tmp_path), []
    read = adapter.Get.read

    def killing(get: adapter.Get, *words: Any) -> Iterator[Any]:
        for chunk in read(get, *words):
            yield chunk
            if not killed:
                killed.append(get)
                own_server.end(signal.SIGKILL)
                own_server.start()

    monkeypatch.setattr(adapter.Get, "read", killing)

    first = run_here(made, "nightly")
    second = run_here(made, "nightly")

    assert first["status"] == "failed"
    assert "the snapshot that this run reads is gone" in first["error"]
    assert second["status"] == "done_with_rejects"
    assert is_whole(own_server, tmp_path)


def test_a_run_killed_at_any_time_delivers_each_order_once(server: Server, tmp_path: Path) -> None:
    made = shop(server, tmp_path)
    for wait in (1.3, 1.9, 2.6):
        with subprocess.Popen(
            [COMMAND, "run", "nightly"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(wait)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)

    last = report(tmp_path, "nightly")

    assert last["status"] in ("done", "done_with_rejects")
    assert is_whole(server, tmp_path)
    assert leftovers(made) == []
