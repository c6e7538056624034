"""Where a flow's sources go on reading: shown, forgotten, or set back so that the next run reads a range again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.prepare import Request, check_flow
from agent.remembering import lines_of
from pipelines.changes import BEHIND, Changes
from pipelines.errors import Invalid
from pipelines.flow import Flow, NodeSpec
from pipelines.language.flowlinks import placed
from pipelines.node import Get
from pipelines.scope import Scope
from pipelines.stored import Recalls, Stores
from repository.catalogue import Catalogue

Line = dict[str, Any]
EVERYTHING = "reads everything, and lets changes through"


def shown(request: Request, catalogue: Catalogue) -> list[Line]:
    """A line for each get of the flow, each node that remembers keys or stores values, and for what the flow no longer has."""
    flow = placed(check_flow(request).flow)
    gets, _ = _gets(request)
    kept = {line["node"]: line for line in catalogue.position_lines(flow.name, request.environment)}
    names = dict.fromkeys([*(name for name, get in gets.items() if not isinstance(get, Recalls)), *kept])
    stores = _stores(flow)
    known = lines_of(catalogue, flow.name, request.environment)
    return [
        *(_line(name, gets.get(name), kept.get(name)) for name in names),
        *(_memory_line(line, flow.nodes.get(line["node"])) for line in known),
        *(_stored_line(line, stores) for line in catalogue.stored_lines(request.environment, flow.name)),
    ]


def reset(request: Request, catalogue: Catalogue, node: str | None = None) -> int:
    """Lets one get, or all, read from the beginning in the next run, and nodes forget the keys that they remember and what
    they have stored for their own flow; how many had something to forget.

    Raises:
        Unavailable: the flow is running.
    """
    checked = check_flow(request).flow
    flow, stores = checked.name, _stores(checked)
    if node in stores.values():
        names = [name for name, by in stores.items() if by == node]
        return catalogue.forget_stored(request.environment, flow, names)
    remember = {line["node"] for line in lines_of(catalogue, flow, request.environment)}
    nodes = None if node is None else [node, f"{node}{BEHIND}"]
    if node is not None and not {*catalogue.positions(flow, request.environment), *remember}.intersection(nodes or ()):
        _get(request, node)
    stored = catalogue.forget_stored(request.environment, flow) if node is None else 0
    return stored + catalogue.forget_positions(flow, request.environment, nodes)


def accept(request: Request, catalogue: Catalogue, node: str | None = None) -> int:
    """Lets the next run take the columns that the sources have then; of how many sources columns were known.

    Raises:
        Unavailable: the flow is running.
    """
    return catalogue.forget_columns(_name(request), request.environment, None if node is None else [node])


def set_back(request: Request, catalogue: Catalogue, node: str, first: str, last: str | None = None) -> Line:
    """Lets a get read its cursor's values from `first` on; with `last`, up to that, and from where it is now afterwards.

    Raises:
        Invalid: the node is no get, has no cursor, or has read nothing that a range could be a part of.
        Unavailable: the flow is running.
    """
    flow = _name(request)
    get, scope = _get(request, node)
    now = catalogue.positions(flow, request.environment).get(node)
    if last is not None and isinstance(now, dict):
        now = _without_backfill(now)
    if last is not None and now is None:
        raise Invalid(f"node {node!r} has no position yet: its next run reads everything; run the flow first")
    try:
        position = get.position_at(scope, first, last, now)
    except Invalid as fault:
        raise Invalid(f"node {node!r}: {fault}") from fault
    catalogue.set_position(flow, request.environment, node, position)
    return next(one for one in shown(request, catalogue) if one["node"] == node)


def told(position: Any) -> str:
    """A position in a few words."""
    if position is None:
        return "at the beginning"
    if not isinstance(position, Mapping):
        return str(position)
    parts = []
    if "files" in position:
        parts.append(f"{len(position['files']):,} files read")
    for name, topic in position.get("topics", {}).items():
        parts.append(f"{name} at " + " ".join(f"{number}:{offset}" for number, offset in topic["next"].items()))
    cursor = position.get("cursor", position)
    if "until" in cursor:
        parts.append(f"from {_value(cursor)} to {cursor['until']}, then {told(cursor['then'])}")
    elif cursor.get("again"):
        parts.append(f"from {_value(cursor)} on")
    elif "at" in cursor:
        parts.append(f"behind {_value(cursor)}")
    return ", ".join(parts) or str(dict(position))


def _value(cursor: Mapping[str, Any]) -> str:
    value = cursor["at"]
    return f"0x{value['bytes']}" if isinstance(value, dict) else str(value)


def _without_backfill(position: dict[str, Any]) -> Any:
    """Where a get stands without the backfill that was set for it and not yet run."""
    cursor = position.get("cursor", position)
    return cursor["then"] if isinstance(cursor, dict) and "until" in cursor else position


def _line(name: str, get: Get | None, kept: Line | None) -> Line:
    position = kept["position"] if kept else None
    return {
        "node": name,
        "in_flow": get is not None,
        "reads": EVERYTHING if get is not None and get.changes_only else told(position),
        "run": kept["run"] if kept else None,
        "at": kept["at"] if kept else None,
        "position": position,
    }


def _memory_line(line: Line, spec: NodeSpec | None) -> Line:
    key, config = ", ".join(name for name, _ in line["key"]), None if spec is None else spec.config
    what = "changes" if isinstance(config, Changes) else "keys"
    reads = f"remembers {line['keys']:,} {what} ({key}) since {line['since']:%Y-%m-%d}"
    head = {"node": line["node"], "in_flow": spec is not None, "reads": reads}
    return {**head, "run": line["run"], "at": line["at"].isoformat(), "position": None, "keys": line["keys"]}


def _stored_line(line: Line, stores: Mapping[str, str]) -> Line:
    count = f"{line['values']:,} value{'' if line['values'] == 1 else 's'}"
    node = stores.get(line["name"])
    return {
        "node": node or line["name"],
        "in_flow": node is not None,
        "reads": f"stores {count} as {line['name']}",
        "run": line["run"],
        "at": line["at"].isoformat(),
        "position": None,
    }


def _stores(flow: Flow) -> dict[str, str]:
    """Per name of values that the flow stores for itself the node that does."""
    places = {spec.name: spec.config.stored_in() for spec in flow.nodes.values() if isinstance(spec.config, Stores)}
    return {place.name: node for node, place in places.items() if place.where == "flow"}


def _name(request: Request) -> str:
    return check_flow(request).flow.name


def _gets(request: Request) -> tuple[dict[str, Get], Scope]:
    examined = check_flow(request)
    specs = examined.flow.nodes.values()
    return {spec.name: spec.config for spec in specs if isinstance(spec.config, Get)}, examined.scope


def _get(request: Request, node: str) -> tuple[Get, Scope]:
    gets, scope = _gets(request)
    if node not in gets:
        raise Invalid(f"flow {request.flow!r} has no get {node!r}; there are: {', '.join(gets) or 'none'}")
    return gets[node], scope.inside(node)
