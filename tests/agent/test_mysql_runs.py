"""Flows from MariaDB to MariaDB: run, killed, cut off at each stage, the server restarted in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters import mysql as adapter
from adapters.mysql import snapshots, writing
from agent.prepare import Request
from agent.runs import run
from pipelines.scope import Scope
from tests.agent.projects import COMMAND, leftovers, project, report, run_here
from tests.parts.mariadb import Server, database_of
from tests.parts.proxy import Proxy
from tests.parts.sharing import alone

ORDERS = 50_000
FLOW = """flow: nightly
nodes:
  start: {type: start}
  orders: {type: mysql.get, from: start, connection: shop, table: orders, key: [id], cursor: changed_at}
  shaped:
    type: map
    from: orders
    fields: {id: id, who: upper(who), total: "CAST(total * 2 AS decimal(12,2))"}
  kept: {type: mysql.post, from: shaped, connection: shop, table: kept, mode: upsert, key: [id]}
"""


@pytest.fixture(scope="module")
def server(mariadb: Server) -> Iterator[Server]:
    """The server that the whole session shares."""
    yield mariadb
    snapshots.release_all()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server to do with as one likes."""
    with alone(Server.made) as found:
        yield found
        snapshots.release_all()


def shop(server: Server, folder: Path, port: int | None = None, mode: str = "upsert") -> Any:
    """A project whose connection is a database of its own with orders in it, every 1000th of which `kept` refuses."""
    database = database_of(folder / "shop")
    with closing(server.connect()) as connection:
        connection.query(f"CREATE DATABASE {database}")
        connection.select_db(database)
        connection.query(
            "CREATE TABLE orders (id bigint PRIMARY KEY, who text, total decimal(10,2), changed_at timestamp NOT NULL) AS "
            "SELECT seq AS id, concat('customer ', seq % 77, repeat(' and co', 25)) AS who, seq % 997 AS total, "
            f"'2024-01-01' + interval seq second AS changed_at FROM seq_1_to_{ORDERS}"
        )
        connection.query(
            "CREATE TABLE kept (id bigint PRIMARY KEY, who text, total decimal(12,2), CHECK (id % 1000 <> 7))"
        )
    settings = server.settings(database) | {"lock_seconds": 1}
    if port is not None:
        settings["port"] = port
    text = json.dumps({"environment": "local", "connections": {"shop": settings}})
    return project(folder, FLOW.replace("mode: upsert", f"mode: {mode}"), {"environments/local.yaml": text})


def rows(server: Server, folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(server.connect(database=database_of(folder / "shop"))) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def is_whole(server: Server, folder: Path) -> bool:
    """Whether each order that `kept` takes is there as the flow makes it, and no other."""
    wrong = (
        "SELECT (SELECT count(*) FROM orders o LEFT JOIN kept k ON k.id = o.id WHERE o.id % 1000 <> 7 AND "
        "(k.id IS NULL OR k.who <> upper(o.who) OR k.total <> o.total * 2)), (SELECT count(*) FROM kept)"
    )
    return rows(server, folder, wrong) == [(0, ORDERS - ORDERS // 1000)]


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
    database = database_of(tmp_path / "shop")
    assert rows(
        server, tmp_path, f"SELECT count(*) - 1 FROM information_schema.processlist WHERE db = '{database}'"
    ) == [(0,)]


@pytest.mark.parametrize(
    ("mode", "moment"),
    [
        ("upsert", rb'\x03SELECT "orders"."id"'), ("upsert", rb'\x03INSERT INTO "kept"'),
        ("append", rb"\x03LOAD DATA"), ("append", rb"\d+\tCUSTOMER 7"), ("upsert", rb"\x03INSERT INTO _processflow"),
        ("upsert", rb"\x03COMMIT"), ("append", rb"\x03COMMIT"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("heard", [False, True])
def test_a_line_cut_at_any_moment_is_tried_again_and_delivers_once(
    server: Server, tmp_path: Path, mode: str, moment: bytes, heard: bool
) -> None:
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, proxy.port, mode)
        proxy.cut_at(moment, heard=heard)
        found = run_here(made, "nightly")
        snapshots.release_all()

    assert proxy.cuts == 1
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert found["nodes"]["kept"]["delivered"] == ORDERS - ORDERS // 1000
    assert is_whole(server, tmp_path)


def test_a_line_cut_in_the_middle_of_reading_is_read_on_by_another_of_the_same_state(
    server: Server, tmp_path: Path
) -> None:
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, proxy.port)
        proxy.cut_after(2_000_000, "down")
        found = run_here(made, "nightly")

    assert proxy.cuts == 1
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert is_whole(server, tmp_path)


def test_a_server_killed_while_it_loads_is_asked_again_when_it_is_back(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, killed = shop(own_server, tmp_path), []
    record = writing.MySession.record

    def killing(session: writing.MySession, token: str) -> None:
        if not killed:
            killed.append(token)
            own_server.end(signal.SIGKILL)
            own_server.start()
        record(session, token)

    monkeypatch.setattr(writing.MySession, "record", killing)

    found = run_here(made, "nightly")

    assert len(killed) == 1
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert is_whole(own_server, tmp_path)


def test_a_server_killed_while_it_is_read_fails_the_run_and_the_next_reads_everything(
    own_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, killed = shop(own_server, tmp_path), []
    read = adapter.Get.read

    def killing(get: adapter.Get, *words: Any) -> Iterator[Any]:
        if not killed:
            killed.append(get)
            own_server.end(signal.SIGKILL)
            own_server.start()
        yield from read(get, *words)

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


def test_several_connections_read_one_state_and_one_alone_where_others_commit_all_the_time(own_server: Server) -> None:
    there = adapter.Connection(**own_server.settings("mysql")).server(Scope(Path()))
    quiet = snapshots.hold(there, "", 3)
    begun, stop = threading.Event(), threading.Event()

    def commits() -> None:
        with closing(own_server.connect(database="mysql")) as connection:
            connection.query("CREATE TABLE busy (n int) ENGINE = InnoDB")
            while not stop.is_set():
                connection.query("INSERT INTO busy VALUES (1)")
                connection.query("COMMIT")
                begun.set()

    busy = threading.Thread(target=commits)
    busy.start()
    assert begun.wait(30)
    loud = snapshots.hold(there, "", 3)
    stop.set()
    busy.join()

    assert (quiet.count, loud.count) == (3, 1)
