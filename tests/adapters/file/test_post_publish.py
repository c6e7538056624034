"""What `file.post` shows, when it shows it, and what a crash leaves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from adapters.file import publish
from adapters.file.publish import FilePublication
from pipelines.errors import Invalid
from pipelines.node import Part
from pipelines.sql.sandbox import Sandbox
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


def test_a_part_payload_travels_as_json(tmp_path: Path) -> None:
    import json

    parts, _ = stage(post(path="out/{c}/", format="csv"), [batch(FIRST)], scope_in(tmp_path))

    assert [Part(json.loads(json.dumps(part.payload)), part.rows, part.bytes) for part in parts] == parts
    assert sum(part.rows for part in parts) == 3
