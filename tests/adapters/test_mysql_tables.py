"""What only MySQL's tables have: engines, several unique indexes, collations; one state, servers that take no files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymysql
import pytest

from adapters.mysql import snapshots
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Want
from tests.adapters.mysql_room import Databases
from tests.adapters.table_room import ORDERS, Reading, Room, batch_of
from tests.parts.mariadb import PASSWORD, Server
from tests.parts.sharing import alone

NUMBERS = {"n": pa.int64()}


@pytest.fixture
def room(mysql_room: Room) -> Room:
    return mysql_room


@pytest.fixture(scope="module")
def strict_server() -> Iterator[Server]:
    """A server that takes no files and no long statements."""
    settings = {"local-infile": "0", "max-allowed-packet": "2M"}
    with alone(partial(Server.made, settings=settings)) as found:
        yield found
        snapshots.release_all()


@pytest.fixture
def strict_room(strict_server: Server, tmp_path: Path) -> Room:
    return Databases(strict_server).room(tmp_path)


def connected(room: Room) -> Any:
    """Another session on the room's database."""
    settings = room.scope.environment.connections["shop"]
    return pymysql.connect(
        host="127.0.0.1", port=settings.port, user=settings.user, password=PASSWORD, database=settings.database,
        autocommit=True, ssl_disabled=True,
    )  # fmt: skip


def test_all_splits_read_the_state_that_the_plan_found_while_others_write(room: Room) -> None:
    room.sql(
        "CREATE TABLE accounts (id int PRIMARY KEY, amount bigint)",
        "INSERT INTO accounts SELECT seq, 100 FROM seq_1_to_300000",
    )
    get = room.get(table="accounts")
    done = threading.Event()

    def write() -> None:
        step = 0
        while not done.is_set():
            room.sql(f"UPDATE accounts SET amount = amount + 1 WHERE id % 50 = {step % 50}")
            room.sql(f"DELETE FROM accounts WHERE id = {step + 1}")
            step += 1

    plan, schema = get.plan(room.scope, None, Want()), room.schema(get)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        readings = [Reading.of(get, plan, schema, room.scope, Want()) for _ in range(2)]
    finally:
        done.set()
        writer.join()

    assert len(plan.splits) > 1
    for reading in readings:
        assert sorted(reading.table["id"].to_pylist()) == list(range(1, 300_001))
        assert set(reading.table["amount"].to_pylist()) == {100}
    assert readings[0].ordinals == readings[1].ordinals
    assert room.sql("SELECT count(*) FROM accounts WHERE amount <> 100")[0][0] > 0


def test_connections_that_begin_while_others_commit_see_one_state(room: Room) -> None:
    room.sql("CREATE TABLE counted (n bigint)", "INSERT INTO counted VALUES (0)")
    server, done = room.scope.environment.connections["shop"].server(room.scope), threading.Event()

    def write() -> None:
        with closing(connected(room)) as connection:
            while not done.is_set():
                connection.query("UPDATE counted SET n = n + 1")

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[set[Any]] = []
    try:
        for number in range(20):
            held = snapshots.hold(server, f"run {number}", 4)
            values = set()
            for connection in held.free:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT n FROM counted")
                    values.add(cursor.fetchall())
            seen.append(values)
            snapshots.release(f"run {number}")
    finally:
        done.set()
        writer.join()

    assert [len(values) for values in seen] == [1] * 20


def test_the_gets_of_a_run_share_a_state_until_it_is_released(room: Room) -> None:
    room.sql("CREATE TABLE a (n int)", "CREATE TABLE b (n int)", "INSERT INTO a VALUES (1)")
    scope = replace(room.scope, run="r1")
    one, other = room.get(table="a"), room.get(table="b")
    first = one.plan(scope, None, Want())
    room.sql("INSERT INTO b VALUES (1)")

    second = other.plan(scope, None, Want())
    rows = Reading.of(other, second, room.schema(other), scope, Want()).rows
    again = other.plan(scope, None, Want())
    later = Reading.of(other, again, room.schema(other), scope, Want()).rows
    other.release(scope)

    assert first.splits[0].payload["held"] == second.splits[0].payload["held"]
    assert (rows, later) == ([], [{"n": 1}])
    with pytest.raises(Unavailable, match="the snapshot that this run reads is gone"):
        Reading.of(one, first, room.schema(one), scope, Want())


def test_another_process_reads_a_split_in_the_state_that_it_finds(room: Room) -> None:
    room.sql("CREATE TABLE a (n int)", "INSERT INTO a VALUES (1)")
    get = room.get(table="a")
    plan = get.plan(room.scope, None, Want())
    payload = {**plan.splits[0].payload, "held": "another-1-2"}
    room.sql("INSERT INTO a VALUES (2)")

    chunks = list(get.read(payload, room.schema(get), room.scope, Want()))

    assert [row["n"] for chunk in chunks for row in chunk.batch.to_pylist()] == [1, 2]


