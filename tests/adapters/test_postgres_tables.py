"""What only PostgreSQL's tables have: triggers, partitions, generated columns, references, schemas; and one snapshot."""

from __future__ import annotations

import threading
from dataclasses import replace

import pyarrow as pa
import pytest

from adapters.postgres import snapshots
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Want
from tests.adapters.table_room import ORDERS, Reading, Room, batch_of
from tests.parts.postgres import schema_of

NUMBERS = {"n": pa.int64()}


@pytest.fixture
def room(postgres_room: Room) -> Room:
    return postgres_room


def test_all_splits_read_the_state_that_the_plan_found_while_others_write(room: Room) -> None:
    room.sql(
        "CREATE TABLE accounts (id int PRIMARY KEY, amount bigint)",
        "INSERT INTO accounts SELECT n, 100 FROM generate_series(1, 300000) n",
    )
    get = room.get(table="accounts")
    plan, schema = get.plan(room.scope, None, Want()), room.schema(get)
    done = threading.Event()

    def write() -> None:
        step = 0
        while not done.is_set():
            room.sql(
                f"UPDATE accounts SET amount = amount + 1 WHERE id % 50 = {step % 50}",
                f"DELETE FROM accounts WHERE id = {step + 1}",
                f"INSERT INTO accounts VALUES ({1_000_000 + step}, 1)",
            )
            step += 1

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


def test_the_gets_of_a_run_share_a_snapshot_until_it_is_released(room: Room) -> None:
    room.sql("CREATE TABLE a (n int)", "CREATE TABLE b (n int)", "INSERT INTO a VALUES (1)")
    scope = replace(room.scope, run="r1")
    one, other = room.get(table="a"), room.get(table="b")
    first = one.plan(scope, None, Want())
    room.sql("INSERT INTO b VALUES (1)")

    second = other.plan(scope, None, Want())
    rows = Reading.of(other, second, room.schema(other), scope, Want()).rows
    other.release(scope)

    assert first.splits[0].payload["snapshot"] == second.splits[0].payload["snapshot"]
    assert rows == []
    with pytest.raises(Unavailable, match="the snapshot that this run reads is gone"):
        Reading.of(one, first, room.schema(one), scope, Want())


def test_a_look_at_some_records_keeps_no_transaction(room: Room) -> None:
    room.sql("CREATE TABLE a (n int)", "INSERT INTO a VALUES (1), (2), (3)")
    get, scope = room.get(table="a"), replace(room.scope, flow=schema_of(room.path))

    plan = get.plan(scope, None, Want(rows=2))
    rows = Reading.of(get, plan, room.schema(get), scope, Want(rows=2)).rows

    assert plan.splits[0].payload["snapshot"] is None
    assert len(rows) == 2
    assert connections(room) == 0


def connections(room: Room) -> int:
    """How many connections a flow called as the room's schema has; those that it closed may take a moment."""
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'processflow {schema_of(room.path)}'"
    for _ in range(200):
        count: int = room.sql(sql)[0][0]
        if not count:
            break
        room.sql("SELECT pg_sleep(0.01)")
    return count


def test_a_read_table_cannot_be_altered_until_it_is_read(room: Room) -> None:
    room.sql("CREATE TABLE a (n int, m int)", "INSERT INTO a VALUES (1, 2)")
    get = room.get(table="a")
    schema, plan = room.schema(get), get.plan(room.scope, None, Want())

    with pytest.raises(Exception, match="lock timeout"):
        room.sql("SET lock_timeout = '50ms'; ALTER TABLE a DROP COLUMN m")
    rows = Reading.of(get, plan, schema, room.scope, Want()).rows
    snapshots.release_all()
    room.sql("ALTER TABLE a DROP COLUMN m")

    assert rows == [{"n": 1, "m": 2}]
    with pytest.raises(Invalid, match="no column 'm' any more"):
        Reading.of(get, get.plan(room.scope, None, Want()), schema, room.scope, Want())


