"""What reading Parquet gives: exact types, splits by row groups, the wanted columns; and what it says of bad files."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.file.format import File
from adapters.file.get import Get
from adapters.file.parquet import Parquet
from pipelines.errors import Invalid
from pipelines.node import Chunk, Want

NODE = Get.model_validate({"path": "in.parquet"})
HOSTILE = sorted((Path(__file__).parents[2] / "hostile" / "parquet").glob("*.parquet"))


def file_at(path: Path) -> File:
    facts = path.stat()
    return File(path, path.name, facts.st_size, facts.st_mtime_ns, str(facts.st_ino))


def chunks_of(path: Path, schema: pa.Schema | None = None, **want: Any) -> Iterator[Chunk]:
    file = file_at(path)
    schema = Parquet().schema([file], NODE) if schema is None else schema
    for split in Parquet().splits(file, NODE):
        yield from Parquet().read(file, split.payload, NODE, schema, Want(**want))


def read(path: Path, schema: pa.Schema | None = None, **want: Any) -> pa.Table:
    return pa.Table.from_batches([chunk.batch for chunk in chunks_of(path, schema, **want)])


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    table = pa.table({"n": pa.array(range(1_000)), "text": [f"{number}" for number in range(1_000)]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=100)
    return tmp_path / "in.parquet"


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_a_bad_file_is_invalid_and_named(path: Path) -> None:
    with pytest.raises(Invalid, match=path.name.replace(".", r"\.")) as caught:
        list(chunks_of(path))

    assert "\n" not in str(caught.value)


def test_the_row_groups_before_a_damaged_one_can_be_read(tmp_path: Path) -> None:
    path = next(path for path in HOSTILE if path.stem == "damaged_row_group")
    schema = Parquet().schema([file_at(path)], NODE)

    first = list(Parquet().read(file_at(path), [0, 2], NODE, schema, Want()))

    assert sum(chunk.batch.num_rows for chunk in first) == 1_000


def test_types_come_exact(tmp_path: Path) -> None:
    made = pa.table(
        {
            "decimal": pa.array([Decimal("12345678901234567890.12345"), None], pa.decimal128(38, 5)),
            "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")),
            "few": pa.array(["a", None]).dictionary_encode(),
            "nested": pa.array([[{"a": [1, None]}], None], pa.list_(pa.struct([("a", pa.list_(pa.int16()))]))),
            "large": pa.array(["x", ""], pa.large_string()),
            "list_of_few": pa.array([["a"], None], pa.list_(pa.string())).cast(pa.large_list(pa.large_string())),
            "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
        }
    )
    pq.write_table(made, tmp_path / "in.parquet")

    found = read(tmp_path / "in.parquet")

    assert found.to_pylist() == made.to_pylist()
    assert [field.type for field in found.schema] == [
        pa.decimal128(38, 5),
        pa.timestamp("us", "Europe/Berlin"),
        pa.string(),
        made.schema.field("nested").type,
        pa.string(),
        pa.list_(pa.field("element", pa.string())),
        pa.map_(pa.string(), pa.int8()),
    ]


def test_what_duckdb_writes_comes_as_duckdb_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    duckdb.sql(
        f"""copy (
            select i::integer as i, i / 7 as d, (i * 1.25)::decimal(18, 2) as m, 'v' || i as v, i % 2 = 0 as b,
                date '2026-01-01' + i::integer as day, timestamptz '2026-01-01 00:00:00+00' + interval (i) hour as at,
                [i, null] as l, {{'x': i, 'y': {{'z': v}}}} as s, case when i % 3 = 0 then null else i end as gaps
            from range(500) t(i)
        ) to '{path}' (row_group_size 100)"""
    )

    found = read(path)

    assert found.to_pylist() == duckdb.sql(f"from '{path}'").to_arrow_table().to_pylist()


def test_ordinals_count_through_a_split_and_fit_its_room(numbers: Path) -> None:
    splits = Parquet().splits(file_at(numbers), NODE)
    chunks = list(chunks_of(numbers, batch_rows=64))

    assert [split.room for split in splits] == [1_000]
    assert [chunk.first for chunk in chunks] == [
        sum(each.batch.num_rows for each in chunks[:n]) for n in range(len(chunks))
    ]
    assert all(chunk.batch.column("n")[0].as_py() == chunk.first for chunk in chunks)
    assert max(chunk.batch.num_rows for chunk in chunks) <= 64


def test_large_row_groups_are_split_and_all_is_read_once(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array(range(2_500_000), pa.int32())})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=400_000)

    splits = Parquet().splits(file_at(tmp_path / "in.parquet"), NODE)

    assert [split.room for split in splits] == [800_000, 800_000, 900_000]
    assert read(tmp_path / "in.parquet").equals(table)


def test_only_wanted_columns_are_read_in_their_order(numbers: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("absent", pa.int64()), ("n", pa.int64())])

    found = read(numbers, schema)

    assert found.schema.equals(schema)
    assert found.slice(0, 2).to_pylist() == [
        {"text": "0", "absent": None, "n": 0},
        {"text": "1", "absent": None, "n": 1},
    ]


def test_records_are_counted_where_no_column_is_wanted(numbers: Path) -> None:
    assert sum(chunk.batch.num_rows for chunk in chunks_of(numbers, pa.schema([]))) == 1_000


def test_reading_stops_when_there_is_enough(numbers: Path) -> None:
    assert sum(chunk.batch.num_rows for chunk in chunks_of(numbers, rows=5)) == 5


def test_a_column_with_a_point_in_its_name_is_not_taken_for_a_nested_one(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": 1}], "a.b": [2], "c": [3]})
    pq.write_table(table, tmp_path / "in.parquet")

    assert read(tmp_path / "in.parquet").to_pylist() == [{"a": {"b": 1}, "a.b": 2, "c": 3}]
    assert read(tmp_path / "in.parquet", pa.schema([("a.b", pa.int64())])).to_pylist() == [{"a.b": 2}]


def test_files_of_different_columns_are_united(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([1], pa.int32()), "v": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": pa.array([2], pa.int64()), "w": [0.5]}), tmp_path / "b.parquet")
    files = [file_at(tmp_path / "a.parquet"), file_at(tmp_path / "b.parquet")]

    schema = Parquet().schema(files, NODE)

    assert schema.equals(pa.schema([("id", pa.int64()), ("v", pa.string()), ("w", pa.float64())]))
    assert read(tmp_path / "a.parquet", schema).to_pylist() == [{"id": 1, "v": "a", "w": None}]


def test_files_whose_columns_have_no_common_type_are_a_problem_that_names_one(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "b.parquet")

    with pytest.raises(Invalid, match=r"b\.parquet: column 'id' is int64 .* and string"):
        Parquet().schema([file_at(tmp_path / "a.parquet"), file_at(tmp_path / "b.parquet")], NODE)


def test_a_file_without_records_has_columns_and_no_splits(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": pa.array([], pa.int64())}), tmp_path / "in.parquet")

    assert Parquet().schema([file_at(tmp_path / "in.parquet")], NODE).names == ["id"]
    assert Parquet().splits(file_at(tmp_path / "in.parquet"), NODE) == []


def test_times_of_old_spark_files_come_where_nanoseconds_cannot_hold_them(tmp_path: Path) -> None:
    moment = datetime.fromisoformat("3000-01-01T00:00:00")
    table = pa.table({"at": pa.array([moment], pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "in.parquet", use_deprecated_int96_timestamps=True, store_schema=False)

    assert read(tmp_path / "in.parquet").to_pylist() == [{"at": moment}]
