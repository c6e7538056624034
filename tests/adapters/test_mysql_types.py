"""MySQL's types read and written: exactly, or rejected."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.adapters.table_room import Room, batch_of


@pytest.fixture
def room(mysql_room: Room) -> Room:
    return mysql_room


@pytest.mark.parametrize(
    ("declared", "text", "kind", "value"),
    [
        ("tinyint", "-128", pa.int8(), -128),
        ("tinyint(1)", "1", pa.bool_(), True),
        ("smallint unsigned", "65535", pa.uint16(), 65535),
        ("mediumint", "-8388608", pa.int32(), -8388608),
        ("bigint", "-9223372036854775808", pa.int64(), -(2**63)),
        ("bigint unsigned", "18446744073709551615", pa.uint64(), 2**64 - 1),
        ("float", "1.1", pa.float32(), 1.100000023841858),
        ("float", "16777215", pa.float32(), 16777215.0),
        ("double", "0.30000000000000004", pa.float64(), 0.30000000000000004),
        ("decimal(38,10)", "1234567890123456789012345678.0123456789", pa.decimal128(38, 10), Decimal("1234567890123456789012345678.0123456789")),
        ("decimal(65,30)", "12345678901234567890123456789012345.123456789012345678901234567890", pa.string(), "12345678901234567890123456789012345.123456789012345678901234567890"),
        ("decimal(5,0) unsigned", "99999", pa.decimal128(5, 0), Decimal(99999)),
        ("year", "1999", pa.int16(), 1999),
        ("date", "2024-02-29", pa.date32(), date(2024, 2, 29)),
        ("date", "9999-12-31", pa.date32(), date(9999, 12, 31)),
        ("time(1)", "23:59:59.5", pa.time64("us"), time(23, 59, 59, 500000)),
        ("datetime(6)", "2024-02-29 10:00:00.000001", pa.timestamp("us"), datetime(2024, 2, 29, 10, 0, 0, 1)),  # noqa: DTZ001
        ("datetime", "0001-01-01 00:00:00", pa.timestamp("us"), datetime(1, 1, 1)),  # noqa: DTZ001
        ("timestamp(2) null", "2024-02-29 10:00:00.25", pa.timestamp("us", "UTC"), datetime(2024, 2, 29, 10, 0, 0, 250000, UTC)),
        ("text", "", pa.string(), ""),
        ("varchar(50)", 'a"b,\t\n\\N😀', pa.string(), 'a"b,\t\n\\N😀'),
        ("varchar(50) character set latin1", "äöü", pa.string(), "äöü"),
        ("char(4)", "ab", pa.string(), "ab"),
        ("json", '{"b": 1, "a":1}', pa.string(), '{"b": 1, "a":1}'),
        ("enum('red', 'it''s')", "it's", pa.string(), "it's"),
        ("set('a', 'b')", "a,b", pa.string(), "a,b"),
        ("uuid", "9e33c5b6-450e-4029-8c81-0227b1d4a103", pa.string(), "9e33c5b6-450e-4029-8c81-0227b1d4a103"),
        ("inet6", "::1", pa.string(), "::1"),
    ],
)  # fmt: skip
def test_each_type_is_read_exactly_and_null_apart_from_empty(
    room: Room, declared: str, text: str, kind: pa.DataType, value: object
) -> None:
    quoted = text.replace("'", "''")
    room.sql(
        f"CREATE TABLE odd (n int PRIMARY KEY, v {declared})", f"INSERT INTO odd VALUES (1, '{quoted}'), (2, NULL)"
    )

    reading = room.read(table="odd", columns=["v"])

    assert reading.malformed == []
    assert reading.table.schema == pa.schema([("v", kind)])
    assert reading.rows == [{"v": value}, {"v": None}]


@pytest.mark.parametrize(
    ("declared", "sql", "kind", "value"),
    [
        ("blob", "x'00ff5c27'", pa.binary(), b"\x00\xff\\'"),
        ("varbinary(9)", "''", pa.binary(), b""),
        ("binary(3)", "x'0001'", pa.binary(), b"\x00\x01\x00"),
        ("bit(1)", "1", pa.bool_(), True),
        ("bit(64)", "18446744073709551615", pa.uint64(), 2**64 - 1),
    ],
)
def test_bytes_and_bits_are_read_exactly(room: Room, declared: str, sql: str, kind: pa.DataType, value: object) -> None:
    room.sql(f"CREATE TABLE odd (v {declared})", f"INSERT INTO odd VALUES ({sql}), (NULL)")

    reading = room.read(table="odd")

    assert reading.table.schema == pa.schema([("v", kind)])
    assert reading.rows == [{"v": value}, {"v": None}]


@pytest.mark.parametrize(
    ("declared", "text", "good"),
    [
        ("datetime", "0000-00-00 00:00:00", "2024-01-01"),
        ("date", "2024-02-00", "2024-01-01"),
        ("timestamp", "0000-00-00 00:00:00", "2024-01-01 00:00:00"),
        ("time", "24:00:00", "10:00:00"),
        ("time", "-00:00:01", "10:00:00"),
        ("time", "838:59:59", "10:00:00"),
        ("tinyint(1)", "5", "0"),
    ],
)
def test_a_value_that_its_type_has_no_room_for_is_malformed_and_the_others_are_read(
    room: Room, declared: str, text: str, good: str
) -> None:
    rows = ", ".join(f"({n}, '{text if n == 17 else good}')" for n in range(40))
    room.sql(f"CREATE TABLE odd (n int PRIMARY KEY, v {declared} NULL)")
    room.sql(f"INSERT INTO odd VALUES {rows}")

    reading = room.read(table="odd")

    assert [row["n"] for row in reading.rows] == [n for n in range(40) if n != 17]
    assert [ordinal for _, ordinal in reading.ordinals] == [n for n in range(40) if n != 17]
    assert len(reading.malformed) == 1
    raw, code, words = reading.malformed[0]
    assert code == "type"
    assert f"column 'v': {text} is no" in words
    assert '"n": 17' in raw


def test_a_flag_is_read_as_the_number_that_is_declared(room: Room) -> None:
    room.sql("CREATE TABLE odd (v tinyint(1))", "INSERT INTO odd VALUES (0), (1), (5), (-1)")

    assert [row["v"] for row in room.read(table="odd", columns={"v": "tinyint"}).rows] == [0, 1, 5, -1]


@pytest.mark.parametrize(
    ("declared", "kind", "values", "wrong"),
    [
        ("decimal(5,2)", pa.decimal128(10, 3), ["1.120", "1.125", "1000.000"], [1, 2]),
        ("int", pa.int64(), [1, 2**31], [1]),
        ("int unsigned", pa.int64(), [1, -1], [1]),
        ("bigint", pa.uint64(), [1, 2**63], [1]),
        ("varchar(3)", pa.string(), ["abc", "abcd", "abc  "], [1, 2]),
        ("char(3)", pa.string(), ["abc", "ab "], [1]),
        ("binary(2)", pa.binary(), [b"ab", b"a", b"abc"], [1, 2]),
        ("datetime(6)", pa.timestamp("ns"), [1000, 1001], [1]),
        ("datetime", pa.timestamp("us"), [1_000_000, 1_500_000], [1]),
        ("timestamp null", pa.timestamp("us", "UTC"), [1_000_000, 4_102_444_800_000_000 * 10], [1]),
        ("double", pa.int64(), [2**53, 2**53 + 1], [1]),
        ("double", pa.float64(), [1.5, float("nan"), float("inf")], [1, 2]),
        ("float", pa.float32(), [1.100000023841858, float("-inf")], [1]),
        ("json", pa.string(), ['{"a": 1}', "{a}"], [1]),
        ("enum('red', '2')", pa.string(), ["red", "1", "RED", "2", "blue"], [1, 2, 4]),
        ("set('a', 'b')", pa.string(), ["a,b", "", "b,a", "a,a", "c"], [2, 3, 4]),
        ("year", pa.int32(), [1999, 5, 0, 2200], [1, 3]),
        ("bit(3)", pa.int32(), [7, 8], [1]),
        ("uuid", pa.string(), ["9e33c5b6-450e-4029-8c81-0227b1d4a103", "no"], [1]),
        ("varchar(9) character set latin1", pa.string(), ["ä", "😀"], [1]),
        ("tinyint", pa.bool_(), [True, False], []),
        ("text", pa.string(), ["a\0b\\'\"\n\t", "\\N", "NULL"], []),
    ],
)
@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_value_that_the_column_would_change_or_refuse_is_rejected(
    room: Room, declared: str, kind: pa.DataType, values: list[Any], wrong: list[int], mode: str
) -> None:
    room.sql(f"CREATE TABLE odd (n int PRIMARY KEY, v {declared})")
    items = [Decimal(value) if pa.types.is_decimal(kind) else value for value in values]
    batch = batch_of({"n": pa.int32(), "v": kind}, list(enumerate(items)))

    assert room.problems(room.post(table="odd"), batch.schema) == []
    delivery = room.deliver(batch, table="odd", key="n", mode=mode)

    assert [row for row, _, _ in delivery.rejects] == wrong
    assert room.sql("SELECT n FROM odd ORDER BY n") == [(n,) for n in range(len(values)) if n not in wrong]
    kept = room.read(table="odd").table
    expected = batch.column("v").take(pa.array([n for n in range(len(values)) if n not in wrong], pa.int64()))
    assert kept["v"].combine_chunks().cast(kind).equals(expected)


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("int", pa.float64()), ("int", pa.decimal128(5, 2)), ("decimal(5,2)", pa.float64()), ("float", pa.float64()),
        ("date", pa.timestamp("us")), ("blob", pa.string()), ("text", pa.binary()), ("json", pa.binary()),
        ("text", pa.duration("us")), ("int", pa.string()), ("enum('1')", pa.int32()),
    ],
)  # fmt: skip
def test_a_column_that_cannot_take_a_type_is_a_problem_before_anything_runs(
    room: Room, declared: str, kind: pa.DataType
) -> None:
    room.sql(f"CREATE TABLE odd (v {declared})")

    problems = room.problems(room.post(table="odd"), pa.schema([("v", kind)]))

    assert len(problems) == 1
    assert problems[0].startswith("table: column 'v': ")


@pytest.mark.parametrize("size", [250, 251, 65_535, 65_536, (1 << 24) - 30, (1 << 24) + 7, 40_000_000])
def test_long_values_come_back_as_they_went(room: Room, size: int) -> None:
    batch = batch_of(
        {"n": pa.int64(), "v": pa.string(), "b": pa.binary()}, [(1, "x" * size, b"y"), (2, "ä", b"z" * 300)]
    )

    delivery = room.deliver(batch, table="long", mode="upsert", key="n")

    assert delivery.rejects == []
    assert room.read(table="long").table.cast(batch.schema).combine_chunks().to_batches()[0].equals(batch)
