"""Which phase a station runs in, and which inputs are waited for so that they can be lent.

A wide node may borrow an input: what comes in by the others then is not spilled, but worked as it passes, each worker
having the borrowed input whole. For that it must have arrived a phase before, so gets that feed the others wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pipelines.node import Get, Post, Wide

if TYPE_CHECKING:
    from pipelines.flow import Link
    from pipelines.plan import Station

Stations = Mapping[str, "Station"]


def ends_phase(station: Station) -> bool:
    """Whether everything must have arrived at a station before anything leaves it."""
    config = station.spec.config
    return (isinstance(config, Wide) and station.lent is None) or (isinstance(config, Post) and config.staged)


def phased(stations: Stations) -> dict[str, Station]:
    """The stations with the phases they run in; whatever follows a staged post, or waits for a node, runs later."""
    phases, arrivals = dict.fromkeys(stations, 0), dict.fromkeys(stations, 0)
    is_settled = False
    while not is_settled:  # once through the stations, and once more for each node that waits for a later one
        is_settled = True
        for name, station in stations.items():
            came = {True: [0], False: [0]}
            for link in _links(station, stations):
                before = phases[link.node] + ends_phase(stations[link.node])
                came[station.borrows is not None and link.into == station.borrows].append(before)
            waits = [phases[node] + _lasting(stations[node]) for node in station.spec.after if node in stations]
            waits += [arrivals[borrower] + 1 for borrower in station.waits_for]
            waits += [max(came[True]) + 1] if station.borrows is not None else []
            found = max(came[False] + waits), max(came[True])
            if found != (phases[name], arrivals[name]):
                phases[name], arrivals[name] = found
                is_settled = False
    return {
        name: replace(
            station, phase=phases[name], lent_phase=phases[name] if station.borrows is None else arrivals[name]
        )
        for name, station in stations.items()
    }


def _lasting(station: Station) -> int:
    """How many phases a station needs: what a wide node took is worked in the phase behind its own."""
    return 2 if isinstance(station.spec.config, Wide) and station.lent is None else 1


def borrowing(stations: Stations) -> dict[str, Station]:
    """The stations, with every input waited for that may be lent, where nothing has to be spilled for the waiting."""
    found = {
        name: replace(station, borrows=None, waits_for=frozenset(), lent=None) for name, station in stations.items()
    }
    for name, station in stations.items():
        config = station.spec.config
        if isinstance(config, Wide) and (into := config.lent_input()) is not None:
            found = _waiting(found, name, into) or found
    return found


def _waiting(stations: dict[str, Station], name: str, into: str) -> dict[str, Station] | None:
    """The stations where one of them borrows an input; None: it cannot be waited for."""
    lent = {link.node for link in _links(stations[name], stations) if link.into == into}
    streamed = {link.node for link in _links(stations[name], stations) if link.into != into}
    beside = _within_phase(streamed, stations)
    if not lent or not streamed or beside & _before(lent, stations):
        return None
    waiting = {node for node in beside if isinstance(stations[node].spec.config, Get)}
    if not _may_wait(waiting, stations):
        return None
    tried = dict(stations)
    tried[name] = replace(stations[name], borrows=into)
    for node in waiting:
        tried[node] = replace(stations[node], waits_for=stations[node].waits_for | {name})
    found = phased(tried)
    arrived = max(found[node].phase + ends_phase(found[node]) for node in streamed)
    return tried if arrived > found[name].lent_phase else None


def _may_wait(gets: set[str], stations: Stations) -> bool:
    """Whether gets that read one moment of their system with others all begin to do so in one phase."""
    plain = phased({name: replace(station, borrows=None, waits_for=frozenset()) for name, station in stations.items()})
    for name in gets:
        config = stations[name].spec.config
        if isinstance(config, Get) and config.reads_one_moment:
            alike = [other for other in plain.values() if other.spec.type == stations[name].spec.type]
            if len({other.phase for other in alike}) > 1:
                return False
    return True


def _links(station: Station, stations: Stations) -> Iterator[Link]:
    """The links by which records come to a station from others that run."""
    for link in station.spec.inputs:
        if link.node in stations and station.name in stations[link.node].links.get(link.port, ()):
            yield link


def _before(names: set[str], stations: Stations) -> set[str]:
    """Stations, and all that must have run for them to run."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name in found or name not in stations:
            continue
        found.add(name)
        station = stations[name]
        left += [link.node for link in _links(station, stations)] + list(station.spec.after)
        for borrower in station.waits_for:
            other = stations[borrower]
            left += [link.node for link in _links(other, stations) if link.into == other.borrows]
    return found


def _within_phase(names: set[str], stations: Stations) -> set[str]:
    """Stations, and those before them whose records reach them in the phase in which they leave."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name not in found and not ends_phase(stations[name]):
            found.add(name)
            left += [link.node for link in _links(stations[name], stations)]
    return found
