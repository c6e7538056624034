"""Two runs compared: by key, field by field, and honest where not everything was kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.comparing import diff
from pipelines.errors import Invalid
from repository.catalogue import Catalogue
from repository.owner import Owner, this_process
from repository.project import Project
from tests.agent.projects import processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, KEY columns: {id: bigint, tags: varchar, amount: "decimal(10,2)"}}
  priced: {type: map, from: orders, keep: [id, tags], fields: {total: "amount * 2"}}
  kept: {type: file.post, from: priced, path: kept/, format: jsonl}
"""
BEFORE = "id,tags,amount\n1,a,1\n2,b,2\n3,,3\n"
AFTER = "id,tags,amount\n2,b,2.00\n3,c,4\n4,d,4\n"


def two_runs(folder: Path, flow: str = FLOW, key: str = "key: [id],") -> tuple[Project, list[str]]:
    made = project(folder, flow.replace("KEY", key), {"orders.csv": BEFORE})
    runs = [run_here(made, "night")["run"]]
    (folder / "orders.csv").write_text(AFTER, "utf-8")
    return made, [*runs, run_here(made, "night")["run"]]


def counts(place: dict[str, Any]) -> tuple[int, ...]:
    return tuple(place[name] for name in ("added", "removed", "changed", "same"))


def test_records_are_compared_by_their_business_key_field_by_field(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path)

    found = diff(made, *runs)

    (place,) = found["places"]
    assert (place["place"], place["key"], counts(place)) == ("kept.out", "business key", (1, 1, 1, 1))
    assert place["fields"] == {"tags": 1, "total": 1}
    assert [(one["key"], one["fields"]) for one in place["examples"]] == [
        ("1", []),
        ("3", ["tags", "total"]),
        ("4", []),
    ]
    assert place["examples"][1]["before"] == {"id": 3, "tags": None, "total": 6.00}
    assert (found["is_same"], found["is_whole"], found["nodes"]) == (False, True, {})


def test_without_a_key_whole_records_are_compared_and_columns_can_be_named(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path, key="")

    whole = diff(made, *runs)["places"][0]
    named = diff(made, *runs, key=["id"])["places"][0]

    assert (whole["key"], counts(whole)) == ("whole record", (2, 2, 0, 1))
    assert (named["key"], counts(named)) == ("id", (1, 1, 1, 1))


def test_a_key_that_no_record_has_is_told_with_the_columns_that_there_are(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path)

    with pytest.raises(
        Invalid, match=r"has no column 'nope' that could tell records apart; there are: id, tags, total"
    ):
        diff(made, *runs, key=["nope"])


def test_a_run_compared_with_itself_has_no_difference(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path)

    assert diff(made, runs[0], runs[0])["is_same"]


def test_records_that_share_a_key_are_told_apart(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW.replace("KEY", "key: [tags],"), {"orders.csv": "id,tags,amount\n1,a,1\n2,a,2\n"})
    one = run_here(made, "night")["run"]
    (tmp_path / "orders.csv").write_text("id,tags,amount\n1,a,1\n2,a,2\n3,a,3\n", "utf-8")
    other = run_here(made, "night")["run"]

    assert counts(diff(made, one, other)["places"][0]) == (1, 0, 0, 2)


def test_columns_that_came_or_went_and_counts_that_moved_are_told(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path)
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(
        path.read_text("utf-8")
        .replace('total: "amount * 2"', 'sum: "amount * 2"')
        .replace("keep: [id, tags]", "keep: [id]"),
        "utf-8",
    )
    (tmp_path / "orders.csv").write_text(AFTER + "5,e,much\n", "utf-8")
    last = run_here(made, "night")["run"]

    found = diff(made, runs[1], last)

    (place,) = found["places"]
    assert (place["columns_added"], place["columns_removed"]) == (("sum",), ("tags", "total"))
    assert counts(place) == (0, 0, 0, 3)
    assert found["nodes"] == {"orders": {"in": [3, 4], "rejected": [0, 1]}}
    assert not found["is_same"]


def test_what_was_only_sampled_is_said_to_be_so(tmp_path: Path) -> None:
    flow = FLOW.replace("KEY", "key: [id],").replace("nodes:", "settings: {snapshots: sample}\nnodes:", 1)
    lines = "".join(f"{n},a,1\n" for n in range(3000))
    made = project(tmp_path, flow, {"orders.csv": f"id,tags,amount\n{lines}"})
    runs = [run_here(made, "night")["run"] for _ in range(2)]

    found = diff(made, *runs)

    (place,) = found["places"]
    assert (place["before"], place["left_before"], place["is_whole"], found["is_same"]) == (1000, 3000, False, False)
    assert counts(place) == (0, 0, 0, 1000)


def test_any_node_can_be_compared_and_an_unknown_one_is_told(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path)

    assert counts(diff(made, *runs, places=["orders"])["places"][0]) == (1, 1, 1, 1)
    with pytest.raises(Invalid, match=r"neither run has kept a record at 'gone'; there are: orders\.out, priced\.out"):
        diff(made, *runs, places=["gone"])


def test_the_command_tells_it_to_people_and_programs(tmp_path: Path) -> None:
    _, runs = two_runs(tmp_path)

    told = processflow(tmp_path, "runs", "diff", *runs)
    same = processflow(tmp_path, "runs", "diff", runs[0], runs[0])
    given = processflow(tmp_path, "runs", "diff", *runs, "--json")

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.splitlines()[0] == "kept.out, by business key: 1 added, 1 removed, 1 changed, 1 same"
    assert "tags: ∅ → c, total: 6 → 8" in told.stdout.replace("6.0", "6").replace("8.0", "8")
    assert same.stdout.endswith("no difference\n")
    assert json.loads(given.stdout)["places"][0]["changed"] == 1


def test_a_run_in_progress_is_not_compared_and_a_dead_one_is_told_to_be_resumed(tmp_path: Path) -> None:
    made, runs = two_runs(tmp_path)
    gone = Owner(this_process().host, this_process().pid, "another time")
    catalogue = Catalogue(made.catalogue_url)
    catalogue.begin_run("20991231-000000-dead", "night", "v1", "local", datetime.now(UTC), owner=gone)
    catalogue.close()

    with pytest.raises(Invalid, match="run 20991231-000000-dead is in progress; compare it when it has ended"):
        diff(made, runs[0], "20991231-000000-dead")

    told = processflow(tmp_path, "runs", "show", "last").stdout
    assert "nobody works on it" in told
    assert "`processflow runs resume 20991231-000000-dead` goes on now" in told
