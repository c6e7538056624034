"""The data logs: visible by one commit, whatever happens in between, and read back whole."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import Unavailable
from pipelines.records import ROW_ID
from repository import port
from repository.commit import merge
from repository.lake import commit, open_tap
from repository.manifest import COMMITS, read
from repository.sample import SAMPLE_ROWS
from tests.repository.lakes import numbers


def test_nothing_shows_before_the_manifest_and_a_second_commit_finishes_the_first(
    lake: Any, monkeypatch: pytest.MonkeyPatch, reported: Any
) -> None:
    monkeypatch.setattr(port, "SPILL_BYTES", 1000)
    one = lake.tap(snapshots={"loud.out": "all"})
    one.records("loud", "out", numbers(0, 5_000))
    one.records("orders", "out", numbers(0, 5))
    pieces = [dict(piece) for piece in one.close()]
    with monkeypatch.context() as broken:
        broken.setattr("repository.commit.write", _power_failure)
        with pytest.raises(Unavailable, match=r"power failure.*then try again"):
            commit(lake.root, reported("r1"), pieces)
    seen = read(lake.root).commits

    commit(lake.root, reported("r1"), pieces)
    commit(lake.root, reported("r1"), pieces)

    assert seen == []
    assert lake.rows("records", columns="node, count(*)", rest="GROUP BY ALL ORDER BY ALL") == [
        ("loud", 5_000),
        ("orders", 5),
    ]
    assert len(read(lake.root).commits) == 1


def test_a_commit_without_the_pieces_of_the_first_leaves_nothing_of_them(
    lake: Any, monkeypatch: pytest.MonkeyPatch, reported: Any
) -> None:
    for run in ("r1.x", "r1~x", "r11"):
        lake.write("orders", pa.record_batch({"n": [1]}), run=run)
    one = lake.tap()
    one.records("orders", "out", numbers(0, 5))
    with monkeypatch.context() as broken:
        broken.setattr("repository.commit.write", _power_failure)
        with pytest.raises(Unavailable, match=r"power failure.*then try again"):
            commit(lake.root, reported("r1"), one.close())

    commit(lake.root, reported("r1", status="failed"), [])

    assert not list(lake.root.rglob("*/r1.parquet*"))
    assert lake.rows("runs", columns="status", rest="WHERE run = 'r1'") == [("failed",)]
    assert lake.rows("records", columns="run", rest="ORDER BY run") == [("r1.x",), ("r11",), ("r1~x",)]


def _power_failure(*_: object) -> None:
    raise OSError("power failure")


def test_a_full_disk_shows_nothing_and_can_be_tried_again(lake: Any, reported: Any, repository_root: Path) -> None:
    one = lake.tap()
    one.records("orders", "out", numbers(0, 5_000, "some text"))
    pieces = [dict(piece) for piece in one.close()]
    code = (
        "import pickle, resource, signal, sys; from repository.lake import commit\n"
        "from pipelines.errors import Unavailable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "try: commit(*pickle.load(sys.stdin.buffer))\n"
        "except Unavailable as fault: print(fault)"
    )

    told = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps((lake.root, reported("r1"), pieces)),
        cwd=repository_root,
        capture_output=True,
        check=True,
    )
    seen = read(lake.root).commits
    commit(lake.root, reported("r1"), pieces)

    assert b"cannot be written" in told.stdout, told
    assert seen == []
    assert lake.rows("records", columns="count(*)") == [(5_000,)]
    assert not list(lake.root.rglob("*.tmp"))


def test_what_ships_to_workers_imports_no_database(repository_root: Path) -> None:
    code = "import sys, repository.lake; print([m for m in sys.modules if m in {'apache_beam', 'sqlalchemy', 'duckdb', 'typer'}])"

    told = subprocess.run([sys.executable, "-c", code], cwd=repository_root, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "[]"


def test_failed_and_cancelled_runs_are_there_too(lake: Any) -> None:
    for status in ("failed", "cancelled"):
        lake.commit(run=status, status=status, error="it broke", balanced=False)

    columns = "run, status, balanced, error, epoch(ended - started), delivery ->> 'label', parameters ->> 'since'"
    assert lake.rows("runs", columns=columns, rest="ORDER BY run") == [
        ("cancelled", "cancelled", False, "it broke", 2.0, "at least once", "2026-01-01"),
        ("failed", "failed", False, "it broke", 2.0, "at least once", "2026-01-01"),
    ]


def test_nodes_have_their_ledger_per_port_and_in_sum(lake: Any) -> None:
    lake.commit()

    columns = "node, type, \"in\", out ->> 'out', out_records, rejected, delivered, status"
    assert lake.rows("nodes", columns=columns) == [
        ("orders", "file.get", 0, "3", 3, 0, 0, "done"),
        ("erp", "file.post", 3, "2", 2, 1, 2, "done_with_rejects"),
    ]


def test_merged_manifests_show_the_same_as_single_ones(lake: Any) -> None:
    for number in range(7):
        lake.write("orders", pa.record_batch({"id": [number]}), run=f"r{number}")
    before = [lake.rows(*name, rest="ORDER BY ALL") for name in (("runs",), ("nodes",), ("web-orders", "orders"))]

    merge(lake.root, most=5)
    lake.write("orders", pa.record_batch({"id": [7]}), run="r7")
    lake.commit(run="r3", status="failed")

    after = [lake.rows(*name, rest="ORDER BY ALL") for name in (("runs",), ("nodes",), ("web-orders", "orders"))]
    assert len(list((lake.root / COMMITS).glob("*.json"))) == 2
    assert [rows[: len(old)] for rows, old in zip(after[:1], before[:1], strict=True)] == before[:1]
    assert [len(rows) for rows in after] == [8, 16, 8]


def test_a_manifest_read_while_it_is_merged_counts_once(lake: Any) -> None:
    for number in range(3):
        lake.commit(run=f"r{number}")
    copies = {path: path.read_bytes() for path in (lake.root / COMMITS).glob("r*.json")}

    merge(lake.root, most=1)
    for path, text in copies.items():
        path.write_bytes(text)

    assert lake.rows("runs", columns="run", rest="ORDER BY run") == [("r0",), ("r1",), ("r2",)]
    assert len(read(lake.root).commits) == 3


def test_reading_a_thousand_runs_opens_few_files(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repository.manifest.os.fsync", lambda _: None)
    for number in range(300):
        commit(lake.root, {"run": f"r{number:04}", "flow": "f", "started": "2026-11-23T10:00:00+00:00"}, [])

    assert len(list((lake.root / COMMITS).glob("*.json"))) <= 131
    assert lake.rows("runs", columns="count(*)") == [(300,)]


def test_names_that_are_no_file_names_are_kept_apart(lake: Any) -> None:
    lake.write("a/b", pa.record_batch({"id": [1]}), run="../x", flow="..")
    lake.write("a/b", pa.record_batch({"id": [2]}), run="%2E./x", flow="x/y")

    assert {path.parts[len(lake.root.parts)] for path in lake.root.rglob("*.parquet")} == {"records"}
    assert lake.rows("..", "a/b", columns="id") == [(1,)]
    assert lake.rows("x/y", "a/b", columns="id") == [(2,)]


def test_the_tap_can_be_opened_on_another_machine(lake: Any) -> None:
    opener, plan = pickle.loads(pickle.dumps((open_tap, lake.plan())))

    one = opener(plan)
    one.records("orders", "out", numbers(0, 1))

    assert len(one.close()) == 1


def test_a_lake_on_another_disk_gets_copies(lake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from repository.commit import _move

    source, target = tmp_path / "a.parquet", tmp_path / "b.parquet"
    source.write_bytes(b"x")

    def other_disk(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    _move(source, target, other_disk)

    assert target.read_bytes() == b"x"
    assert not source.exists()


def test_columns_that_pyarrow_cannot_pick_rows_of_are_sampled_all_the_same(lake: Any) -> None:
    ids = pa.array(range(20_000), pa.int64())
    texts = pa.array([f"t{number}" for number in range(20_000)], pa.string_view())
    ends = pa.RunEndEncodedArray.from_arrays(pa.array([20_000], pa.int32()), ["same"])
    one = lake.tap()

    one.records("orders", "out", pa.record_batch({"t": texts, "e": ends, ROW_ID: ids}))
    lake.commit(one)

    assert lake.rows("web-orders", "orders", columns="count(*), min(e), bool_and(t = 't' || rid)") == [
        (SAMPLE_ROWS, "same", True)
    ]
