"""Every transform of the house is held to the contract, its examples as data."""

from __future__ import annotations

import pkgutil

import pytest

import transforms
from pipelines.conformance import NestedConformance, NodeConformance, TransformConformance, WideConformance
from pipelines.nested import Nested
from pipelines.node import Node, Start, Wide
from pipelines.registry import node_type

VERBS = [module.name for module in pkgutil.iter_modules(transforms.__path__)]


def _suite_of(kind: type[Node]) -> type[NodeConformance]:
    if issubclass(kind, Start):
        return NodeConformance
    if issubclass(kind, Nested):
        return NestedConformance
    return WideConformance if issubclass(kind, Wide) else TransformConformance


ELSEWHERE = {"lookup", "notify", "recall", "store"}
"""Those whose examples need a system, held to the same in files of their own."""

for _name in VERBS:
    if _name in ELSEWHERE:
        continue
    _kind = node_type(_name)
    _suite = _suite_of(_kind)
    globals()[f"Test{_name.capitalize()}"] = type(f"Test{_name.capitalize()}", (_suite,), {"node": _kind})


@pytest.mark.parametrize("name", ["start", "end", "map", "filter", "decide", "merge"])
def test_the_house_has_the_node_types_that_flows_are_made_of(name: str) -> None:
    assert name in VERBS
