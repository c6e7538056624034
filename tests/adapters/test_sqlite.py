"""The adapter `sqlite`: the contract of tables, and what only SQLite has."""

from __future__ import annotations

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters import sqlite as adapter
from adapters.sqlite.types import arrow_column
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Want
from tests.adapters.table_contract import TableFileContract
from tests.adapters.table_room import Reading, Room, batch_of


def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection in the middle of writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


class TestSqliteTables(TableFileContract):
    adapter = adapter
    nested_as_text = True

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
        return execute(path, sql)

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]:
        return locked(path)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(adapter, tmp_path, execute, locked)


def test_a_value_that_does_not_fit_its_declared_type_is_malformed_and_named(room: Room) -> None:
    room.sql(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER, total DECIMAL(6,2), at TIMESTAMP, paid BOOLEAN)",
        "INSERT INTO orders VALUES (7, 1, 1.5, '2024-01-01', 1), (9, 'many', 1.555, 'soon', 2), (12, 2, 12345, 1704067200, 0)",
    )

    reading = room.read(table="orders")

    assert [row["id"] for row in reading.rows] == [7]
    assert [code for _, code, _ in reading.malformed] == ["type", "type"]
    assert reading.malformed[0][2] == (
        "rowid 9: column 'n': text 'many' is no int64; column 'total': real 1.555 is no decimal128(6, 2): it has more "
        "than 2 decimal places; column 'at': text 'soon' is no timestamp[us]: not an ISO 8601 time; column 'paid': "
        "integer 2 is no bool: it is stored as 0 or 1"
    )
    assert "out of range" in reading.malformed[1][2]
    assert json.loads(reading.malformed[0][0]) == {"id": 9, "n": "many", "total": 1.555, "at": "soon", "paid": 2}


