"""Bad days between PostgreSQL and PostgreSQL: lines cut, servers away, processes killed. By key, each order arrives once.

`KILL_SEEDS=100` tries so many seeds of random kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres import copying, snapshots
from agent.runs import Host
from repository.catalogue import Catalogue
from repository.project import Project
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, processflow, project, run_here
from tests.parts import sharing
from tests.parts.postgres import Server, schema_of
from tests.parts.proxy import Proxy

ORDERS = 4000
FLOW = """flow: nightly
settings: {batch_rows: 500, retry: {attempts: 3, first_seconds: 0.01}}
nodes:
  start: {type: start}
  orders: {type: postgres.get, from: start, connection: shop, table: orders, key: [id], cursor: changed_at}
  kept: {type: postgres.post, from: orders, connection: shop, table: kept, mode: append, key: [id], columns: [id, who]}
  sums: {type: aggregate, from: orders, by: [part], measures: {n: count(*)}}
  told: {type: postgres.post, from: sums, connection: shop, table: told, mode: append, key: [part]}
"""


PATIENT = FLOW.replace("attempts: 3, first_seconds: 0.01", "attempts: 10, first_seconds: 0.05")
"""Waits as long as a restart takes on a busy machine."""


@pytest.fixture(scope="module")
def server(postgres: Server) -> Iterator[Server]:
    """The server that the whole session shares."""
    yield postgres
    snapshots.release_all()


def shop(server: Server, folder: Path, flow: str = FLOW, port: int | None = None) -> Project:
    """A project whose connection is a schema of its own with orders, and targets that would show a record twice."""
    schema = schema_of(folder / "shop")
    with closing(server.connect(options=f"-c search_path={schema}")) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            "CREATE TABLE orders AS SELECT n::bigint AS id, n % 7 AS part, repeat(md5(n::text), 40) AS who, "
            f"'2024-01-01'::timestamptz + n * interval '1 second' AS changed_at FROM generate_series(1, {ORDERS}) n"
        )
        connection.execute("CREATE TABLE kept (id bigint CHECK (id % 1000 <> 7), who text)")
        connection.execute("CREATE TABLE told (part int, n bigint)")
    settings = server.settings(schema) | {"lock_seconds": 2} | ({"port": port} if port else {})
    text = json.dumps({"environment": "local", "connections": {"shop": settings}})
    return project(folder, flow, {"environments/local.yaml": text})


def rows(server: Server, folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(server.connect(options=f"-c search_path={schema_of(folder / 'shop')}")) as connection:
        found = connection.execute(sql)
        return found.fetchall() if found.description else []


def restart(server: Server) -> None:
    server.end(signal.SIGINT)
    server.start()


def end_sessions(server: Server, last_words: str) -> int:
    """Ends the sessions of runs that last said something; how many there were."""
    sql = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        f"WHERE application_name LIKE 'processflow %' AND query ~ '{last_words}'"
    )
    with closing(server.connect()) as connection:
        return len(connection.execute(sql).fetchall())


def assert_whole(server: Server, folder: Path) -> None:
    """Each order that `kept` takes is there once and as it was, and the sums are told once."""
    wrong = (
        "SELECT o.id, k.id, n FROM (SELECT * FROM orders WHERE id % 1000 <> 7) o FULL JOIN "
        "(SELECT id, min(who) AS who, count(*) AS n FROM kept GROUP BY id) k ON k.id = o.id "
        "WHERE k.id IS NULL OR o.id IS NULL OR n <> 1 OR k.who <> o.who LIMIT 5"
    )
    assert rows(server, folder, wrong) == []
    sums = "SELECT part, count(*) FROM orders GROUP BY part ORDER BY part"
    assert rows(server, folder, "SELECT part, n FROM told ORDER BY part, n") == rows(server, folder, sums)


def assert_all_is_over(made: Project) -> None:
    assert leftovers(made) == []
    assert [line["status"] for line in Catalogue(made.catalogue_url).runs(status="running")] == []


@pytest.mark.parametrize(
    ("word", "is_heard"),
    [
        (rb"pg_export_snapshot", True),
        (rb"COPY \(SELECT", True),
        (rb"COPY .*kept", False),
        (rb"INSERT INTO _processflow", True),
        (rb"COMMIT\0", False),
        (rb"COMMIT\0", True),
    ],
)
def test_a_line_cut_at_a_word_is_made_anew_and_each_order_arrives_once(
    server: Server, tmp_path: Path, word: bytes, is_heard: bool
) -> None:
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, port=proxy.port)
        proxy.cut_at(word, heard=is_heard)

        found = run_here(made, "nightly")
        snapshots.release_all()

    assert proxy.cuts == 1
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert found["nodes"]["kept"]["rejected"] == ORDERS // 1000
    assert_whole(server, tmp_path)
    assert_all_is_over(made)


@pytest.mark.parametrize(("count", "direction"), [(150_000, "down"), (5_000_000, "down"), (1, "up"), (2_000_000, "up")])
def test_a_line_cut_in_the_middle_of_reading_or_loading_goes_on_behind_what_it_had(
    server: Server, tmp_path: Path, count: int, direction: Any
) -> None:
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, port=proxy.port)
        proxy.cut_after(count, direction)

        found = run_here(made, "nightly")
        snapshots.release_all()

    assert proxy.cuts == 1
    assert found["status"] == "done_with_rejects"
    assert_whole(server, tmp_path)
    assert_all_is_over(made)


@pytest.mark.parametrize("goes_on", ["run", "resume"])
def test_a_server_away_after_a_commit_leaves_the_run_to_be_finished_and_nothing_comes_twice(
    server: Server, tmp_path: Path, goes_on: str
) -> None:
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, port=proxy.port)
        proxy.cut_at(rb"COMMIT\0", heard=True, then_refuse=True)

        first = run_here(made, "nightly")
        snapshots.release_all()
        waiting = rows(server, tmp_path, "SELECT count(*) FROM kept")
        proxy.back()
        host = Host(made)
        second = host.resume(first["run"]) if goes_on == "resume" else run_here(made, "nightly")
        host.close()

    assert (first["status"], first["exit_code"]) == ("failed", 3)
    assert "whether kept had committed is not known" in first["error"]
    assert f"processflow runs resume {first['run']}" in first["error"]
    assert waiting == [(ORDERS - ORDERS // 1000,)]
    assert second["status"] == ("done_with_rejects" if goes_on == "resume" else "done")
    assert second["nodes"]["orders"]["in"] == (ORDERS if goes_on == "resume" else 0)
    assert_whole(server, tmp_path)
    assert_all_is_over(made)


def test_a_server_that_stays_away_ends_the_command_with_3_and_a_sentence(server: Server, tmp_path: Path) -> None:
    shop(server, tmp_path, port=1)

    done = processflow(tmp_path, "run", "nightly")

    assert done.returncode == 3
    assert "127.0.0.1:1/postgres: cannot connect" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server that may be ended and started again."""
    with sharing.alone(Server.made) as found:
        yield found
        snapshots.release_all()


