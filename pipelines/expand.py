"""Puts the nodes of other flows in the place of the nodes that stand for them.

After that a flow is checked, planned, fused, logged and resumed as if all of it stood in one text. A node `total` of a
flow that the node `priced` stands for is called `priced/total`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from pipelines import flowfile
from pipelines.entrance import INSIDE, Entrance, Handed
from pipelines.errors import Invalid, Problem
from pipelines.flow import Flow, Link, NodeSpec, Settings, Use
from pipelines.language.flowlinks import brings_records, located_links
from pipelines.language.modelproblems import Place, close
from pipelines.leaving import Ports, ports_of_flow, ports_with
from pipelines.loops import gated, held_up, own_nodes, turning
from pipelines.nested import Nested, Turns
from pipelines.node import Get, Start
from pipelines.rounds import AGAIN
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from pipelines.typed import check_declared

NAME_LENGTH = 100
"""So long may a node's name be that stands for a flow: names of files are made of those of its nodes."""
MOST_NODES = 5_000


@dataclass(frozen=True)
class Expanded:
    """A flow with the nodes of all flows that it uses."""

    flow: Flow
    problems: tuple[Problem, ...] = ()
    broken: frozenset[str] = frozenset()
    """Nodes that stand for what cannot be put in their place."""
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where the nodes stand that have come in."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Of the flows that are used, by name."""


def expand(flow: Flow, place: Place, scope: Scope) -> Expanded:
    """The flow with the nodes of all flows that it uses; `place` is where it stands itself."""
    work, start = _Expanding(scope), _start(flow)
    columns = _columns(start)
    level = _Level("", place, (flow.name,), start, begin=() if start is None else (Link(start.name),))
    if start is not None and columns is not None:
        level = replace(level, entrance=Link(start.name), begin=())
    nodes = work.nodes(flow.nodes, level)
    if start is not None:
        nodes = {start.name: start if columns is None else _handed(start, columns), **nodes}
    if not work.uses and columns is None:
        return Expanded(flow, tuple(work.problems), frozenset(work.broken))
    versions = "".join(sha256(text.encode()).hexdigest() for _, text in sorted(work.texts.items()))
    version = sha256((flow.version + versions).encode()).hexdigest()[:12] if work.texts else flow.version
    whole = replace(flow, nodes=nodes, version=version, uses=work.uses)
    return Expanded(whole, tuple(work.problems), frozenset(work.broken), work.places, work.texts)


@dataclass(frozen=True)
class _Level:
    """A flow whose nodes are being put in."""

    prefix: str
    place: Place
    chain: tuple[str, ...]
    """The flows that it is in, itself last."""
    start: NodeSpec | None = None
    entrance: Link | None = None
    """Where its records come in; None: it takes none."""
    begin: tuple[Link, ...] = ()
    """What its gets take from that read by themselves."""
    outer: NodeSpec | None = None
    """The node that stands for it."""
    settings: Settings = Settings()

    def is_start(self, name: str) -> bool:
        return self.start is not None and name == self.start.name

    def at(self, spec: NodeSpec) -> Place:
        """Where one of its nodes stands."""
        return self.place.inside("nodes", spec.name, who=f'node "{self.prefix}{spec.name}"')


@dataclass
class _Inside:
    """What takes the place of a node."""

    nodes: dict[str, NodeSpec]
    ports: Ports
    entrance: str = ""
    begins: frozenset[str] = frozenset()
    """Those of the nodes that begin with the flow."""