def test_partitions_children_and_materialised_views_are_read_whole(room: Room) -> None:
    room.sql(
        "CREATE TABLE parts (n int) PARTITION BY RANGE (n)",
        "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (10) TO (100000)",
        "INSERT INTO parts SELECT generate_series(0, 49999)",
        "CREATE TABLE base (n int)",
        "CREATE TABLE child () INHERITS (base)",
        "INSERT INTO base VALUES (-1)",
        "INSERT INTO child SELECT generate_series(0, 49999)",
        "CREATE MATERIALIZED VIEW kept AS SELECT * FROM parts",
    )

    found = {table: sorted(row["n"] for row in room.read(table=table).rows) for table in ("parts", "base", "kept")}

    assert found == {"parts": list(range(50_000)), "base": list(range(-1, 50_000)), "kept": list(range(50_000))}


def test_cursor_keys_at_the_boundary_are_told_apart_among_many(room: Room) -> None:
    room.sql(
        "CREATE TABLE events (id int, part varchar(5), at timestamptz)",
        "INSERT INTO events SELECT n, nullif(n % 3, 0)::text, '2024-01-01' FROM generate_series(1, 20000) n",
    )
    first = room.read(table="events", cursor="at", key=["id", "part"])
    room.sql(
        "INSERT INTO events SELECT n, nullif(n % 3, 0)::text, '2024-01-01' FROM generate_series(20001, 20010) n",
        "INSERT INTO events VALUES (1, 'new', '2024-01-01'), (7, '1', '2024-01-02')",
    )

    second = room.read(first.plan.position, table="events", cursor="at", key=["id", "part"])

    assert len(first.rows) == 20_000
    assert sorted(row["id"] for row in second.rows) == [1, 7, *range(20_001, 20_011)]


def test_a_trigger_that_refuses_or_drops_rejects_just_those_records(room: Room) -> None:
    room.sql(
        "CREATE TABLE orders (id bigint PRIMARY KEY, who text, total numeric(10,2))",
        "CREATE FUNCTION mind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.id % 10 = 3 THEN RAISE EXCEPTION 'no threes: %', NEW.id; END IF; "
        "IF NEW.id = 44 THEN RETURN NULL; END IF; NEW.who := upper(NEW.who); RETURN NEW; END $$",
        "CREATE TRIGGER minding BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION mind()",
    )
    rows = [(n, "a", None) for n in range(50)]

    for mode, token in (("append", "t1"), ("upsert", "t2")):
        delivery = room.deliver(batch_of(ORDERS, rows), table="orders", key="id", mode=mode, token=token)
        messages = {row: words for row, _, words in delivery.rejects}

        assert sorted(messages) == [3, 13, 23, 33, 43, 44]
        assert messages[13] == "13: no threes: 13"
        assert "dropped it without a message" in messages[44]
        assert room.sql("SELECT count(*), max(who) FROM orders") == [(44, "A")]


def test_an_upsert_with_repeated_keys_other_unique_columns_and_generated_ones(room: Room) -> None:
    room.sql(
        "CREATE TABLE people (nr int GENERATED ALWAYS AS IDENTITY, id bigint PRIMARY KEY, mail text UNIQUE, "
        "loud text GENERATED ALWAYS AS (upper(mail)) STORED, made timestamptz NOT NULL DEFAULT now())",
        "INSERT INTO people (id, mail) VALUES (1, 'a@x'), (2, 'b@x')",
    )
    batch = batch_of(
        {"id": pa.int64(), "mail": pa.string()}, [(1, "old"), (3, "b@x"), (4, "c@x"), (5, "c@x"), (1, "new")]
    )

    delivery = room.deliver(batch, table="people", mode="upsert", key="id")

    assert [row for row, _, _ in delivery.rejects] == [1, 3]
    assert delivery.rejects[0][2].startswith('3: duplicate key value violates unique constraint "people_mail_key": Key')
    assert room.sql("SELECT id, loud FROM people ORDER BY id") == [(1, "NEW"), (2, "B@X"), (4, "C@X")]
    assert len(room.problems(room.post(table="people"), pa.schema([("mail", pa.string()), ("loud", pa.string())]))) == 2


