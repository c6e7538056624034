"""`file.get` for JSON lines: every record arrives once with exact values, or is set aside with its reason."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.file import Get
from pipelines.errors import Invalid
from pipelines.node import Want
from pipelines.scope import Scope
from tests.adapters.file.reading import Read, checked, write

HOSTILE = Path(__file__).parents[2] / "hostile" / "jsonl"
COLUMNS = {
    "id": "BIGINT",
    "name": "VARCHAR",
    "at": "STRUCT(city VARCHAR, zip INTEGER)",
    "lines": "STRUCT(sku VARCHAR, price DECIMAL(38,19))[]",
    "tags": "VARCHAR[]",
    "ok": "BOOLEAN",
}

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=5)
whole = st.integers(-(1 << 63), (1 << 63) - 1)
prices = st.decimals(-(10**18), 10**18, places=19, allow_nan=False, allow_infinity=False)
records = st.fixed_dictionaries(
    {},
    optional={
        "id": st.none() | whole,
        "name": st.none() | names,
        "at": st.none()
        | st.fixed_dictionaries(
            {}, optional={"city": st.none() | names, "zip": st.integers(-(1 << 31), (1 << 31) - 1)}
        ),
        "lines": st.none()
        | st.lists(st.none() | st.fixed_dictionaries({}, optional={"sku": names, "price": prices}), max_size=3),
        "tags": st.lists(names, max_size=3),
        "ok": st.booleans(),
        "unread": st.recursive(st.none() | st.integers() | names, lambda inner: st.lists(inner, max_size=2)),
    },
)


def as_line(record: dict[str, Any]) -> str:
    """A record as JSON, decimals as numbers with all their digits."""
    marked = json.dumps(record, default=lambda value: f"\ue000{value:f}\ue000", ensure_ascii=False)
    return marked.replace('"\ue000', "").replace('\ue000"', "")


def filled(value: Any, kind: pa.DataType) -> Any:
    """The value as it should arrive: keys that are missing are null."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {field.name: filled(value.get(field.name), field.type) for field in kind}
    return [filled(item, kind.value_type) for item in value] if pa.types.is_list(kind) else value


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(records, max_size=8), split_bytes=st.integers(20, 400), batch_rows=st.integers(1, 5))
def test_what_pythons_json_writes_is_read_back_whatever_the_ranges(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], split_bytes: int, batch_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("jsonl")
    write(folder, "".join(f"{as_line(row)}\n" for row in rows), "data.jsonl")

    read = Read(folder, path="data.jsonl", columns=COLUMNS, split_bytes=split_bytes, want=Want(batch_rows=batch_rows))

    assert read.rows == [filled(row, pa.struct(list(read.schema))) for row in rows]
    assert read.malformed == []
    assert read.ordinals == sorted(set(read.ordinals))


LINES = [
    '{"id": 1, "in": {"a": 1.5}, "l": [{"q": 1}]}',
    '{"id": "2", "in": {"a": 1.5}, "l": []}',
    '{"id": 2.5, "in": {"a": 1.5}, "l": []}',
    '{"id": 3}',
    '{"id": 4, "in": 5, "l": []}',
    '{"id": 5, "in": {"a": "x"}, "l": [{"q": 1}]}',
    '{"id": 6, "in": {"a": null}, "l": [{"q": "x"}, {"q": 2}]}',
    '{"id": 7, "in": {}, "l": [null, {}]}',
    '{"id": 8, "in": {"a": 1}, "l": {"q": 1}}',
    '{"id": 9, "id": 9, "in": {"a": 1}, "l": []}',
    '{"id": 99999999999999999999, "in": {"a": 1}, "l": []}',
    '{"id": 10, "in": {"a": 1}, "l": [{"q": 1.5}]}',
    '{"id": true, "in": {"a": 1}, "l": []}',
    "[1]",
    "",
    '{"id": 11',
    '{"id": 12, "in": {"a": 1}, "l": [5]}',
]


