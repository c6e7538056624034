"""Rules about how a flow hangs together: links, order, the one start. Each looks at the flow alone and runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush

from pipelines.changes import BEHIND, DELETED, Changes, key_of_get, tells_changes, with_changes
from pipelines.fetch import Fetch
from pipelines.flow import Flow, Link, NodeSpec
from pipelines.language.modelproblems import close
from pipelines.language.yamltext import At
from pipelines.nested import Nested
from pipelines.node import Get, Node, Start
from pipelines.triggers import Kafka, Webhook


@dataclass(frozen=True)
class Fault:
    """What is wrong with a flow, and where in its document."""

    at: At
    what: str
    fix: str = ""
    warning: bool = False
    key: bool = False


def faults(flow: Flow, broken: Collection[str] = ()) -> Iterator[Fault]:
    """Every fault of the flow's links. `broken` nodes are named in the text but could not be read."""
    for rule in RULES:
        yield from rule(flow, broken)


def inputs_of(spec: NodeSpec) -> tuple[str, ...]:
    """The names of a node's inputs: one empty name for most, `*` where any name will do, none for a start."""
    if isinstance(spec.config, Start):
        return ()
    if isinstance(spec.config, Nested):  # one may have a field that is called so
        return ("",)
    names: tuple[str, ...] = getattr(spec.config, "inputs", ("",))
    return names


def ports_of(spec: NodeSpec) -> tuple[str, ...]:
    """All ports of a node, `rejected` included."""
    own = (*spec.config.ports(), DELETED) if tells_changes(spec) else spec.config.ports()
    return own if isinstance(spec.config, Start) or not own else (*own, "rejected")


def placed(flow: Flow) -> Flow:
    """The flow as its nodes act in their places: a get that another node's records lead to fetches for each of them, and
    one of which only changes go on has the node behind it that tells them."""
    nodes = {name: replace(spec, config=_placed(spec, flow)) for name, spec in flow.nodes.items()}
    return with_changes(replace(flow, nodes=nodes))


def _placed(spec: NodeSpec, flow: Flow) -> Node:
    config = spec.config
    if not isinstance(config, Get) or not config.takes_records:
        return config
    sources = [flow.nodes[link.node].config for link in spec.inputs if link.node in flow.nodes]
    return Fetch(get=config) if any(not isinstance(source, Start) for source in sources) else config


def order(flow: Flow) -> list[str]:
    """The nodes so that each comes after what it takes from and waits for; else in the order of the text."""
    done, knotted = _sorted(flow)
    return [*done, *knotted]


def live(flow: Flow, broken: Collection[str] = ()) -> set[str]:
    """The nodes that records can reach: not disabled, and not fed by disabled ones alone."""
    found = set(broken)
    for name in order(flow):
        spec = flow.nodes[name]
        if not spec.disabled and (isinstance(spec.config, Get) or any(link.node in found for link in spec.inputs)):
            found.add(name)
    return found


def _sorted(flow: Flow) -> tuple[list[str], list[str]]:
    """The nodes in order, and those that no order suits because a circle is before them."""
    places = {name: place for place, name in enumerate(flow.nodes)}
    before = {name: _before(spec, flow) for name, spec in flow.nodes.items()}
    behind: dict[str, list[str]] = {name: [] for name in flow.nodes}
    for name, names in before.items():
        for other in names:
            behind[other].append(name)
    ready = [place for name, place in places.items() if not before[name]]
    listed: list[str] = list(flow.nodes)
    done: list[str] = []
    while ready:
        name = listed[heappop(ready)]
        done.append(name)
        for other in behind[name]:
            before[other].remove(name)
            if not before[other]:
                heappush(ready, places[other])
    return done, [name for name, left in before.items() if left]


def _before(spec: NodeSpec, flow: Flow) -> set[str]:
    return {name for name in (*(link.node for link in spec.inputs), *spec.after) if name in flow.nodes}


