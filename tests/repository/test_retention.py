"""Retention: old runs leave and small files become few, while others read and write; a crash in the middle is harmless."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.comparing import diff
from agent.replaying import Replay, replay
from agent.retaining import retain
from agent.tracing import trace
from pipelines.drive import drive
from pipelines.errors import Unavailable
from repository import retention
from repository.manifest import locked, read
from repository.project import Project
from repository.query import rows as query
from repository.retention import tidy
from tests.agent.projects import processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, key: [id], columns: {id: bigint, tags: varchar, day: date}}
  priced: {type: map, from: orders, keep: all, fields: {ratio: "CAST(tags AS INTEGER)"}}
  kept: {type: file.post, from: priced, path: kept/, format: jsonl}
"""
EVERYTHING = {
    "records": "SELECT run, node, port, rid, key, payload FROM records",
    "rejects": "SELECT run, node, rid, code, message, payload FROM rejects",
    "deliveries": "SELECT run, node, rid, status FROM deliveries",
    "transactions": "SELECT run, node, what, details FROM transactions",
    "runs": "SELECT run, flow, status, started FROM runs",
    "nodes": 'SELECT run, node, "in", out_records, rejected FROM nodes',
    "typed": "SELECT run, rid, id, tags, day FROM night.orders",
}


def runs(folder: Path, count: int) -> tuple[Project, list[str]]:
    """A project and its runs; in each, the third order is rejected."""
    made = project(folder, FLOW)
    names = []
    for number in range(count):
        lines = [f"{number * 10 + n},{'x' if n == 3 else n},2026-01-0{n}" for n in range(1, 6)]
        (folder / "orders.csv").write_text("\n".join(["id,tags,day", *lines, ""]), "utf-8")
        names.append(run_here(made, "night")["run"])
    return made, names