@pytest.mark.parametrize(
    ("declared", "stored", "expected"),
    [
        ("INTEGER", "-9223372036854775808", -(2**63)),
        ("UNSIGNED BIG INT", "7", 7),
        ("VARCHAR(3)", "'longer'", "longer"),
        ("NCHAR(55)", "'x'", "x"),
        ("REAL", "1", 1.0),
        ("DOUBLE PRECISION", "0.1", 0.1),
        ("BLOB", "x'00ff'", b"\x00\xff"),
        ("DECIMAL(10,2)", "'1.10'", Decimal("1.10")),
        ("DECIMAL(10,2)", "3", Decimal("3.00")),
        ("NUMERIC", "1.5", Decimal("1.5000000000")),
        ("DECIMAL_TEXT(38,2)", "'123456789012345678901234567890.10'", Decimal("123456789012345678901234567890.10")),
        ("BOOLEAN", "1", True),
        ("DATE", "'2024-02-29'", date(2024, 2, 29)),
        ("DATE", "'2024-02-29 00:00:00'", date(2024, 2, 29)),
        ("DATE", "86400", date(1970, 1, 2)),
        ("DATETIME", "'2024-01-01 10:30'", datetime(2024, 1, 1, 10, 30)),  # noqa: DTZ001
        ("DATETIME", "'2024-01-01T10:30:00.5Z'", datetime(2024, 1, 1, 10, 30, 0, 500_000)),  # noqa: DTZ001
        ("TIMESTAMP", "1704067200", datetime(2024, 1, 1)),  # noqa: DTZ001
        ("TIMESTAMPTZ", "'2024-01-01 10:00:00+02:00'", datetime(2024, 1, 1, 8, tzinfo=UTC)),
        ("TIMESTAMP WITH TIME ZONE", "'2024-01-01 10:00:00'", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("TIME", "'10:30:00.25'", time(10, 30, 0, 250_000)),
        ("JSON", "'12'", "12"),
        ("UUID", "'9e33c5b6-450e-4029-8c81-0227b1d4a103'", "9e33c5b6-450e-4029-8c81-0227b1d4a103"),
    ],
)
def test_a_declared_type_is_read_as_its_own(room: Room, declared: str, stored: str, expected: object) -> None:
    room.sql(f"CREATE TABLE t (x {declared})", f"INSERT INTO t VALUES ({stored}), (NULL)")

    reading = room.read(table="t")

    assert reading.malformed == []
    assert [row["x"] for row in reading.rows] == [expected, None]


@pytest.mark.parametrize(
    ("declared", "stored"),
    [
        ("INTEGER", "1.5"),
        ("INTEGER", "x'01'"),
        ("TEXT", "x'41'"),
        ("BLOB", "'text'"),
        ("REAL", "'1e'"),
        ("DECIMAL(20,4)", "123456789012345.678"),
        ("DECIMAL(10,2)", "'1_0'"),
        ("DECIMAL(10,2)", "9e999"),
        ("BOOLEAN", "'yes'"),
        ("DATE", "'2024-02-30'"),
        ("DATE", "'2024-02-29 10:00:00'"),
        ("DATE", "86401"),
        ("TIMESTAMP", "'2024-01-01 10:00:00+02:00'"),
        ("TIMESTAMP", "'2024-01-01 10:00:00.1234567'"),
        ("TIME", "'25:00'"),
    ],
)
def test_a_value_of_another_kind_is_never_changed_in_silence(room: Room, declared: str, stored: str) -> None:
    room.sql(f"CREATE TABLE t (id INTEGER, x {declared})", f"INSERT INTO t VALUES (1, {stored}), (2, NULL)")

    reading = room.read(table="t")

    assert [row["id"] for row in reading.rows] == [2]
    assert [code for _, code, _ in reading.malformed] == ["type"]


@settings(max_examples=50)
@given(st.lists(st.none() | st.decimals("-99999999999.9999", "99999999999.9999", places=4)))
def test_a_decimal_of_fifteen_digits_survives_as_a_real(values: list[Decimal | None]) -> None:
    stored = [None if value is None else float(value) for value in values]

    column, faults = arrow_column(stored, pa.decimal128(15, 4), loose=False)

    assert faults == {}
    assert column.to_pylist() == values


def test_a_column_without_a_type_takes_the_type_of_its_first_values(room: Room) -> None:
    room.sql(
        "CREATE TABLE t (a, b, c, d)",
        "INSERT INTO t VALUES (1, 1, 'x', NULL), (2, 2.5, 'y', NULL), (NULL, NULL, NULL, NULL)",
    )

    reading = room.read(table="t")

    assert reading.table.schema.types == [pa.int64(), pa.float64(), pa.string(), pa.string()]
    assert reading.malformed == []


def test_text_that_is_not_utf8_is_malformed_and_the_rest_is_read_once(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER, x TEXT)")
    for number in range(5):
        text = "CAST(x'ff41' AS TEXT)" if number == 3 else f"'t{number}'"
        room.sql(f"INSERT INTO t VALUES ({number}, {text})")

    reading = room.read(table="t", want=Want(batch_rows=2))

    assert [row["id"] for row in reading.rows] == [0, 1, 2, 4]
    assert [ordinal for _, ordinal in reading.ordinals] == [0, 1, 2, 4]
    assert reading.malformed == [
        (
            '{"id": 3, "x": "\\\\xffA"}',
            "type",
            "rowid 4: column 'x': text '\\\\udcffA' is no string: its bytes are not UTF-8",
        )
    ]


def test_a_table_without_rowid_is_read_in_the_order_of_its_key(room: Room) -> None:
    room.sql(
        "CREATE TABLE t (code TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID",
        "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < 300000) "
        "INSERT INTO t SELECT printf('%06d', n), n FROM r",
    )
    get = room.get(table="t")
    plan = get.plan(room.scope, None, Want())

    reading = Reading.of(get, plan, room.schema(get), room.scope, Want())

    assert len(plan.splits) == 2
    assert reading.table["n"].to_pylist() == list(range(300_001))


def test_a_column_called_rowid_does_not_hide_the_rows(room: Room) -> None:
    room.sql("CREATE TABLE t (rowid TEXT, n INTEGER)", "INSERT INTO t VALUES ('b', 1), ('a', 2)")

    reading = room.read(table="t")

    assert reading.rows == [{"rowid": "b", "n": 1}, {"rowid": "a", "n": 2}]


def test_rowids_at_both_ends_of_their_range_are_read_once(room: Room) -> None:
    low, high = -(2**63), 2**63 - 1
    room.sql("CREATE TABLE t (id INTEGER PRIMARY KEY)", f"INSERT INTO t VALUES ({low}), (0), ({high})")

    reading = room.read(table="t")

    assert [row["id"] for row in reading.rows] == [low, 0, high]
    assert sum(split.room for split in reading.plan.splits) < 2**55


def test_a_column_that_is_gone_is_a_fault_and_not_its_name_as_text(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER, x TEXT)", "INSERT INTO t VALUES (1, 'a')")
    get = room.get(table="t")
    schema, plan = room.schema(get), get.plan(room.scope, None, Want())
    room.sql("ALTER TABLE t RENAME COLUMN x TO y")

    with pytest.raises(Invalid, match="there is no column 'x' any more"):
        Reading.of(get, plan, schema, room.scope, Want())


def test_a_query_keeps_the_declared_types_of_its_columns(room: Room) -> None:
    room.sql("CREATE TABLE t (at TIMESTAMP, total DECIMAL(10,2))", "INSERT INTO t VALUES ('2024-01-01 10:00:00', 1.5)")

    reading = room.read(query="SELECT at, total, total * 2 AS twice, '$x' AS sign FROM t WHERE total < 2 -- $y")

    assert reading.table.schema.types == [pa.timestamp("us"), pa.decimal128(10, 2), pa.float64(), pa.string()]
    assert reading.rows[0]["total"] == Decimal("1.50")


def test_a_locked_database_is_unavailable_to_a_reader(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER)")

    with locked(room.path), pytest.raises(Unavailable, match="locked by another program"):
        room.get(table="t").plan(room.scope, None, Want())


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.float64(), math.nan),
        (pa.uint64(), 2**63),
        (pa.decimal128(38, 2), Decimal("12345678901234567890.12")),
    ],
)
def test_what_sqlite_would_change_is_rejected(room: Room, kind: pa.DataType, value: object) -> None:
    room.sql("CREATE TABLE t (id INTEGER, x NUMERIC)")

    delivery = room.deliver(batch_of({"id": pa.int64(), "x": kind}, [(1, value), (2, None)]), table="t", key="id")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(0, "type")]
    assert delivery.rejects[0][2].startswith("1: column 'x': ")
    assert room.sql("SELECT id FROM t") == [(2,)]


