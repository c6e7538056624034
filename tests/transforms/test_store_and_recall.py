"""Values that are stored and recalled: exactly, by name and scope, with the run's end or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent import positions
from agent.backtesting import Backtest, backtest
from agent.dry import preview, run_tests
from agent.prepare import Request, check_flow
from agent.runs import Host
from pipelines import stored
from pipelines.conformance import GetConformance, PostConformance
from pipelines.conformance.examples import Records
from pipelines.node import Example
from pipelines.scope import Scope
from pipelines.stored import Change, Place
from repository.catalogue import Catalogue
from repository.project import Project
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, project, run_here
from transforms.recall import Recall
from transforms.store import Store


class TestStore(PostConformance):
    node = Store

    def prepare(self, project: Path, example: Example) -> Scope:
        return replace(super().prepare(project, example), node="kept")

    def delivered(self, scope: Scope, example: Example) -> Records:
        found = [
            dict(values)
            for made in stored.changes(scope, ["kept"])
            for _, values in sorted(made.values.items())
            if values
        ]
        for record in found:
            if "at" in record:
                record["at"] = str(record["at"]).replace(" ", "T").replace("+00", "Z")
        return found


class TestRecall(GetConformance):
    node = Recall

    def samples(self) -> list[Example]:
        rates = [{"currency": "CHF", "rate": Decimal("0.9315")}, {"currency": "USD", "rate": Decimal("1.0844")}]
        return [self.node.examples[0], Example(config=self.node.examples[1].config, gives={"out": rates})]

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = super().prepare(project, example)
        values = {'["USD"]': {"currency": "USD", "rate": "1.0844"}, '["CHF"]': {"currency": "CHF", "rate": "0.9315"}}
        stored.keep(scope, Place("environment", "rates"), values)
        return scope


ORDERS = """flow: orders
nodes:
  start: {type: start}
  since: {type: recall, from: start, name: last, columns: {seen: TIMESTAMPTZ}, default: {seen: "2026-01-01T00:00:00Z"}}
  orders: {type: file.get, from: start, path: orders.csv, columns: {n: bigint, who: varchar, total: "decimal(9,2)", seen: timestamptz}}
  known: {type: recall, from: orders, name: customers, key: who, columns: {who: VARCHAR, before: "DECIMAL(9,2)"}, default: {before: 0}}
  kept: {type: file.post, from: known, path: "kept.jsonl", mode: replace}
  used: {type: file.post, from: since, path: "used.jsonl", mode: replace}
  newest: {type: aggregate, from: orders, measures: {seen: max(seen)}}
  last: {type: store, from: newest, name: last}
  totals: {type: aggregate, from: orders, by: [who], measures: {before: sum(total)}}
  customers: {type: store, from: totals, name: customers, key: who, CUSTOMERS}
tests:
  - name: what is stored is at hand
    given: {orders: [{n: 1, who: a, total: 1}], since: [{seen: "2026-05-05T00:00:00Z"}]}
    then: {used: [{seen: "2026-05-05T00:00:00Z"}]}