def test_a_split_that_is_not_read_to_its_end_can_be_read_again(room: Room) -> None:
    room.sql(
        "CREATE TABLE many (n int PRIMARY KEY, t text)",
        "INSERT INTO many SELECT seq, repeat('x', 200) FROM seq_1_to_60000",
    )
    get = room.get(table="many")
    plan, schema = get.plan(room.scope, None, Want()), room.schema(get)
    room.sql("DELETE FROM many")

    for _ in range(3):
        chunks = get.read(plan.splits[0].payload, schema, room.scope, Want(batch_rows=100))
        assert next(iter(chunks)).batch.num_rows == 100
        chunks.close()

    assert len(Reading.of(get, plan, schema, room.scope, Want()).rows) == 60_000


def test_a_look_at_some_records_keeps_no_transaction(room: Room) -> None:
    room.sql("CREATE TABLE a (n int)", "INSERT INTO a VALUES (1), (2), (3)")

    reading = room.read(want=Want(rows=2), table="a")

    assert reading.plan.splits[0].payload["held"] is None
    assert len(reading.rows) == 2


def test_a_text_cursor_goes_on_by_case_and_blanks_whatever_the_column_s_collation_says(room: Room) -> None:
    room.sql(
        "CREATE TABLE events (id varchar(9), at varchar(9)) COLLATE utf8mb4_general_ci",
        "INSERT INTO events VALUES ('a', 'B'), ('A', 'b')",
    )
    first = room.read(table="events", cursor="at", key="id")
    room.sql("INSERT INTO events VALUES ('a ', 'b'), ('x', 'b '), ('y', 'B')")

    second = room.read(first.plan.position, table="events", cursor="at", key="id")

    assert [(row["id"], row["at"]) for row in first.rows] == [("a", "B"), ("A", "b")]
    assert sorted((row["id"], row["at"]) for row in second.rows) == [("a ", "b"), ("x", "b ")]


def test_cursor_keys_at_the_boundary_are_told_apart_among_many(room: Room) -> None:
    room.sql(
        "CREATE TABLE events (id binary(4), part varchar(5), at timestamp(3) NOT NULL)",
        "INSERT INTO events SELECT unhex(lpad(hex(seq), 8, '0')), nullif(seq % 3, 0), '2024-01-01' FROM seq_1_to_20000",
    )
    first = room.read(table="events", cursor="at", key=["id", "part"])
    room.sql(
        "INSERT INTO events SELECT unhex(lpad(hex(seq), 8, '0')), nullif(seq % 3, 0), '2024-01-01' FROM seq_20001_to_20010",
        "INSERT INTO events VALUES (x'00000001', 'new', '2024-01-01'), (x'00000007', '1', '2024-01-02')",
    )

    second = room.read(first.plan.position, table="events", cursor="at", key=["id", "part"])

    assert len(first.rows) == 20_000
    found = sorted(int.from_bytes(row["id"], "big") for row in second.rows)
    assert found == [1, 7, *range(20_001, 20_011)]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_trigger_that_refuses_rejects_just_those_records(room: Room, mode: str) -> None:
    room.sql(
        "CREATE TABLE orders (id bigint PRIMARY KEY, who text, total decimal(10,2))",
        "CREATE TRIGGER minding BEFORE INSERT ON orders FOR EACH ROW BEGIN IF NEW.id % 10 = 3 THEN "
        "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no threes'; END IF; SET NEW.who = upper(NEW.who); END",
    )

    delivery = room.deliver(batch_of(ORDERS, [(n, "a", None) for n in range(50)]), table="orders", key="id", mode=mode)

    assert [(row, words) for row, _, words in delivery.rejects] == [(n, f"{n}: no threes") for n in range(3, 50, 10)]
    assert room.sql("SELECT count(*), max(who) FROM orders") == [(45, "A")]


def test_an_upsert_changes_no_record_that_another_unique_index_finds(room: Room) -> None:
    room.sql(
        "CREATE TABLE people (nr int AUTO_INCREMENT PRIMARY KEY, id bigint NOT NULL UNIQUE, mail varchar(9) UNIQUE, "
        "loud varchar(9) AS (upper(mail)) STORED, made timestamp NOT NULL DEFAULT now())",
        "INSERT INTO people (id, mail) VALUES (1, 'a@x'), (2, 'b@x')",
    )
    batch = batch_of(
        {"id": pa.int64(), "mail": pa.string()},
        [(1, "old"), (3, "b@x"), (4, "c@x"), (5, "c@x"), (1, "new"), (2, "new")],
    )

    delivery = room.deliver(batch, table="people", mode="upsert", key="id")

    assert [row for row, _, _ in delivery.rejects] == [1, 3, 5]
    assert delivery.rejects[0][2] == "3: Duplicate entry 'b@x' for key 'mail'"
    assert room.sql("SELECT id, loud FROM people ORDER BY id") == [(1, "NEW"), (2, "B@X"), (4, "C@X")]
    assert len(room.problems(room.post(table="people"), pa.schema([("mail", pa.string()), ("loud", pa.string())]))) == 2