@pytest.mark.parametrize("word", [rb"CREATE TEMP|COPY .*kept", rb"INSERT INTO _processflow", rb"COMMIT\0"])
def test_a_server_that_is_restarted_while_it_is_written_is_waited_for_in_the_same_run(
    own_server: Server, tmp_path: Path, word: bytes
) -> None:
    """A fast shutdown, as service managers do it: sessions end with 57P01, and for a while nobody is let in."""
    with Proxy(own_server.port) as proxy:
        made = shop(own_server, tmp_path, PATIENT, proxy.port)
        proxy.do_at(word, lambda: restart(own_server))

        found = run_here(made, "nightly")
        snapshots.release_all()

    assert proxy.done == 1
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert_whole(own_server, tmp_path)
    assert_all_is_over(made)


def test_a_server_that_is_restarted_while_it_is_read_ends_the_run_with_3_and_the_next_reads_everything(
    own_server: Server, tmp_path: Path
) -> None:
    with Proxy(own_server.port) as proxy:
        made = shop(own_server, tmp_path, PATIENT, proxy.port)
        proxy.do_at(rb"COPY \(SELECT", lambda: restart(own_server))

        first, second = run_here(made, "nightly"), run_here(made, "nightly")
        snapshots.release_all()

    assert proxy.done == 1
    assert (first["status"], first["exit_code"]) == ("failed", 3)
    assert "the snapshot that this run reads is gone: the server was restarted" in first["error"]
    assert (second["status"], second["nodes"]["orders"]["in"]) == ("done_with_rejects", ORDERS)
    assert_whole(own_server, tmp_path)
    assert_all_is_over(made)


@pytest.mark.parametrize(
    ("word", "last_words"),
    [
        (rb"COPY \(SELECT", "max_parallel"),
        (rb"COPY .*kept", "SAVEPOINT|pg_attribute"),
        (rb"COMMIT\0", "CONSTRAINTS ALL"),
    ],
)
def test_a_session_that_an_administrator_ends_is_made_anew_in_the_same_run(
    own_server: Server, tmp_path: Path, word: bytes, last_words: str
) -> None:
    """Not the one that keeps the snapshot: without it the read is lost."""
    ended: list[int] = []
    with Proxy(own_server.port) as proxy:
        made = shop(own_server, tmp_path, port=proxy.port)
        proxy.do_at(word, lambda: ended.append(end_sessions(own_server, last_words)))

        found = run_here(made, "nightly")
        snapshots.release_all()

    assert ended == [1]
    assert (found["status"], found["error"]) == ("done_with_rejects", None)
    assert_whole(own_server, tmp_path)
    assert_all_is_over(made)