def test_an_upsert_without_a_unique_index_is_a_problem_with_the_statement_that_helps(room: Room) -> None:
    room.sql("CREATE TABLE people (id bigint, who text)", "CREATE UNIQUE INDEX few ON people (id) WHERE id > 5")
    post = room.post(table="people", mode="upsert", key="id")

    assert room.problems(post, pa.schema(NUMBERS | {"id": pa.int64()}))[-1] == (
        "key: table 'people' has no unique index on (id); create unique index people_key on people (id)"
    )


def test_a_replacement_of_a_table_that_others_refer_to_keeps_their_reference(room: Room) -> None:
    room.sql(
        "CREATE TABLE people (n bigint PRIMARY KEY)",
        "CREATE TABLE orders (n bigint REFERENCES people DEFERRABLE INITIALLY DEFERRED)",
        "INSERT INTO people VALUES (1), (2)",
        "INSERT INTO orders VALUES (2)",
    )

    room.deliver(batch_of(NUMBERS, [(2,), (3,)]), table="people", mode="replace")

    assert room.sql("SELECT n FROM people ORDER BY n") == [(2,), (3,)]
    assert room.sql("SELECT n FROM orders") == [(2,)]


def test_many_that_refer_to_nothing_or_to_each_other(room: Room) -> None:
    room.sql("CREATE TABLE tree (n bigint PRIMARY KEY, up bigint REFERENCES tree)", "INSERT INTO tree VALUES (0, NULL)")
    rows = [(n, 0 if n % 3 else 10_000 + n) for n in range(1, 2001)] + [(2001, 2002), (2002, 1)]

    delivery = room.deliver(batch_of({"n": pa.int64(), "up": pa.int64()}, rows), table="tree", key="n")

    assert len(delivery.rejects) == 666
    assert delivery.rejects[0][2].startswith(
        '3: violates foreign key constraint "tree_up_fkey": Key (up)=(10003) is not present in '
    )
    assert room.sql("SELECT count(*) FROM tree") == [(2002 - 666 + 1,)]


def test_a_table_of_another_schema_and_a_view_are_written_by_name(room: Room) -> None:
    schema = schema_of(room.path)
    room.sql(
        "CREATE TABLE numbers (n bigint)", "CREATE VIEW shown AS SELECT n FROM numbers WHERE n < 10 WITH CHECK OPTION"
    )

    room.deliver(batch_of(NUMBERS, [(1,)]), table=f"{schema}.numbers")
    delivery = room.deliver(batch_of(NUMBERS, [(2,), (20,)]), table="shown", token="t2")

    assert [row for row, _, _ in delivery.rejects] == [1]
    assert room.sql("SELECT n FROM numbers ORDER BY n") == [(1,), (2,)]


def test_parameters_are_found_outside_of_texts_names_and_comments_only(postgres_room: Room) -> None:
    room = replace(postgres_room, values={"a": "it's", "b": 2, "none": None})
    room.sql('CREATE TABLE t (n int, "$a" text, s text)', "INSERT INTO t VALUES (2, '$a', 'it''s'), (3, 'x', 'y')")

    where = """ "$a" = '$a' AND s = $a AND n = $b /* $zz */ AND s <> E'\\'$a' AND $none::text IS NULL -- $zz"""

    assert [row["n"] for row in room.read(table="t", where=where.replace("$zz", "$b")).rows] == [2]


def test_a_session_that_fails_leaves_no_connection(room: Room) -> None:
    room.sql("CREATE TABLE people (n bigint)")
    post, batch = room.post(table="people", columns=["n"]), batch_of({"n": pa.int64()}, [(1,)])
    parts, scope = room.stage([batch], post), replace(room.scope, flow=schema_of(room.path))
    room.sql("ALTER TABLE people RENAME n TO m")

    with pytest.raises(Invalid, match="has no column 'n'"):
        list(post.publish(parts, batch.schema, scope, "t1").settle())

    assert connections(room) == 0
