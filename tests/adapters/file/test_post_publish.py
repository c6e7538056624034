"""What `file.post` shows, when it shows it, and what a crash leaves."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adapters.file import publish
from adapters.file.publish import FilePublication
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Part
from pipelines.sandbox import Sandbox
from pipelines.scope import Scope
from tests.adapters.file.post_room import batch, deliver, post, rows_of, scope_in, stage, visible

TARGETS = ["out.csv", "out.csv.gz", "out.jsonl", "out.parquet", "out/", "out/c={c}/", "out/{c}.csv"]
MODES = ["append", "replace", "upsert", "delete"]
FIRST = [{"id": 1, "c": "x", "v": "a"}, {"id": 2, "c": "y", "v": None}, {"id": 3, "c": "x", "v": ""}]
SECOND = [{"id": 1, "c": "x", "v": "new"}, {"id": 9, "c": "z", "v": "more"}]
EXPECTED = {
    "append": [*FIRST, *SECOND],
    "replace": SECOND,
    "upsert": [*FIRST[1:], *SECOND],
    "delete": FIRST[1:],
}


class Killed(BaseException):
    """Stands for the process's end."""


def records_in(folder: Path) -> list[tuple[Any, ...]]:
    """All records that a reader of the target finds, through DuckDB."""
    import duckdb

    found: list[tuple[Any, ...]] = []
    for name in visible(folder):
        path = str(folder / name)
        reader = {"parquet": "read_parquet({}, hive_partitioning=true)", "jsonl": "read_json({})"}.get(
            path.rsplit(".", 1)[1]
        )
        reader = reader or "read_csv({}, all_varchar=true, allow_quoted_nulls=false)"
        found += duckdb.sql(f"select id::int, c::text, v::text from {reader.format(repr(path))}").fetchall()
    return sorted(found, key=str)


def expected(mode: str, path: str) -> list[tuple[Any, ...]]:
    rows = EXPECTED[mode]
    if mode == "replace" and "{c}.csv" in path:
        rows = [*(row for row in FIRST if row["c"] == "y"), *SECOND]
    return sorted([(row["id"], row["c"], row["v"]) for row in rows], key=str)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("path", TARGETS)
def test_a_mode_does_what_it_says_and_leaves_nothing_else(path: str, mode: str, tmp_path: Path) -> None:
    deliver(post(path=path), [batch(FIRST)], tmp_path, "run-1")

    deliver(
        post(path=path, mode=mode, key=["id", "c"]),
        [batch(SECOND[:1]), batch(SECOND[1:])],
        tmp_path,
        "run-2",
        writers=2,
    )

    assert records_in(tmp_path) == expected(mode, path)
    assert not [name for name in visible(tmp_path) if "/." in f"/{name}"]


