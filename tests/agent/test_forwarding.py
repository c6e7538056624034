"""PostgreSQL to PostgreSQL without looking at the records: equal, counted, logged, and read after all where they must be."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres import snapshots
from adapters.postgres.copying import Source
from adapters.postgres.forwarding import PostgresPassage
from agent.explaining import explained
from agent.prepare import Request, prepare
from pipelines.errors import Cancelled
from pipelines.job import Stop
from repository.project import Project
from repository.query import rows as query
from tests.agent.projects import leftovers, project, run_here
from tests.parts.postgres import Server, schema_of

ORDERS = 20_000
FLOW = """flow: copied
nodes:
  start: {type: start}
  orders: {type: postgres.get, from: start, connection: shop, table: orders}
  kept: {type: postgres.post, from: orders, connection: shop, table: kept}
"""
MADE = f"""CREATE TABLE orders AS SELECT n::bigint AS id, 'customer ' || n % 77 AS who, (n % 997)::numeric(10,2) AS total,
    '2024-01-01'::timestamptz + n * interval '1 second' AS changed_at FROM generate_series(1, {ORDERS}) n"""
COLUMNS = "id bigint, who text, total numeric(10,2), changed_at timestamptz"
TYPES = {
    "a": ("smallint", "-32768"), "b": ("integer", "7"), "c": ("bigint", "9223372036854775807"), "d": ("real", "1.1"),
    "e": ("double precision", "-Infinity"), "f": ("numeric", "1.10"), "g": ("numeric(50,2)", "NaN"), "h": ("boolean", "yes"),
    "i": ("date", "infinity"), "j": ("time(3)", "23:59:59.5"), "k": ("timestamp", "2024-02-29 10:00:00.000001"),
    "l": ("timestamptz", "2024-02-29 10:00:00.25+05:30"), "m": ("timetz", "10:00:00+02"), "n": ("interval", "1 year 3 days"),
    "o": ("text", ""), "p": ("varchar(9)", 'a"b,\n\\N'), "q": ("char(4)", "ab"), "r": ("json", '{"b": 1, "a":1}'),
    "s": ("jsonb", '{"b": 1, "a":1}'), "t": ("uuid", "9E33C5B6-450E-4029-8C81-0227B1D4A103"), "u": ("bytea", "\\x00ff"),
    "v": ("int4range", "[1,5)"), "w": ("inet", "10.0.0.1"), "x": ("integer[]", "{1,NULL,3}"), "y": ("text[]", '{"{,}",""}'),
    "z": ("colour", "light green"), "aa": ("varbit(9)", "101"), "ab": ("cents", "5"),
}  # fmt: skip


class Shop:
    """A project and a schema of its own."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.schema = schema_of(folder / "shop")
        self.server = server
        self.folder = folder
        self.sql(f"CREATE SCHEMA {self.schema}")

    def sql(self, *statements: str, **words: Any) -> list[tuple[Any, ...]]:
        with closing(self.server.connect(options=f"-c search_path={self.schema}", **words)) as connection:
            found = [connection.execute(statement) for statement in statements][-1]
            return found.fetchall() if found.description else []

    def project(self, flow: str = FLOW, **other: Any) -> Project:
        settings = self.server.settings(self.schema) | {"lock_seconds": 0.5}
        given = {"shop": settings, "far": settings | other}
        return project(
            self.folder, flow, {"environments/local.yaml": json.dumps({"environment": "local", "connections": given})}
        )

    def run(self, flow: str = FLOW, **other: Any) -> dict[str, Any]:
        return run_here(self.project(flow, **other), "copied")

    def log(self, sql: str) -> list[dict[str, Any]]:
        return query(Project(self.folder).lake, sql)

    def told(self) -> list[str]:
        """What the log says of the ways that records took."""
        return [
            row["what"]
            for row in self.log("""SELECT what FROM transactions WHERE what LIKE '%forwarded' ORDER BY "at", seq""")
        ]

    def differ(self) -> int:
        """How many records are in one of the tables and not in the other."""
        one, other = ("SELECT t::text FROM orders t", "SELECT t::text FROM kept t")
        both = f"SELECT count(*) FROM (({one} EXCEPT ALL {other}) UNION ALL ({other} EXCEPT ALL {one})) d"
        return int(self.sql(both)[0][0])


@pytest.fixture
def shop(postgres: Server, tmp_path: Path) -> Iterator[Shop]:
    yield Shop(postgres, tmp_path)
    snapshots.release_all()