def _one_start(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    starts = [spec for spec in flow.nodes.values() if isinstance(spec.config, Start)]
    for spec in starts:
        if spec.disabled:
            yield Fault(("nodes", spec.name, "disabled"), f'node "{spec.name}": the start cannot be disabled')
    for spec in starts[1:]:
        what = f'node "{spec.name}": the flow has a start already: "{starts[0].name}"'
        yield Fault(("nodes", spec.name), what, "keep one, with every trigger in its `on`")
    if not starts and "start" not in broken and (flow.nodes or broken):
        yield Fault(("nodes",), "the flow has no start", "add `start: {type: start}` and take from it", key=True)


def _links_lead_somewhere(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    known = [*flow.nodes, *broken]
    for spec in flow.nodes.values():
        for at, link in located_links(spec):
            who = f'node "{spec.name}"'
            if link.node not in known:
                fix = close(link.node, [name for name in known if name != spec.name])
                yield Fault(at, f'{who}: takes from "{link.node}", which is no node of this flow', fix)
            elif link.node in flow.nodes:
                yield from _port_exists(flow.nodes[link.node], link, who, at)
        for index, name in enumerate(spec.after):
            if name not in known:
                at = ("nodes", spec.name, "after", index)
                fix = close(name, [other for other in known if other != spec.name])
                if name.partition(".")[0] in known:
                    fix = f"`after` names nodes, not their ports; write {name.partition('.')[0]}"
                yield Fault(at, f'node "{spec.name}": comes after "{name}", which is no node of this flow', fix)


def _port_exists(source: NodeSpec, link: Link, who: str, at: At) -> Iterator[Fault]:
    ports = ports_of(source)
    if link.port in ports or isinstance(source.config, Nested):  # whose ports are the ends of another flow
        return
    if not ports:
        yield Fault(at, f'{who}: takes from "{source.name}", which gives nothing on (it is of type {source.type})')
    elif link.port == "out":
        choices = " or ".join(f'"{source.name}.{port}"' for port in ports if port != "rejected")
        yield Fault(at, f'{who}: "{source.name}" has no port "out"', f"take from {choices}")
    else:
        fix = close(link.port, ports)
        yield Fault(at, f'{who}: "{source.name}" has no port "{link.port}"', fix)


def _inputs_fit(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    for spec in flow.nodes.values():
        names, given = inputs_of(spec), [link.into for link in spec.inputs]
        who, at = f'node "{spec.name}"', ("nodes", spec.name, "from")
        if not names and given:
            yield Fault(at, f"{who}: a start takes from no other node", "take `from` out")
        elif names and not given:
            fix = "write `from: start`, or the node it takes its records from"
            yield Fault(("nodes", spec.name), f'{who}: nothing leads to it: "from" is missing', fix, key=True)
        elif names == ("",) and any(given):
            yield Fault(
                at, f"{who}: a node of type {spec.type} has one input without a name", "write `from: NODE` or a list"
            )
        elif names not in ((), ("",), ("*",)):
            yield from _named_inputs_fit(spec, names, given)


def _named_inputs_fit(spec: NodeSpec, names: tuple[str, ...], given: list[str]) -> Iterator[Fault]:
    who, at = f'node "{spec.name}"', ("nodes", spec.name, "from")
    form = "write `from: {" + ", ".join(f"{name}: NODE" for name in names) + "}`"
    if not all(given):
        yield Fault(at, f"{who}: its inputs have names", form)
        return
    for name in dict.fromkeys(given):
        if name not in names:
            yield Fault((*at, name), f'{who}: it has no input "{name}"', close(name, names), key=True)
    for name in names:
        if name not in given:
            yield Fault(at, f'{who}: nothing leads to its input "{name}"', form, key=True)


def _no_circles(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    for circle in _circles(flow):
        first = circle[0]
        field = "from" if circle[-1] in {link.node for link in flow.nodes[first].inputs} else "after"
        round_trip = " → ".join((*circle, first))
        if len(circle) == 1:
            does, do = ("takes from", "take from") if field == "from" else ("waits for", "let it wait for")
            yield Fault(("nodes", first, field), f'node "{first}": {does} itself', f"{do} a node before it")
        else:
            what = f"the nodes {round_trip} go round in a circle"
            yield Fault(("nodes", first, field), what, "let one of them take from a node before the circle")


def _circles(flow: Flow) -> Iterator[tuple[str, ...]]:
    """One circle for each knot of nodes, in the direction of the records, beginning with the first in the text."""
    _, knotted = _sorted(flow)
    names = {name: _before(flow.nodes[name], flow) for name in knotted}
    before = {name: [other for other in knotted if other in names[name]] for name in knotted}
    told: set[str] = set()
    for name in knotted:
        path = None if name in told else _way_back(name, before)
        if path is not None and not told.intersection(path):
            told.update(path)
            yield path


def _way_back(name: str, before: Mapping[str, list[str]]) -> tuple[str, ...] | None:
    """The shortest way from a node to itself, in the direction of the records."""
    ways: list[tuple[str, ...]] = [(name,)]
    seen: set[str] = set()
    for way in ways:
        for other in before[way[0]]:
            if other == name:
                return (name, *way[:-1]) if len(way) > 1 else way
            if other not in seen:
                seen.add(other)
                ways.append((other, *way))
    return None


def _all_are_reached(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    if broken or not any(isinstance(spec.config, Start) for spec in flow.nodes.values()):
        return
    reached = {name for name, spec in flow.nodes.items() if isinstance(spec.config, Start)}
    circled = {name for circle in _circles(flow) for name in circle}
    waiting = list(reached)
    behind: dict[str, list[str]] = {}
    for spec in flow.nodes.values():
        for source in spec.inputs:
            behind.setdefault(source.node, []).append(spec.name)
    while waiting:
        fresh = set(behind.get(waiting.pop(), ())) - reached
        reached |= fresh
        waiting += fresh
    for name, spec in flow.nodes.items():
        whole = all(link.node in flow.nodes for link in spec.inputs)
        from_others = any(link.node not in reached for link in spec.inputs)
        if name not in reached | circled and spec.inputs and whole and from_others:
            yield Fault(("nodes", name, "from"), f'node "{name}": no way leads to it from the start', key=True)


def _starts_by_hand_have_no_records(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    """Only what starts a flow with records of its own, such as a webhook, can feed anything but a get."""
    for spec in flow.nodes.values():
        if isinstance(spec.config, (Get, Start, Nested)) or spec.type == "end":
            continue
        for at, source in located_links(spec):
            start = flow.nodes.get(source.node)
            if start is not None and isinstance(start.config, Start) and not brings_records(start.config):
                what = f'node "{spec.name}": takes from "{start.name}", which has no records'
                yield Fault(at, what, "take from a get, or start the flow by a webhook")


def _gets_read_by_themselves(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    """A get begins with the flow; only one that fetches for each record (`takes_records`) may take from another node."""
    for spec in flow.nodes.values():
        if not isinstance(spec.config, Get) or spec.config.takes_records:
            continue
        for at, link in located_links(spec):
            source = flow.nodes.get(link.node)
            if source is not None and not isinstance(source.config, Start):
                what = f'node "{spec.name}": takes from "{source.name}", but a {spec.type} takes no records'
                yield Fault(at, what, f"write `from: start`, and `after: {source.name}` where it is to wait for that")


def brings_records(start: Node) -> bool:
    """Whether the start of a flow gives records on."""
    is_used = getattr(start, "columns", None) is not None  # as a node of another, which sends them
    return is_used or any(isinstance(trigger, (Webhook, Kafka)) for trigger in getattr(start, "on", ()))


def _changes_can_be_told(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    """A get with `changes_only` names its key, reads all there is, and the node behind it finds its name free."""
    for spec in flow.nodes.values():
        config = spec.config
        if not isinstance(config, Get) or not config.changes_only:
            continue
        fed = [flow.nodes[link.node].config for link in spec.inputs if link.node in flow.nodes]
        at, who = ("nodes", spec.name, "changes_only"), f'node "{spec.name}"'
        partly = next((name for name in ("cursor", "once") if getattr(config, name, None)), None)
        behind = flow.nodes.get(f"{spec.name}{BEHIND}")
        if any(not isinstance(source, Start) for source in fed):
            yield Fault(at, f"{who}: fetches for each record, so that nobody knows what is gone", "take it out")
        elif not key_of_get(spec):
            yield Fault(at, f"{who}: changes are told by key", "write `key`: the columns that identify a record")
        elif partly is not None:
            what = f"{who}: with `{partly}` a run reads a part of the source, so that nobody knows what is gone"
            yield Fault(at, what, f"take `{partly}` out, or `changes_only`")
        elif behind is not None and not isinstance(behind.config, Changes):
            what = f'node "{behind.name}": the name is that of the changes of "{spec.name}"'
            yield Fault(("nodes", behind.name), what, "give it another name", key=True)


def _disabled_ones_pass_nothing(flow: Flow, broken: Collection[str]) -> Iterator[Fault]:
    for spec in flow.nodes.values():
        for at, link in located_links(spec):
            source = flow.nodes.get(link.node)
            if source is not None and source.disabled and not spec.disabled and not isinstance(source.config, Start):
                what = f'node "{spec.name}": takes from "{source.name}", which is disabled: nothing will come'
                yield Fault(at, what, "", warning=True)


def located_links(spec: NodeSpec) -> Iterator[tuple[At, Link]]:
    """A node's links, each with its place in the document whichever way `from` was written."""
    for index, link in enumerate(spec.inputs):
        step = link.into or index
        yield ("nodes", spec.name, "from", step), link


RULES: tuple[Callable[[Flow, Collection[str]], Iterator[Fault]], ...] = (
    _one_start,
    _links_lead_somewhere,
    _inputs_fit,
    _no_circles,
    _all_are_reached,
    _starts_by_hand_have_no_records,
    _gets_read_by_themselves,
    _changes_can_be_told,
    _disabled_ones_pass_nothing,
)