def test_text_that_a_column_would_turn_into_a_number_is_rejected(room: Room) -> None:
    room.sql("CREATE TABLE t (day DATE)")

    delivery = room.deliver(batch_of({"day": pa.string()}, [("2024-01-01",), ("0012",)]), table="t")

    assert [row for row, _, _ in delivery.rejects] == [1]
    assert room.sql("SELECT day FROM t") == [("2024-01-01",)]


def test_appended_records_have_their_rowids_in_the_receipts(room: Room) -> None:
    room.sql("CREATE TABLE t (x TEXT UNIQUE)", "INSERT INTO t VALUES ('there')")

    delivery = room.deliver(batch_of({"x": pa.string()}, [("a",), ("there",), ("b",)]), table="t", key="x")

    [(_, outcome)] = delivery.outcomes
    assert outcome.receipts is not None
    assert outcome.receipts.ids is not None
    assert outcome.receipts.ids.to_pylist() == ["2", "3"]
    assert room.sql("SELECT rowid, x FROM t WHERE rowid > 1") == [(2, "a"), (3, "b")]


def test_an_integer_primary_key_is_the_id_in_the_receipts(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")

    delivery = room.deliver(batch_of({"id": pa.int64(), "x": pa.string()}, [(70, "a"), (5, "b")]), table="t")

    [(_, outcome)] = delivery.outcomes
    assert outcome.receipts is not None
    assert outcome.receipts.ids is not None
    assert outcome.receipts.ids.to_pylist() == ["70", "5"]


def test_a_strict_table_refuses_what_it_cannot_hold(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER, x ANY, n INT) STRICT")

    delivery = room.deliver(batch_of({"id": pa.int64(), "n": pa.float64()}, [(1, 2.0), (2, 2.5)]), table="t", key="id")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused")]
    assert "cannot store REAL value in INT column t.n" in delivery.rejects[0][2]


def test_a_record_that_a_trigger_drops_is_rejected(room: Room) -> None:
    room.sql(
        "CREATE TABLE t (n INTEGER)",
        "CREATE TRIGGER odd BEFORE INSERT ON t WHEN NEW.n % 2 = 1 BEGIN SELECT RAISE(IGNORE); END",
    )

    delivery = room.deliver(batch_of({"n": pa.int64()}, [(0,), (1,), (2,)]), table="t")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused")]
    assert room.sql("SELECT n FROM t") == [(0,), (2,)]


def test_a_conflict_clause_of_the_table_drops_nothing_in_silence(room: Room) -> None:
    room.sql("CREATE TABLE t (n INTEGER UNIQUE ON CONFLICT REPLACE, x TEXT)", "INSERT INTO t VALUES (1, 'there')")

    delivery = room.deliver(batch_of({"n": pa.int64(), "x": pa.string()}, [(1, "new"), (2, "new")]), table="t")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(0, "refused")]
    assert room.sql("SELECT x FROM t") == [("there",), ("new",)]


