"""Small inputs of joins are lent to the workers, large ones spilled; either way what comes out is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.dry import preview
from agent.execute import Executor
from agent.explaining import explained
from agent.prepare import Request, prepare
from agent.runs import run
from pipelines import journal, lending
from pipelines.drive import drive
from pipelines.job import Job
from pipelines.lending import as_of
from repository.project import Project
from tests.agent.test_wide import NODES, delivered, expected, in_any_order, made, shop

JOINS = sorted(name for name in NODES if name.endswith(" join"))


def run_and_spill(there: Project, flow: str = "shop") -> tuple[dict[str, Any], dict[tuple[str, str], int]]:
    """A run's report, and the records that wide nodes have spilled, per node and input."""
    rows: dict[tuple[str, str], int] = {}

    def execute(job: Job) -> None:
        drive(job)
        for phase in range(job.plan.phases):
            facts = journal.load_phase(job, phase)
            for spill in facts.spills if facts is not None else ():
                key = (spill["wide"], spill["input"]) if "wide" in spill else (spill["node"], spill["port"])
                rows[key] = rows.get(key, 0) + spill["rows"]

    return run(Request(there, flow), execute), rows


@pytest.mark.parametrize("name", [name for name in JOINS if name not in ("full join", "right join")])
def test_the_other_side_of_a_small_one_is_never_spilled(tmp_path: Path, name: str) -> None:
    nodes, sql = NODES[name]
    made(tmp_path)

    report, spilled = run_and_spill(shop(tmp_path, nodes))

    assert report["balanced"], report["error"]
    assert spilled == {("wide", "right"): 200}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


@pytest.mark.parametrize("name", JOINS)
def test_what_is_too_large_to_be_lent_is_joined_all_the_same(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "LENT_BYTES", 1000)
    nodes, sql = NODES[name]
    made(tmp_path)

    report, spilled = run_and_spill(shop(tmp_path, nodes, batch_rows=300))

    assert report["balanced"], report["error"]
    assert spilled == {("wide", "left"): 5000, ("wide", "right"): 200}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


def test_a_right_join_lends_its_left_side(tmp_path: Path) -> None:
    nodes, sql = NODES["right join"]
    made(tmp_path)

    report, spilled = run_and_spill(shop(tmp_path, nodes, batch_rows=7))

    assert report["balanced"], report["error"]
    assert spilled == {("wide", "left"): 5000}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


def test_the_memory_that_is_allowed_bounds_what_is_lent(tmp_path: Path) -> None:
    made(tmp_path)
    names = "".join(f"{number},customer {number}\n" for number in range(5000))
    (tmp_path / "customers.csv").write_text(f"customer,name\n{names}")
    nodes, sql = NODES["inner join"]
    there = shop(tmp_path, nodes)
    environment = tmp_path / "environments" / "local.yaml"
    environment.write_text("environment: local\nrunner: {name: direct, workers: 64, memory_bytes: 67108864}\n")

    report, spilled = run_and_spill(there)

    assert report["balanced"], report["error"]
    assert spilled == {("wide", "left"): 5000, ("wide", "right"): 5000}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


def test_an_input_without_any_record_is_lent(tmp_path: Path) -> None:
    nodes, sql = NODES["left join"]
    made(tmp_path)
    (tmp_path / "customers.csv").write_text("customer,name\n")

    report, spilled = run_and_spill(shop(tmp_path, nodes))

    assert report["balanced"], report["error"]
    assert spilled == {}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


def test_a_join_of_a_source_with_what_comes_of_it_waits_for_nothing(tmp_path: Path) -> None:
    made(tmp_path)
    nodes = """  grouped: {type: aggregate, from: orders, by: [customer], measures: {orders: count(*)}}
  wide: {type: join, from: {left: orders, right: grouped}, on: customer, how: left}
"""
    sql = "SELECT o.*, n.orders FROM orders o LEFT JOIN (SELECT customer, count(*) AS orders FROM orders GROUP BY customer) n USING (customer)"
    there = shop(tmp_path, nodes)

    report, _ = run_and_spill(there)

    assert prepare(Request(there, "shop")).plan.stations["wide"].borrows is None
    assert report["balanced"], report["error"]
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))


CHAIN = """  named: {type: join, from: {left: orders, right: customers}, on: customer, how: left}
  grouped: {type: aggregate, from: named, by: [name], measures: {total: sum(amount)}}
  again: {type: join, from: {left: grouped, right: customers}, on: name}
  wide: {type: sort, from: again, by: [name]}
"""
CHAIN_SQL = (
    "SELECT c.name, g.total, c.customer FROM (SELECT name, sum(amount) AS total FROM orders LEFT JOIN customers "
    "USING (customer) GROUP BY name) g JOIN customers c USING (name) ORDER BY name"
)


@pytest.mark.parametrize("most_bytes", [1 << 20, 10])
@pytest.mark.parametrize("is_spread", [True, False])
def test_joins_one_after_another_lend_one_source_twice(
    tmp_path: Path, is_spread: bool, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lending, "LENT_BYTES", most_bytes)
    made(tmp_path)
    executor = Executor()

    report = run(Request(shop(tmp_path, CHAIN), "shop"), executor.run_spread if is_spread else executor.run)

    assert report["balanced"], report["error"]
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, CHAIN_SQL))


def test_a_phase_is_spared_where_an_input_is_lent(tmp_path: Path) -> None:
    made(tmp_path)
    phases: list[tuple[int, int]] = []

    def execute(job: Job) -> None:
        drive(job)
        phases.append((job.plan.phases, as_of(job, job.plan.phases).plan.phases))

    run(Request(shop(tmp_path, CHAIN), "shop"), execute)

    assert phases == [(6, 4)]


def test_explain_says_what_is_waited_for(tmp_path: Path) -> None:
    made(tmp_path)

    text = explained(prepare(Request(shop(tmp_path, NODES["inner join"][0]), "shop")))

    assert "waits for its input right, which is lent to all workers where it is small" in text


def test_a_preview_joins_as_well(tmp_path: Path) -> None:
    made(tmp_path)

    shown = preview(Request(shop(tmp_path, NODES["left join"][0]), "shop"), "wide", 10_000)

    assert shown.num_rows == 5000


@pytest.mark.parametrize("name", ["inner join", "left join"])
def test_a_key_that_is_there_twice_on_the_small_side_makes_both_pairs(tmp_path: Path, name: str) -> None:
    nodes, sql = NODES[name]
    made(tmp_path)
    with (tmp_path / "customers.csv").open("a") as file:
        file.write("7,seven\n7,also seven\n8,eight again\n")

    report, spilled = run_and_spill(shop(tmp_path, nodes, batch_rows=300))

    assert report["balanced"], report["error"]
    assert spilled == {("wide", "right"): 203}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql))
