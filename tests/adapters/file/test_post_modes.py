"""What `append`, `upsert` and `delete` make of what is there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.file.publish import FilePublication
from pipelines.errors import Invalid
from tests.adapters.file.post_room import batch, deliver, post, rows_of, scope_in, stage, visible


def test_the_last_record_of_a_key_wins(tmp_path: Path) -> None:
    node = post(path="out.jsonl", mode="upsert", key="id")
    batches = [
        batch([{"id": 1, "v": "first"}, {"id": 2, "v": "only"}]),
        batch([{"id": 1, "v": "middle"}, {"id": 1, "v": "last"}]),
    ]

    deliver(node, batches, tmp_path)

    assert (tmp_path / "out.jsonl").read_text() == '{"id":2,"v":"only"}\n{"id":1,"v":"last"}\n'


def test_an_upsert_keeps_the_other_lines_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text('{ "id" : 1, "price": 1.10, "more": [1e3] }\n\n{"id": 2}\n{"ID": 1, "id": "3"}')

    deliver(post(path="out.jsonl", mode="upsert", key="id"), [batch([{"id": 2, "price": 5}])], tmp_path)

    assert (tmp_path / "out.jsonl").read_text() == (
        '{ "id" : 1, "price": 1.10, "more": [1e3] }\n{"ID": 1, "id": "3"}\n{"id":2,"price":5}\n'
    )


def test_an_upsert_into_csv_compares_keys_as_values_and_keeps_the_columns_order(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text('v,id\r\n"x, y",007\r\n"",8\r\n,nine\r\n')

    deliver(post(path="out.csv", mode="upsert", key="id"), [batch([{"id": 7, "v": "new"}])], tmp_path)

    assert (tmp_path / "out.csv").read_text() == 'v,id\n"",8\n,nine\nnew,7\n'


def test_files_of_a_folder_that_lose_a_record_keep_their_own_columns(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pq.write_table(pa.table({"more": [0.5, 0.25], "id": [1, 2]}), tmp_path / "out" / "a.parquet")
    pq.write_table(pa.table({"id": pa.array([3], pa.int32()), "v": ["kept"]}), tmp_path / "out" / "b.parquet")
    (tmp_path / "out" / "_SUCCESS").touch()

    deliver(post(path="out/", mode="upsert", key="id"), [batch([{"id": 2, "more": 4.0}])], tmp_path)

    assert visible(tmp_path) == [
        "out/_SUCCESS",
        "out/b.parquet",
        "out/part-run-1.node-00000.parquet",
        "out/part-run-1.node-00001.parquet",
    ]
    assert rows_of(tmp_path / "out" / "part-run-1.node-00000.parquet") == [{"more": 0.5, "id": 1}]
    assert rows_of(tmp_path / "out" / "b.parquet") == [{"id": 3, "v": "kept"}]
    assert rows_of(tmp_path / "out" / "part-run-1.node-00001.parquet") == [{"id": 2, "more": 4.0}]


def test_csv_files_of_a_folder_keep_the_order_of_their_columns(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_text("v,id\nx,1\ny,2\n")

    deliver(post(path="out/", format="csv", mode="delete", key="id"), [batch([{"id": 2}])], tmp_path)

    assert (tmp_path / "out" / "part-run-1.node-00000.csv").read_text() == "v,id\nx,1\n"


def test_a_folder_with_a_file_that_lacks_the_key_is_invalid(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.csv").write_text("id\n1\n")
    (tmp_path / "out" / "b.csv").write_text("v\nx\n")

    with pytest.raises(Invalid, match=r"b.csv: has no column 'id'; there are: v"):
        deliver(post(path="out/", format="csv", mode="upsert", key="id"), [batch([{"id": 2}])], tmp_path)

    assert visible(tmp_path) == ["out/a.csv", "out/b.csv"]


def test_keys_are_compared_within_a_memory_limit(tmp_path: Path) -> None:
    rows = 400_000
    old = pa.record_batch(
        [pa.array([f"key {number:030d}" for number in range(rows)]), pa.array(range(rows))], names=["k", "n"]
    )
    scope = scope_in(tmp_path, "run-1")
    node = post(path="out.parquet", mode="upsert", key="k")
    parts, _ = stage(node, [old], scope)
    node.publish(parts, old.schema, scope, "run-1/node").commit()
    scope = scope_in(tmp_path, "run-2")
    again = old.set_column(1, "n", pa.array(range(rows, 2 * rows))).slice(rows // 2)
    parts, _ = stage(node, [again], scope)
    publication = node.publish(parts, old.schema, scope, "run-2/node")
    assert isinstance(publication, FilePublication)
    publication.builder.memory_bytes = 64_000_000

    publication.commit()

    numbers = pq.read_table(tmp_path / "out.parquet")["n"].to_pylist()
    assert numbers == [*range(rows // 2), *range(rows + rows // 2, 2 * rows)]


def test_a_file_without_a_last_line_feed_is_appended_to_on_a_new_line(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("id,v\n1,a")

    deliver(post(path="out.csv"), [batch([{"id": 2, "v": "b"}])], tmp_path)

    assert (tmp_path / "out.csv").read_text() == "id,v\n1,a\n2,b\n"


def test_a_parquet_file_of_another_writer_is_appended_to(tmp_path: Path) -> None:
    import duckdb

    duckdb.sql(f"copy (select 1::bigint as id, 'a' as v) to '{tmp_path}/out.parquet'")

    deliver(post(path="out.parquet"), [batch([{"id": 2, "v": "b"}])], tmp_path)

    assert rows_of(tmp_path / "out.parquet") == [{"id": 1, "v": "a"}, {"id": 2, "v": "b"}]
