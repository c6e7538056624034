"""Whatever is given, the language answers with a flow or with problems, never with a fault of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.check import check_file
from pipelines.environmentfile import parse_environment
from pipelines.errors import Invalid, Problem
from pipelines.flowfile import drafted, parse
from pipelines.language.modelproblems import Place
from pipelines.language.yamlrender import inline
from pipelines.language.yamltext import parse as parse_yaml
from pipelines.scope import Scope

PATIENT = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
FLOW = """\
flow: paid-orders   # a comment
parameters: {least: {type: "decimal(10,2)", default: 0}}
settings: {snapshots: sample, rejects: {fail_above: 1%}}
nodes:
  start: {type: start, on: [{every: 1 hour}]}
  orders: {type: sqlite.get, from: start, connection: shop, table: orders, key: [id]}
  paid: {type: filter, from: orders, where: "status = 'paid'"}
  shaped:
    type: map
    from: paid
    fields: {order_no: "'WEB-' || id"}
  size: {type: decide, from: shaped, when: {review: total > 1}, otherwise: direct}
  all: {type: merge, from: [size.direct, size.review]}
tests:
  - {name: a, given: {orders: [{id: 1}]}, then: {paid: []}}
"""
SIGNS = st.sampled_from(
    [*list("{}[],:#&*!|>'\"%@`-?\n\t \\~<=\x00\ufeff\u2028é"), "  ", "\n  ", ": ", " #", "- ", "<<: "]
)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["start", "map", "a.b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def problems_or_none(make: Any) -> tuple[str, ...]:
    try:
        make()
    except Invalid as fault:
        return tuple(str(problem) for problem in fault.problems)
    return ()


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, item in items for place in places(item, (*at, key)))]


def with_value(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[at[0]] = with_value(copied[at[0]], at[1:], new)
    return copied


@PATIENT
@given(st.lists(st.tuples(st.integers(0, len(FLOW)), st.integers(0, 4), SIGNS), min_size=1, max_size=4))
def test_a_damaged_flow_file_gives_a_flow_or_problems(damage: list[tuple[int, int, str]]) -> None:
    text = FLOW
    for place, cut, sign in damage:
        text = text[:place] + sign + text[place + cut :]

    for problem in problems_or_none(lambda: parse(text, "f.yaml")):
        assert problem.startswith("f.yaml:")


@PATIENT
@given(st.sampled_from(places(parse_yaml(FLOW).value)), PLAIN)
def test_any_value_at_any_place_gives_a_flow_or_problems(at: tuple[Any, ...], value: Any) -> None:
    tree = with_value(parse_yaml(FLOW).value, at, value)

    problems_or_none(lambda: drafted(tree, Place()))
    said = problems_or_none(lambda: parse(inline(tree), "f.yaml"))

    assert all(problem.startswith("f.yaml:1") for problem in said)


@PATIENT
@given(st.sampled_from(places(parse_yaml(FLOW).value)), PLAIN)
def test_any_flow_that_can_be_read_can_be_checked(tmp_path: Path, at: tuple[Any, ...], value: Any) -> None:
    (tmp_path / "f.yaml").write_text(inline(with_value(parse_yaml(FLOW).value, at, value)), encoding="utf-8")

    found = check_file(tmp_path / "f.yaml", Scope(tmp_path))

    assert found.problems


OUTER = """\
flow: outer
nodes:
  start: {type: start}
  given: {type: file.get, from: start, path: n.csv, columns: {n: BIGINT}}
  used: {type: flow, from: given, flow: used, inputs: {m: n + 1}, parameters: {by: 2}}
  round:
    type: loop
    from: used
    until: n > 5
    nodes: {inner: {type: loop, from: start, flow: used, at_most: 2}, end: {type: end, from: inner}}
  end: {type: end, from: round}
"""
USED = """\
flow: used
parameters: {by: {type: integer, default: 1}}
settings: {rejects: {fail_above: 5}}
nodes:
  start: {type: start, columns: {n: BIGINT}}
  more: {type: map, from: start, keep: all, fields: {n: n + $by}}
  end: {type: end, from: more, columns: {n: BIGINT}}
"""


def test_the_flow_that_is_damaged_below_is_sound(tmp_path: Path) -> None:
    assert [str(problem) for problem in checked(tmp_path, parse_yaml(OUTER).value, parse_yaml(USED).value)] == []


@PATIENT
@given(st.sampled_from(places(parse_yaml(OUTER).value)), PLAIN)
def test_any_flow_that_uses_others_can_be_checked(tmp_path: Path, at: tuple[Any, ...], value: Any) -> None:
    checked(tmp_path, with_value(parse_yaml(OUTER).value, at, value), parse_yaml(USED).value)


@PATIENT
@given(st.sampled_from(places(parse_yaml(USED).value)), PLAIN)
def test_whatever_a_used_flow_says_the_one_that_uses_it_can_be_checked(
    tmp_path: Path, at: tuple[Any, ...], value: Any
) -> None:
    checked(tmp_path, parse_yaml(OUTER).value, with_value(parse_yaml(USED).value, at, value))


def checked(folder: Path, outer: Any, used: Any) -> tuple[Problem, ...]:
    (folder / "flows").mkdir(exist_ok=True)
    (folder / "n.csv").write_text("n\n1\n", encoding="utf-8")
    for name, tree in (("outer", outer), ("used", used)):
        (folder / "flows" / f"{name}.yaml").write_text(inline(tree), encoding="utf-8")
    return check_file(folder / "flows" / "outer.yaml", Scope(folder)).problems


@PATIENT
@given(st.text(max_size=30) | st.lists(SIGNS, max_size=12).map("".join))
def test_any_text_is_yaml_or_a_problem_with_a_place(text: str) -> None:
    for problem in problems_or_none(lambda: parse_yaml(text, "f.yaml")):
        assert problem.startswith("f.yaml:")


@PATIENT
@given(PLAIN, st.sampled_from(["runner", "connections", "variables", "environment"]))
def test_any_environment_is_read_or_has_problems(value: Any, key: str) -> None:
    problems_or_none(lambda: parse_environment(inline({key: value}), "local.yaml"))
