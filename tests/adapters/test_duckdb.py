"""The adapter `duckdb`: the contract of tables, and what only DuckDB has."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from adapters import duckdb as adapter
from pipelines.errors import Unavailable
from tests.adapters.table_contract import TableFileContract
from tests.adapters.table_room import Room, batch_of


def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path) as connection:
        return connection.execute(sql).fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process that holds the database open for writing."""
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.communicate()


class TestDuckdbTables(TableFileContract):
    adapter = adapter

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]:
        return execute(path, sql)

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]:
        return locked(path)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(adapter, tmp_path, execute, locked)


def test_types_that_arrow_lacks_are_read_as_decimal_or_text(room: Room) -> None:
    room.sql(
        "CREATE TABLE odd (h HUGEINT, e ENUM('red', 'green'), i INTERVAL, u UUID, t TIMETZ, x UNION(n INTEGER, s VARCHAR))",
        "INSERT INTO odd VALUES (12345678901234567890123, 'green', INTERVAL 3 DAYS, "
        "'9e33c5b6-450e-4029-8c81-0227b1d4a103', '10:00:00+02', 7)",
    )

    reading = room.read(table="odd")

    assert reading.table.schema.types == [pa.decimal128(38, 0), *[pa.string()] * 5]
    assert reading.rows == [
        {
            "h": Decimal(12345678901234567890123),
            "e": "green",
            "i": "3 days",
            "u": "9e33c5b6-450e-4029-8c81-0227b1d4a103",
            "t": "10:00:00+02",
            "x": "7",
        }
    ]  # fmt: skip


def test_an_integer_beyond_38_digits_is_malformed_with_its_rowid(room: Room) -> None:
    room.sql(
        "CREATE TABLE odd (h HUGEINT)", "INSERT INTO odd VALUES (1), (170141183460469231731687303715884105727), (3)"
    )

    reading = room.read(table="odd")

    assert [row["h"] for row in reading.rows] == [1, 3]
    assert [ordinal for _, ordinal in reading.ordinals] == [0, 2]
    assert reading.malformed[0][2].startswith(
        "rowid 1: column 'h': 170141183460469231731687303715884105727 is no DECIMAL"
    )


def test_a_value_that_the_column_would_round_or_cut_is_rejected(room: Room) -> None:
    room.sql("CREATE TABLE prices (id TINYINT, price DECIMAL(5,2))")
    schema = {"id": pa.int64(), "price": pa.decimal128(10, 3)}
    rows = [(1, Decimal("1.120")), (2, Decimal("1.125")), (300, Decimal("1.120")), (4, Decimal("1000.000"))]

    delivery = room.deliver(batch_of(schema, rows), table="prices", key="id")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "type"), (2, "type"), (3, "type")]
    assert delivery.rejects[0][2] == "2: column 'price': 1.125 does not fit DECIMAL(5,2)"
    assert room.sql("FROM prices") == [(1, Decimal("1.12"))]


def test_a_unique_index_over_an_expression_refuses_the_second(room: Room) -> None:
    room.sql(
        'CREATE TABLE people ("my id" BIGINT, who VARCHAR)',
        'CREATE UNIQUE INDEX names ON people (lower(who), "my id")',
        "INSERT INTO people VALUES (1, 'Ann')",
    )
    batch = batch_of(
        {"my id": pa.int64(), "who": pa.string()}, [(1, "ANN"), (2, "ann"), (2, "Ann"), (3, None), (3, None)]
    )

    delivery = room.deliver(batch, table="people")

    assert [row for row, _, _ in delivery.rejects] == [0, 2]
    assert "violates unique index names" in delivery.rejects[0][2]
    assert room.sql("SELECT count(*) FROM people") == [(4,)]


def test_an_upsert_respects_another_unique_column(room: Room) -> None:
    room.sql(
        "CREATE TABLE people (id BIGINT PRIMARY KEY, mail VARCHAR UNIQUE)",
        "INSERT INTO people VALUES (1, 'a@x'), (2, 'b@x')",
    )
    batch = batch_of({"id": pa.int64(), "mail": pa.string()}, [(1, "a@x"), (3, "b@x"), (4, "c@x"), (5, "c@x")])

    delivery = room.deliver(batch, table="people", mode="upsert", key="id")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused"), (3, "refused")]
    assert room.sql("SELECT id FROM people ORDER BY id") == [(1,), (2,), (4,)]


def test_a_check_that_cannot_be_computed_refuses_the_record(room: Room) -> None:
    room.sql("CREATE TABLE codes (code VARCHAR CHECK (CAST(code AS INTEGER) > 0))")

    delivery = room.deliver(batch_of({"code": pa.string()}, [("1",), ("x",), ("-1",), (None,)]), table="codes")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused"), (2, "refused")]
    assert room.sql("SELECT count(*) FROM codes") == [(2,)]


def test_a_check_that_involves_a_default_refuses_what_the_table_refuses(room: Room) -> None:
    room.sql("CREATE TABLE limits (n BIGINT, most BIGINT DEFAULT 10, CHECK (n <= most))")

    delivery = room.deliver(batch_of({"n": pa.int64()}, [(n,) for n in (1, 99, 5, 11)]), table="limits")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused"), (3, "refused")]
    assert "CHECK constraint failed" in delivery.rejects[0][2]
    assert room.sql("SELECT n FROM limits ORDER BY n") == [(1,), (5,)]


def test_a_table_of_another_schema_is_named_with_it(room: Room) -> None:
    room.sql("CREATE SCHEMA sales", "CREATE TABLE sales.orders (id BIGINT PRIMARY KEY)")

    room.deliver(batch_of({"id": pa.int64()}, [(1,), (2,)]), table="sales.orders")

    assert [row["id"] for row in room.read(table="sales.orders").rows] == [1, 2]
    assert room.problems(room.get(table="sales.order")) == [
        "table: there is no table 'sales.order'; did you mean 'sales.orders'?"
    ]


def test_the_lock_message_names_the_process_that_holds_it(room: Room) -> None:
    room.sql("CREATE TABLE people (id BIGINT)")

    with locked(room.path), pytest.raises(Unavailable, match="PID"):
        room.problems(room.get(table="people"))


def test_a_generated_column_cannot_be_delivered(room: Room) -> None:
    room.sql("CREATE TABLE totals (n BIGINT, twice BIGINT GENERATED ALWAYS AS (n * 2))")

    problems = room.problems(room.post(table="totals"), pa.schema([("n", pa.int64()), ("twice", pa.int64())]))

    assert len(problems) == 1
    assert "a generated column, which cannot be written: 'twice'" in problems[0]


def test_an_enum_refuses_an_unknown_word(room: Room) -> None:
    room.sql("CREATE TABLE lamps (colour ENUM('red', 'green'))")

    delivery = room.deliver(batch_of({"colour": pa.string()}, [("red",), ("blue",)]), table="lamps")

    assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "type")]
    assert room.sql("FROM lamps") == [("red",)]