def everything(made: Project, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    parts = [
        f"SELECT '{name}' AS what, run, to_json(x)::VARCHAR AS row FROM ({sql}) x" for name, sql in EVERYTHING.items()
    ]
    found = query(made.lake, f"{' UNION ALL '.join(parts)} ORDER BY ALL")
    return [row for row in found if row["run"] not in without]


def files(made: Project) -> list[Path]:
    return sorted(made.lake.rglob("*.parquet"))


def test_merging_changes_no_answer_and_leaves_few_files(tmp_path: Path) -> None:
    made, names = runs(tmp_path, 5)
    before = everything(made)

    done = tidy(made.lake, grace_seconds=0)

    assert everything(made) == before
    assert (done.runs_removed, done.files_after) == (0, 5)
    assert done.files_before == 5 * 3
    assert len(files(made)) == 5
    assert [way["outcome"] for way in trace(made, "21")] == ["delivered by kept"]
    assert diff(made, names[0], names[1])["places"][0]["removed"] == 4


def test_a_second_call_has_nothing_to_do_and_later_runs_are_merged_in(tmp_path: Path) -> None:
    made, _ = runs(tmp_path, 3)
    tidy(made.lake, grace_seconds=0)
    once = files(made)
    again = tidy(made.lake, grace_seconds=0)
    twice = files(made)

    run_here(made, "night")
    before = everything(made)
    tidy(made.lake, grace_seconds=0)

    assert (again.files_deleted, twice) == (0, once)
    assert everything(made) == before


def test_runs_that_leave_take_their_rows_with_them_also_out_of_merged_files(tmp_path: Path) -> None:
    made, names = runs(tmp_path, 4)
    tidy(made.lake, grace_seconds=0)
    rest = everything(made, without=tuple(names[:2]))

    done = tidy(made.lake, lambda flow, run: run not in names[:2], grace_seconds=0)

    assert done.runs_removed == 2
    assert everything(made) == rest
    tidy(made.lake, lambda flow, run: False, grace_seconds=0)
    assert files(made) == []
    assert query(made.lake, "SELECT * FROM runs") == []


def test_a_reader_that_began_before_still_finds_its_files(tmp_path: Path) -> None:
    made, _ = runs(tmp_path, 3)
    named = [made.lake / file.path for table in ("records", "rejects") for file in read(made.lake).files(table)]

    done = tidy(made.lake)

    assert done.files_after < done.files_before
    assert all(path.exists() for path in named)
    assert done.files_deleted == 0


@pytest.mark.parametrize("step", ["_discard", "_write_together", "write_merged", "_purge"])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_a_crash_at_any_step_is_harmless_and_the_next_call_cleans_up(
    step: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, names = runs(tmp_path, 3)
    all_rows, rest = everything(made), everything(made, without=(names[0],))
    real = getattr(retention, step)

    def dies(*given: Any, **named: Any) -> None:
        if not before:
            real(*given, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, step, dies)
    with pytest.raises(KeyboardInterrupt):
        tidy(made.lake, lambda flow, run: run != names[0], grace_seconds=0)
    monkeypatch.undo()
    crashed = everything(made)
    tidy(made.lake, lambda flow, run: run != names[0], grace_seconds=0)

    assert crashed in (all_rows, rest)
    assert everything(made) == rest
    assert len(files(made)) == 5


def test_runs_go_on_while_files_are_merged(tmp_path: Path) -> None:
    made, _ = runs(tmp_path, 2)
    faults: list[BaseException] = []
    stop = threading.Event()

    def tidies() -> None:
        while not stop.is_set():
            try:
                tidy(made.lake)
            except Unavailable:
                continue
            except BaseException as fault:  # noqa: BLE001 - whatever it is, the test fails by it
                faults.append(fault)
                return

    thread = threading.Thread(target=tidies)
    thread.start()
    try:
        counts = []
        for _ in range(6):
            run_here(made, "night")
            counts.append(query(made.lake, "SELECT count(DISTINCT run) AS n, count(*) AS rows FROM night.orders")[0])
    finally:
        stop.set()
        thread.join()

    assert faults == []
    assert counts == [{"n": 3 + n, "rows": 5 * (3 + n)} for n in range(6)]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    made, _ = runs(tmp_path, 2)

    with locked(made.lake), pytest.raises(Unavailable, match="another process is merging"):
        tidy(made.lake)


def test_what_was_replayed_is_known_after_merging_too(tmp_path: Path) -> None:
    made, names = runs(tmp_path, 2)
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(path.read_text("utf-8").replace("CAST(tags", "TRY_CAST(tags"), "utf-8")
    tidy(made.lake, grace_seconds=0)

    first = replay(Replay(made, names[0]), drive)
    tidy(made.lake, grace_seconds=0)
    second = replay(Replay(made, names[1]), drive)

    assert [first["replayed"], second["replayed"]] == [{"priced": 1}, {"priced": 1}]
    assert len(trace(made, "3")) == 2


def test_flows_say_how_long_their_runs_are_kept(tmp_path: Path) -> None:
    made, names = runs(tmp_path, 2)
    later = datetime.now(UTC) + timedelta(days=10)

    nothing = retain(made, now=later)
    dry = retain(made, 9, now=later, dry=True)
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(path.read_text("utf-8").replace("nodes:", "settings: {keep_days: 30}\nnodes:", 1), "utf-8")
    own = retain(made, 9, now=later)
    path.unlink()
    gone = retain(made, 9, now=later, grace_seconds=0)

    assert [len(done["runs"]) for done in (nothing, dry, own, gone)] == [0, 2, 0, 2]
    assert {line["run"] for line in gone["runs"]} == set(names)
    assert query(made.lake, "SELECT * FROM runs") == []
    assert files(made) == []


def test_the_command_tells_what_it_did(tmp_path: Path) -> None:
    runs(tmp_path, 2)

    told = processflow(tmp_path, "retention", "--keep-days", "1")
    given = processflow(tmp_path, "retention", "--json")

    assert told.stdout.startswith("0 runs removed; 6 files became 5; 0 that no longer counted were deleted")
    assert json.loads(given.stdout)["files_after"] == 5