@pytest.mark.parametrize("key", ["", ", key: [id]"])
def test_a_query_that_breaks_off_goes_on_only_where_its_order_comes_again(
    server: Server, tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        copying, "BLOCK_BYTES", 64 << 10
    )  # records are surely given before a reset drops what is unread
    flow = FLOW.replace("table: orders, key: [id], cursor: changed_at", f"query: SELECT * FROM orders{key}")
    with Proxy(server.port) as proxy:
        made = shop(server, tmp_path, flow, proxy.port)
        proxy.cut_after(5_000_000, "down")

        found = run_here(made, "nightly")
        snapshots.release_all()
        if not key:
            assert (found["status"], found["exit_code"]) == ("failed", 3)
            assert "come in another order" in found["error"]
            found = run_here(made, "nightly")

    assert proxy.cuts == 1
    assert found["status"] == "done_with_rejects"
    assert_whole(server, tmp_path)


MOMENTS = {
    "read": ("adapters.postgres.reading:_chunk", "after", 8),
    "checkpoint": ("pipelines.journal:save_checkpoint", "after", 1),
    "stage": ("pipelines.tables.spool:SpoolWriter.put", "after", 8),
    "spill": ("pipelines.kernel:Program.apply", "before", 16),
    "read is written down": ("pipelines.journal:save_phase", "after", 1),
    "load": ("adapters.postgres.loading:Loader._copied", "after", 9),
    "before the commit is written down": ("pipelines.journal:save_settled", "before", 2),
    "before the commit": ("adapters.postgres.writing:PostgresSession.commit", "before", 2),
    "after the commit and before the answer": ("adapters.postgres.writing:PostgresSession.commit", "after", 2),
    "merge": ("pipelines.journal:save_phase", "before", 2),
    "published": ("pipelines.journal:save_published", "after", 2),
    "end": ("repository.catalogue:Catalogue.end_run", "before", 1),
    "ended": ("repository.catalogue:Catalogue.end_run", "after", 1),
}
"""What a run does, and how often at least."""


def die(folder: Path, moment: str, number: int) -> str:
    """Kills a run at a moment, the `number`th time that it comes; its name."""
    place, when, _ = MOMENTS[moment]
    assert killed_at(folder, "nightly", place, when, number)
    return str(Catalogue(Project(folder).catalogue_url).runs()[0]["run"])


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_killed_at_any_moment_is_finished_by_the_next(server: Server, tmp_path: Path, moment: str) -> None:
    made = shop(server, tmp_path)
    die(tmp_path, moment, random.Random(moment).randint(1, MOMENTS[moment][2]))

    found = run_here(made, "nightly")
    snapshots.release_all()

    assert found["balanced"]
    assert_whole(server, tmp_path)
    assert_all_is_over(made)


@pytest.mark.parametrize("moment", ["checkpoint", "after the commit and before the answer"])
def test_a_run_killed_at_any_moment_can_be_resumed(server: Server, tmp_path: Path, moment: str) -> None:
    made = shop(server, tmp_path)
    run = die(tmp_path, moment, MOMENTS[moment][2])
    host = Host(made)

    found = host.resume(run)
    host.close()
    snapshots.release_all()

    assert (found["run"], found["status"], found["balanced"]) == (run, "done_with_rejects", True)
    assert found["nodes"]["orders"]["in"] == ORDERS
    assert_whole(server, tmp_path)
    assert_all_is_over(made)


@pytest.mark.parametrize("seed", range(int(os.environ.get("KILL_SEEDS", "1"))))
def test_runs_killed_again_and_again_lose_and_double_nothing(server: Server, tmp_path: Path, seed: int) -> None:
    made = shop(server, tmp_path)
    chance = random.Random(seed)
    for _ in range(4):
        moment = chance.choice(list(MOMENTS))
        place, when, most = MOMENTS[moment]
        killed_at(
            tmp_path, "nightly", place, when, chance.randint(1, most)
        )  # or there is nothing left that comes so often

    found = run_here(made, "nightly")
    snapshots.release_all()

    assert found["balanced"]
    assert_whole(server, tmp_path)
    assert_all_is_over(made)