class _Expanding:
    """What was found and put in so far."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.problems: list[Problem] = []
        self.broken: set[str] = set()
        self.places: dict[str, Place] = {}
        self.uses: dict[str, Use] = {}
        self.texts: dict[str, str] = {}
        self.read: dict[str, tuple[Flow, Place] | None] = {}
        self.begins: set[str] = set()
        self.count = 0

    def nodes(self, given: Mapping[str, NodeSpec], level: _Level) -> dict[str, NodeSpec]:
        """The nodes of a flow under their full names, those of the flows that it uses among them."""
        nested: dict[str, _Inside | None] = {}
        for name, spec in given.items():
            if isinstance(spec.config, Nested):
                with self.telling_of(spec):
                    nested[name] = self.inside(spec, level)
        found: dict[str, NodeSpec] = {}
        for name, spec in given.items():
            inside = nested.get(name)
            if inside is not None:
                with self.telling_of(spec):
                    found.update(self.attached(spec, inside, nested, level))
            elif not level.is_start(name) and (name not in nested or spec.disabled):
                found[level.prefix + name] = self.placed(spec, nested, level)
        return found

    @contextmanager
    def telling_of(self, spec: NodeSpec) -> Iterator[None]:
        """Makes warnings of what is told meanwhile where the node is disabled."""
        before = len(self.problems)
        yield
        if spec.disabled:
            self.problems[before:] = [replace(problem, warning=True) for problem in self.problems[before:]]

    def inside(self, spec: NodeSpec, level: _Level) -> _Inside | None:
        """What takes the place of a node; None where that cannot be had, which is told."""
        body = self.body(spec, level) if self.is_small(spec, level) else None
        if body is None:
            if not spec.disabled:
                self.broken.add(level.prefix + spec.name)
            return None
        flow, place = body
        self.count += len(flow.nodes)
        full, turns = level.prefix + spec.name, _config(spec).turns()
        start, columns = _start(flow), _columns(_start(flow))
        entrance = None if columns is None or start is None else Link(f"{full}/{start.name}", INSIDE)
        inner = _Level(
            f"{full}/",
            place,
            (*level.chain, flow.name),
            start,
            entrance,
            level.begin,
            _inherited(spec, level),
            flow.settings,
        )
        parameters = flow.parameters if isinstance(_config(spec).body(), str) else None
        self.uses[full] = Use(parameters)  # before those of the flows in it
        before = set(self.begins)
        nodes = self.nodes(flow.nodes, inner)
        if entrance is not None:
            nodes = {entrance.node: self.entrance(spec, entrance.node, inner, level), **nodes}
        ports = ports_of_flow(flow, f"{full}/", nodes)
        if turns is not None and entrance is not None:
            ports = self.looped(flow, inner, nodes, turns, level.at(spec)) or ports
        elif turns is not None:
            what = f'flow "{flow.name}" takes no records: its start declares no `columns`'
            self.tell(level.at(spec).problem(("flow",), what, "a loop passes what comes in"))
        self.uses[full] = Use(parameters, _config(spec).given(), ports)
        return _Inside(nodes, ports, entrance.node if entrance is not None else "", frozenset(self.begins - before))

    def is_small(self, spec: NodeSpec, level: _Level) -> bool:
        """Whether names and number of the nodes stay such that a run can have them; what is wrong is told."""
        full = level.prefix + spec.name
        if len(full) > NAME_LENGTH:
            what = f'the names of its nodes, which begin with "{full}/", are too long'
            self.tell(level.at(spec).problem((), what, "give shorter names, or put fewer flows into each other"))
        elif self.count > MOST_NODES:
            what = f"flows in flows make more than {MOST_NODES:,} nodes here"
            self.tell(level.at(spec).problem((), what, "use fewer flows in each other"))
        return len(full) <= NAME_LENGTH and self.count <= MOST_NODES

    def looped(self, flow: Flow, inner: _Level, nodes: dict[str, NodeSpec], turns: Turns, place: Place) -> Ports | None:
        """The ports of a loop, whose gate takes the place of one of its ends among the nodes; None: it has none."""
        assert inner.entrance is not None
        for name, why in held_up(nodes):
            self.tell(self.places.get(name, place).problem((), why, "put it before or behind the loop"))
        end, why = turning(flow, inner.prefix)
        if end is None:
            self.tell(place.problem((), why))
            return None
        if turns.until is None and turns.at_most is None and not end.endswith(f"/{AGAIN}"):
            fix = "write `until`, a condition, or `at_most`, a number of rounds"
            self.tell(place.problem((), "nothing says when a record is done", fix))
        nodes[end] = gated(nodes[end], turns, inner.entrance.node)
        self.places[end] = place
        return ports_with(ports_of_flow(flow, inner.prefix, nodes), end)

    def entrance(self, spec: NodeSpec, name: str, inner: _Level, level: _Level) -> NodeSpec:
        """The node by which records go into a flow."""
        columns = _columns(inner.start)
        assert columns is not None
        assert inner.start is not None
        start = inner.at(inner.start)

        def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
            self.tell(start.problem(at, what, fix))

        with borrowed(self.scope) as sandbox:
            check_declared(columns, sandbox, report)
        self.places[name] = level.at(spec)
        config = Entrance(
            flow=inner.chain[-1],
            columns=dict(columns),
            made=dict(_config(spec).made()),
            is_of_loop=_config(spec).turns() is not None,
        )
        return _inherited(replace(spec, name=name, config=config, after=()), level)

    def body(self, spec: NodeSpec, level: _Level) -> tuple[Flow, Place] | None:
        """The flow that a node stands for, and where it stands."""
        name, place = _config(spec).body(), level.at(spec)
        wrong = list(_config(spec).faults())
        self.tell(*(place.problem(at, what, fix) for at, what, fix in wrong))
        if wrong:
            return None
        if not isinstance(name, str):
            flow, here, problems = own_nodes(name, place, level.prefix + spec.name)
            self.tell(*problems)
            return None if problems else (flow, here)
        return self.used(name, place, level)

    def used(self, name: str, place: Place, level: _Level) -> tuple[Flow, Place] | None:
        """A flow of the project, and where it stands."""
        if name in level.chain:
            way = " → ".join((*level.chain[level.chain.index(name) :], name))
            what = f'flow "{name}" cannot be used in itself: {way}'
            self.tell(place.problem(("flow",), what, "use another flow, or a loop"))
            return None
        folder = self.scope.project / "flows"
        path = next((file for end in (".yaml", ".yml") if (file := folder / f"{name}{end}").is_file()), None)
        if path is None:
            there = sorted({file.stem for file in folder.glob("*.y*ml")} - set(level.chain))
            self.tell(place.problem(("flow",), f'no flow is called "{name}"', close(name, there)))
            return None
        if name not in self.read:
            self.read[name] = self.drafted(name, path)
        return self.read[name]

    def drafted(self, name: str, path: Path) -> tuple[Flow, Place] | None:
        """The flow of a file; None: it cannot be read, which is told."""
        shown = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        try:
            text = flowfile.read_text(path)
            made = flowfile.draft(text, shown)
        except Invalid as fault:
            self.tell(*fault.problems)
            return None
        self.texts[name] = text
        self.tell(*made.problems)
        return None if made.problems else (made.flow, Place(text=made.text, path=shown))

    def attached(
        self, spec: NodeSpec, inside: _Inside, nested: Mapping[str, _Inside | None], level: _Level
    ) -> dict[str, NodeSpec]:
        """The nodes that take the place of one, joined to what is around it."""
        after = self.after(spec, nested, level)
        nodes = dict(inside.nodes)
        if inside.entrance:
            links = tuple(self.links(spec, nested, level, self.has_records(spec, level)))
            nodes[inside.entrance] = replace(nodes[inside.entrance], inputs=links)
        else:
            self.begins_with_flow(spec, level)
        for name in (inside.entrance, *inside.begins):
            if name:
                nodes[name] = replace(nodes[name], after=tuple(dict.fromkeys((*nodes[name].after, *after))))
        return nodes if not spec.disabled else {name: replace(one, disabled=True) for name, one in nodes.items()}

    def placed(self, spec: NodeSpec, nested: Mapping[str, _Inside | None], level: _Level) -> NodeSpec:
        """A node under its full name, taking from where the records come now."""
        full = level.prefix + spec.name
        if level.prefix:
            self.places[full] = level.at(spec)
        links = tuple(self.links(spec, nested, level))
        return _inherited(replace(spec, name=full, inputs=links, after=self.after(spec, nested, level)), level)

    def links(
        self, spec: NodeSpec, nested: Mapping[str, _Inside | None], level: _Level, is_sound: bool = True
    ) -> Iterator[Link]:
        """Where a node's records come from now."""
        for at, link in located_links(spec):
            inside = nested.get(link.node)
            if inside is not None:
                if is_sound and link.port not in inside.ports:
                    self.no_port(spec, level, at, link, inside)
                yield from (replace(one, into=link.into) for one in inside.ports.get(link.port, ()))
            elif level.is_start(link.node):
                yield from self.beginning(spec, level, link)
            else:
                yield replace(link, node=level.prefix + link.node)

    def no_port(self, spec: NodeSpec, level: _Level, at: tuple[str | int, ...], link: Link, inside: _Inside) -> None:
        what = f'"{link.node}" has no port "{link.port}"'
        own = [port for port in inside.ports if port != "rejected"]
        fix = close(link.port, own) if own else "its flow has no node of type end"
        self.tell(level.at(spec).problem(at[2:], what, fix))

    def beginning(self, spec: NodeSpec, level: _Level, link: Link) -> Iterator[Link]:
        """What a node takes from that takes from the start of its flow."""
        reads = isinstance(spec.config, Get) and not spec.config.takes_records
        if level.entrance is not None and not reads:
            yield replace(level.entrance, into=link.into)
        else:
            self.begins.add(level.prefix + spec.name)
            yield from (replace(one, into=link.into) for one in level.begin)

    def after(self, spec: NodeSpec, nested: Mapping[str, _Inside | None], level: _Level) -> tuple[str, ...]:
        """The nodes that must have ended before one: all of a flow's that stand where one stood."""
        found: dict[str, None] = {}
        for name in spec.after:
            inside = nested.get(name)
            found.update(dict.fromkeys(inside.nodes if inside is not None else [level.prefix + name]))
        return tuple(found)

    def has_records(self, spec: NodeSpec, level: _Level) -> bool:
        """Whether records come to a node that stands for a flow which takes some; what is wrong is told."""
        starts = [at for at, link in located_links(spec) if level.is_start(link.node)]
        if not starts or level.entrance is not None or level.start is None or brings_records(level.start.config):
            return True
        what = f'takes from "{level.start.name}", which has no records, and flow "{_config(spec).body()}" takes some'
        self.tell(level.at(spec).problem(starts[0][2:], what, "take from a get"))
        return False

    def begins_with_flow(self, spec: NodeSpec, level: _Level) -> None:
        """A flow that takes no records begins with the one that uses it; what is wrong is told."""
        says = f'flow "{_config(spec).body()}" takes no records: its start declares no `columns`'
        if _config(spec).made():
            self.tell(level.at(spec).problem(("inputs",), says, "take `inputs` out"))
        for at, link in located_links(spec):
            if not level.is_start(link.node):
                fix = f"write `from: start`, and `after: {link.node}` where it is to wait for that"
                self.tell(level.at(spec).problem(at[2:], f'takes from "{link.node}", but {says}', fix))

    def tell(self, *problems: Problem) -> None:
        """Takes problems, each once: a flow may be used several times."""
        self.problems += [problem for problem in problems if problem not in self.problems]


