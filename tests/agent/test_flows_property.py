"""Flows made by chance over data made by chance: the ledger balances, and what is delivered is what plain DuckDB gives."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.execute import Executor
from agent.prepare import Request
from agent.runs import Execute, run
from pipelines.drive import drive
from repository.project import Project
from repository.query import rows as query
from tests.agent.generated import COLUMNS, Made, delivered, environment, flows, lay_out, sorted_rows
from tests.agent.projects import leftovers, project

LOGS = """
SELECT 'rejects' AS log, node AS place, rid FROM rejects
UNION ALL SELECT 'deliveries', node, rid FROM deliveries
UNION ALL SELECT 'records', node || '.' || port, rid FROM records
"""


@pytest.fixture(scope="module")
def executor() -> Executor:
    """One for all runs, so that its compiled pipelines are used again."""
    return Executor()


@settings(max_examples=18, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(made=flows(), workers=st.integers(1, 3))
def test_any_flow_delivers_what_plain_duckdb_gives_and_accounts_for_the_rest(made: Made, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        holds(made, Path(folder), workers, drive)


@settings(max_examples=4, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(made=flows(), workers=st.integers(1, 3))
def test_the_engine_changes_nothing_of_that(executor: Executor, made: Made, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        holds(made, Path(folder), workers, executor.run)


def holds(made: Made, folder: Path, workers: int, execute: Execute) -> None:
    """Runs a flow twice and looks at its report, its targets and its data logs."""
    here = project(folder, made.text, {"environments/local.yaml": environment(workers)})
    lay_out(made, folder)

    first = run(Request(here, "made"), execute)
    targets = {name: delivered(kind, name, folder) for name, (kind, _) in made.posts.items()}
    logs = logged(here)
    second = run(Request(here, "made"), execute)

    assert first["error"] is None
    assert first["balanced"]
    assert first["status"] == ("done_with_rejects" if sum(made.rejected.values()) else "done")
    assert targets == {name: expected(made, table) for name, (_, table) in made.posts.items()}
    ledger_is_right(made, first)
    logs_agree(made, first, logs)
    assert {name: node["in"] for name, node in second["nodes"].items() if node["in"]} == {}
    assert {name: delivered(kind, name, folder) for name, (kind, _) in made.posts.items()} == targets
    assert leftovers(here) == []


def expected(made: Made, table: str) -> list[tuple[Any, ...]]:
    return sorted_rows(made.expected.sql(f"SELECT {', '.join(COLUMNS)} FROM {table}").fetchall())


def logged(here: Project) -> dict[tuple[str, str], Counter[int]]:
    """Per log and place how often each row id is there."""
    found: dict[tuple[str, str], Counter[int]] = {}
    for row in query(here.lake, LOGS):
        found.setdefault((row["log"], row["place"]), Counter())[row["rid"]] += 1
    return found


def ledger_is_right(made: Made, report: dict[str, Any]) -> None:
    nodes = report["nodes"]
    for node in nodes.values():
        left = sum(node["out"].values()) + node["filtered"] + node["rejected"] + node.get("merged", 0)
        assert node["in"] + node["created"] == left
    assert {name: node["rejected"] for name, node in nodes.items()} == {name: made.rejected[name] for name in nodes}
    assert {name: node["filtered"] for name, node in nodes.items()} == {
        name: made.filtered.get(name, 0) for name in nodes
    }
    assert {name: nodes[name]["in"] for name in made.sources} == {
        name: len(rows) for name, (_, rows) in made.sources.items()
    }


def logs_agree(made: Made, report: dict[str, Any], logs: dict[tuple[str, str], Counter[int]]) -> None:
    for name, node in report["nodes"].items():
        assert logs.get(("rejects", name), Counter()).total() == node["rejected"]
        assert logs.get(("deliveries", name), Counter()).total() == node["delivered"]
        kept = {place: ids for (log, place), ids in logs.items() if log == "records" and place.startswith(f"{name}.")}
        for port, rows in node["out"].items():
            assert kept.get(f"{name}.{port}", Counter()).total() in (
                (0,) if "snapshots: none" in made.text else (rows,)
            )
    ends = [ids for (log, _), ids in logs.items() if log != "records"]
    if not made.has_branches:
        assert max(sum(ends, Counter[int]()).values(), default=1) == 1
