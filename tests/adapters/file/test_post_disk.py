"""What `file.post` does when the disk is full or handles are few."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.errors import Invalid, Unavailable
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.adapters.file.post_room import batch, deliver, post, visible

FIRST = [{"id": 1, "c": "x", "v": "a"}, {"id": 2, "c": "y", "v": None}]

DISK_FULL = """
import os, resource, signal, sys
from pathlib import Path
import pyarrow as pa
from adapters.file.post import Post
from pipelines.errors import Unavailable
from pipelines.sql.sandbox import Sandbox
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