"""


def world(
    folder: Path,
    rows: str = "1,ada,1.50,2026-02-01T00:00:00Z\n2,bo,2.25,2026-02-03T00:00:00Z\n3,ada,1.00,2026-02-02T00:00:00Z\n",
    more: str = "mode: upsert",
) -> Project:
    return project(folder, ORDERS.replace("CUSTOMERS", more), {"orders.csv": f"n,who,total,seen\n{rows}"})


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text("utf-8").splitlines()]


def test_the_next_run_recalls_what_the_last_one_stored(tmp_path: Path) -> None:
    made = world(tmp_path)

    first = run_here(made, "orders")
    before = (
        [row["seen"][:10] for row in lines(tmp_path, "used.jsonl")],
        [float(row["before"]) for row in lines(tmp_path, "kept.jsonl")],
    )
    (tmp_path / "orders.csv").write_text(
        "n,who,total,seen\n4,bo,9.00,2026-03-01T00:00:00Z\n5,cy,1.00,2026-03-02T00:00:00Z\n"
    )
    second = run_here(made, "orders")
    after = (
        [row["seen"][:10] for row in lines(tmp_path, "used.jsonl")],
        [float(row["before"]) for row in lines(tmp_path, "kept.jsonl")],
    )

    assert [(run["status"], run["balanced"]) for run in (first, second)] == [("done", True)] * 2
    assert before == (["2026-01-01"], [0.0, 0.0, 0.0])
    assert after == (["2026-02-03"], [2.25, 0.0])
    assert first["nodes"]["customers"]["delivered"] == 2
    with_values = Catalogue(made.catalogue_url).stored("local", "orders", Place("flow", "customers"))
    assert {key: value["before"] for key, value in with_values.items()} == {
        '["ada"]': "2.50",
        '["bo"]': "9.00",
        '["cy"]': "1.00",
    }


def test_a_run_that_fails_stores_nothing(tmp_path: Path) -> None:
    made = world(tmp_path)
    flow = tmp_path / "flows" / "orders.yaml"
    flow.write_text(
        flow.read_text().replace(
            "name: last}",
            'name: last}\n  bad: {type: filter, from: orders, where: "CAST(who AS INTEGER) > 0", rejects: {fail_above: 1}}\n  end: {type: end, from: bad}',
        )
    )

    done = run_here(made, "orders")

    catalogue = Catalogue(made.catalogue_url)
    assert done["status"] == "failed"
    assert catalogue.stored("local", "orders", Place("flow", "last")) == {}
    assert catalogue.stored("local", "orders", Place("flow", "customers")) == {}


@pytest.mark.parametrize(
    ("place", "when"),
    [
        ("pipelines.stored:save_change", "before"),
        ("pipelines.stored:save_change", "after"),
        ("repository.catalogue:Catalogue.end_run", "before"),
        ("repository.catalogue:Catalogue.end_run", "after"),
    ],
)
def test_a_run_that_is_killed_stores_once_and_recalls_what_it_had_found(place: str, when: str, tmp_path: Path) -> None:
    made = world(tmp_path)
    run_here(made, "orders")
    (tmp_path / "orders.csv").write_text("n,who,total,seen\n4,bo,9.00,2026-03-01T00:00:00Z\n")

    assert killed_at(tmp_path, "orders", place, when, 1)
    host = Host(made)
    host.recover()
    found = host.catalogue.stored("local", "orders", Place("flow", "customers"))
    host.close()

    assert [row["seen"][:10] for row in lines(tmp_path, "used.jsonl")] == ["2026-02-03"]
    assert {key: value["before"] for key, value in found.items()} == {'["ada"]': "2.50", '["bo"]': "9.00"}
    assert leftovers(made) == []


RUN_SCOPE = """flow: within
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {n: bigint}}
  sums: {type: aggregate, from: orders, measures: {total: sum(n)}}
  noted: {type: store, from: sums, name: total, scope: run}
  again: {type: file.get, from: start, path: orders.csv, columns: {n: bigint}, after: noted}
  beside: {type: recall, from: again, name: total, scope: run, columns: {total: BIGINT}}
  kept: {type: file.post, from: beside, path: "kept.jsonl"}