@settings(max_examples=40, deadline=None)
@given(places=st.lists(st.integers(0, len(LINES) - 1), max_size=16), split_bytes=st.integers(20, 900))
def test_a_line_fares_the_same_alone_and_among_others(
    tmp_path_factory: pytest.TempPathFactory, places: list[int], split_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("jsonl")
    columns = {"id": "BIGINT", "in": "STRUCT(a DOUBLE)", "l": "STRUCT(q INTEGER)[]"}
    fates = {}
    for place in set(places):
        write(folder, f"{LINES[place]}\n", "one.jsonl")
        alone = Read(folder, path="one.jsonl", columns=columns)
        fates[place] = (alone.rows, [bad[1:3] for bad in alone.malformed])
    write(folder, "".join(f"{LINES[place]}\n" for place in places), "data.jsonl")

    read = Read(folder, path="data.jsonl", columns=columns, split_bytes=split_bytes)

    assert read.rows == [row for place in places for row in fates[place][0]]
    assert [bad[1:3] for bad in read.malformed] == [bad for place in places for bad in fates[place][1]]


def test_what_is_read_is_what_duckdb_reads(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    with duckdb.connect() as connection:
        connection.execute(
            f"""COPY (SELECT i AS id, {{'name': 'c' || i, 'at': {{'city': 'x' || i % 7, 'n': i / 4}}}} AS customer,
                [{{'sku': 's' || i, 'n': i % 3}}, {{'sku': 'é', 'n': NULL}}] AS lines, i % 2 = 0 AS even,
                CASE WHEN i % 5 > 0 THEN i / 8 END AS share FROM range(20000) t(i)) TO '{path}' (FORMAT json)"""
        )
        wanted = connection.sql(f"SELECT * FROM '{path}'").to_arrow_table()

    read = Read(tmp_path, path="data.jsonl", split_bytes=200_000)

    assert read.rows == wanted.to_pylist()
    assert len(read.plan.splits) > 5


def test_lines_that_hold_no_object_are_set_aside_with_text_line_and_reason() -> None:
    read = Read(HOSTILE, path="no_objects.jsonl")

    assert read.column("id") == [1, 4]
    assert read.ordinals == [0, 6]
    assert [bad[1:] for bad in read.malformed] == [
        ("json", '[{"id": 2}]', "no_objects.jsonl line 2: is an array where an object is wanted"),
        ("json", "3", "no_objects.jsonl line 3: is a number where an object is wanted"),
        ("json", '"x"', "no_objects.jsonl line 4: is a text where an object is wanted"),
        ("json", "null", "no_objects.jsonl line 5: is null where an object is wanted"),
        ("json", "true", "no_objects.jsonl line 6: is true or false where an object is wanted"),
    ]


def test_a_line_that_is_cut_short_is_set_aside_with_the_place_where_it_ends() -> None:
    read = Read(HOSTILE, path="cut_short.jsonl")

    assert read.column("id") == [1, 2]
    assert [bad[1:] for bad in read.malformed] == [
        (
            "json",
            '{"id": 3, "na',
            "cut_short.jsonl line 3: is no JSON: Malformed JSON at byte 13 of input: unexpected end of data.",
        )
    ]


def test_columns_of_changing_types_are_text_unless_declared() -> None:
    inferred = Read(HOSTILE, path="changing_types.jsonl")
    declared = Read(HOSTILE, path="changing_types.jsonl", columns={"id": "BIGINT", "value": "BIGINT"})

    assert inferred.column("value") == ["1", "2.5", "x", "true", '{"a":1}', None, None]
    assert declared.column("id") == [1, 6, 7]
    assert [bad[3] for bad in declared.malformed] == [
        "changing_types.jsonl line 2: column 'value': '2.5' is no BIGINT",
        "changing_types.jsonl line 3: column 'value': 'x' is no BIGINT",
        "changing_types.jsonl line 4: column 'value': 'true' is no BIGINT",
        "changing_types.jsonl line 5: column 'value': '{\"a\":1}' is no BIGINT",
    ]


def test_numbers_are_exact_where_they_fit_and_refused_where_they_do_not() -> None:
    columns = {"id": "BIGINT", "big": "DECIMAL(38,0)", "d": "DECIMAL(38,19)", "f": "DOUBLE"}

    read = Read(HOSTILE, path="big_numbers.jsonl", columns=columns)

    assert [tuple(row.values()) for row in read.rows] == [
        ((1 << 63) - 1, Decimal(123456789012345678901234567890), Decimal("0.1234567890123456789"), 0.001),
        (-1, Decimal(2), Decimal("1.5"), 0.25),
    ]
    assert [bad[3] for bad in read.malformed] == [
        "big_numbers.jsonl line 2: column 'id': '9223372036854775808' is no BIGINT"
    ]


def test_text_that_is_no_utf8_or_no_json_text_sets_its_line_aside() -> None:
    read = Read(HOSTILE, path="bad_utf8.jsonl")

    assert read.column("name") == ["Renée \0 😀"]
    assert [bad[1] for bad in read.malformed] == ["encoding", "json", "json"]


def test_a_key_that_is_there_twice_sets_its_line_aside() -> None:
    read = Read(HOSTILE, path="twice.jsonl")

    assert read.column("id") == [4]
    assert [bad[3] for bad in read.malformed] == [
        "twice.jsonl line 1: has a key twice",
        'twice.jsonl line 2: has a key twice in "in"',
    ]


def test_deep_nesting_neither_stops_the_reading_nor_loses_its_neighbours() -> None:
    read = Read(HOSTILE, path="deeply_nested.jsonl")
    as_text = Read(HOSTILE, path="deeply_nested.jsonl", columns={"id": "BIGINT", "deep": "VARCHAR"})

    assert read.column("id") == [2, 3]
    assert len(read.malformed) == 1
    assert as_text.column("deep") == ["[" * 3000 + "]" * 3000, '{"a":' * 200 + "1" + "}" * 200, None]


@pytest.mark.parametrize("name", ["byte_order_mark.jsonl", "blank_lines.jsonl"])
def test_byte_order_marks_and_blank_lines_are_no_records(name: str) -> None:
    read = Read(HOSTILE, path=name, split_bytes=4)

    assert read.column("id") == [1, 2]
    assert read.malformed == []


def test_keys_that_differ_only_in_case_must_be_chosen_from() -> None:
    with pytest.raises(Invalid, match="'', 'ID', 'id' are empty or differ only in case; name those to read"):
        Read(HOSTILE, path="keys.jsonl")

    read = Read(HOSTILE, path="keys.jsonl", columns=["id", "a b"])

    assert read.rows == [{"id": 1, "a b": {"x.y": 4, 'q"': "5"}}, {"id": 2, "a b": {"x.y": None, 'q"': "z"}}]


def test_types_are_inferred_from_the_values(tmp_path: Path) -> None:
    write(
        tmp_path,
        '{"n": 1, "f": 1, "day": "2024-01-31", "at": "2024-01-31T10:00:00", "z": "2024-01-31T10:00:00Z", "e": []}\n'
        '{"f": 2.5, "big": 18446744073709551616, "day": null, "mixed": 1, "o": {"a": {"b": 1}}, "e": [1], "none": {}}\n'
        '{"mixed": [1], "o": {"a": {"c": true}}, "l": [{"x": 1}, {"y": "2024-01-31"}]}\n',
        "data.jsonl",
    )

    schema = checked(Get(path="data.jsonl"), Scope(project=tmp_path))
    read = Read(tmp_path, path="data.jsonl")

    assert {field.name: str(field.type) for field in schema} == {
        "n": "int64",
        "f": "double",
        "day": "date32[day]",
        "at": "timestamp[us]",
        "z": "timestamp[us, tz=UTC]",
        "e": "list<item: int64>",
        "big": "decimal128(38, 0)",
        "mixed": "string",
        "o": "struct<a: struct<b: int64, c: bool>>",
        "none": "string",
        "l": "list<item: struct<x: int64, y: date32[day]>>",
    }
    assert read.rows[0]["z"] == datetime(2024, 1, 31, 10, tzinfo=UTC)
    assert read.rows[1]["big"] == Decimal(1 << 64)
    assert read.rows[2]["l"] == [{"x": 1, "y": None}, {"x": None, "y": date(2024, 1, 31)}]
    assert read.malformed == []


def test_types_that_json_does_not_have_are_refused_at_their_column(tmp_path: Path) -> None:
    write(tmp_path, '{"id": 1}\n', "data.jsonl")

    for kind in ("BLOB", "INTERVAL", "MAP(VARCHAR, BIGINT)", "STRUCT(a INTEGER[3])"):
        with pytest.raises(Invalid, match=r"columns\.id: column 'id': JSON has no .*; read it as VARCHAR"):
            Read(tmp_path, path="data.jsonl", columns={"id": kind})


def test_other_encodings_and_compressed_files_are_read(tmp_path: Path) -> None:
    write(tmp_path, '{"name": "Renée"}\n'.encode("latin-1"), "latin.jsonl")
    write(tmp_path, '{"name": "Renée"}\r\n'.encode("utf-16"), "wide.jsonl")
    write(tmp_path, gzip.compress(b'{"name": "a"}\n{"name": \n'), "packed.jsonl.gz")

    packed = Read(tmp_path, path="packed.jsonl.gz")

    assert Read(tmp_path, path="latin.jsonl", encoding="latin-1").column("name") == ["Renée"]
    assert Read(tmp_path, path="wide.jsonl", encoding="utf-16").column("name") == ["Renée"]
    assert packed.column("name") == ["a"]
    assert packed.malformed[0][3].startswith("packed.jsonl.gz line 2: is no JSON")


def test_only_wanted_columns_are_read_and_records_counted_without_any(tmp_path: Path) -> None:
    write(tmp_path, '{"id": 1, "name": "a"}\n{"id": "x", "name": "b"}\n', "data.jsonl")
    get, scope = Get(path="data.jsonl", columns={"id": "BIGINT", "name": "VARCHAR"}), Scope(project=tmp_path)
    schema = checked(get, scope)
    split = get.plan(scope, None, Want()).splits[0].payload

    found = list(get.read(split, schema, scope, Want(frozenset({"name"}))))
    nothing = list(get.read(split, schema, scope, Want(frozenset())))

    assert [chunk.batch.to_pydict() for chunk in found] == [{"name": ["a", "b"]}]
    assert sum(chunk.batch.num_rows for chunk in nothing) == 2
