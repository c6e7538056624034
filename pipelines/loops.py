"""A loop in the text: its own nodes as a flow, where its records turn round, and what cannot stand in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipelines.errors import Problem
from pipelines.flow import Flow, NodeSpec
from pipelines.flowfile import nodes_of
from pipelines.language.flowlinks import faults
from pipelines.language.modelproblems import Place
from pipelines.nested import Turns
from pipelines.node import Get, Post, Start, Transform, Wide
from pipelines.rounds import AGAIN, Gate

START = "start"


class Begin(Start):
    """The start of a loop's own nodes: what comes into the loop leaves by it."""

    columns: Mapping[str, str] = {}


def own_nodes(nodes: Mapping[str, Any], place: Place, name: str) -> tuple[Flow, Place, list[Problem]]:
    """A loop's own nodes as a flow; `place` is the loop's."""
    here, problems = Place(place.at, place.text, "", place.path), list[Problem]()
    has_start = any(isinstance(node, Mapping) and node.get("type") == "start" for node in nodes.values())
    specs, broken = nodes_of(nodes if has_start else {START: {"type": "start"}, **nodes}, here, problems)
    for start in [spec for spec in specs.values() if isinstance(spec.config, Start)]:
        if getattr(start.config, "columns", None) is None:
            specs[start.name] = replace(start, config=Begin())
    flow = Flow(name, specs)
    for fault in faults(flow, broken):
        if not fault.warning:
            problems.append(here.problem(fault.at, fault.what, fault.fix, key=fault.key))
    return flow, here, problems


def turning(flow: Flow, prefix: str) -> tuple[str | None, str]:
    """The end at which records turn round; else why there is none."""
    ends = [spec.name for spec in flow.nodes.values() if spec.type == "end" and not spec.disabled]
    if len(ends) == 1:
        return prefix + ends[0], ""
    if AGAIN in ends:
        return prefix + AGAIN, ""
    if not ends:
        return None, "no records come back: none of its nodes is of type end"
    return (
        None,
        f"it has the ends {', '.join(ends)}: the one from which records go round again must be called {AGAIN!r}",
    )


def gated(end: NodeSpec, turns: Turns, entrance: str) -> NodeSpec:
    """The gate in the place of an end."""
    assert isinstance(end.config, Transform)
    gate = Gate(
        end=end.config,
        entrance=entrance,
        until=turns.until,
        at_most=turns.at_most,
        timeout_seconds=turns.timeout_seconds,
    )
    return replace(end, type="loop", config=gate)


def held_up(nodes: Mapping[str, NodeSpec]) -> Iterator[tuple[str, str]]:
    """The nodes that cannot stand in a loop, and why."""
    for name, spec in nodes.items():
        config = spec.config
        if spec.disabled:
            continue
        if isinstance(config, Wide):
            yield name, f"a {spec.type} needs all records together, and those in a loop are never all there"
        elif isinstance(config, Post) and config.staged:
            yield name, f"a {spec.type} delivers when all records have come, and those in a loop never have"
        elif isinstance(config, Get) and not config.takes_records:
            yield name, f"a {spec.type} reads by itself, and a loop passes what comes in"
        elif spec.after:
            yield name, "a node in a loop cannot wait for others"
