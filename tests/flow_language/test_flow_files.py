"""A flow file is read whole, or every problem of it is told with its line and what would be right."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest

from pipelines.errors import Invalid
from pipelines.flow import Flow, Link, NodeSpec
from pipelines.flowfile import as_tree, draft, load, parse
from pipelines.flowschema import flow_schema, node_schema
from pipelines.language.flowlinks import faults, order
from pipelines.node import Start, Transform
from pipelines.registry import node_type

HOSTILE = Path(__file__).parents[1] / "hostile" / "flows"
HEAD = (
    "flow: f\nnodes:\n  start: {type: start}\n  orders: {type: sqlite.get, from: start, connection: shop, table: t}\n"
)


def problems(text: str) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


class Joining(Transform):
    """Takes from two inputs with names."""

    inputs = ("left", "right")

    def open(self, *_: object) -> object:
        raise AssertionError


def test_every_problem_is_told_at_once_in_the_order_of_the_text() -> None:
    with pytest.raises(Invalid) as caught:
        load(HOSTILE / "everything_wrong.yaml")

    expected = (HOSTILE / "everything_wrong.txt").read_text(encoding="utf-8").splitlines()
    assert [str(problem).removeprefix(f"{HOSTILE}/") for problem in caught.value.problems] == expected


def test_an_unknown_field_names_the_file_line_column_and_fix() -> None:
    with pytest.raises(Invalid) as caught:
        parse(HEAD + "  erp: {type: end, form: orders}\n", "orders.yaml")

    (problem,) = caught.value.problems
    assert str(problem) == 'orders.yaml:5: node "erp": unknown field "form"; did you mean "from"?'
    assert (problem.line, problem.column, problem.at) == (5, 20, ("nodes", "erp", "form"))


def test_unquoted_numbers_and_booleans_are_text_where_text_is_wanted() -> None:
    flow = parse(
        HEAD + "  kept: {type: filter, from: orders, where: TRUE}\n  cut: {type: filter, from: orders, where: 1.10}\n"
    )

    assert as_tree(flow)["nodes"]["kept"]["where"] == "TRUE"
    assert as_tree(flow)["nodes"]["cut"]["where"] == "1.10"


def test_from_takes_a_node_a_port_and_lists() -> None:
    flow = parse(
        HEAD
        + "  large: {type: decide, from: orders, when: {review: a > 1}, otherwise: direct}\n"
        + "  all: {type: merge, from: [large.direct, large.review, orders.rejected], after: orders}\n"
    )

    assert flow.nodes["large"].inputs == (Link("orders"),)
    assert flow.nodes["all"].inputs == (Link("large", "direct"), Link("large", "review"), Link("orders", "rejected"))
    assert flow.nodes["all"].after == ("orders",)
    assert [spec.name for spec, _ in flow.consumers("large", "review")] == ["all"]


def test_a_whole_number_is_a_number_and_a_date_is_text() -> None:
    flow = parse("flow: f\nparameters: {since: {type: date, default: 2026-01-01}}\nsettings: {timeout_seconds: 5}\n"
                 "nodes: {start: {type: start}}\n")  # fmt: skip

    assert flow.settings.timeout_seconds == 5.0
    assert flow.parameters["since"].default == "2026-01-01"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "f.yaml:1: the file is empty; begin with `flow: NAME` and `nodes:`"),
        ("- a\n", "f.yaml:1: a flow is a mapping; begin with `flow: NAME` and `nodes:`"),
        ("flow: f\n", "f.yaml:1: the flow has no nodes; begin with `nodes: {start: {type: start}}`"),
        ("flow: f\nnodes: [a]\n", 'f.yaml:2: "nodes" must be a mapping of names to nodes'),
        ("flow: f\nnodes:\n  end: {type: end, from: end}\n",
         "f.yaml:2: the flow has no start; add `start: {type: start}` and take from it"),
        (HEAD + "  go: {type: start}\n",
         'f.yaml:5: node "go": the flow has a start already: "start"; keep one, with every trigger in its `on`'),
        (HEAD + "  e: {type: end, from: {left: orders}}\n",
         'f.yaml:5: node "e": a node of type end has one input without a name; write `from: NODE` or a list'),
        (HEAD + "  e: {type: end, from: orders.reject}\n",
         'f.yaml:5: node "e": "orders" has no port "reject"; did you mean "rejected"?'),
        (HEAD + "  m: {type: map, from: start, fields: {a: 1}}\n",
         'f.yaml:5: node "m": takes from "start", which has no records; '
         "take from a get, or start the flow by a webhook"),
        (HEAD + "  e: {type: end, from: order}\n",
         'f.yaml:5: node "e": takes from "order", which is no node of this flow; did you mean "orders"?'),
        (HEAD + "  e: {type: end, from: orders, after: [start, ordres]}\n",
         'f.yaml:5: node "e": comes after "ordres", which is no node of this flow; did you mean "orders"?'),
        (HEAD + "  e: {type: end, from: orders, after: orders.rejected}\n",
         'f.yaml:5: node "e": comes after "orders.rejected", which is no node of this flow; '
         "`after` names nodes, not their ports; write orders"),
        (HEAD + "  e: {type: end, from: orders, after: e}\n",
         'f.yaml:5: node "e": waits for itself; let it wait for a node before it'),
        (HEAD + "  e: {type: end, from: orders, after: [x]}\n  x: {type: end, from: orders, after: e}\n",
         "f.yaml:5: the nodes e → x → e go round in a circle; let one of them take from a node before the circle"),
        (HEAD + "  e: {type: end, from: orders, after: [x]}\n  x: {type: end, from: e}\n",
         "f.yaml:5: the nodes e → x → e go round in a circle; let one of them take from a node before the circle"),
        (HEAD + "  e: {type: end, from: orders, retry: {attempts: 0}}\n",
         'f.yaml:5: node "e": "retry.attempts" must be at least 1, not 0'),
        (HEAD + "  e: {type: end, from: orders, rejects: {fail_above: lots}}\n",
         'f.yaml:5: node "e": "rejects.fail_above" cannot be "lots"; such as 100 or 1%'),
        (HEAD + "tests: [{name: a}, {name: a}]\n", 'f.yaml:5: test 2: another test is called "a"'),
        (HEAD + "tests: {name: a}\n", 'f.yaml:5: "tests" must be a list; begin each test with `- name: `'),
        (HEAD + "description: {a: b}\n", 'f.yaml:5: "description" must be text'),
    ],
)  # fmt: skip
def test_each_problem_says_what_would_be_right(text: str, said: str) -> None:
    assert said in problems(text)


def test_a_node_that_cannot_be_read_does_not_hide_the_others() -> None:
    made = draft(HEAD + "  x: {type: mapp, from: orders}\n  e: {type: end, from: x}\n", "f.yaml")

    assert list(made.flow.nodes) == ["start", "orders", "e"]
    assert made.broken == {"x"}
    assert [str(problem) for problem in made.problems] == [
        'f.yaml:5: node "x": no node type is called "mapp"; did you mean "map"?'
    ]


def test_a_node_that_cannot_be_read_still_has_its_links_looked_up() -> None:
    assert problems(HEAD + "  x: {type: end, form: [], from: [orders, ordrs.out]}\n") == [
        'f.yaml:5: node "x": unknown field "form"; did you mean "from"?',
        'f.yaml:5: node "x": takes from "ordrs", which is no node of this flow; did you mean "orders"?',
    ]


def test_named_inputs_are_named_and_complete() -> None:
    start = NodeSpec("start", "start", node_type("start").model_validate({}))
    source = NodeSpec("a", "end", node_type("end").model_validate({}), (Link("start"),))
    joined = NodeSpec("j", "joining", Joining(), (Link("a", "out", "left"), Link("a", "out", "write")))
    loose = NodeSpec("k", "joining", Joining(), (Link("a"), Link("a")))
    assert isinstance(start.config, Start)

    found = list(faults(Flow("f", {"start": start, "a": source, "j": joined, "k": loose})))

    assert [f"{fault.what}; {fault.fix}" for fault in found] == [
        'node "j": it has no input "write"; did you mean "right"?',
        'node "j": nothing leads to its input "right"; write `from: {left: NODE, right: NODE}`',
        'node "k": its inputs have names; write `from: {left: NODE, right: NODE}`',
    ]


def test_a_webhook_brings_records_of_its_own() -> None:
    flow = parse("flow: f\nnodes:\n  start: {type: start, on: [{webhook: orders}]}\n"
                 "  m: {type: map, from: start, fields: {a: 1}}\n")  # fmt: skip

    assert flow.nodes["m"].inputs == (Link("start"),)


def test_nodes_come_after_what_they_take_from_else_in_the_order_of_the_text() -> None:
    flow = parse(
        "flow: f\nnodes:\n  e: {type: end, from: b}\n  b: {type: sqlite.get, from: start, connection: c, table: t, after: a}\n"
        "  start: {type: start}\n  a: {type: sqlite.get, from: start, connection: c, table: t}\n"
    )

    assert order(flow) == ["start", "a", "b", "e"]


def test_a_flow_of_a_thousand_nodes_is_read_in_one_go() -> None:
    lines = [f"  n{i}: {{type: filter, from: {'orders' if i == 0 else f'n{i - 1}'}, where: a}}\n" for i in range(1000)]

    flow = parse(HEAD + "".join(reversed(lines)))

    assert order(flow)[-1] == "n999"


def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"none\.yaml: there is no such file"):
        load(tmp_path / "none.yaml")


def test_the_schema_is_one_and_refuses_what_the_parser_refuses() -> None:
    schema = flow_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good = {
        "flow": "f",
        "nodes": {"start": {"type": "start"}, "e": {"type": "end", "from": ["start"], "disabled": True}},
    }

    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "node": {}})
    assert not validator.is_valid({**good, "flow": "F"})
    assert not validator.is_valid({**good, "nodes": {"e": {"type": "endd"}}})
    assert not validator.is_valid({**good, "nodes": {"e": {"type": "end", "form": "start"}}})
    assert not validator.is_valid({**good, "nodes": {"E": {"type": "end"}}})
    assert not validator.is_valid({**good, "nodes": {"m": {"type": "filter", "from": "start"}}})
    loop = {"type": "loop", "from": "start", "at_most": 2, "nodes": {"e": {"type": "end", "from": "start"}}}
    assert validator.is_valid({**good, "nodes": {"l": loop}})
    assert not validator.is_valid({**good, "nodes": {"l": {**loop, "nodes": {"e": {"type": "endd"}}}}})


def test_the_schema_carries_the_words_of_the_models() -> None:
    own = node_schema("filter")["$defs"]["filter"]

    assert own["description"].startswith("Keeps the records")
    assert own["properties"]["where"]["description"]
    assert own["properties"]["from"]["description"].startswith("What it takes its records from")
    assert "where" in own["required"]
