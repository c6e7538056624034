"""`changes_only`: what is new, changed or gone is told once, whatever happens to the runs between."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agent.backtesting import Backtest, backtest
from agent.dry import preview, run_tests
from agent.prepare import Request
from agent.replaying import Replay, replay
from pipelines.drive import drive
from pipelines.errors import Invalid
from repository import memory
from repository.project import Project
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  stock: {type: file.get, from: start, path: stock.csv, columns: {id: BIGINT, name: VARCHAR, left: VARCHAR}, key: id, changes_only: true}
  shaped: {type: map, from: stock, keep: all, fields: {left: CAST("left" AS INTEGER)}}
  kept: {type: file.post, from: shaped, path: kept/, format: jsonl}
  gone: {type: file.post, from: stock.deleted, path: gone/, format: jsonl}
"""


def made(folder: Path, *rows: str, flow: str = FLOW) -> Project:
    one = project(folder, flow)
    stock(folder, *rows)
    return one


def stock(folder: Path, *rows: str) -> None:
    (folder / "stock.csv").write_text("id,name,left\n" + "".join(f"{row}\n" for row in rows), "utf-8")


def told(folder: Path, place: str = "kept") -> list[dict[str, Any]]:
    """What has been delivered since this was last asked."""
    files = sorted((folder / place).glob("*.jsonl"))
    rows = [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]
    for path in files:
        path.unlink()
    return sorted(rows, key=lambda row: str(row["id"]))


def ids(rows: Sequence[dict[str, Any]]) -> list[Any]:
    return [row["id"] for row in rows]


def counts(report: dict[str, Any], node: str = "stock-changes") -> tuple[int, int, dict[str, int]]:
    assert report["balanced"]
    assert report["status"] in ("done", "done_with_rejects")
    found = report["nodes"][node]
    return found["in"], found["filtered"], found["out"]