"""


def test_a_value_of_the_run_is_recalled_behind_the_node_that_stored_it(tmp_path: Path) -> None:
    made = project(tmp_path, RUN_SCOPE, {"orders.csv": "n\n1\n2\n4\n"})

    done = run_here(made, "within")

    assert (done["status"], done["balanced"]) == ("done", True)
    assert lines(tmp_path, "kept.jsonl") == [{"n": n, "total": 7} for n in (1, 2, 4)]
    assert Catalogue(made.catalogue_url).stored("local", "within", Place("run", "total")) == {}


def test_tests_give_what_is_recalled_and_previews_look_it_up(tmp_path: Path) -> None:
    made = world(tmp_path)
    run_here(made, "orders")

    assert [(one.passed, one.differences) for one in run_tests(Request(made, "orders"))] == [(True, ())]
    assert preview(Request(made, "orders"), "since").to_pylist() == [{"seen": datetime(2026, 2, 3, tzinfo=UTC)}]


def test_a_record_without_a_key_is_rejected_and_the_others_are_stored(tmp_path: Path) -> None:
    made = world(tmp_path, "1,ada,1.50,2026-02-01T00:00:00Z\n2,,2.25,2026-02-03T00:00:00Z\n")

    done = run_here(made, "orders")

    assert (done["status"], done["nodes"]["customers"]["rejected"]) == ("done_with_rejects", 1)
    assert list(Catalogue(made.catalogue_url).stored("local", "orders", Place("flow", "customers"))) == ['["ada"]']


def test_where_nothing_is_to_be_stored_what_is_there_stays(tmp_path: Path) -> None:
    made = world(tmp_path)
    run_here(made, "orders")
    (tmp_path / "orders.csv").write_text("n,who,total,seen\n")

    done = run_here(made, "orders")

    assert (done["nodes"]["last"]["in"], done["nodes"]["last"]["filtered"], done["balanced"]) == (1, 1, True)
    assert Catalogue(made.catalogue_url).stored("local", "orders", Place("flow", "last")) == {
        "[]": {"seen": "2026-02-03 00:00:00+00"}
    }


def test_stored_values_are_listed_with_the_positions_and_forgotten_with_them(tmp_path: Path) -> None:
    made = world(tmp_path)
    run_here(made, "orders")
    catalogue, request = Catalogue(made.catalogue_url), Request(made, "orders")

    told = {line["node"]: line["reads"] for line in positions.shown(request, catalogue)}
    gone = positions.reset(request, catalogue, "last")
    left = {line["node"] for line in positions.shown(request, catalogue)}
    rest = positions.reset(request, catalogue)

    assert told["last"] == "stores 1 value as last"
    assert told["customers"] == "stores 2 values as customers"
    assert gone == 1
    assert "last" not in left
    assert rest == 1
    assert catalogue.stored("local", "orders", Place("flow", "customers")) == {}


def test_a_flow_may_not_store_twice_under_one_name(tmp_path: Path) -> None:
    made = world(tmp_path)
    flow = tmp_path / "flows" / "orders.yaml"
    flow.write_text(flow.read_text().replace("name: customers, key: who, mode", "name: last, key: who, mode"))

    assert any("store:flow/last" in problem.what for problem in check_flow(Request(made, "orders")).checked.faults)


def test_a_backtest_recalls_what_is_stored_today_and_says_so(tmp_path: Path) -> None:
    made = world(tmp_path)
    run_here(made, "orders")

    (found,) = backtest(Backtest(made, "orders"))

    assert found["status"] == "done"
    assert any("stored today" in note for note in found["notes"])
    changed = next(place for place in found["places"] if place["place"].startswith("kept"))
    assert not changed["is_same"]


IN_A_LOOP = """flow: rounds
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {n: bigint}}
  loop:
    type: loop
    from: orders
    at_most: 3
    nodes:
      step: {type: recall, from: start, name: steps, scope: environment, columns: {step: BIGINT}, default: {step: 5}}
      more: {type: map, from: step, fields: {n: n + step}}
      end: {type: end, from: more}
  kept: {type: file.post, from: loop, path: "kept.jsonl"}
"""


def test_values_are_recalled_within_a_loop_too(tmp_path: Path) -> None:
    made = project(tmp_path, IN_A_LOOP, {"orders.csv": "n\n1\n2\n"})
    made.prepare()
    catalogue = Catalogue(made.catalogue_url)
    catalogue.begin_run("r1", "other", "v", "local", datetime.now(UTC))
    catalogue.end_run(
        "r1", {"status": "done"}, changes=[Change(Place("environment", "steps"), {"[]": {"step": "100"}})]
    )

    done = run_here(made, "rounds")

    assert done["status"] == "done"
    assert lines(tmp_path, "kept.jsonl") == [{"n": 301}, {"n": 302}]