def test_a_trigger_that_ends_the_transaction_is_a_fault_and_leaves_the_target(room: Room) -> None:
    room.sql(
        "CREATE TABLE t (n INTEGER)",
        "CREATE TRIGGER no BEFORE INSERT ON t WHEN NEW.n = 1 BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
    )

    with pytest.raises(Invalid, match="must not use RAISE"):
        room.deliver(batch_of({"n": pa.int64()}, [(0,), (1,)]), table="t")

    assert room.sql("SELECT count(*) FROM t") == [(0,)]


def test_an_upsert_without_a_unique_index_is_a_problem_that_names_the_index_to_make(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER, x TEXT)")
    post, schema = room.post(table="t", mode="upsert", key="id"), pa.schema([("id", pa.int64()), ("x", pa.string())])

    problems = room.problems(post, schema)
    room.sql("CREATE UNIQUE INDEX t_key ON t (id)")

    assert problems == ["key: table 't' has no unique index on (id); create unique index t_key on t (id)"]
    assert room.problems(post, schema) == []


def test_a_kill_between_settle_and_commit_leaves_the_target_as_it_was(room: Room) -> None:
    room.sql("CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)")
    post, batch = room.post(table="t", mode="replace"), batch_of({"id": pa.int64()}, [(2,)] * 50_000)
    parts = room.stage([batch], post)
    code = (
        "import pickle, sys\n"
        "post, parts, schema, scope = pickle.load(sys.stdin.buffer)\n"
        "publication = post.publish(parts, schema, scope, 't1')\n"
        "list(publication.settle())\n"
        "print('settled', flush=True)\n"
        "input()\n"
    )
    import pickle

    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(pickle.dumps((post, parts, batch.schema, room.scope)))
        child.stdin.flush()
        assert child.stdout.readline() == b"settled\n"
        os.kill(child.pid, signal.SIGKILL)

    assert room.sql("SELECT id FROM t") == [(1,)]
    assert not post.is_published(room.scope, "t1")
    post.publish(parts, batch.schema, room.scope, "t1").commit()
    assert room.sql("SELECT count(*) FROM t") == [(50_000,)]
