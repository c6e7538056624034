"""Compares two runs: their ledgers, and by key the records that came to their posts, or left any node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipelines.errors import Invalid
from repository.catalogue import Catalogue
from repository.differences import Side, Sides
from repository.project import Project

Report = dict[str, Any]
COUNTED = ("in", "filtered", "rejected", "delivered")


def diff(
    project: Project, before: str, after: str, places: Sequence[str] = (), key: Sequence[str] = (), examples: int = 20
) -> Report:
    """What differs between two runs: at their posts, or at these nodes or ports.

    Raises:
        Invalid: there is no such run, or neither has kept a record there.
    """
    catalogue = Catalogue(project.catalogue_url)
    try:
        reports = [catalogue.report(name) for name in (before, after)]
    finally:
        catalogue.close()
    for report in reports:
        if report["status"] == "running":
            raise Invalid(f"run {report['run']} is in progress; compare it when it has ended")
    sides = Sides(*(Side(project.lake, report["run"]) for report in reports))
    return compared(sides, reports[0], reports[1], places, key, examples)


def compared(
    sides: Sides,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    places: Sequence[str] = (),
    key: Sequence[str] = (),
    examples: int = 20,
) -> Report:
    """What differs between two sides whose reports these are."""
    wanted = _places(sides, before, after, places)
    found = []
    for place in wanted:
        difference = sides.difference(place, key, examples)
        kept = (difference.before, difference.after)
        left = [_left(report, place) for report in (before, after)]
        found.append(
            {
                **asdict(difference),
                "is_same": difference.is_none,
                "is_whole": all(some == all_ for some, all_ in zip(kept, left, strict=True)),
                "left_before": left[0],
                "left_after": left[1],
            }
        )
    ledger = _ledger(before, after)
    is_whole = all(one["is_whole"] for one in found)
    return {
        "before": before["run"],
        "after": after["run"],
        "is_same": all(one["is_same"] for one in found) and is_whole and not ledger,
        "is_whole": is_whole,
        "nodes": ledger,
        "places": found,
    }


def _places(sides: Sides, before: Mapping[str, Any], after: Mapping[str, Any], asked: Sequence[str]) -> list[str]:
    there = sides.places()
    if not asked:
        nodes = {**before["nodes"], **after["nodes"]}
        ends = [name for name, node in nodes.items() if node["type"].endswith(".post")]
        return [place for place in there if place.rpartition(".")[0] in ends]
    found = []
    for place in asked:
        matching = [name for name in there if name in (place, f"{place}.out")]
        matching = matching or [name for name in there if name.rpartition(".")[0] == place]
        if not matching:
            raise Invalid(f"neither run has kept a record at {place!r}; there are: {', '.join(there) or 'none'}")
        found += matching
    return found


def _left(report: Mapping[str, Any], place: str) -> int:
    node, _, port = place.rpartition(".")
    return int(report["nodes"].get(node, {}).get("out", {}).get(port, 0))


def _ledger(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes whose counts differ, each count before and after."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys([*before["nodes"], *after["nodes"]]):
        one, other = before["nodes"].get(name), after["nodes"].get(name)
        if one is None or other is None:
            found[name] = "added" if one is None else "removed"
            continue
        counts = {count: [one[count], other[count]] for count in COUNTED if one[count] != other[count]}
        counts |= {
            f"out.{port}": [one["out"].get(port, 0), other["out"].get(port, 0)]
            for port in dict.fromkeys([*one["out"], *other["out"]])
            if one["out"].get(port, 0) != other["out"].get(port, 0)
        }
        if counts:
            found[name] = counts
    return found
