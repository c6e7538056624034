"""Where records leave a flow that is used as a node, or a loop."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.entrance import Entrance
from pipelines.flow import Flow, Link, NodeSpec
from pipelines.language.flowlinks import ports_of
from pipelines.rounds import AGAIN

Ports = dict[str, tuple[Link, ...]]
"""Per port where the records leave."""


def ports_of_flow(flow: Flow, prefix: str, nodes: Mapping[str, NodeSpec]) -> Ports:
    """Where records leave a flow: its ends, and what no node of its own takes of what is rejected in it."""
    ends = [spec.name for spec in flow.nodes.values() if spec.type == "end" and not spec.disabled]
    ports = {"out" if len(ends) == 1 else name: (Link(prefix + name),) for name in ends}
    taken = {(link.node, link.port) for spec in nodes.values() for link in spec.inputs}
    rejecting = [name for name, spec in nodes.items() if _may_reject(spec) and (name, "rejected") not in taken]
    return {**ports, "rejected": tuple(Link(name, "rejected") for name in rejecting)}


def _may_reject(spec: NodeSpec) -> bool:
    never = spec.type == "end" or (isinstance(spec.config, Entrance) and not spec.config.made)
    return not never and not spec.disabled and "rejected" in ports_of(spec)


def ports_with(ports: Mapping[str, tuple[Link, ...]], gate: str) -> dict[str, tuple[Link, ...]]:
    """The ports of a loop: `out` for what is done, and its other ends."""
    others = {port: links for port, links in ports.items() if port not in ("out", AGAIN) and Link(gate) not in links}
    out = tuple(link for link in ports.get("out", ()) if link != Link(gate))
    return {"out": (Link(gate), *out), **others}
