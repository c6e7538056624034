"""The part of a plan that records pass from some nodes on, and what it needs besides."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from pipelines.errors import Invalid
from pipelines.flow import Flow
from pipelines.node import Post, Wide
from pipelines.plan import Plan, Station, number_phases


def downstream(plan: Plan, flow: Flow, entries: Collection[str]) -> Plan:
    """The nodes of `entries` and all that follow them; where a wide node meets others there, those that lead to it too.

    Raises:
        Invalid: records that meet there come through a post, which would deliver them again.
    """
    main = reached_from(plan, entries)
    sides = _sides(plan, main)
    posts = [name for name in sides if isinstance(plan.stations[name].spec.config, Post)]
    if posts:
        raise Invalid(
            f"what follows {', '.join(entries)} needs the records that leave {', '.join(posts)}, "
            "which would deliver all of them again; run the flow instead"
        )
    stations = {}
    for name, station in plan.stations.items():
        if name in main:
            stations[name] = _linked(station, main)
        elif name in sides:
            wide = {target for target in main if isinstance(plan.stations[target].spec.config, Wide)}
            stations[name] = _linked(station, sides | wide)
    return number_phases(replace(plan, stations=stations), flow)


def meets(plan: Plan) -> list[str]:
    """The nodes of a plan that see records together: what they give depends on which records come."""
    return [name for name, station in plan.stations.items() if isinstance(station.spec.config, Wide)]


def reached_from(plan: Plan, entries: Iterable[str]) -> set[str]:
    """Some nodes and all that follow them."""
    found, left = set(entries), list(entries)
    while left:
        targets = {target for some in plan.stations[left.pop()].links.values() for target in some} - found
        found |= targets
        left += targets
    return found


def _sides(plan: Plan, main: set[str]) -> set[str]:
    """The nodes outside of `main` that lead to the wide nodes in it by inputs that nothing in it feeds."""
    sides: set[str] = set()
    for name in main:
        station = plan.stations[name]
        fed = {link.into for link in station.spec.inputs if link.node in main}
        if isinstance(station.spec.config, Wide) and fed:
            sides.update(link.node for link in station.spec.inputs if link.into not in fed)
    for name in reversed(list(plan.stations)):
        if sides & {target for targets in plan.stations[name].links.values() for target in targets}:
            sides.add(name)
    return (sides - main) & set(plan.stations)


def _linked(station: Station, kept: Collection[str]) -> Station:
    links = {port: tuple(target for target in targets if target in kept) for port, targets in station.links.items()}
    return replace(station, links=links)
