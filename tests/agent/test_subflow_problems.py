"""What is wrong with a flow that uses another is told before anything runs, each with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.prepare import Request, prepare
from pipelines.errors import Invalid
from repository.project import Project
from tests.agent.projects import project, run_here
from tests.agent.subflows import PRICES, READS, SHOP, shop


def problems(made: Project, flow: str) -> list[str]:
    with pytest.raises(Invalid) as told:
        prepare(Request(made, flow))
    return [str(problem).replace(f"{made.folder}/", "") for problem in told.value.problems]


def test_what_is_wrong_with_the_use_of_a_flow_is_told_with_its_line(tmp_path: Path) -> None:
    flow = """flow: wrong
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: BIGINT, item: INTEGER, quantity: BIGINT}}
  types: {type: flow, from: orders, flow: prices}
  gone: {type: flow, from: orders, flow: prizes}
  port: {type: end, from: types.second}
  empty: {type: flow, from: start, flow: prices}
  named: {type: flow, from: orders, flow: prices, inputs: {item: "item::VARCHAR", quantity: "1"}, parameters: {reduktion: 1}}
  value: {type: flow, from: orders, flow: prices, inputs: {item: "item::VARCHAR", quantity: "1"}, parameters: {reduction: $less}}
  round: {type: flow, from: orders, flow: wrong}
  fed: {type: flow, from: orders, flow: stock}
"""
    told = problems(shop(tmp_path, flow, files={"flows/stock.yaml": READS}), "wrong")

    assert [line for line in told if "stock.yaml" not in line] == [
        'flows/wrong.yaml:5: node "types": column \'item\' comes as int32, and is to be string in flow "prices"; '
        "make it with `inputs: {item: CAST(item AS VARCHAR)}`",
        'flows/wrong.yaml:5: node "types": column \'quantity\' comes as int64, and is to be int32 in flow "prices"; '
        "make it with `inputs: {quantity: CAST(quantity AS INTEGER)}`",
        'flows/wrong.yaml:6: node "gone": no flow is called "prizes"; did you mean "prices"?',
        'flows/wrong.yaml:7: node "port": "types" has no port "second"; there are: out',
        'flows/wrong.yaml:8: node "empty": takes from "start", which has no records, and flow "prices" takes some; '
        "take from a get",
        'flows/wrong.yaml:9: node "named": the flow has no parameter "reduktion"; did you mean "reduction"?',
        'flows/wrong.yaml:10: node "value": "$less" is no parameter or variable here; there are none',
        'flows/wrong.yaml:11: node "round": flow "wrong" cannot be used in itself: wrong → wrong; '
        "use another flow, or a loop",
        'flows/wrong.yaml:12: node "fed": takes from "orders", but flow "stock" takes no records: its start declares '
        "no `columns`; write `from: start`, and `after: orders` where it is to wait for that",
    ]


def test_flows_that_use_each_other_are_refused(tmp_path: Path) -> None:
    one = "flow: one\nnodes:\n  start: {type: start}\n  a: {type: flow, from: start, flow: two}\n"
    two = one.replace("one", "two", 1).replace("flow: two}", "flow: one}")

    told = problems(project(tmp_path, one, {"flows/two.yaml": two}), "one")

    assert (
        told[0]
        == 'flows/two.yaml:4: node "a/a": flow "one" cannot be used in itself: one → two → one; use another flow, or a loop'
    )


def test_what_is_wrong_inside_a_used_flow_is_told_where_it_stands(tmp_path: Path) -> None:
    wrong = PRICES.replace("quantity * price", "quantity * prize").replace("total: DOUBLE", "total: DUBLE")

    told = problems(shop(tmp_path, files={"flows/prices.yaml": wrong}), "shop")

    assert told[0].startswith('flows/prices.yaml:7: node "web/total": ')
    assert "prize" in told[0]


def test_what_a_node_says_holds_for_the_nodes_of_its_flow_that_say_nothing(tmp_path: Path) -> None:
    flow = SHOP.replace("parameters: {reduction: 0.1}", "rejects: {fail_above: 1}, snapshot: none")
    settled = PRICES.replace("nodes:", "settings: {rejects: {fail_above: 5}, retry: {attempts: 2}}\nnodes:")
    made = shop(tmp_path, flow, files={"flows/prices.yaml": settled})

    stations = prepare(Request(made, "shop")).plan.stations
    done = run_here(made, "shop")

    assert (stations["web/priced"].rejects.fail_above, stations["web/priced"].retry.attempts) == (1, 2)
    assert stations["web/total"].snapshots == {"out": "none"}
    assert (done["status"], "node 'web/priced': 2" in done["error"]) == ("failed", True)


def test_flows_that_multiply_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    def twice(name: str, other: str) -> str:
        return (
            f"flow: {name}\nnodes:\n  start: {{type: start}}\n"
            f"  a: {{type: flow, from: start, flow: {other}}}\n  b: {{type: flow, from: start, flow: {other}}}\n"
        )

    flows = {f"flows/f{n}.yaml": twice(f"f{n}", f"f{n + 1}") for n in range(1, 30)}

    told = problems(project(tmp_path, twice("f0", "f1"), flows), "f0")

    assert any("flows in flows make more than 5,000 nodes here" in line for line in told)


def test_names_that_become_too_long_are_refused(tmp_path: Path) -> None:
    long = "a" * 60
    used = f"flow: used\nnodes:\n  start: {{type: start}}\n  {long}: {{type: flow, from: start, flow: inmost}}\n"
    outer = used.replace("flow: used", "flow: outer").replace("flow: inmost", "flow: used")

    told = problems(project(tmp_path, outer, {"flows/used.yaml": used}), "outer")

    assert told[0] == (
        f'flows/used.yaml:4: node "{long}/{long}": the names of its nodes, which begin with "{long}/{long}/", are too long; '
        "give shorter names, or put fewer flows into each other"
    )


def test_what_is_wrong_with_a_disabled_use_is_a_warning_and_the_flow_runs(tmp_path: Path) -> None:
    flow = SHOP.split("tests:", maxsplit=1)[0] + (
        "  gone: {type: flow, from: orders, flow: prizes, disabled: true}\n  end: {type: end, from: [gone, web]}\n"
    )
    made = shop(tmp_path, flow)

    told = [problem.what for problem in prepare(Request(made, "shop")).checked.problems if problem.warning]
    done = run_here(made, "shop")

    assert 'node "gone": no flow is called "prizes"' in told
    assert (done["status"], done["nodes"]["end"]["in"]) == ("done_with_rejects", 4)