def test_a_second_run_gives_on_what_is_new_or_changed_and_tells_what_is_gone(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7", "3,nut,9")
    first = counts(run_here(one, "night"))
    told(tmp_path)
    stock(tmp_path, "3,nut,9", "4,bolt,1", "1,nail,6")

    second = counts(run_here(one, "night"))
    changed, gone = told(tmp_path), told(tmp_path, "gone")
    third = counts(run_here(one, "night"))

    assert first == (3, 0, {"out": 3})
    assert second == (3, 1, {"out": 2, "deleted": 1})
    assert changed == [{"id": 1, "name": "nail", "left": 6}, {"id": 4, "name": "bolt", "left": 1}]
    assert gone == [{"id": 2}]
    assert third == (3, 3, {})
    assert leftovers(one) == []


def test_what_was_gone_is_new_when_it_comes_back_and_gone_once(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7")
    run_here(one, "night")
    stock(tmp_path, "1,nail,5")
    found = [counts(run_here(one, "night")) for _ in range(2)]
    stock(tmp_path, "1,nail,5", "2,screw,7")

    back = counts(run_here(one, "night"))

    assert found == [(1, 1, {"deleted": 1}), (1, 1, {})]
    assert back == (2, 1, {"out": 1})


def test_a_rejected_change_comes_again_until_it_is_delivered(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7")
    run_here(one, "night")
    told(tmp_path)
    stock(tmp_path, "1,nail,many", "2,screw,8", "3,nut,few")

    second = run_here(one, "night")
    delivered = told(tmp_path)
    third = run_here(one, "night")
    stock(tmp_path, "1,nail,6", "2,screw,8", "3,nut,2")
    fourth = counts(run_here(one, "night"))

    assert counts(second) == (3, 0, {"out": 3})
    assert second["notes"] == ["stock: what shaped rejected comes again in the next run"]
    assert ids(delivered) == [2]
    assert counts(third) == (3, 1, {"out": 2})
    assert fourth == (3, 1, {"out": 2})
    assert ids(told(tmp_path)) == [1, 3]
    assert counts(run_here(one, "night")) == (3, 3, {})


def test_a_rejected_change_that_is_taken_back_is_no_change(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5")
    run_here(one, "night")
    stock(tmp_path, "1,nail,many")
    run_here(one, "night")
    stock(tmp_path, "1,nail,5")

    assert counts(run_here(one, "night")) == (1, 1, {})


def test_records_that_cannot_be_read_are_not_taken_for_deleted(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7", "3,nut,9")
    run_here(one, "night")
    stock(tmp_path, "1,nail,5", "2,screw", "4,bolt,1")

    broken = run_here(one, "night")
    stock(tmp_path, "1,nail,5", "2,screw,7", "4,bolt,1")
    mended = counts(run_here(one, "night"))

    assert counts(broken) == (2, 1, {"out": 1})
    assert broken["notes"] == ["stock: 1 records could not be read, so none is taken for deleted in this run"]
    assert mended == (3, 3, {"deleted": 1})
    assert told(tmp_path, "gone") == [{"id": 3}]


def test_records_of_one_key_are_compared_together_whatever_their_order(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "1,nail,6", "2,screw,7", ",none,1")
    run_here(one, "night")
    stock(tmp_path, "2,screw,7", "1,nail,6", ",none,1", "1,nail,5")
    same = counts(run_here(one, "night"))
    stock(tmp_path, "2,screw,7", "1,nail,6", "1,nail,6", ",none,1")

    other = counts(run_here(one, "night"))

    assert same == (4, 4, {})
    assert other == (4, 2, {"out": 2})


def test_a_run_that_fails_knows_no_more_than_before(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", flow=FLOW.replace("AS INTEGER)}", "AS INTEGER)}, rejects: {fail_above: 0}"))
    stock(tmp_path, "1,nail,5", "2,nut,many")
    failed = run_here(one, "night")
    stock(tmp_path, "1,nail,5", "2,nut,1")

    assert failed["status"] == "failed"
    assert counts(run_here(one, "night")) == (2, 0, {"out": 2})


def test_many_runs_leave_few_files_that_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "GRACE_SECONDS", -1.0)
    one = made(tmp_path, *(f"{number},nail,0" for number in range(50)))
    for turn in range(20):
        stock(tmp_path, *(f"{number},nail,{turn if number % 7 == turn % 7 else 0}" for number in range(turn, 50)))
        run_here(one, "night")

    files = list((one.home / "memory").rglob("*.parquet"))
    quiet = counts(run_here(one, "night"))
    stock(tmp_path)
    empty = counts(run_here(one, "night"))

    assert len(files) < memory.FEW
    assert quiet == (31, 31, {})
    assert empty == (0, 0, {"deleted": 31})


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("changes_only: true", "changes are told by key"),
        ("changes_only: true, key: id, cursor: left", "with `cursor` a run reads a part of the source"),
        ("changes_only: true, key: id, once: true", "with `once` a run reads a part of the source"),
        ("key: id", 'has no port "deleted"'),
    ],
)
def test_what_cannot_be_told_is_a_problem(field: str, message: str, tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", flow=FLOW.replace("key: id, changes_only: true", field))

    with pytest.raises(Invalid) as fault:
        run_here(one, "night")

    assert message in str(fault.value)


KILLS = (
    ("pipelines.journal:save_phase", "before", 1),
    ("pipelines.journal:save_phase", "after", 1),
    ("pipelines.journal:save_phase", "before", 2),
    ("pipelines.journal:save_phase", "after", 2),
    ("adapters.sqlite.writing:SqliteSession.commit", "before", 1),
    ("adapters.sqlite.writing:SqliteSession.commit", "after", 1),
    ("adapters.sqlite.writing:SqliteSession.commit", "after", 2),
    ("repository.lake:commit", "after", 1),
    ("agent.knowing:_without", "after", 1),
    ("repository.memory:_moved", "after", 1),
    ("repository.catalogue:Catalogue.end_run", "before", 1),
    ("repository.catalogue:Catalogue.end_run", "after", 1),
)
MIRROR = """flow: night
nodes:
  start: {type: start}
  stock: {type: file.get, from: start, path: stock.csv, columns: {id: BIGINT, name: VARCHAR, left: VARCHAR}, key: id, changes_only: true}
  shaped: {type: map, from: stock, keep: all, fields: {left: CAST("left" AS INTEGER)}}
  kept: {type: sqlite.post, from: shaped, connection: shop, table: kept, mode: append}
  gone: {type: sqlite.post, from: stock.deleted, connection: shop, table: gone, mode: append}
"""


@pytest.mark.parametrize(("place", "when", "number"), KILLS)
def test_a_run_that_is_killed_anywhere_tells_each_change_once(
    place: str, when: str, number: int, tmp_path: Path
) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7", "3,nut,9", flow=MIRROR)
    (tmp_path / "environments").mkdir()
    local = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"
    (tmp_path / "environments/local.yaml").write_text(local, "utf-8")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute("CREATE TABLE kept (id INTEGER, name TEXT, left INTEGER)")
        connection.execute("CREATE TABLE gone (id INTEGER)")
    run_here(one, "night")
    stock(tmp_path, "1,nail,6", "3,nut,many", "4,bolt,1")

    died = killed_at(tmp_path, "night", place, when, number)
    again = run_here(one, "night")
    stock(tmp_path, "1,nail,6", "3,nut,8", "4,bolt,1")
    last = run_here(one, "night")

    assert died
    assert again["balanced"]
    assert counts(last)[2] == {"out": 1}
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        kept = connection.execute("SELECT id, left FROM kept ORDER BY id, left").fetchall()
        gone = connection.execute("SELECT id FROM gone").fetchall()
    assert kept == [(1, 5), (1, 6), (2, 7), (3, 8), (3, 9), (4, 1)]
    assert gone == [(2,)]
    assert leftovers(one) == []


def test_positions_show_what_is_known_and_a_reset_lets_everything_go_on(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7")
    first = processflow(tmp_path, "run", "night", "--json")
    shown = processflow(tmp_path, "positions", "show", "night")
    forgotten = processflow(tmp_path, "positions", "reset", "night", "stock")

    again = run_here(one, "night")

    assert (first.returncode, first.stderr) == (0, "")
    assert "remembers 2 changes (id) since " in shown.stdout
    assert "1 position forgotten" in forgotten.stdout
    assert counts(again) == (2, 0, {"out": 2})


def test_another_key_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5")
    run_here(one, "night")
    (tmp_path / "flows/night.yaml").write_text(FLOW.replace("key: id,", "key: [id, name],"), "utf-8")

    with pytest.raises(Invalid) as fault:
        run_here(one, "night")

    assert "processflow positions reset night stock-changes" in str(fault.value)


def test_previews_and_tests_of_a_flow_see_all_records_and_leave_nothing(tmp_path: Path) -> None:
    tests = "tests:\n  - {name: all, given: {stock: [{id: 1, name: a, left: '1'}]}, then: {kept: [{id: 1, left: 1}], gone: []}}\n"
    one = made(tmp_path, "1,nail,5", "2,screw,7", flow=FLOW + tests)
    run_here(one, "night")

    seen = preview(Request(one, "night"), "shaped")
    judged = [verdict.differences for verdict in run_tests(Request(one, "night"))]

    assert ids(seen.to_pylist()) == [1, 2]
    assert [list(found) for found in judged] == [[]]
    assert counts(run_here(one, "night")) == (2, 2, {})


def test_a_replay_delivers_rejected_changes_and_they_come_once_more(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,many", "2,screw", flow=FLOW)
    first = run_here(one, "night")
    flow = (tmp_path / "flows/night.yaml").read_text("utf-8").replace('CAST("left" AS INTEGER)', 'length("left")')
    (tmp_path / "flows/night.yaml").write_text(flow, "utf-8")

    replayed = replay(Replay(one, first["run"]), drive)
    second = counts(run_here(one, "night"))

    assert replayed["status"] == "done_with_rejects"
    assert ids(told(tmp_path)) == [1, 1]
    assert second == (1, 0, {"out": 1})


def test_a_backtest_compares_with_what_was_known_when_the_run_began(tmp_path: Path) -> None:
    one = made(tmp_path, "1,nail,5", "2,screw,7", flow=FLOW.replace("stock:   {", "stock: {"))
    flow = tmp_path / "flows/night.yaml"
    flow.write_text(FLOW.replace("changes_only: true", "changes_only: true, snapshot: all"), "utf-8")
    run_here(one, "night")
    stock(tmp_path, "1,nail,6", "3,nut,9")
    run_here(one, "night")
    stock(tmp_path, "1,nail,6", "3,nut,9", "4,bolt,1")
    run_here(one, "night")

    found = backtest(Backtest(one, "night", runs=3))

    assert [made["is_same"] for made in found] == [True, True, True]


def test_changes_of_many_records_are_found_within_the_memory_that_is_allowed(tmp_path: Path) -> None:
    local = "environment: local\nrunner: {name: direct, workers: 2, memory_bytes: 100000000}\n"
    one = project(tmp_path, FLOW, {"environments/local.yaml": local})
    rows = 300_000

    def write(changed: int) -> None:
        duckdb.sql(
            f"COPY (SELECT i AS id, 'thing ' || i || repeat('x', 40) AS name, CASE WHEN i % {changed} = 0 THEN 1 ELSE 0 END "
            f"AS \"left\" FROM range({rows}) r(i) WHERE i % 1000 <> {changed}) TO '{tmp_path}/stock.csv' (HEADER)"
        )

    write(3)
    first = counts(run_here(one, "night"))
    write(5)
    second = counts(run_here(one, "night"))

    expected = sum((i % 3 == 0) != (i % 5 == 0) for i in range(rows) if i % 1000 not in (3, 5)) + rows // 1000
    assert first == (rows - rows // 1000, 0, {"out": rows - rows // 1000})
    assert second[2] == {"out": expected, "deleted": rows // 1000}