def _start(flow: Flow) -> NodeSpec | None:
    return next((spec for spec in flow.nodes.values() if isinstance(spec.config, Start)), None)


def _handed(start: NodeSpec, columns: dict[str, str]) -> NodeSpec:
    """A start that gives what tests give it: all of it, whatever is needed of it."""
    return replace(start, config=Handed(columns=columns), snapshot="all")


def _columns(start: NodeSpec | None) -> dict[str, str] | None:
    """The columns that a start declares; None: the flow takes no records."""
    return None if start is None else getattr(start.config, "columns", None)


def _config(spec: NodeSpec) -> Nested:
    assert isinstance(spec.config, Nested)
    return spec.config


def _inherited(spec: NodeSpec, level: _Level) -> NodeSpec:
    """A node for which holds what it says itself, else what the node says that stands for its flow, else that flow."""
    outer, own = level.outer, level.settings
    if outer is None:
        return spec
    told = own.model_fields_set
    return replace(
        spec,
        environment=spec.environment or outer.environment,
        snapshot=spec.snapshot or outer.snapshot or (own.snapshots if "snapshots" in told else None),
        retry=spec.retry or outer.retry or (own.retry if "retry" in told else None),
        rejects=spec.rejects or outer.rejects or (own.rejects if "rejects" in told else None),
    )
