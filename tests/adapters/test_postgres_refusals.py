"""What PostgreSQL's tables refuse: all records, many, one; and what a replacement, a policy or a lost answer does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from pipelines.errors import Invalid, Unavailable
from tests.adapters.table_room import ORDERS, Room, batch_of
from tests.parts.postgres import PASSWORD, SECRET, Server, schema_of

NUMBERS = {"n": pa.int64()}
PAIRS = {"n": pa.int64(), "m": pa.int64()}
MANY = 3000


@pytest.fixture
def room(postgres_room: Room) -> Room:
    return postgres_room


@contextmanager
def role(server: Server, room: Room, *grants: str) -> Iterator[Room]:
    """The room as a role of its own sees it, with these privileges."""
    name = f"r{schema_of(room.path)[:20]}"
    room.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    try:
        for grant in (f"USAGE ON SCHEMA {schema_of(room.path)}", *grants):
            room.sql(f"GRANT {grant} TO {name}")
        settings = {**server.settings(schema_of(room.path)), "user": name, "password": {"secret": SECRET}}
        yield Room(room.adapter, room.folder, room.execute, room.locked, room.values, lambda path: dict(settings))
    finally:
        room.sql(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@contextmanager
def other_session(server: Server, room: Room) -> Iterator[psycopg.Connection[Any]]:
    options = f"-c search_path={schema_of(room.path)} -c lock_timeout=100ms"
    with closing(server.connect(options=options)) as connection:
        yield connection


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_table_that_refuses_every_record_rejects_each_with_its_reason(room: Room, mode: str) -> None:
    room.sql("CREATE TABLE t (n bigint PRIMARY KEY CHECK (n < 0), m bigint)")

    delivery = room.deliver(batch_of(PAIRS, [(n, n) for n in range(MANY)]), table="t", key="n", mode=mode)

    assert [row for row, code, _ in delivery.rejects if code == "refused"] == list(range(MANY))
    words = 'new row for relation "t" violates check constraint "t_n_check"'
    assert {words in message for _, _, message in delivery.rejects} == {True}
    assert delivery.delivered == []
    assert room.sql("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_of_many_refused_by_another_unique_column_the_first_stays_and_the_good_ones_go_in(
    room: Room, mode: str
) -> None:
    room.sql("CREATE TABLE t (n bigint PRIMARY KEY, m bigint UNIQUE)")
    rows = [(n, n - n % 3) for n in range(MANY)]

    delivery = room.deliver(
        batch_of(PAIRS, rows[:1000]), batch_of(PAIRS, rows[1000:]), table="t", key="n", mode=mode, writers=2
    )

    assert sorted(row for row, _, _ in delivery.rejects) == [n for n in range(MANY) if n % 3]
    assert (
        delivery.rejects[0][2]
        == '1: duplicate key value violates unique constraint "t_m_key": Key (m)=(0) already exists.'
    )
    assert room.sql("SELECT n, m FROM t ORDER BY n") == [row for row in rows if row[0] == row[1]]


def test_many_refused_of_all_kinds_leave_texts_nulls_and_numbers_as_they_are(room: Room) -> None:
    room.sql(
        "CREATE TYPE colour AS ENUM ('red', 'green')",
        "CREATE DOMAIN code AS varchar(3)",
        "CREATE TABLE odd (n int PRIMARY KEY, c colour, s varchar(3), d code, x numeric(4,1), t text, l int[])",
    )
    schema = {
        "n": pa.int64(),
        "c": pa.string(),
        "s": pa.string(),
        "d": pa.string(),
        "x": pa.decimal128(9, 1),
        "t": pa.string(),
        "l": pa.list_(pa.int64()),
    }
    good = ("red", "abc", None, None, 'a"b,\n\\N', [1, None])
    bad = [
        ("blue", *good[1:]),
        ("red", "abcd", *good[2:]),
        ("red", "abc", "abcd", *good[3:]),
        (*good[:4], "a\0b", [1]),
        (*good[:5], [2**31]),
    ]
    rows = [(n, *(good if n % 6 == 5 else bad[n % 6])) for n in range(600)] + [
        (2**31, *good),
        (600, "red", "", "", None, "", []),
    ]

    delivery = room.deliver(batch_of(schema, rows), table="odd", key="n")

    assert sorted(row for row, _, _ in delivery.rejects) == [*(n for n in range(600) if n % 6 != 5), 600]
    said = {message.split(": ", 1)[1] for row, _, message in delivery.rejects if row > 300}
    assert 'invalid input value for enum colour: "blue"' in said
    assert "value too long for type character varying(3)" in said
    assert any("NUL" in words for words in said)
    assert room.sql("SELECT DISTINCT c::text, s, d, x, t, l FROM odd WHERE n < 600") == [
        ("red", "abc", None, None, 'a"b,\n\\N', [1, None])
    ]
    assert room.sql("SELECT c::text, s, d, x, t, l FROM odd WHERE n = 600") == [("red", "", "", None, "", [])]


def test_the_last_of_a_key_that_the_table_takes_wins_and_null_keys_are_rejected(room: Room) -> None:
    room.sql("CREATE TABLE t (n bigint PRIMARY KEY, m bigint CHECK (m <> 13))", "INSERT INTO t VALUES (1, 0), (9, 9)")
    rows = [(1, 1), (2, 1), (None, 5), (1, 2), (2, 13), (3, 13), (1, None)]

    delivery = room.deliver(batch_of(PAIRS, rows), table="t", key="n", mode="upsert")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(2, "key_null"), (4, "refused"), (5, "refused")]
    assert "key column 'n' is null" in delivery.rejects[0][2]
    assert room.sql("SELECT n, m FROM t ORDER BY n") == [(1, None), (2, 1), (9, 9)]


@pytest.mark.parametrize("state", ["45000", "U0001", "P0001", "23514"])
def test_a_trigger_rejects_a_record_by_whatever_state_it_raises(room: Room, state: str) -> None:
    room.sql(
        "CREATE TABLE t (n bigint)",
        "CREATE FUNCTION mind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.n = 2 THEN RAISE EXCEPTION 'no twos' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER minding BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION mind()",
    )

    delivery = room.deliver(batch_of(NUMBERS, [(1,), (2,), (3,)]), table="t")

    assert delivery.rejects == [(1, "refused", "no twos")]
    assert room.sql("SELECT n FROM t ORDER BY n") == [(1,), (3,)]


def test_a_policy_of_rows_rejects_the_records_that_it_does_not_let_in(postgres: Server, room: Room) -> None:
    room.sql(
        "CREATE TABLE t (n bigint PRIMARY KEY, m bigint)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY small ON t USING (m < 10) WITH CHECK (m < 10)",
    )
    grants = [f"SELECT, INSERT, UPDATE ON {schema_of(room.path)}.t", f"CREATE ON SCHEMA {schema_of(room.path)}"]

    with role(postgres, room, *grants) as elsewhere:
        rows = [(n, 10 if n in (3, 7) else 1) for n in range(10)]
        for mode, token in (("append", "t1"), ("upsert", "t2")):
            delivery = elsewhere.deliver(batch_of(PAIRS, rows), table="t", key="n", mode=mode, token=token)

            assert [row for row, _, _ in delivery.rejects] == [3, 7]
            assert "row-level security policy" in delivery.rejects[0][2]
    assert room.sql("SELECT count(*) FROM t") == [(8,)]


def test_while_a_table_is_replaced_readers_see_the_old_records_and_do_not_wait(postgres: Server, room: Room) -> None:
    room.sql("CREATE TABLE t (n bigint PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    post, batch = room.post(table="t", mode="replace"), batch_of(NUMBERS, [(2,), (3,), (4,)])
    publication = post.publish(room.stage([batch], post), batch.schema, room.scope, "t1")
    with other_session(postgres, room) as reader, other_session(postgres, room) as writer:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")

        list(publication.settle())
        during = writer.execute("SELECT array_agg(n ORDER BY n) FROM t").fetchall()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            writer.execute("INSERT INTO t VALUES (100)")
        publication.commit()

        assert during == [([1, 2],)]
        assert writer.execute("SELECT array_agg(n ORDER BY n) FROM t").fetchall() == [([2, 3, 4],)]
        assert reader.execute("SELECT array_agg(n ORDER BY n) FROM t").fetchall() == [([1, 2],)]


def test_a_replacement_keeps_grants_indexes_views_comments_and_references(postgres: Server, room: Room) -> None:
    room.sql(
        "CREATE TABLE people (n bigint PRIMARY KEY)",
        "INSERT INTO people VALUES (1), (2)",
        "CREATE TABLE t (n bigint PRIMARY KEY, p bigint REFERENCES people)",
        "CREATE INDEX t_p ON t (p)",
        "CREATE VIEW shown AS SELECT n FROM t",
        "COMMENT ON TABLE t IS 'kept'",
        "INSERT INTO t VALUES (1, 1)",
    )
    state = (
        "SELECT c.oid, c.relacl::text, obj_description(c.oid), (SELECT array_agg(indexrelid::regclass::text ORDER BY 1) "
        "FROM pg_index i WHERE i.indrelid = c.oid), (SELECT array_agg(conname::text ORDER BY 1) FROM pg_constraint k "
        "WHERE k.conrelid = c.oid) FROM pg_class c WHERE c.oid = 't'::regclass"
    )
    with role(postgres, room, f"SELECT ON {schema_of(room.path)}.t"):
        before = room.sql(state)

        delivery = room.deliver(
            batch_of({"n": pa.int64(), "p": pa.int64()}, [(5, 2), (6, 3)]), table="t", mode="replace", key="n"
        )

        assert room.sql(state) == before
    assert room.sql("SELECT n FROM shown") == [(5,)]
    assert [row for row, _, _ in delivery.rejects] == [1]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("ON DELETE CASCADE", r"'people' cannot be replaced: orders \(orders_n_fkey, on delete cascade\) would change or lose"),
        ("ON DELETE SET NULL", r"orders_n_fkey, on delete set null"),
        ("", r"to replace 'people' make the reference of orders \(orders_n_fkey\) deferrable"),
        ("DEFERRABLE", r"violates foreign key constraint \"orders_n_fkey\".*: Key \(n\)=\(1\) is still referenced"),
    ],
)  # fmt: skip
def test_a_replacement_never_takes_away_what_other_tables_refer_to(room: Room, reference: str, words: str) -> None:
    room.sql(
        "CREATE TABLE people (n bigint PRIMARY KEY)",
        f"CREATE TABLE orders (n bigint REFERENCES people {reference})",
        "INSERT INTO people VALUES (1), (2)",
        "INSERT INTO orders VALUES (1)",
    )

    with pytest.raises(Invalid, match=words):
        room.deliver(batch_of(NUMBERS, [(2,)]), table="people", mode="replace")

    assert room.sql("SELECT n FROM people ORDER BY n") == [(1,), (2,)]
    assert room.sql("SELECT n FROM orders") == [(1,)]


def test_a_commit_under_way_is_waited_for_before_anything_is_published_again(room: Room) -> None:
    room.sql("CREATE TABLE t (n bigint)")
    post, batch = room.post(table="t"), batch_of(NUMBERS, [(1,), (2,)])
    parts = room.stage([batch], post)
    first = post.publish(parts, batch.schema, room.scope, "t1")
    list(first.settle())  # loaded, and its commit is not yet heard by the server

    with pytest.raises(Unavailable, match="locked by another session"):
        post.is_published(room.scope, "t1")
    with pytest.raises(Unavailable, match="locked by another session"):
        post.publish(parts, batch.schema, room.scope, "t1").commit()
    first.commit()
    post.publish(parts, batch.schema, room.scope, "t1").commit()

    assert post.is_published(room.scope, "t1")
    assert room.sql("SELECT n FROM t ORDER BY n") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER COLUMN total TYPE integer", r"column 'total': decimal128\(10, 2\) does not fit integer; has it changed"),
        ("ALTER COLUMN who TYPE timestamptz USING NULL", "column 'who': string does not fit timestamp with time zone"),
        ("DROP COLUMN who", "table 'orders' has no column 'who'"),
        ("RENAME TO sold", "there is no table 'orders', and `create` is off"),
        ("ADD COLUMN must int NOT NULL", None),
        ("ADD COLUMN may int DEFAULT 5", None),
    ],
)  # fmt: skip
def test_a_table_altered_between_check_and_run_is_told_or_taken_as_it_is(
    room: Room, change: str, words: str | None
) -> None:
    room.sql("CREATE TABLE orders (id bigint, who text, total numeric(10,2))")
    batch = batch_of(ORDERS, [(1, "a", None), (2, "b", None)])
    assert room.problems(room.post(table="orders", create=False), batch.schema) == []
    room.sql(f"ALTER TABLE orders {change}")

    if words is not None:
        with pytest.raises(Invalid, match=words):
            room.deliver(batch, table="orders", create=False)
    else:
        delivery = room.deliver(batch, table="orders", create=False)

        assert len(delivery.rejects) == (2 if "must" in change else 0)
        assert all('null value in column "must"' in message for _, _, message in delivery.rejects)
