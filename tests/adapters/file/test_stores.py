"""Reading from and delivering to S3 and SFTP: as on this machine's own paths."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.file import Get, Post
from pipelines.errors import Invalid
from pipelines.node import Want
from pipelines.scope import Scope
from tests.adapters.file.post_room import batch, post, stage
from tests.adapters.file.reading import checked
from tests.adapters.file.store_room import Room


def rows(scope: Scope, **fields: Any) -> list[dict[str, Any]]:
    get = Get(connection="lake", **fields)
    schema = checked(get, scope)
    return [
        row
        for split in get.plan(scope, None, Want()).splits
        for chunk in get.read(split.payload, schema, scope, Want())
        for row in chunk.batch.to_pylist()
    ]


def delivered(node: Post, batches: list[pa.RecordBatch], scope: Scope) -> None:
    parts, _ = stage(node, batches, scope)
    publication = node.publish(parts, batches[0].schema, scope, f"{scope.run}/node")
    list(publication.settle())
    publication.commit()
    assert node.is_published(scope, f"{scope.run}/node")


def parquet(table: pa.Table, **words: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **words)
    return sink.getvalue()


def test_a_file_a_folder_and_a_pattern_are_found(room: Room, tmp_path: Path) -> None:
    for name in ("in/a.csv", "in/b.csv", "in/deep/c.csv", "in/.hidden.csv", "in/_SUCCESS", "in/d.jsonl", "other.csv"):
        room.put(name, b"id,file\n1," + name.encode() + b"\n" if name.endswith("csv") else b"")
    scope = room.scope(tmp_path)

    def files(path: str) -> list[str]:
        return [file.name for file in Get(connection="lake", path=path).files(scope)]

    assert files("in/a.csv") == ["in/a.csv"]
    assert files("in/*.csv") == ["in/a.csv", "in/b.csv"]
    assert files("in/**/*.csv") == ["in/a.csv", "in/b.csv", "in/deep/c.csv"]
    assert files("in/[ab].csv") == ["in/a.csv", "in/b.csv"]
    assert files("in/[!a].csv") == ["in/b.csv"]
    assert files("in/?.jsonl") == ["in/d.jsonl"]
    assert files("*/a.csv") == ["in/a.csv"]
    assert files("in") == files("in/") == ["in/a.csv", "in/b.csv", "in/d.jsonl", "in/deep/c.csv"]
    assert files("/in/a.csv") == ["in/a.csv"]
    with pytest.raises(Invalid, match=r"there is no such file in \w+://.*; did you mean 'in/a\.csv'\?"):
        files("in/aa.csv")
    with pytest.raises(Invalid, match="leaves the connection's folder"):
        files("../other.csv")


def test_csv_is_read_by_byte_ranges_and_keeps_every_record(room: Room, tmp_path: Path) -> None:
    lines = [f'{number},"text {number}, with\na line"' for number in range(60_000)]
    room.put("big.csv", ("id,text\n" + "\n".join(lines) + "\n").encode())
    scope = room.scope(tmp_path)

    get = Get(connection="lake", path="big.csv", split_bytes=300_000)
    found = rows(scope, path="big.csv", split_bytes=300_000)

    assert len(get.plan(scope, None, Want()).splits) > 4
    assert [row["id"] for row in found] == list(range(60_000))
    assert found[777]["text"] == "text 777, with\na line"


def test_parquet_is_read_by_row_groups_and_only_the_columns_wanted(room: Room, tmp_path: Path) -> None:
    table = pa.table({"id": range(100_000), "text": [f"t{number % 1000}" * 20 for number in range(100_000)]})
    room.put("big.parquet", parquet(table, row_group_size=10_000))
    scope = room.scope(tmp_path)

    assert rows(scope, path="big.parquet") == table.to_pylist()
    assert rows(scope, path="big.parquet", columns=["id"]) == table.select(["id"]).to_pylist()


def test_compressed_and_other_formats_read_as_on_a_path(room: Room, tmp_path: Path) -> None:
    import gzip

    room.put("a.csv.gz", gzip.compress(b"id\n1\n2\n"))
    room.put("a.jsonl", b'{"id": 1}\n{"id": 2}\n')
    room.put("wide.csv", "name\nJürgen\n".encode("utf-16"))
    scope = room.scope(tmp_path)

    assert rows(scope, path="a.csv.gz") == rows(scope, path="a.jsonl") == [{"id": 1}, {"id": 2}]
    assert rows(scope, path="wide.csv", encoding="utf-16") == [{"name": "Jürgen"}]


def test_a_malformed_record_is_named_by_its_file_and_line(room: Room, tmp_path: Path) -> None:
    room.put("in/a.csv", b"id,total\n1,2\n3\n4,x\n")
    scope = room.scope(tmp_path)
    get = Get(connection="lake", path="in/a.csv", columns={"id": "BIGINT", "total": "BIGINT"})

    schema = checked(get, scope)
    (split,) = get.plan(scope, None, Want()).splits
    found = [chunk.malformed for chunk in get.read(split.payload, schema, scope, Want()) if chunk.malformed]

    assert [message.partition(":")[0] for one in found for message in one.messages] == [
        "in/a.csv line 3",
        "in/a.csv line 4",
    ]


def test_each_file_is_read_once_until_it_changes(room: Room, tmp_path: Path) -> None:
    room.put("in/a.csv", b"id\n1\n")
    scope = room.scope(tmp_path)
    get = Get(connection="lake", path="in/", once=True)

    first = get.plan(scope, None, Want())
    room.put("in/b.csv", b"id\n2\n")
    second = get.plan(scope, first.position, Want())
    room.put("in/a.csv", b"id\n1\n3\n")
    third = get.plan(scope, get.later(first.position, second.position), Want())
    by_hash = Get(connection="lake", path="in/", once="hash")
    known = by_hash.plan(scope, None, Want()).position
    room.put("in/b.csv", b"id\n33\n")
    fourth = by_hash.plan(scope, known, Want())

    assert [split.payload[0] for split in second.splits] == ["in/b.csv"]
    assert second.note == "1 new file, 1 read before"
    assert [split.payload[0] for split in third.splits] == ["in/a.csv"]
    assert [split.payload[0] for split in fourth.splits] == ["in/b.csv"]


@pytest.mark.parametrize("path", ["out/orders.csv", "out/orders.jsonl", "out/orders.parquet", "out/orders.csv.gz"])
def test_a_file_is_made_replaced_and_appended_to(path: str, room: Room, tmp_path: Path) -> None:
    one, two, three = ([{"id": number, "name": f"n{number}"}] for number in (1, 2, 3))

    delivered(post(connection="lake", path=path), [batch(one)], room.scope(tmp_path, "r1"))
    delivered(post(connection="lake", path=path), [batch(two)], room.scope(tmp_path, "r2"))
    assert rows(room.scope(tmp_path), path=path) == [*one, *two]
    delivered(post(connection="lake", path=path, mode="replace"), [batch(three)], room.scope(tmp_path, "r3"))

    assert rows(room.scope(tmp_path), path=path) == three
    assert (list(room.files()), room.pending()) == ([path], [])


def test_upsert_and_delete_change_the_records_of_their_keys(room: Room, tmp_path: Path) -> None:
    room.put("stock.csv", b"sku,left\na,1\nb,2\nc,3\n")

    node = post(connection="lake", path="stock.csv", mode="upsert", key="sku")
    delivered(node, [batch([{"sku": "b", "left": 9}, {"sku": "d", "left": 4}])], room.scope(tmp_path, "r1"))
    node = post(connection="lake", path="stock.csv", mode="delete", key="sku")
    delivered(node, [batch([{"sku": "a"}])], room.scope(tmp_path, "r2"))

    assert room.files() == {"stock.csv": b"sku,left\nc,3\nb,9\nd,4\n"}
    assert room.pending() == []


def test_a_folder_by_hive_gets_new_parts_and_is_upserted_place_by_place(room: Room, tmp_path: Path) -> None:
    path = "orders/year={year}/"
    first = [{"id": 1, "year": 2025, "v": "a"}, {"id": 2, "year": 2026, "v": "b"}]
    node = post(connection="lake", path=path, format="parquet")
    delivered(node, [batch(first)], room.scope(tmp_path, "r1"))
    delivered(node, [batch([{"id": 3, "year": 2026, "v": "c"}])], room.scope(tmp_path, "r2"))
    before = set(room.files())

    upsert = post(connection="lake", path=path, format="parquet", mode="upsert", key=["id", "year"])
    delivered(upsert, [batch([{"id": 2, "year": 2026, "v": "new"}])], room.scope(tmp_path, "r3"))

    assert {name.partition("/part-")[0] for name in before} == {"orders/year=2025", "orders/year=2026"}
    assert len(before) == 3
    found = rows(room.scope(tmp_path), path="orders/")
    assert sorted((row["id"], row["v"]) for row in found) == [(1, "a"), (2, "new"), (3, "c")]
    assert len(before & set(room.files())) == 2, "files without such a key stay as they are"
    assert room.pending() == []


def test_a_replaced_folder_holds_the_new_parts_alone(room: Room, tmp_path: Path) -> None:
    room.put("all/old.parquet", parquet(pa.table({"id": [7]})))
    room.put("all/deep/older.parquet", parquet(pa.table({"id": [8]})))

    delivered(post(connection="lake", path="all/", mode="replace"), [batch([{"id": 1}])], room.scope(tmp_path))

    assert rows(room.scope(tmp_path), path="all/") == [{"id": 1}]
    assert len(room.files()) == 1


def test_a_replaced_folder_takes_no_strangers_along(room: Room, tmp_path: Path) -> None:
    room.put("all/letter.txt.doc", b"mine")

    with pytest.raises(Invalid, match=r"letter\.txt\.doc, which is no data file and would be lost"):
        delivered(post(connection="lake", path="all/", mode="replace"), [batch([{"id": 1}])], room.scope(tmp_path))

    assert room.files() == {"all/letter.txt.doc": b"mine"}


def test_what_is_there_decides_the_columns_that_can_be_appended(room: Room, tmp_path: Path) -> None:
    room.put("a.csv", b"id,name\n1,x\n")
    room.put("a.parquet", parquet(pa.table({"id": pa.array([1], pa.int32())})))
    scope = room.scope(tmp_path)

    def problems(path: str, schema: pa.Schema) -> list[str]:
        found: list[str] = []

        def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
            found.append(what)

        post(connection="lake", path=path).check({"": schema}, scope, report)
        return found

    wide = pa.schema([("id", pa.int64()), ("other", pa.string())])
    assert problems("a.csv", wide) == ["column 'other' is not in the file that is there, which has: id, name"]
    assert problems("a.parquet", wide.remove(1)) == ["column 'id' is int64, but int32 in the file that is there"]


def test_nothing_shows_before_the_commit_and_nothing_stays_of_what_was_abandoned(room: Room, tmp_path: Path) -> None:
    room.put("a.csv", b"id\n1\n")
    scope = room.scope(tmp_path)
    node = post(connection="lake", path="a.csv")
    parts, _ = stage(node, [batch([{"id": 2}])], scope)

    publication = node.publish(parts, pa.schema([("id", pa.int64())]), scope, "r/node")
    list(publication.settle())
    brought = room.pending()
    seen = {name: data for name, data in room.files().items() if not name.startswith(".")}
    publication.abandon()

    assert len(brought) == 1
    assert seen == {"a.csv": b"id\n1\n"}
    assert (room.files(), room.pending()) == ({"a.csv": b"id\n1\n"}, [])


def test_a_file_that_somebody_changes_meanwhile_is_not_written_over(room: Room, tmp_path: Path) -> None:
    from pipelines.errors import Unavailable

    room.put("a.csv", b"id\n1\n")
    scope = room.scope(tmp_path)
    node = post(connection="lake", path="a.csv")
    parts, _ = stage(node, [batch([{"id": 2}])], scope)
    publication = node.publish(parts, pa.schema([("id", pa.int64())]), scope, "r/node")
    list(publication.settle())
    room.put("a.csv", b"id\n1\n77\n")

    with pytest.raises(Unavailable, match=r"a\.csv: was changed by somebody else meanwhile; run again"):
        publication.commit()

    assert (room.files(), room.pending()) == ({"a.csv": b"id\n1\n77\n"}, [])
    node.publish(parts, pa.schema([("id", pa.int64())]), scope, "r/node").commit()
    assert room.files() == {"a.csv": b"id\n1\n77\n2\n"}


def test_a_run_that_was_killed_is_finished_or_cleaned_up(room: Room, tmp_path: Path) -> None:
    scope = room.scope(tmp_path)
    node, schema = post(connection="lake", path="deep/a.csv"), pa.schema([("id", pa.int64())])
    parts, _ = stage(node, [batch([{"id": 2}])], scope)

    list(node.publish(parts, schema, scope, "r/node").settle())
    assert len(room.pending()) == 1
    assert not node.is_published(scope, "r/node")
    node.publish(parts, schema, scope, "r/node").commit()
    list(node.publish(parts, schema, scope, "other/node").settle())
    node.sweep(scope, "other/node")

    assert (room.files(), room.pending()) == ({"deep/a.csv": b"id\n2\n"}, [])


def test_a_connection_is_tested_and_tells_its_files(room: Room, tmp_path: Path) -> None:
    room.put("in/a.csv", b"id,name\n1,x\n")
    room.put("broken.parquet", b"nothing")
    room.put("letter.doc", b"")
    scope = room.scope(tmp_path)

    said = room.connection().test(scope)
    broken, found = room.connection().discover(scope)

    assert "lake" in said or "127.0.0.1" in said
    assert (found.name, found.kind, found.columns) == (
        "in/a.csv",
        "file",
        pa.schema([("id", pa.int64()), ("name", pa.string())]),
    )
    assert "cannot be read as Parquet" in broken.note
