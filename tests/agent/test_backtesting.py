"""Backtests: a changed flow over what earlier runs had read, compared by key, and nothing sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.backtesting import Backtest, backtest
from pipelines.errors import Invalid
from repository.catalogue import Catalogue
from repository.project import Project
from tests.agent.projects import leftovers, processflow, project, run_here

FLOW = """flow: night
parameters: {least: {type: integer, default: 0}}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, key: [id], columns: {id: bigint, tags: varchar, amount: "decimal(10,2)"}}
  good: {type: filter, from: orders, where: amount >= $least}
  priced: {type: map, from: good, keep: [id], fields: {total: "amount * 2", n: "CAST(tags AS INTEGER)"}}
  sums: {type: aggregate, from: good, by: [tags], measures: {n: count(*)}}
  kept: {type: file.post, from: priced, path: kept/, format: jsonl}
  told: {type: file.post, from: sums, path: sums/, format: jsonl}
"""
NARROW = "".join(line for line in FLOW.splitlines(keepends=True) if "sums" not in line)


def rows(count: int) -> str:
    return "id,tags,amount\n" + "".join(f"{n},{'x' if n % 50 == 7 else n % 5},{n}.50\n" for n in range(count))


def change(folder: Path, *changes: tuple[str, str]) -> None:
    path = folder / "flows" / "night.yaml"
    text = path.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def sent(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for name in ("kept", "sums")
        for path in (folder / name).rglob("*")
        if path.is_file()
    }


def counts(place: dict[str, Any]) -> tuple[int, ...]:
    return tuple(place[name] for name in ("added", "removed", "changed", "same"))


def test_an_unchanged_flow_gives_the_same_and_a_changed_one_what_differs(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": rows(100)})
    run = run_here(made, "night", least=10)["run"]
    before = sent(tmp_path)
    (tmp_path / "orders.csv").write_text(rows(3), "utf-8")

    (same,) = backtest(Backtest(made, "night"))
    change(tmp_path, ("amount * 2", "amount * CASE WHEN id = 20 THEN 3 ELSE 2 END"), ("CAST(tags", "TRY_CAST(tags"))
    (other,) = backtest(Backtest(made, "night"))

    assert (same["before"], same["is_same"], same["is_whole"], same["nodes"]) == (run, True, True, {})
    kept, told = other["places"]
    assert (counts(kept), kept["fields"]) == ((1, 0, 1, 88), {"total": 1})
    assert [(one["key"], one["after"]["total"]) for one in kept["examples"]] == [("20", 61.5), ("57", 115.0)]
    assert counts(told)[:2] == (0, 0)
    assert other["nodes"]["priced"] == {"rejected": [1, 0], "out.out": [89, 90]}
    assert sent(tmp_path) == before
    assert leftovers(made) == []
    assert len(Catalogue(made.catalogue_url).runs()) == 1


def test_the_last_runs_are_tried_each_with_its_own_parameters(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": rows(30)})
    runs = [run_here(made, "night", least=least)["run"] for least in (0, 10, 20)]
    change(tmp_path, ("amount >= $least", "amount > $least + 1"))

    found = backtest(Backtest(made, "night", runs=2))

    assert {one["before"] for one in found} == set(runs[1:])
    assert [counts(one["places"][0]) for one in found] == [(0, 1, 0, 19), (0, 1, 0, 9)]


def test_another_value_of_a_parameter_can_be_tried(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": rows(30)})
    run_here(made, "night", least=0)

    (found,) = backtest(Backtest(made, "night", values={"least": "10"}))

    assert counts(found["places"][0]) == (0, 9, 0, 20)


def test_records_without_a_key_are_told_apart_by_the_row_that_they_come_from(tmp_path: Path) -> None:
    made = project(tmp_path, NARROW.replace("key: [id], ", ""), {"orders.csv": rows(5)})
    run_here(made, "night")
    change(tmp_path, ("amount * 2", "amount * 3"))

    (found,) = backtest(Backtest(made, "night"))

    assert [(place["key"], counts(place)) for place in found["places"]] == [("row id", (0, 0, 5, 0))]


def test_a_sample_is_tried_as_a_sample_and_said_to_be_one(tmp_path: Path) -> None:
    made = project(tmp_path, NARROW, {"orders.csv": rows(12_000)})
    run_here(made, "night", least=9_000)
    (same,) = backtest(Backtest(made, "night"))
    change(tmp_path, ("amount * 2", "amount * 3"))

    (found,) = backtest(Backtest(made, "night"))

    assert (same["is_whole"], [counts(place)[:3] for place in same["places"]]) == (False, [(0, 0, 0)])
    (place,) = found["places"]
    assert place["changed"] > 100
    assert (place["added"], place["removed"]) == (0, 0)
    assert found["notes"] == ["orders: 1,000 of 12,000 records were kept, and only those are tried"]


def test_a_sample_is_no_ground_for_sums(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": rows(12_000)})
    run_here(made, "night")

    with pytest.raises(
        Invalid, match="has kept a part of what it read, and the flow has nodes that see records together"
    ):
        backtest(Backtest(made, "night"))


def test_columns_that_the_run_did_not_read_are_told(tmp_path: Path) -> None:
    made = project(
        tmp_path,
        NARROW.replace("tags: varchar,", "tags: varchar, more: varchar,"),
        {"orders.csv": "id,tags,amount,more\n1,2,3,4\n"},
    )
    run_here(made, "night")
    change(tmp_path, ("keep: [id]", "keep: [id, more]"))

    with pytest.raises(Invalid, match=r"the flow needs 'more' of 'orders' today, which run .* did not read"):
        backtest(Backtest(made, "night"))


def test_a_flow_that_never_ran_cannot_be_tried(tmp_path: Path) -> None:
    made: Project = project(tmp_path, FLOW, {"orders.csv": rows(3)})

    with pytest.raises(Invalid, match="flow 'night' has no finished run to be tried on"):
        backtest(Backtest(made, "night"))


def test_the_command_tells_it_to_people_and_programs(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": rows(30)})
    run = run_here(made, "night")["run"]
    change(tmp_path, ("amount * 2", "amount * 3"))

    told = processflow(tmp_path, "backtest", "night", "--limit", "2")
    given = processflow(tmp_path, "backtest", "night", "--run", run, "--json")

    assert (told.returncode, told.stderr) == (0, "")
    assert "kept.out, by business key: 0 added, 0 removed, 29 changed, 0 same" in told.stdout
    assert json.loads(given.stdout)[0]["places"][0]["changed"] == 29