def test_an_upsert_by_a_key_that_may_be_null_beside_another_unique_index_is_refused(room: Room) -> None:
    room.sql("CREATE TABLE people (id bigint UNIQUE, mail varchar(9) UNIQUE)")
    batch = batch_of({"id": pa.int64(), "mail": pa.string()}, [(1, "a")])

    with pytest.raises(Invalid, match="declare id not null"):
        room.deliver(batch, table="people", mode="upsert", key="id")


def test_an_upsert_without_a_unique_index_is_a_problem_with_the_statement_that_helps(room: Room) -> None:
    room.sql("CREATE TABLE people (id varchar(99), who text)", "CREATE UNIQUE INDEX few ON people (id(5))")
    post = room.post(table="people", mode="upsert", key="id")

    assert room.problems(post, pa.schema({"id": pa.string()})) == [
        "key: table 'people' has no unique index on (id); create unique index people_key on people (id)"
    ]


def test_a_zero_for_a_numbered_column_stays_a_zero(room: Room) -> None:
    room.sql("CREATE TABLE numbers (n bigint AUTO_INCREMENT PRIMARY KEY)")

    room.deliver(batch_of(NUMBERS, [(0,), (5,)]), table="numbers")

    assert room.sql("SELECT n FROM numbers ORDER BY n") == [(0,), (5,)]


def test_a_table_whose_engine_undoes_nothing_is_refused(room: Room) -> None:
    room.sql("CREATE TABLE numbers (n bigint) ENGINE = MyISAM")
    words = "table 'numbers' is of the engine MyISAM, which cannot undo what a run that fails has written"

    problems = room.problems(room.post(table="numbers"), pa.schema(NUMBERS))

    assert len(problems) == 1
    assert words in problems[0]
    with pytest.raises(Invalid, match="MyISAM"):
        room.deliver(batch_of(NUMBERS, [(1,)]), table="numbers")


def test_texts_that_differ_in_case_or_blanks_are_different_keys_of_a_table_that_is_made(room: Room) -> None:
    batch = batch_of({"id": pa.string(), "v": pa.int64()}, [("a", 1), ("A", 2), ("a ", 3), ("a", 4)])

    room.deliver(batch, table="words", mode="upsert", key="id")

    assert sorted(room.sql("SELECT id, v FROM words")) == [("A", 2), ("a", 4), ("a ", 3)]


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_a_server_that_takes_no_files_gets_statements(strict_room: Room, mode: str) -> None:
    room = strict_room
    room.sql("CREATE TABLE orders (id bigint PRIMARY KEY, who text, total decimal(10,2) CHECK (total <> 13))")
    rows = [(n, "who's \\ there\n" * 9, 13 if n in (7, 19_999) else None) for n in range(20_000)]

    delivery = room.deliver(batch_of(ORDERS, rows), table="orders", key="id", mode=mode)

    assert [row for row, _, _ in delivery.rejects] == [7, 19_999]
    assert room.sql("SELECT count(*), max(who) FROM orders") == [(19_998, "who's \\ there\n" * 9)]


@pytest.mark.parametrize("mode", ["append", "upsert", "delete"])
def test_a_value_longer_than_the_server_takes_is_rejected(strict_room: Room, mode: str) -> None:
    strict_room.sql("CREATE TABLE kept (n bigint, b varchar(900) PRIMARY KEY) CHARACTER SET latin1")
    batch = batch_of({"n": pa.int64(), "b": pa.string()}, [(1, "a"), (2, "x" * (3 << 20)), (3, "c")])

    delivery = strict_room.deliver(batch, table="kept", mode=mode, key="b")

    assert [row for row, _, _ in delivery.rejects] == [1]
    assert "max_allowed_packet" in delivery.rejects[0][2]


def test_a_lock_says_who_may_hold_it(room: Room) -> None:
    room.sql("CREATE TABLE people (n bigint PRIMARY KEY)", "INSERT INTO people VALUES (1)")
    post, batch = room.post(table="people", mode="upsert", key="n"), batch_of(NUMBERS, [(1,)])
    parts = room.stage([batch], post)

    with closing(connected(room)) as connection:
        connection.query("BEGIN")
        connection.query("UPDATE people SET n = 2")
        with pytest.raises(Unavailable, match=r"locked by another session; .* open in session .*\(user tester, "):
            list(post.publish(parts, batch.schema, room.scope, "t1").settle())
