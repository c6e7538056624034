"""Flows of every shape, built in Python, for the round trips."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from pipelines.builder import FlowBuilder, Port

NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}(?:[-_][a-z0-9]{1,4}){0,2}", fullmatch=True).filter(
    lambda name: name != "start"
)
PROSE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["a: b", "two\nlines\n", 'it\'s "so"', "# no", "NO", "1%", "trailing ", "- x", "{a}", "a\\b", "\ttab"]
)
COLUMNS = st.sampled_from(["a", "b", "order_no", "from", "total", "großer Wert", "class"])
VALUES = st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | PROSE
RECORDS = st.lists(st.dictionaries(COLUMNS, VALUES, max_size=3), max_size=2)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "snapshots": st.sampled_from(["auto", "none", "sample", "all"]),
        "rejects": st.fixed_dictionaries({"fail_above": st.integers(0, 9) | st.just("1.5%")}),
        "retry": st.fixed_dictionaries({}, optional={"attempts": st.integers(1, 9), "first_seconds": st.just(1)}),
        "timeout_seconds": st.integers(1, 9) | st.just(0.5),
    },
)
COMMON = st.fixed_dictionaries(
    {},
    optional={
        "in_": st.sampled_from(["local", "plant-1"]),
        "snapshot": st.sampled_from(["none", "all"]),
        "retry": st.just({"attempts": 2}),
        "rejects": st.just({"fail_above": "3%"}),
        "description": PROSE,
        "disabled": st.booleans(),
    },
)
FIELDS = st.dictionaries(
    COLUMNS, st.sampled_from(["a + 1", "'x: y'", '"b"', "1", "case when a\nthen b\nend\n"]), min_size=1
)


@st.composite
def flows(draw: st.DrawFn) -> FlowBuilder:
    """A flow being built that has no problems of form or links."""
    flow = FlowBuilder(draw(NAMES).replace("_", "-"), description=draw(PROSE))
    for name in draw(st.lists(st.sampled_from(["since", "most", "unit_price"]), unique=True)):
        about = {"default": draw(VALUES), "description": draw(PROSE)}
        flow.parameter(name, draw(st.sampled_from(["varchar", "integer"])), **about)
    flow.settings(**draw(SETTINGS))
    start = flow.start()
    ports: list[Port] = []
    gets: list[str] = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=7, unique=True)):
        common = draw(COMMON)
        if not ports or draw(st.integers(0, 4)) == 0:
            where = draw(st.none() | st.just("a > 1"))
            extra = {"where": where} if where else {}
            ports.append(flow.node(name, "sqlite.get", from_=start, connection="shop", table="t", **extra, **common))
            gets.append(name)
            continue
        ports += _transform(draw, flow, name, ports, common)
    if draw(st.booleans()):
        given = {name: draw(RECORDS) for name in gets[:1]}
        flow.test(draw(PROSE), given=given, then={str(ports[-1]): draw(RECORDS)})
    return flow


def _transform(draw: st.DrawFn, flow: FlowBuilder, name: str, ports: list[Port], common: dict[str, Any]) -> list[Port]:
    source = draw(st.sampled_from(ports))
    match draw(st.sampled_from(["map", "filter", "decide", "merge", "end"])):
        case "map":
            return [flow.node(name, "map", from_=source, fields=draw(FIELDS), **common)]
        case "filter":
            node = flow.node(name, "filter", from_=source, where=draw(st.sampled_from(["a = 'b'", "true"])), **common)
            return [node, node.rejected]
        case "decide":
            node = flow.node(name, "decide", from_=source, when={"yes": "a > 1"}, otherwise="no", **common)
            return [node["yes"], node["no"]]
        case "merge":
            several = draw(st.lists(st.sampled_from(ports), min_size=1, max_size=3, unique_by=str))
            return [flow.node(name, "merge", from_=several, **common)]
    return [source, flow.node(name, "end", from_=source, after=[source.node], **common)]
