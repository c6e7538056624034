"""What `file.post` writes reads back the same, in every format, whatever the values and the size of batches."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.adapters.file.post_room import batch, deliver, post, read_back, rows_of

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        "NULL",
        "null",
        '"',
        '""',
        ",",
        "\n",
        "\r\n",
        "a,b",
        " padded ",
        "\ufeff",
        "007",
        "1e3",
        "\\",
        "\\N",
        "{}",
        "é",
    ]
)
TYPES: dict[str, tuple[pa.DataType, Any]] = {
    "BIGINT": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "DOUBLE": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "DECIMAL(38,10)": (
        pa.decimal128(38, 10),
        st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(f"{n}E-10")),
    ),
    "VARCHAR": (pa.string(), TEXTS),
    "BOOLEAN": (pa.bool_(), st.booleans()),
    "DATE": (pa.date32(), st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "TIMESTAMP": (
        pa.timestamp("us"),
        st.datetimes(
            datetime.fromisoformat("0001-01-01T00:00:00"), datetime.fromisoformat("9999-12-31T23:59:59.999999")
        ),
    ),
    "TIMESTAMP WITH TIME ZONE": (
        pa.timestamp("us", "UTC"),
        st.datetimes(
            datetime.fromisoformat("0001-01-03T00:00:00"),
            datetime.fromisoformat("9999-12-30T00:00:00"),
            timezones=st.just(UTC),
        ),
    ),
    "TIME": (pa.time64("us"), st.times()),
}
NESTED: dict[str, tuple[pa.DataType, Any]] = {
    "list": (
        pa.list_(pa.decimal128(20, 3)),
        st.lists(st.none() | st.integers(-(10**19), 10**19).map(lambda n: Decimal(f"{n}E-3")), max_size=3),
    ),
    "struct": (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.struct([("c", pa.int64())])))]),
        st.fixed_dictionaries(
            {
                "a": st.none() | TEXTS,
                "b": st.none() | st.lists(st.none() | st.fixed_dictionaries({"c": st.integers(0, 9)}), max_size=2),
            }
        ),
    ),
    "map": (
        pa.map_(pa.string(), pa.float64()),
        st.dictionaries(TEXTS, st.none() | st.floats(-9, 9), max_size=2).map(lambda items: list(items.items())),
    ),
}


@st.composite
def tables(draw: st.DrawFn, *, nested: bool) -> tuple[pa.Table, int]:
    """Records of all types, some null, and a batch size."""
    kinds = TYPES | (NESTED if nested else {})
    rows = draw(st.integers(0, 12))
    columns = [
        pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
        for kind, values in kinds.values()
    ]
    return pa.table(columns, names=[f"{name.split('(')[0].lower()} column" for name in kinds]), draw(st.integers(1, 5))


def batches_of(table: pa.Table, size: int) -> Sequence[pa.RecordBatch]:
    return table.to_batches(max_chunksize=size) or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def declared(table: pa.Table) -> dict[str, str]:
    return dict(zip(table.column_names, TYPES, strict=True))


@pytest.mark.parametrize(
    "config",
    [
        {"path": "out.csv"},
        {"path": "out.csv", "quoting": "text"},
        {"path": "out.csv", "quoting": "all", "delimiter": ";"},
        {"path": "out.tsv", "null": "NULL"},
        {"path": "out.csv.gz"},
        {"path": "out.jsonl"},
        {"path": "out.jsonl.zst"},
        {"path": "folder/", "format": "csv"},
    ],
    ids=lambda config: "-".join(config.values()),
)
@settings(max_examples=15)
@given(made=tables(nested=False))
def test_text_reads_back_the_same(config: dict[str, str], made: tuple[pa.Table, int]) -> None:
    table, size = made
    reading: dict[str, Any] = {"columns": declared(table), "path": config["path"]}
    if "delimiter" in config:
        reading["delimiter"] = config["delimiter"]
    if "null" in config:
        reading["null_values"] = [config["null"]]

    with tempfile.TemporaryDirectory() as folder:
        outcomes = deliver(post(**config), batches_of(table, size), Path(folder))
        found = read_back(Path(folder), **reading)

    assert [outcome.rejects for outcome in outcomes if outcome.rejects] == []
    assert found.equals(table)


@settings(max_examples=25)
@given(made=tables(nested=True), writers=st.integers(1, 3))
def test_parquet_reads_back_the_same_from_any_number_of_writers(made: tuple[pa.Table, int], writers: int) -> None:
    table, size = made
    batches = batches_of(table, size)
    order = [number for first in range(writers) for number in range(first, len(batches), writers)]

    with tempfile.TemporaryDirectory() as folder:
        deliver(post(path="out.parquet"), batches, Path(folder), writers=writers)
        found = read_back(Path(folder), path="out.parquet")
        by_duckdb = duckdb.sql(f"select count(*) from '{folder}/out.parquet'").fetchall()

    assert found.equals(pa.Table.from_batches([batches[number] for number in order], table.schema))
    assert by_duckdb == [(table.num_rows,)]


UNICODE_LINE_ENDS = pa.table(
    [
        pa.array([None, []], NESTED["list"][0]),
        pa.array([{"a": "1\u20282\u20293\x854\v5\f6\x1c7\r8", "b": None}, None], NESTED["struct"][0]),
        pa.array([None, [("\x85", None), ("\u2028", 1e300)]], NESTED["map"][0]),
    ],
    names=[f"{name} column" for name in NESTED],
)
"""What Unicode, but neither JSON lines nor CSV, takes for the end of a line."""


@st.composite
def nested_tables(draw: st.DrawFn) -> tuple[pa.Table, int]:
    """Records whose values all are nested, and a batch size."""
    table, size = draw(tables(nested=True))
    return table.select(table.column_names[len(TYPES) :]), size


@settings(max_examples=25)
@given(made=nested_tables())
@example(made=(UNICODE_LINE_ENDS, 1))
def test_nested_values_are_json_that_holds_the_same(made: tuple[pa.Table, int]) -> None:
    table, size = made

    with tempfile.TemporaryDirectory() as folder:
        deliver(post(path="out.jsonl"), batches_of(table, size), Path(folder))
        lines = (Path(folder) / "out.jsonl").read_bytes().split(b"\n")

    assert lines.pop() == b""
    found = [json.loads(line, parse_float=Decimal) for line in lines]
    assert found == [{name: json_value(name, value) for name, value in row.items()} for row in table.to_pylist()]


@settings(max_examples=25)
@given(made=nested_tables())
@example(made=(UNICODE_LINE_ENDS, 1))
def test_nested_values_are_json_in_fields_of_csv(made: tuple[pa.Table, int]) -> None:
    table, size = made

    with tempfile.TemporaryDirectory() as folder:
        deliver(post(path="out.csv"), batches_of(table, size), Path(folder))
        with (Path(folder) / "out.csv").open(newline="") as file:
            found = list(csv.DictReader(file))

    assert [
        {name: json.loads(field, parse_float=Decimal) if field else None for name, field in row.items()}
        for row in found
    ] == [{name: json_value(name, value) for name, value in row.items()} for row in table.to_pylist()]


def json_value(name: str, value: Any) -> Any:
    """What JSON has in the place of a value: an object for a map."""
    if name == "map column" and value is not None:
        return {key: None if item is None else Decimal(repr(item)) for key, item in value}
    return value


def test_nested_values_stand_in_csv_as_json(tmp_path: Path) -> None:
    records = batch([{"id": 1, "lines": [{"sku": 'a"b', "n": 1}]}, {"id": 2, "lines": None}])

    deliver(post(path="out.csv"), [records], tmp_path)

    assert (tmp_path / "out.csv").read_text() == 'id,lines\n1,"[{""sku"":""a\\""b"",""n"":1}]"\n2,\n'


def test_times_carry_the_offset_of_their_zone(tmp_path: Path) -> None:
    berlin = pa.timestamp("us", "Europe/Berlin")
    values = [datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), datetime(2026, 7, 1, 12, tzinfo=UTC), None]
    records = pa.record_batch([pa.array(values, berlin)], names=["at"])

    deliver(post(path="out.jsonl"), [records], tmp_path)

    assert (tmp_path / "out.jsonl").read_text().splitlines() == [
        '{"at":"2026-01-01T00:00:00.000000+01:00"}',
        '{"at":"2026-07-01T14:00:00.000000+02:00"}',
        '{"at":null}',
    ]


def test_small_decimals_have_no_exponent_and_floats_keep_their_point(tmp_path: Path) -> None:
    records = pa.record_batch(
        [pa.array([Decimal("0.0000000001")], pa.decimal128(20, 10)), pa.array([2.0]), pa.array([time(1, 2, 3)])],
        names=["d", "f", "t"],
    )

    deliver(post(path="out.csv"), [records], tmp_path)

    assert (tmp_path / "out.csv").read_text() == "d,f,t\n0.0000000001,2.0,01:02:03.000000\n"


def test_a_dictionary_column_is_written_decoded(tmp_path: Path) -> None:
    column = pa.array(["a", None, "a"]).dictionary_encode()
    records = pa.record_batch([column], names=["c"])

    deliver(post(path="out.parquet"), [records, records.slice(1)], tmp_path)

    assert rows_of(tmp_path / "out.parquet") == [{"c": value} for value in ("a", None, "a", None, "a")]
    assert pa.types.is_string(read_back(tmp_path, path="out.parquet").schema.field("c").type)


def test_large_batches_are_written_in_row_groups_that_hold_what_came(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    numbers = pa.record_batch(
        [pa.array(range(300_000)), pa.array([number % 3 for number in range(300_000)])], names=["n", "few"]
    )

    deliver(post(path="out.parquet"), [numbers, numbers], tmp_path, writers=2)

    metadata = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [262_144, 37_856] * 2
    assert [metadata.row_group(0).column(column).has_dictionary_page for column in (0, 1)] == [False, True]
    assert pc.sum(pq.read_table(tmp_path / "out.parquet")["n"]).as_py() == 2 * sum(range(300_000))