def counts(report: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Of each node: in, out, rejected, delivered."""
    nodes = report["nodes"]
    return [(node["in"], node["out"].get("out", 0), node["rejected"], node["delivered"]) for node in nodes.values()]


def test_records_of_every_type_arrive_as_they_were_and_are_counted(shop: Shop) -> None:
    columns = ", ".join(f"{name} {declared}" for name, (declared, _) in TYPES.items())
    values = ", ".join(f"${name}${text}${name}$::{declared}" for name, (declared, text) in TYPES.items())
    nulls = ", ".join("NULL" for _ in TYPES)
    shop.sql(
        "CREATE TYPE colour AS ENUM ('red', 'light green')",
        "CREATE DOMAIN cents AS bigint CHECK (VALUE >= 0)",
        f"CREATE TABLE orders (number int, {columns})",
        f"INSERT INTO orders SELECT n, {values} FROM generate_series(1, {ORDERS}) n",
        f"INSERT INTO orders SELECT n, {nulls} FROM generate_series(1, {ORDERS}) n",
        "CREATE TABLE kept (LIKE orders)",
    )

    report = shop.run()

    assert "kept (postgres.post)\n    takes the records of orders without" in explained(
        prepare(Request(Project(shop.folder), "copied"))
    )
    assert shop.told() == ["forwarded"]
    assert (report["status"], report["balanced"]) == ("done", True)
    assert counts(report) == [(2 * ORDERS, 2 * ORDERS, 0, 0), (2 * ORDERS, 2 * ORDERS, 0, 2 * ORDERS)]
    assert shop.differ() == 0
    assert leftovers(Project(shop.folder)) == []


def test_row_ids_are_those_that_reading_gives(shop: Shop) -> None:
    shop.sql(MADE.replace("n % 77", "n % 77 || repeat('-', 900)"), "DELETE FROM orders WHERE id % 7 = 0")
    shop.sql(f"CREATE TABLE kept ({COLUMNS})")

    forwarded, read = shop.run()["run"], shop.run(FLOW.replace("kept}", "kept, snapshot: all}"))["run"]

    assert shop.told() == ["forwarded"]
    ids = [
        shop.log(f"SELECT rid, key, status FROM deliveries WHERE run = '{run}' ORDER BY rid")
        for run in (forwarded, read)
    ]
    assert ids[0] == ids[1]
    assert len(ids[0]) == ORDERS - ORDERS // 7
    assert len({row["rid"] // (1024 * 291) for row in ids[0]}) > 1
    sampled = (
        f"SELECT o.rid, o.id FROM copied.orders o JOIN copied.kept k USING (run, rid, id) WHERE run = '{forwarded}'"
    )
    whole = {row["rid"]: row["id"] for row in shop.log(f"SELECT rid, id FROM copied.kept WHERE run = '{read}'")}
    found = shop.log(sampled)
    assert len(found) > 900
    assert all(whole[row["rid"]] == row["id"] for row in found)


def test_a_refused_record_is_found_and_the_others_are_delivered(shop: Shop) -> None:
    shop.sql(MADE, f"CREATE TABLE kept ({COLUMNS}, CHECK (id % 7000 <> 7))")

    report = shop.run()

    assert shop.told() == ["not forwarded"]
    assert (
        "violates check constraint"
        in shop.log("SELECT details FROM transactions WHERE what = 'not forwarded'")[0]["details"]["why"]
    )
    assert (report["status"], report["balanced"]) == ("done_with_rejects", True)
    assert counts(report) == [(ORDERS, ORDERS, 0, 0), (ORDERS, ORDERS - 3, 3, ORDERS - 3)]
    assert [row["id"] for row in shop.log("SELECT payload->>'id' AS id FROM rejects ORDER BY rid")] == [
        "7",
        "7007",
        "14007",
    ]
    assert shop.differ() == 3


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (f"CREATE TABLE kept ({COLUMNS.replace('id bigint', 'id integer')})", "column 'id' is bigint there and integer here"),
        (f"CREATE TABLE kept ({COLUMNS.replace('10,2', '10,1')})", "column 'total' is numeric(10,2) there and numeric(10,1) here"),
        (f"CREATE TABLE kept ({COLUMNS}); CREATE RULE r AS ON INSERT TO kept DO ALSO NOTIFY it", "triggers"),
        (f"CREATE TABLE other (id bigint PRIMARY KEY); INSERT INTO other SELECT id FROM orders; CREATE TABLE kept ({COLUMNS}, FOREIGN KEY (id) REFERENCES other)", "references"),
    ],
)  # fmt: skip
def test_records_are_read_where_the_tables_do_not_agree(shop: Shop, target: str, why: str) -> None:
    shop.sql(MADE, *target.split("; "))

    report = shop.run()

    assert why in shop.log("SELECT details FROM transactions WHERE what = 'not forwarded'")[0]["details"]["why"]
    assert report["nodes"]["kept"]["delivered"] == ORDERS
    assert shop.sql("SELECT count(*) FROM orders JOIN kept USING (id, total)") == [(ORDERS,)]


@pytest.mark.parametrize(
    "flow",
    [
        FLOW.replace("kept}", "kept, key: [id]}"),
        FLOW.replace("kept}", "kept, key: [id], mode: upsert}"),
        FLOW.replace("orders}", "orders, columns: {id: varchar, who: varchar}}"),
        FLOW.replace("orders}", "orders, snapshot: all}"),
        FLOW.replace("table: orders", "query: SELECT * FROM orders"),
        FLOW + "  more: {type: file.post, from: orders, path: more.csv}\n",
        FLOW + "  more: {type: file.post, from: kept, path: more.csv}\n",
    ],
)
def test_records_that_somebody_asks_for_are_read(shop: Shop, flow: str) -> None:
    shop.sql(MADE, f"CREATE TABLE kept ({COLUMNS.replace('id bigint', 'id bigint PRIMARY KEY')})")
    if "varchar" in flow:
        shop.sql("ALTER TABLE kept ALTER COLUMN id TYPE varchar")

    report = shop.run(flow)

    assert shop.told() == []
    assert report["nodes"]["kept"]["delivered"] == ORDERS


def test_few_records_are_read_and_kept_whole_in_the_log(shop: Shop) -> None:
    shop.sql(MADE, "DELETE FROM orders WHERE id > 3000", "ANALYZE orders", f"CREATE TABLE kept ({COLUMNS})")

    report = shop.run()

    assert shop.told() == ["not forwarded"]
    assert report["nodes"]["kept"]["delivered"] == 3000
    assert len(shop.log("SELECT rid FROM copied.orders")) == 3000


def test_fewer_records_than_the_planner_had_guessed_are_kept_whole_too(shop: Shop) -> None:
    shop.sql(MADE, "ANALYZE orders", "DELETE FROM orders WHERE id > 3000", f"CREATE TABLE kept ({COLUMNS})")

    report = shop.run()

    assert shop.told() == ["forwarded"]
    assert report["nodes"]["kept"]["delivered"] == 3000
    for node in ("orders", "kept"):
        assert shop.log(f"SELECT min(id) AS one, max(id) AS other, count(*) AS n FROM copied.{node}") == [
            {"one": 1, "other": 3000, "n": 3000}
        ]


def test_a_table_that_is_missing_is_made_and_filled(shop: Shop) -> None:
    shop.sql(MADE)

    shop.run()

    assert shop.told() == ["forwarded"]
    assert shop.differ() == 0


def test_a_condition_and_a_cursor_hold_and_the_next_run_reads_what_is_new(shop: Shop) -> None:
    shop.sql(MADE, "ANALYZE orders", f"CREATE TABLE kept ({COLUMNS})")
    flow = FLOW.replace("orders}", 'orders, cursor: changed_at, where: "id > 100 AND who <> $nobody"}')
    flow = flow.replace("nodes:", "parameters: {nobody: {type: varchar, default: customer 5}}\nnodes:")

    first = shop.run(flow)
    shop.sql("INSERT INTO orders VALUES (-1, 'x', 1, '2030-01-01'), (30000, 'x', 1, '2030-01-01')")
    second = shop.run(flow)

    assert shop.told() == ["forwarded", "not forwarded"]
    assert (
        first["nodes"]["kept"]["delivered"]
        == shop.sql("SELECT count(*) FROM orders WHERE id > 100 AND who <> 'customer 5'")[0][0] - 1
    )
    assert second["nodes"]["kept"]["delivered"] == 1
    assert shop.sql("SELECT count(*) FROM kept k FULL JOIN (SELECT * FROM orders WHERE id > 100 AND who <> 'customer 5') o USING (id) WHERE k.who IS NULL OR o.who IS NULL") == [(0,)]  # fmt: skip


def test_a_table_of_another_database_is_replaced_in_one_transaction(shop: Shop) -> None:
    shop.sql(MADE, "CREATE TABLE seen AS SELECT 1 AS n", f"CREATE DATABASE {shop.schema}")
    far = {"dbname": shop.schema}
    shop.sql(f"CREATE SCHEMA {shop.schema}", f"CREATE TABLE kept ({COLUMNS})", "INSERT INTO kept VALUES (0)", **far)
    flow = FLOW.replace("connection: shop, table: kept", "connection: far, table: kept, mode: replace")

    report = shop.run(flow, database=shop.schema)

    assert shop.told() == ["forwarded"]
    assert report["nodes"]["kept"]["delivered"] == ORDERS
    assert shop.sql("SELECT count(*), min(id) FROM kept", **far) == [(ORDERS, 1)]


def test_a_lock_held_by_somebody_else_leaves_everything_as_it_was(shop: Shop) -> None:
    shop.sql(MADE, f"CREATE TABLE kept ({COLUMNS})")
    with closing(shop.server.connect(options=f"-c search_path={shop.schema}")) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE kept IN SHARE MODE")

        report = shop.run(FLOW.replace("nodes:", "settings: {retry: {attempts: 1}}\nnodes:"))

    assert report["status"] == "failed"
    assert "locked by another session" in report["error"]
    assert shop.sql("SELECT count(*) FROM kept") == [(0,)]


def test_a_line_that_breaks_before_the_commit_is_forwarded_anew_and_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.sql(MADE, f"CREATE TABLE kept ({COLUMNS})")
    commit, broken = PostgresPassage.commit, []

    def breaking(passage: PostgresPassage) -> None:
        if not broken:
            broken.append(passage)
            shop.sql(f"SELECT pg_terminate_backend({passage._session.connection.info.backend_pid})")
        commit(passage)

    monkeypatch.setattr(PostgresPassage, "commit", breaking)

    report = shop.run()

    assert len(broken) == 1
    assert (report["status"], report["balanced"]) == ("done", True)
    assert shop.differ() == 0
    assert len(shop.log("SELECT rid FROM deliveries")) == ORDERS


def test_a_source_that_breaks_off_is_forwarded_anew_and_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sql(MADE, f"CREATE TABLE kept ({COLUMNS})")
    send, broken = Source.send, []

    def breaking(source: Source, sql: str, write: Callable[[bytes], None], **words: bool) -> int:
        def written(block: bytes) -> None:
            if not broken:
                broken.append(block)
                raise ConnectionResetError("the cable is out")
            write(block)

        return send(source, sql, written, **words)

    monkeypatch.setattr(Source, "send", breaking)

    report = shop.run()

    assert len(broken) == 1
    assert report["status"] == "done"
    assert shop.differ() == 0


def test_a_run_is_cancelled_while_it_forwards(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.sql(MADE, f"CREATE TABLE kept ({COLUMNS})")
    heed, calls = Stop.heed, []

    def heeding(stop: Stop) -> None:
        calls.append(stop)
        if len(calls) == 3:
            stop.ask(Cancelled("cancelled"))
        heed(stop)

    monkeypatch.setattr(Stop, "heed", heeding)

    report = shop.run()

    assert report["status"] == "cancelled"
    assert shop.sql("SELECT count(*) FROM kept") == [(0,)]


def killed(folder: Path, moment: str) -> None:
    """Runs the flow in this process, which kills itself at a moment."""

    def kill(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    send, commit = Source.send, PostgresPassage.commit
    if moment == "in the middle":
        Source.send = lambda source, sql, write, **words: send(source, sql, kill, **words)  # type: ignore[method-assign]
    elif moment == "all is sent":
        PostgresPassage.commit = kill  # type: ignore[assignment,method-assign]
    else:
        PostgresPassage.commit = lambda passage: kill(commit(passage))  # type: ignore[func-returns-value,method-assign]
    run_here(Project(folder), "copied")


@pytest.mark.parametrize("moment", ["in the middle", "all is sent", "all is there"])
def test_a_run_killed_at_any_moment_delivers_each_record_once(shop: Shop, moment: str) -> None:
    flow = FLOW.replace("orders}", "orders, cursor: changed_at}")
    made = shop.project(flow)
    shop.sql(MADE, "ANALYZE orders", f"CREATE TABLE kept ({COLUMNS})")
    child = multiprocessing.get_context("spawn").Process(target=killed, args=(shop.folder, moment))
    child.start()
    child.join(60)
    there = shop.sql("SELECT count(*) FROM kept")

    reports = [shop.run(flow), shop.run(flow)]

    assert child.exitcode == -signal.SIGKILL
    assert there == [(ORDERS if moment == "all is there" else 0,)]
    assert [report["status"] for report in reports] == ["done", "done"]
    assert shop.differ() == 0
    assert leftovers(made) == []
    delivered = "SELECT count(*) AS n, count(DISTINCT rid) AS ids FROM deliveries"
    assert shop.log(delivered) == [{"n": ORDERS, "ids": ORDERS}]
