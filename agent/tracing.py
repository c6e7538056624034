"""A record's way through its flow, in every run that saw it: from the source row, node by node, to the receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.errors import Invalid
from repository.families import Made
from repository.project import Project
from repository.tracks import Passed, Step, Track, Tracks

Way = dict[str, Any]
"""A record in a run: `run`, `flow`, `rid`, `started`, `replay_of`, `outcome`, `steps`; `into`: the records that were made of
it and others. A step at which it was made has `parents`, some of their row ids, and `parents_count`."""
MOST_FURTHER = 10
"""Of the records that were made of those asked for, so many are followed."""


def trace(
    project: Project,
    key: str | None,
    rid: int | None = None,
    flow: str | None = None,
    run: str | None = None,
    most: int = 20,
) -> list[Way]:
    """The ways of the records with a business key, or of one row id of a run: the latest `most`, the oldest of them first.

    Raises:
        Invalid: no run has kept such a record.
    """
    named = None if run is None else _named(project, run)
    tracks = Tracks(project.lake)
    if rid is not None:
        if named is None:
            raise Invalid("a row id means a record of one run; say which with --run")
        found = [Track(*named, rid)]
    else:
        found = tracks.by_key(str(key), flow, named[0] if named else None, most)
    followed = _with_replays(tracks, found)[-most:]
    known = tracks.families(followed)
    into = {Track(track.run, track.flow, made.rid): None for track, some in known.items() for made in some}
    further = [track for track in into if track not in known][: min(MOST_FURTHER, max(0, most - len(followed)))]
    known |= tracks.families(further)
    passed, steps = tracks.steps([*followed, *further])
    ways = [_way(track, kept, passed[track.run], known[track]) for track, kept in steps.items() if kept]
    ways = sorted(ways, key=lambda way: str(way["started"]))
    if not ways:
        raise Invalid(_unknown(key, rid, flow, run))
    return ways


def _named(project: Project, run: str) -> tuple[str, str]:
    """The run and the flow that a name, the beginning of one, or `last` means."""
    from repository.catalogue import Catalogue  # only where a run is named: the data logs know the rest

    catalogue = Catalogue(project.catalogue_url)
    try:
        report = catalogue.report(run)
    finally:
        catalogue.close()
    return report["run"], report["flow"]


def _with_replays(tracks: Tracks, found: Sequence[Track]) -> list[Track]:
    """Each record, followed by the replays that took it up."""
    later: dict[Track, list[Track]] = {}
    asked: set[Track] = set()
    while fresh := {*found, *(track for some in later.values() for track in some)} - asked:
        later |= tracks.replays(fresh)
        asked |= fresh
    ordered: dict[Track, None] = {}
    waiting = list(found)
    while waiting:
        track = waiting.pop(0)
        if track not in ordered:
            ordered[track] = None
            waiting[:0] = later.get(track, ())
    return list(ordered)


def _way(track: Track, kept: Sequence[Step], passed: Passed, family: Sequence[Made]) -> Way:
    nodes = passed.nodes
    order = {name: place for place, name in enumerate(nodes)}
    steps = sorted(kept, key=lambda step: (order.get(step["node"], len(order)), _rank(step)))
    before: dict[str, Any] | None = None
    for step in steps:
        step["type"] = nodes.get(step["node"], {}).get("type")
        step["at"] = step["at"].isoformat()
        made = next((one for one in family if (one.node, one.rid) == (step["node"], track.rid)), None)
        if made is not None and step["port"] == "out":
            step["parents"], step["parents_count"] = list(made.parents), made.count
        payload = step.get("payload")
        if payload is not None:
            step["changes"] = _changes(before, payload)
            before = payload if step["port"] != "rejected" else before
    return {
        "run": track.run,
        "flow": track.flow,
        "rid": track.rid,
        "started": passed.started,
        "replay_of": passed.replay_of,
        "into": [{"node": made.node, "rid": made.rid} for made in family if made.rid != track.rid],
        "outcome": _outcome(steps, nodes, [made for made in family if made.rid != track.rid]),
        "steps": steps,
    }


def _rank(step: Step) -> tuple[int, str]:
    """At one node: what left it, what it rejected, what its target said."""
    return {"rejected": 1, "delivered": 2}.get(step["port"], 0), str(step["at"])


def _changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, Any]:
    """What a step made of a payload; of the first, nothing."""
    if before is None:
        return {}
    changed = {name: [before[name], after[name]] for name in after if name in before and before[name] != after[name]}
    added = {name: after[name] for name in after if name not in before}
    removed = [name for name in before if name not in after]
    return {
        **({"added": added} if added else {}),
        **({"changed": changed} if changed else {}),
        **({"removed": removed} if removed else {}),
    }


def _outcome(steps: Sequence[Step], nodes: Mapping[str, Mapping[str, Any]], into: Sequence[Made]) -> str:
    """What became of a record, as far as its run has kept it."""
    if into and steps:
        return " and ".join(dict.fromkeys([*_ends(steps), *(f"went into rid {m.rid} at {m.node}" for m in into)]))
    told = _ends(steps)
    if told or not steps:
        return " and ".join(told)
    last = steps[-1]["node"]
    behind = list(nodes)[list(nodes).index(last) + 1 :] if last in nodes else []
    leavers = [name for name in behind if nodes[name]["filtered"]]
    if leavers:
        return f"left {last}; then filtered (by {' or '.join(leavers)}), or not among the records that were kept"
    return f"left {last}; what came then was not kept"


def _ends(steps: Sequence[Step]) -> list[str]:
    """Who delivered a record, and who rejected it."""
    delivered = list(dict.fromkeys(step["node"] for step in steps if step["port"] == "delivered"))
    rejected = list(dict.fromkeys(step["node"] for step in steps if step["port"] == "rejected"))
    told = [f"delivered by {', '.join(delivered)}"] if delivered else []
    return told + ([f"rejected by {', '.join(rejected)}"] if rejected else [])


def _unknown(key: str | None, rid: int | None, flow: str | None, run: str | None) -> str:
    what = f"row id {rid}" if rid is not None else f"business key {key!r}"
    where = "".join([f" of flow {flow!r}" if flow else "", f" in run {run}" if run else ""])
    return (
        f"no run{where} has kept a record with {what}; nodes tell their records apart by `key`, "
        "and keep all of them with `snapshot: all`"
    )
