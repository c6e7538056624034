"""Trace: a record's way through every node of every run, found by its business key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.replaying import Replay, replay
from agent.tracing import trace
from pipelines.drive import drive
from pipelines.errors import Invalid
from tests.agent.projects import processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, key: [id, line], columns: {id: bigint, line: bigint, tags: varchar}}
  few: {type: filter, from: orders, where: line < 9}
  priced: {type: map, from: few, keep: [id, line], fields: {ratio: "CAST(tags AS INTEGER)", line: "line * 10"}}
  kept: {type: file.post, from: priced, path: kept/, format: jsonl}
"""
ROWS = "id,line,tags\n1,1,3\n2,1,x4\n2,2,5\n3,9,9\n"


def test_a_record_s_way_is_told_from_the_source_to_the_receipt(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run = run_here(made, "night")["run"]

    (way,) = trace(made, "2|2")

    assert (way["run"], way["flow"], way["outcome"]) == (run, "night", "delivered by kept")
    assert [(step["node"], step["port"], step["type"]) for step in way["steps"]] == [
        ("orders", "out", "file.get"),
        ("few", "out", "filter"),
        ("priced", "out", "map"),
        ("kept", "out", "file.post"),
        ("kept", "delivered", "file.post"),
    ]
    assert way["steps"][0]["payload"] == {"id": 2, "line": 2, "tags": "5"}
    assert way["steps"][2]["changes"] == {"added": {"ratio": 5}, "changed": {"line": [2, 20]}, "removed": ["tags"]}


def test_a_rejected_record_is_followed_into_the_replay_that_delivered_it(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run = run_here(made, "night")["run"]
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(path.read_text("utf-8").replace("CAST(tags", "CAST(ltrim(tags, 'x')"), "utf-8")
    later = replay(Replay(made, run), drive)["run"]

    ways = trace(made, "2|1")

    assert [(way["run"], way["replay_of"], way["outcome"]) for way in ways] == [
        (run, None, "rejected by priced"),
        (later, run, "delivered by kept"),
    ]
    assert ways[0]["steps"][-1]["message"].startswith("Conversion Error") or "x4" in ways[0]["steps"][-1]["message"]


def test_every_run_that_saw_the_record_is_told_and_one_can_be_chosen(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    runs = [run_here(made, "night")["run"] for _ in range(3)]

    assert [way["run"] for way in trace(made, "1|1")] == runs
    assert [way["run"] for way in trace(made, "1|1", run=runs[1])] == [runs[1]]


def test_of_many_ways_the_latest_are_shown_and_the_others_mentioned(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    runs = [run_here(made, "night")["run"] for _ in range(3)]

    told = processflow(tmp_path, "trace", "1|1", "--limit", "2")

    assert told.stdout.startswith("the latest 2 of more; --limit shows others")
    assert [run in told.stdout for run in runs] == [False, True, True]


def test_a_filtered_record_ends_where_it_was_last_seen(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run_here(made, "night")

    (way,) = trace(made, "3|9")

    assert way["outcome"].startswith("left orders; then filtered (by few)")


def test_a_row_id_tells_the_same_way_as_the_key(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run_here(made, "night")
    (way,) = trace(made, "1|1")

    assert trace(made, None, way["rid"], run="last") == [way]


def test_a_delivered_key_is_found_where_no_record_was_kept(tmp_path: Path) -> None:
    bare = FLOW.replace("nodes:", "settings: {snapshots: none}\nnodes:", 1)
    made = project(
        tmp_path,
        bare.replace("type: file.post,", "type: file.post, mode: upsert, key: [id],").replace("kept/", "kept.jsonl"),
        {"orders.csv": ROWS},
    )
    run_here(made, "night")

    ways = trace(made, "1")

    assert [way["outcome"] for way in ways] == ["delivered by kept"]


def test_a_key_that_nobody_has_seen_is_told(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run_here(made, "night")

    with pytest.raises(Invalid, match="no run of flow 'night' has kept a record with business key '77'"):
        trace(made, "77", flow="night")


def test_the_command_tells_it_to_people_and_programs(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run = run_here(made, "night")["run"]

    told = processflow(tmp_path, "trace", "2|1")
    given = processflow(tmp_path, "trace", "2|1", "--json")

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"night  run {run}")
    assert "rejected by priced" in told.stdout
    assert [way["run"] for way in json.loads(given.stdout)] == [run]
