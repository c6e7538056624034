"""Profiles: what the values of a node's output look like."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.profiling import profile_of
from pipelines.errors import Invalid
from tests.agent.projects import processflow, project, run_here

FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, status: varchar, amount: "decimal(10,2)", day: date}}
  shaped: {type: map, from: orders, keep: [id], fields: {tags: "[status, 'x']", at.day: day}}
  large: {type: decide, from: orders, when: {large: amount > 50}, otherwise: small}
  kept: {type: file.post, from: shaped, path: kept/, format: jsonl}
  seen: {type: file.post, from: large.large, path: seen/, format: jsonl}
"""
ROWS = "id,status,amount,day\n" + "".join(
    f"{n},{'paid' if n % 4 else ''},{n}.00,2026-01-{1 + n % 9:02}\n" for n in range(101)
)


def test_each_column_is_told_by_nulls_values_range_and_middle(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run = run_here(made, "night")["run"]

    found = profile_of(made, "night", "orders")

    columns = {column["column"]: column for column in found["columns"]}
    assert (found["run"], found["place"], found["records"], found["is_whole"]) == (run, "orders.out", 101, True)
    assert (columns["status"]["nulls"], columns["status"]["distinct"]) == (26, 1)
    assert columns["status"]["top"] == [{"value": "paid", "records": 75}]
    assert (columns["amount"]["least"], columns["amount"]["most"], columns["amount"]["mean"]) == (
        "0.00",
        "100.00",
        50.0,
    )
    assert columns["amount"]["quartiles"] == [25.0, 50.0, 75.0]
    assert (columns["day"]["least"], columns["day"]["quartiles"]) == ("2026-01-01", None)


def test_nested_columns_branches_and_samples_are_profiled_too(tmp_path: Path) -> None:
    flow = FLOW.replace("nodes:", "settings: {snapshots: sample}\nnodes:", 1)
    lines = "".join(f"{n},a,{n % 90}.00,2026-01-01\n" for n in range(3000))
    made = project(tmp_path, flow, {"orders.csv": f"id,status,amount,day\n{lines}"})
    run_here(made, "night")

    shaped = profile_of(made, "night", "shaped")
    large = profile_of(made, "night", "large.large")

    assert (shaped["records"], shaped["left"], shaped["is_whole"]) == (1000, 3000, False)
    assert {column["column"]: column["distinct"] for column in shaped["columns"]}["tags"] == 1
    assert float(large["columns"][2]["least"]) > 50


def test_what_cannot_be_profiled_is_told(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})

    with pytest.raises(Invalid, match="flow 'night' has not run yet"):
        profile_of(made, "night", "orders")
    run_here(made, "night")
    with pytest.raises(Invalid, match=r"no run has kept records at 'gone'; run .* has at: orders\.out"):
        profile_of(made, "night", "gone")


def test_the_command_tells_it_to_people_and_programs(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": ROWS})
    run_here(made, "night")

    told = processflow(tmp_path, "profile", "night", "orders")
    given = processflow(tmp_path, "profile", "night", "orders.out", "--run", "last", "--json")

    assert (told.returncode, told.stderr) == (0, "")
    assert "status  VARCHAR" in told.stdout
    assert json.loads(given.stdout)["records"] == 101


def test_what_a_node_rejected_is_profiled_as_the_node_was_given_it(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"orders.csv": "id,status,amount,day\n1,a,much,2026-01-01\n2,b,3.00,2026-01-02\n"})
    run_here(made, "night")

    found = profile_of(made, "night", "orders.rejected")

    assert (found["records"], found["is_whole"]) == (1, True)
    assert [column["top"][0]["value"] for column in found["columns"]] == ["1,a,much,2026-01-01"]
