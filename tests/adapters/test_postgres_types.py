"""PostgreSQL's types read and written: exactly, or rejected."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from adapters.postgres.matching import matched
from pipelines.tables.finding import Matching
from tests.adapters.table_finds import found
from tests.adapters.table_room import Room, batch_of


@pytest.fixture
def room(postgres_room: Room) -> Room:
    return postgres_room


@pytest.mark.parametrize(
    ("declared", "text", "kind", "value"),
    [
        ("smallint", "-32768", pa.int16(), -32768),
        ("bigint", "9223372036854775807", pa.int64(), 9223372036854775807),
        ("real", "1.1", pa.float32(), 1.100000023841858),
        ("double precision", "-Infinity", pa.float64(), float("-inf")),
        ("numeric(38,10)", "1234567890123456789012345678.0123456789", pa.decimal128(38, 10), Decimal("1234567890123456789012345678.0123456789")),
        ("numeric", "1.10", pa.string(), "1.10"),
        ("numeric", "NaN", pa.string(), "NaN"),
        ("numeric(50,2)", "1.10", pa.string(), "1.10"),
        ("boolean", "yes", pa.bool_(), True),
        ("date", "2024-02-29", pa.date32(), date(2024, 2, 29)),
        ("time", "23:59:59.5", pa.time64("us"), time(23, 59, 59, 500000)),
        ("timestamp", "2024-02-29 10:00:00.000001", pa.timestamp("us"), datetime(2024, 2, 29, 10, 0, 0, 1)),  # noqa: DTZ001
        ("timestamptz", "2024-02-29 10:00:00.25+05:30", pa.timestamp("us", "UTC"), datetime(2024, 2, 29, 4, 30, 0, 250000, UTC)),
        ("timetz", "10:00:00+02", pa.string(), "10:00:00+02"),
        ("interval", "1 year 2 mons 3 days 04:05:06", pa.string(), "1 year 2 mons 3 days 04:05:06"),
        ("text", "", pa.string(), ""),
        ("text", 'a"b,\n\\N', pa.string(), 'a"b,\n\\N'),
        ("char(4)", "ab", pa.string(), "ab  "),
        ("json", '{"b": 1, "a":1}', pa.string(), '{"b": 1, "a":1}'),
        ("jsonb", '{"b": 1, "a":1}', pa.string(), '{"a": 1, "b": 1}'),
        ("uuid", "9E33C5B6-450E-4029-8C81-0227B1D4A103", pa.string(), "9e33c5b6-450e-4029-8c81-0227b1d4a103"),
        ("bytea", "\\x00ff", pa.binary(), b"\x00\xff"),
        ("bytea", "\\x", pa.binary(), b""),
        ("int4range", "[1,5)", pa.string(), "[1,5)"),
        ("tstzrange", "[2024-01-01 10:00+02,)", pa.string(), '["2024-01-01 08:00:00+00",)'),
        ("numrange", "empty", pa.string(), "empty"),
        ("int4multirange", "{[1,3),[5,7)}", pa.string(), "{[1,3),[5,7)}"),
        ("money", "1.50", pa.string(), "$1.50"),
        ("bit(3)", "101", pa.string(), "101"),
        ("oid", "4294967295", pa.uint32(), 4294967295),
        ("name", "é", pa.string(), "é"),
        ("numeric(5,-2)", "12300", pa.string(), "12300"),
        ("numeric(3,5)", "0.00123", pa.string(), "0.00123"),
        ("double precision", "5e-324", pa.float64(), 5e-324),
        ("date", "0001-01-01", pa.date32(), date(1, 1, 1)),
        ("timestamptz", "9999-12-31 23:59:59.999999+00", pa.timestamp("us", "UTC"), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)),
        ("uuid[]", "{9e33c5b6-450e-4029-8c81-0227b1d4a103,NULL}", pa.list_(pa.string()), ["9e33c5b6-450e-4029-8c81-0227b1d4a103", None]),
        ("boolean[]", "{t,f,NULL}", pa.list_(pa.bool_()), [True, False, None]),
        ("jsonb[]", '{"{\\"a\\": 1}"}', pa.string(), '{"{\\"a\\": 1}"}'),
        ("inet", "10.0.0.1", pa.string(), "10.0.0.1"),
        ("integer[]", "{1,NULL,3}", pa.list_(pa.int32()), [1, None, 3]),
        ("bigint[]", "{}", pa.list_(pa.int64()), []),
        ("text[]", '{"a\\"b",NULL,"","{,}"}', pa.list_(pa.string()), ['a"b', None, "", "{,}"]),
        ("numeric(12,2)[]", "{1.10,9999999999.99}", pa.list_(pa.decimal128(12, 2)), [Decimal("1.10"), Decimal("9999999999.99")]),
        ("float8[]", "{1.5,Infinity}", pa.list_(pa.float64()), [1.5, float("inf")]),
        ("timestamptz[]", '{"2024-01-01 10:00:00+02"}', pa.list_(pa.timestamp("us", "UTC")), [datetime(2024, 1, 1, 8, tzinfo=UTC)]),
        ("bytea[]", '{"\\\\xff"}', pa.string(), '{"\\\\xff"}'),
    ],
)  # fmt: skip
def test_each_type_is_read_exactly_and_null_apart_from_empty(
    room: Room, declared: str, text: str, kind: pa.DataType, value: object
) -> None:
    literal = "E'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"
    room.sql(f"CREATE TABLE odd (v {declared})", f"INSERT INTO odd VALUES ({literal}), (NULL)")

    reading = room.read(table="odd")

    assert reading.malformed == []
    assert reading.table.schema == pa.schema([("v", kind)])
    assert reading.rows == [{"v": value}, {"v": None}]


def test_enums_domains_and_composites_are_read(room: Room) -> None:
    room.sql(
        "CREATE TYPE colour AS ENUM ('red', 'light green')",
        "CREATE DOMAIN cents AS bigint CHECK (VALUE >= 0)",
        "CREATE TYPE place AS (x int, y text)",
        "CREATE TABLE odd (c colour, cs colour[], d cents, p place)",
        "INSERT INTO odd VALUES ('light green', '{red,light green}', 5, ROW(1, 'a b'))",
    )

    assert room.read(table="odd").rows == [{"c": "light green", "cs": ["red", "light green"], "d": 5, "p": '(1,"a b")'}]


@pytest.mark.parametrize(
    ("declared", "text", "shown"),
    [
        ("numeric(10,2)", "NaN", "NaN"),
        ("date", "infinity", "infinity"),
        ("date", "0044-03-15 BC", "0044-03-15 BC"),
        ("date", "10000-01-01", "10000-01-01"),
        ("timestamptz", "294276-12-31 23:59:59+00", "294276-12-31 23:59:59+00"),
        ("timestamp", "-infinity", "-infinity"),
        ("timestamptz", "infinity", "infinity"),
        ("time", "24:00:00", "24:00:00"),
        ("integer[]", "{{1,2},{3,4}}", "[[1,2],[3,4]]"),
        ("date[]", "{2024-01-01,infinity}", '["2024-01-01","infinity"]'),
        ("time[]", "{24:00}", '["24:00:00"]'),
        ("numeric(4,1)[]", "{1.5,NaN,NULL}", '[1.5,"NaN",null]'),
    ],
)
def test_a_value_that_its_type_has_no_room_for_is_malformed_and_the_others_are_read(
    room: Room, declared: str, text: str, shown: str
) -> None:
    good = {"integer[]": "{1}", "numeric(10,2)": "1.00", "time": "10:00", "time[]": "{23:59}"}.get(
        declared, "2024-01-01"
    )
    good = {"numeric(4,1)[]": "{NULL,1.5}", "date[]": "{2024-01-01}"}.get(declared, good)
    rows = ", ".join(f"({n}, '{text if n == 17 else good}')" for n in range(40))
    room.sql(f"CREATE TABLE odd (n int, v {declared})", f"INSERT INTO odd VALUES {rows}")

    reading = room.read(table="odd")

    assert [row["n"] for row in reading.rows] == [n for n in range(40) if n != 17]
    assert [ordinal for _, ordinal in reading.ordinals] == [n for n in range(40) if n != 17]
    assert len(reading.malformed) == 1
    raw, code, words = reading.malformed[0]
    assert code == "type"
    assert f"column 'v': {shown} is no" in words
    assert '"n": 17' in raw


def test_an_unbounded_numeric_is_read_as_the_decimal_declared_and_what_it_would_round_is_malformed(room: Room) -> None:
    room.sql("CREATE TABLE odd (v numeric)", "INSERT INTO odd VALUES (1.1), (1.10), (1.125), (-0.5), ('NaN'), (7e3)")

    reading = room.read(table="odd", columns={"v": "decimal(10,2)"})

    assert [row["v"] for row in reading.rows] == [Decimal(text) for text in ("1.10", "1.10", "-0.50", "7000.00")]
    assert len(reading.malformed) == 2


def test_sums_that_the_database_computes_have_the_types_that_are_declared(room: Room) -> None:
    room.sql(
        "CREATE TABLE odd (k text, v numeric(10,2))", "INSERT INTO odd VALUES ('a', 0.10), ('a', 0.20), ('b', NULL)"
    )

    reading = room.read(
        query="SELECT k, sum(v) AS v, count(*) AS n FROM odd GROUP BY k ORDER BY k",
        columns={"k": "varchar", "v": "decimal(18,2)", "n": "integer"},
    )

    assert reading.table.schema.field("v").type == pa.decimal128(18, 2)
    assert reading.rows == [{"k": "a", "v": Decimal("0.30"), "n": 2}, {"k": "b", "v": None, "n": 1}]


@pytest.mark.parametrize(
    ("declared", "kind", "values", "wrong"),
    [
        ("numeric(5,2)", pa.decimal128(10, 3), ["1.120", "1.125", "1000.000"], [1, 2]),
        ("numeric", pa.string(), ["1.125", "1e-30", "much"], [2]),
        ("numeric(50,2)", pa.string(), ["1.1200", "NaN", "1.125", "1e-3"], [2, 3]),
        ("integer", pa.int64(), [1, 2**31], [1]),
        ("varchar(3)", pa.string(), ["abc", "abcd", "abc  "], [1, 2]),
        ("timestamp", pa.timestamp("ns"), [1000, 1001], [1]),
        ("timestamp(0)", pa.timestamp("us"), [1_000_000, 1_500_000], [1]),
        ("double precision", pa.int64(), [2**53, 2**53 + 1], [1]),
        ("jsonb", pa.string(), ['{"a": 1}', "{a}"], [1]),
        ("uuid", pa.string(), ["9e33c5b6-450e-4029-8c81-0227b1d4a103", "no"], [1]),
        ("text", pa.string(), ["a", "a\0b"], [1]),
        ("int4range", pa.string(), ["[1,5)", "[5,1)"], [1]),
        ("integer[]", pa.list_(pa.int64()), [[1, None], [2**31]], [1]),
        ("interval", pa.string(), ["3 days", "three days"], [1]),
        ("numeric(4,1)[]", pa.list_(pa.decimal128(5, 2)), [[Decimal("1.10"), None], [Decimal("1.25")], []], [1]),
        ("timestamp[]", pa.list_(pa.timestamp("ns")), [[1000, None], [1000, 1001]], [1]),
        ("varchar(2)[]", pa.list_(pa.string()), [["ab"], ["abc"], ["ab "]], [1, 2]),
        ("float8[]", pa.list_(pa.int64()), [[2**53], [2**53 + 1]], [1]),
        ("uuid[]", pa.list_(pa.string()), [["9e33c5b6-450e-4029-8c81-0227b1d4a103", None], ["no"]], [1]),
        ("numeric(5,-2)", pa.int64(), [12300, 12345, -12345], [1, 2]),
        ("numeric(38,9)", pa.decimal256(60, 10), ["1.1234567890", "1.1234567891"], [1]),
        ("numeric", pa.float64(), [0.1, float("nan")], []),
        ("oid", pa.int64(), [1, -1, 2**32], [1, 2]),
        ("money", pa.string(), ["1.10", "1.100", "1.105"], [2]),
        ("name", pa.string(), ["a" * 63, "é" * 32], [1]),
        ('"char"', pa.string(), ["a", "ab"], [1]),
        ("interval(0)", pa.string(), ["1 second", "1.5 seconds"], [1]),
        ("timetz", pa.string(), ["10:00:00.123456+02", "10:00:00.1234567+02"], [1]),
        ("date", pa.date32(), [0, -719_162, -719_163, 11_248_737, 11_248_738], [2, 4]),
        ("timestamp", pa.timestamp("s"), [0, -62_135_596_800, -62_135_596_801, 2**60], [2, 3]),
        ("timestamptz", pa.timestamp("us", "UTC"), [0, 253_402_300_800_000_000, 2**63 - 1, -(2**63) + 1], [2, 3]),
        ("timestamptz", pa.timestamp("ms", "Europe/Berlin"), [0, 2**53, 2**62], [1, 2]),
        ("timestamp[]", pa.list_(pa.timestamp("s")), [[0], [2**60]], [1]),
        ("bit(3)", pa.string(), ["101", "1010"], [1]),
        ("inet", pa.string(), ["10.0.0.1", "10.0.0.256"], [1]),
        ("int4multirange", pa.string(), ["{[1,3),[5,7)}", "{[3,1)}"], [1]),
        ("jsonb", pa.string(), ['"a"', '"\\u0000"'], [1]),
        ("jsonb", pa.float64(), [1.5, float("nan")], [1]),
        ("smallint", pa.uint64(), [1, 2**64 - 1], [1]),
    ],
)
def test_a_value_that_the_column_would_change_or_refuse_is_rejected(
    room: Room, declared: str, kind: pa.DataType, values: list[Any], wrong: list[int]
) -> None:
    room.sql(f"CREATE TABLE odd (n int, v {declared})")
    items = [Decimal(value) if pa.types.is_decimal(kind) else value for value in values]
    batch = batch_of({"n": pa.int32(), "v": kind}, list(enumerate(items)))

    assert room.problems(room.post(table="odd"), batch.schema) == []
    delivery = room.deliver(batch, table="odd", key="n")

    assert [row for row, _, _ in delivery.rejects] == wrong
    assert room.sql("SELECT n FROM odd ORDER BY n") == [(n,) for n in range(len(values)) if n not in wrong]


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("integer", pa.float64()), ("integer", pa.decimal128(5, 2)), ("numeric(5,2)", pa.float64()), ("numeric(5,2)", pa.string()),
        ("real", pa.float64()), ("date", pa.timestamp("us")), ("timestamp", pa.timestamp("us", "UTC")),
        ("boolean", pa.int8()), ("bytea", pa.string()), ("text", pa.binary()), ("integer[]", pa.list_(pa.string())),
        ("text", pa.duration("us")), ("jsonb", pa.date32()), ("numeric(4,1)[]", pa.string()), ("integer", pa.timestamp("s")),
    ],
)  # fmt: skip
def test_a_column_that_cannot_take_a_type_is_a_problem_before_anything_runs(
    room: Room, declared: str, kind: pa.DataType
) -> None:
    room.sql(f"CREATE TABLE odd (v {declared})")

    problems = room.problems(room.post(table="odd"), pa.schema([("v", kind)]))

    assert len(problems) == 1
    assert problems[0].startswith("table: column 'v': ")


def test_line_breaks_in_texts_do_not_shift_the_line_that_is_refused(room: Room) -> None:
    room.sql("CREATE TABLE notes (n int, t text, u int CHECK (u > 0))")
    rows = [(n, "a\nb\r\nc\r" if n % 2 else None, 0 if n in (0, 7, 98) else 1) for n in range(100)]

    delivery = room.deliver(batch_of({"n": pa.int32(), "t": pa.string(), "u": pa.int32()}, rows), table="notes")

    assert sorted(row for row, _, _ in delivery.rejects) == [0, 7, 98]
    assert [row["n"] for row in delivery.delivered] == [n for n in range(100) if n not in (0, 7, 98)]
    assert room.sql("SELECT count(*), count(t) FROM notes WHERE t = E'a\\nb\\r\\nc\\r' OR t IS NULL") == [(97, 49)]


def test_a_key_of_a_type_that_is_text_here_finds_its_own_record_and_no_other(postgres_room: Room) -> None:
    one = "0b1f1f6e-93f1-4f0a-9d0c-2f8a4a1a0001"
    postgres_room.sql(
        "CREATE TYPE mood AS ENUM ('glad', 'sad')",
        "CREATE TABLE odd (id uuid, padded char(5), short varchar(3), m mood, n numeric, address inet)",
        f"INSERT INTO odd VALUES ('{one}', 'ab', 'abc', 'sad', 1.50, '10.0.0.1')",
    )
    asked = {
        "id": ["no uuid", one, one.upper(), "a\0b"],
        "padded": ["ab", "ab   "],
        "short": ["abcdef", "abc"],
        "m": ["sad", "neither"],
        "n": ["1.5", "1.50"],
        "address": ["10.0.0.1", "10.0.0.1/32"],
    }

    hits = {
        name: found(
            postgres_room, pa.record_batch({name: pa.array(values)}), {name: name}, [name], table="odd"
        ).keys.to_pylist()
        for name, values in asked.items()
    }

    assert hits == {"id": [1], "padded": [1], "short": [1], "m": [0], "n": [1], "address": [0]}


def test_a_lookup_by_an_indexed_key_reads_the_index(postgres_room: Room) -> None:
    postgres_room.sql(
        "CREATE TABLE many (n bigint, m text, PRIMARY KEY (n, m))",
        "INSERT INTO many SELECT n, n::text FROM generate_series(1, 50000) n",
        "CREATE INDEX by_m ON many (m)",
        "ANALYZE many",
    )
    values: dict[str, object] = {}
    pair = pa.record_batch({"k0": pa.array([5, 6]), "k1": pa.array(["5", "6"])})
    get = postgres_room.get(table="many")
    with get.reader(postgres_room.scope) as reader:
        n, m = reader.columns(get, {})
        for columns, keys in (([m], pair.select(["k1"])), ([n, m], pair)):
            condition = matched(get, Matching(columns, keys), values)
            plan = reader.rows(f"EXPLAIN SELECT * FROM many WHERE {condition}", values)

            assert any("Index" in str(line[0]) for line in plan), plan
