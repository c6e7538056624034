"""YAML, `Flow` and Python are one: what goes from one to another comes back the same."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings

from pipelines.builder import FlowBuilder
from pipelines.errors import Invalid
from pipelines.flow import Flow
from pipelines.flowfile import as_tree, parse, render
from pipelines.flowschema import flow_schema
from pipelines.language.pythontext import to_python
from pipelines.language.yamltext import parse as parse_yaml
from tests.flow_language.flows import flows

PATIENT = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])


@cache
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(flow_schema())


def built(source: str) -> Flow:
    names: dict[str, Any] = {}
    exec(source, names)
    flow: Flow = names["flow"].build()
    return flow


@PATIENT
@given(flows())
def test_a_flow_read_from_its_own_text_is_the_same_flow(builder: FlowBuilder) -> None:
    flow = builder.build()

    again = parse(render(flow))

    assert again == flow
    assert render(again) == render(flow)


@PATIENT
@given(flows())
def test_a_flow_built_by_its_own_python_text_is_the_same_flow(builder: FlowBuilder) -> None:
    flow = builder.build()

    assert built(to_python(flow)) == flow


@PATIENT
@given(flows())
def test_the_schema_accepts_what_the_parser_accepts(builder: FlowBuilder) -> None:
    text = builder.text()

    validator().validate(parse_yaml(text).value)


def test_a_float_that_is_no_number_survives() -> None:
    flow = FlowBuilder("odd")
    flow.start()
    flow.test("odd", then={"start": [{"a": math.inf, "b": -math.inf}]})

    again = parse(flow.text())

    assert again.tests[0].then["start"] == [{"a": math.inf, "b": -math.inf}]
    assert built(to_python(again)) == replace(again, version=flow.build().version)


def test_a_long_node_is_written_as_a_block_and_a_short_one_in_a_line() -> None:
    flow = FlowBuilder("paid-orders", description="Keeps what is paid.")
    flow.parameter("since", "timestamp", default="2026-01-01")
    flow.settings(snapshots="sample", rejects={"fail_above": "1%"})
    orders = flow.start().then("orders", "sqlite.get", connection="shop", table="orders", key=["order_id"])
    paid = orders.then("paid", "filter", where="status = 'paid' and updated_at > $since")
    shaped = paid.then("shaped", "map", fields={"order_no": "'WEB-' || order_id", "note": "x" * 80})
    large = shaped.then("large", "decide", when={"review": "total > 10000"}, otherwise="direct")
    flow.node("done", "end", from_=[large["review"], paid.rejected], after=["shaped"])
    flow.node("told", "end", from_=large["direct"])

    assert (
        flow.text()
        == f"""\
flow: paid-orders
description: Keeps what is paid.
parameters:
  since: {{type: timestamp, default: 2026-01-01}}
settings: {{snapshots: sample, rejects: {{fail_above: 1%}}}}
nodes:
  start: {{type: start}}
  orders: {{type: sqlite.get, from: start, connection: shop, table: orders, key: [order_id]}}
  paid: {{type: filter, from: orders, where: status = 'paid' and updated_at > $since}}
  shaped:
    type: map
    from: paid
    fields:
      order_no: "'WEB-' || order_id"
      note: {"x" * 80}
  large: {{type: decide, from: shaped, when: {{review: total > 10000}}, otherwise: direct}}
  done: {{type: end, from: [large.review, paid.rejected], after: shaped}}
  told: {{type: end, from: large.direct}}
"""
    )


def test_python_names_the_nodes_it_has_and_spells_out_those_to_come() -> None:
    flow = parse("flow: f\nnodes:\n  end: {type: end, from: class.rejected}\n  start: {type: start}\n"
                 "  class: {type: sqlite.get, from: start, connection: s, table: t}\n")  # fmt: skip

    assert to_python(flow) == (
        "from pipelines.builder import FlowBuilder\n\n"
        'flow = FlowBuilder("f")\n'
        'end = flow.node("end", "end", from_="class.rejected")\n'
        'start = flow.node("start", "start")\n'
        'class_ = flow.node("class", "sqlite.get", from_=start, connection="s", table="t")\n'
    )


def test_problems_of_a_flow_in_python_name_the_node_without_a_line() -> None:
    flow = FlowBuilder("f")
    flow.start().then("kept", "filter", wher="a > 1")

    with pytest.raises(Invalid) as caught:
        flow.build()

    assert [str(problem) for problem in caught.value.problems] == [
        'node "kept": unknown field "wher"; did you mean "where"?',
    ]


def test_a_node_name_is_given_once() -> None:
    flow = FlowBuilder("f")
    flow.start()

    with pytest.raises(Invalid, match='there is a node called "start" already'):
        flow.start()


def test_the_version_names_the_text() -> None:
    text = "flow: f\nnodes: {start: {type: start}}\n"

    one, other = parse(text), parse(text + "# a comment\n")

    assert (one.version, len(other.version)) == ("94cc74bd55b2", 12)
    assert other == replace(one, version=other.version)
    assert as_tree(one) == {"flow": "f", "nodes": {"start": {"type": "start"}}}