@pytest.mark.parametrize("mode", ["append", "replace", "upsert"])
@pytest.mark.parametrize("path", ["out.csv", "out.parquet", "out/", "out/{c}.csv"])
@pytest.mark.parametrize("died_after", range(5))
@pytest.mark.parametrize("is_abandoned", [False, True])
def test_a_commit_that_died_anywhere_is_finished_by_the_next(
    path: str, mode: str, died_after: int, is_abandoned: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(post(path=path), [batch(FIRST)], tmp_path, "run-1")
    node = post(path=path, mode=mode, key=["id", "c"])
    scope = scope_in(tmp_path, "run-2")
    parts, _ = stage(node, [batch(SECOND)], scope)
    dies = dying(died_after, monkeypatch)

    publication = node.publish(parts, batch(SECOND).schema, scope, "run-2/node")
    with suppress(Killed):
        publication.commit()
    dies.undo()
    if is_abandoned:
        publication.abandon()
    if not node.is_published(scope, "run-2/node"):
        node.publish(parts, batch(SECOND).schema, scope, "run-2/node").commit()
    node.publish(parts, batch(SECOND).schema, scope, "run-2/node").commit()

    assert node.is_published(scope, "run-2/node")
    assert records_in(tmp_path) == expected(mode, path)
    assert not [name for name in visible(tmp_path) if "/." in f"/{name}"]


def dying(after: int, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Ends the process, as it were, after so many calls that change what shows."""
    left = [after]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return call(*args, **kwargs)

        return wrapper

    monkeypatch.setattr(publish, "_exchange", counted(publish._exchange))
    monkeypatch.setattr(publish, "_write_mark", counted(publish._write_mark))
    monkeypatch.setattr(publish, "_sync_folder", counted(publish._sync_folder))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(publish.shutil, "rmtree", counted(publish.shutil.rmtree))
    return monkeypatch


@pytest.mark.parametrize("path", TARGETS)
def test_an_abandoned_publication_leaves_the_target_as_it_was(path: str, tmp_path: Path) -> None:
    deliver(post(path=path), [batch(FIRST)], tmp_path, "run-1")
    before = {name: (tmp_path / name).read_bytes() for name in visible(tmp_path)}
    node = post(path=path, mode="replace")
    scope = scope_in(tmp_path, "run-2")
    parts, _ = stage(node, [batch(SECOND)], scope)
    publication = node.publish(parts, batch(SECOND).schema, scope, "run-2/node")
    assert isinstance(publication, FilePublication)
    publication.builder.build()

    publication.abandon()

    assert {name: (tmp_path / name).read_bytes() for name in visible(tmp_path)} == before
    assert not node.is_published(scope, "run-2/node")


@pytest.mark.parametrize("path", ["new/deep/out.csv", "new/deep/out/"])
def test_an_abandoned_publication_removes_the_folders_it_made(path: str, tmp_path: Path) -> None:
    node = post(path=path)
    scope = scope_in(tmp_path)
    parts, _ = stage(node, [batch(FIRST)], scope)
    publication = node.publish(parts, batch(FIRST).schema, scope, "run-1/node")
    assert isinstance(publication, FilePublication)
    publication.builder.build()

    publication.abandon()

    assert not (tmp_path / "new").exists()


def test_parts_survive_an_abandoned_publication_so_that_it_can_be_tried_again(tmp_path: Path) -> None:
    node = post(path="out.parquet")
    scope = scope_in(tmp_path)
    parts, _ = stage(node, [batch(FIRST)], scope)
    node.publish(parts, batch(FIRST).schema, scope, "run-1/node").abandon()

    node.publish(parts, batch(FIRST).schema, scope, "run-1/node").commit()

    assert rows_of(tmp_path / "out.parquet") == FIRST


def test_a_writer_that_is_abandoned_leaves_no_part(tmp_path: Path) -> None:
    node = post(path="out/{c}/", format="jsonl")
    scope = scope_in(tmp_path)
    writer = node.open(batch(FIRST).schema, scope, Sandbox())
    writer.put(batch(FIRST))

    writer.abandon()

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("path", "content"), [("out.csv", "id,c,v\n"), ("out.jsonl", ""), ("out.parquet", None)])
def test_a_run_without_records_replaces_a_file_by_an_empty_one(path: str, content: str | None, tmp_path: Path) -> None:
    deliver(post(path=path), [batch(FIRST)], tmp_path, "run-1")
    scope = scope_in(tmp_path, "run-2")

    post(path=path, mode="replace").publish([], batch(FIRST).schema, scope, "run-2/node").commit()

    if content is None:
        assert rows_of(tmp_path / path) == []
        assert pq.read_schema(tmp_path / path).names == ["id", "c", "v"]
    else:
        assert (tmp_path / path).read_text() == content


@pytest.mark.parametrize("path", TARGETS)
@pytest.mark.parametrize("mode", ["append", "upsert", "delete"])
def test_a_run_without_records_changes_nothing(path: str, mode: str, tmp_path: Path) -> None:
    deliver(post(path=path), [batch(FIRST)], tmp_path, "run-1")
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in visible(tmp_path)}
    scope = scope_in(tmp_path, "run-2")

    post(path=path, mode=mode, key=["id", "c"]).publish([], batch(FIRST).schema, scope, "run-2/node").commit()

    assert {name: (tmp_path / name).stat().st_mtime_ns for name in visible(tmp_path)} == before


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


def test_a_replaced_folder_keeps_no_file_of_before_and_takes_no_stranger_along(tmp_path: Path) -> None:
    deliver(post(path="out/"), [batch(FIRST)], tmp_path, "run-1")
    (tmp_path / "out" / "notes.txt").write_text("mine")

    with pytest.raises(Invalid, match=r"holds notes.txt, which is no data file"):
        deliver(post(path="out/", mode="replace"), [batch(SECOND)], tmp_path, "run-2")

    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_a_link_stays_a_link_and_what_it_names_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "data.csv").write_text("id\n1\n")
    (tmp_path / "out.csv").symlink_to("real/data.csv")

    deliver(post(path="out.csv"), [batch([{"id": 2}])], tmp_path)

    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "real" / "data.csv").read_text() == "id\n1\n2\n"


def test_a_file_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("id\n1\n")
    (tmp_path / "out.csv").chmod(0o640)

    deliver(post(path="out.csv", mode="replace"), [batch([{"id": 2}])], tmp_path)

    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("path", "says"), [("out.csv", "is a folder"), ("out.csv/x.csv", "cannot be written")])
def test_a_target_that_is_something_else_is_invalid(path: str, says: str, tmp_path: Path) -> None:
    if path == "out.csv":
        (tmp_path / path).mkdir()
    else:
        (tmp_path / "out.csv").write_text("id\n")

    with pytest.raises(Invalid, match=says):
        deliver(post(path=path), [batch(FIRST)], tmp_path)


DISK_FULL = """
import os, resource, signal, sys
from pathlib import Path
import pyarrow as pa
from adapters.file.post import Post
from pipelines.errors import Unavailable
from pipelines.sandbox import Sandbox
from pipelines.scope import Scope

folder, path, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
scope = Scope(project=folder, run="r", staging=folder / ".processflow" / "staging" / "r")
node = Post.model_validate({"path": path, "mode": "replace"})
batch = pa.record_batch([pa.array([os.urandom(500).hex() for _ in range(2_000)])], names=["v"])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
writer = node.open(batch.schema, scope, Sandbox())
try:
    if where == "put":
        limit(100_000)
    for _ in range(3):
        writer.put(batch)
    parts = writer.close()
    second = node.open(batch.schema, scope, Sandbox())
    second.put(batch)
    parts = [*parts, *second.close()]
    limit(100_000)
    publication = node.publish(parts, batch.schema, scope, "r/node")
    try:
        publication.commit()
    except Unavailable:
        publication.abandon()
        raise
except Unavailable as fault:
    if where == "put":
        writer.abandon()
    print(fault)
    sys.exit(3)
"""


@pytest.mark.parametrize("where", ["put", "commit"])
@pytest.mark.parametrize("path", ["out.csv.gz", "out.parquet"])
def test_a_full_disk_is_said_with_the_path_and_leaves_nothing(
    path: str, where: str, tmp_path: Path, repository_root: Path
) -> None:
    (tmp_path / path).write_bytes(b"before")
    environment = {**os.environ, "PYTHONPATH": str(repository_root)}

    child = subprocess.run(
        [sys.executable, "-W", "error", "-c", DISK_FULL, str(tmp_path), path, where],
        capture_output=True,
        text=True,
        env=environment,
    )

    assert (child.returncode, child.stderr) == (3, "")
    assert f"{tmp_path}" in child.stdout
    assert "the disk is full" in child.stdout
    assert visible(tmp_path) == [path]
    assert (tmp_path / path).read_bytes() == b"before"
    if where == "put":
        assert [each for each in (tmp_path / ".processflow").rglob("*") if each.is_file()] == []


def test_after_a_fault_of_the_disk_a_writer_takes_nothing_more(tmp_path: Path) -> None:
    node = post(path="out.csv")
    scope = Scope(project=tmp_path, run="r", staging=Path("/dev/full/staging"))
    writer = node.open(batch(FIRST).schema, scope, Sandbox())

    with pytest.raises((Invalid, Unavailable)):
        writer.put(batch(FIRST))


def test_many_places_do_not_hold_many_files_open(tmp_path: Path) -> None:
    node = post(path="out/n={n}/", format="csv")
    records = pa.record_batch(
        [pa.array([number % 300 for number in range(900)]), pa.array(range(900))], names=["n", "v"]
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 100, hard))

    try:
        deliver(node, [records], tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert len(visible(tmp_path)) == 300
    assert (tmp_path / "out" / "n=7" / "part-run-1.node-00000.csv").read_text() == "v\n7\n307\n607\n"


def test_a_part_payload_travels_as_json(tmp_path: Path) -> None:
    import json

    parts, _ = stage(post(path="out/{c}/", format="csv"), [batch(FIRST)], scope_in(tmp_path))

    assert [Part(json.loads(json.dumps(part.payload)), part.rows, part.bytes) for part in parts] == parts
    assert sum(part.rows for part in parts) == 3
