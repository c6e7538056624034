"""Rules about a flow as a whole, once its columns are known: unused records, shared targets, secrets, tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from pipelines import secrets
from pipelines.changes import DELETED, Changes, only_deleted, written_as
from pipelines.errors import FlowError, Problem
from pipelines.fetch import Fetch
from pipelines.finding import Asks
from pipelines.flow import Flow, FlowTest, NodeSpec
from pipelines.language.flowlinks import ports_of
from pipelines.language.modelproblems import Place, close
from pipelines.language.yamltext import At
from pipelines.node import Get, Node, Post, Start
from pipelines.rounds import Gate
from pipelines.scope import Scope


@dataclass(frozen=True)
class Whole:
    """A flow with the scope of each environment that its nodes are placed in."""

    flow: Flow
    scopes: Mapping[str | None, Scope]
    place: Place
    broken: Collection[str] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    """Where nodes stand that have come in from other flows."""

    def at(self, spec: NodeSpec) -> Place:
        """Where a node stands."""
        return node_place(written_as(spec), self.place, self.places)


def node_place(node: str, place: Place, others: Mapping[str, Place]) -> Place:
    """Where a node stands: in the text at `place`, or where it has come in from."""
    return others[node] if node in others else place.inside("nodes", node, who=f'node "{node}"')


def unused_outputs(whole: Whole) -> Iterator[Problem]:
    """Records that nothing takes."""
    for spec in whole.flow.nodes.values():
        ports = [port for port in spec.config.ports() if not whole.flow.consumers(spec.name, port) and port != DELETED]
        is_end = spec.type == "end" or isinstance(spec.config, (Post, Gate))
        if spec.disabled or not ports or is_end or whole.broken:
            continue
        name = written_as(spec)
        place = whole.at(spec)
        if whole.flow.consumers(spec.name) and not isinstance(spec.config, Start):
            for port in ports:
                at: At = next((at for at in (("when", port), ("otherwise",)) if _has(whole, spec, at)), ())
                yield place.problem(at, f'nothing takes the records of its port "{port}"', "", warning=True)
        elif not whole.flow.consumers(spec.name):
            nothing = "nothing takes its records"
            is_get = isinstance(spec.config, Get | Changes)
            fix = f"let a node take from it, such as `end: {{type: end, from: {name}}}`"
            if isinstance(spec.config, Start):
                nothing, fix = "nothing begins with it", f"let a get take from it: `from: {spec.name}`"
            yield place.problem((), nothing, fix, key=True, warning=not is_get)


def _has(whole: Whole, spec: NodeSpec, at: At) -> bool:
    place = whole.at(spec)
    if place.text is None:
        return False
    tree = place.text.tree((*place.at, *at))
    return tree is not None and (len(at) == 2 or tree.value is not None)


def same_targets(whole: Whole) -> Iterator[Problem]:
    """No two posts write the same place, unless one takes away what a source no longer has: no other record has its key."""
    writers: dict[str, dict[str, str]] = {}
    for spec in whole.flow.nodes.values():
        scope = whole.scopes.get(spec.environment)
        if not isinstance(spec.config, Post) or spec.disabled or scope is None:
            continue
        try:
            target = f"{scope.environment.name} {spec.config.target(scope.inside(spec.name))}"
        except FlowError:
            continue  # what is wrong with it was told by the node's own check
        mode = getattr(spec.config, "mode", None)
        away = mode == "delete" and only_deleted(whole.flow, spec)
        kind = "takes away" if away else "adds" if mode in ("append", "upsert") else "else"
        known = writers.setdefault(target, {})
        other = next((name for before, name in known.items() if {before, kind} != {"takes away", "adds"}), None)
        if other is not None:
            place = whole.at(spec)
            what = f'it writes where "{other}" writes: {target.partition(" ")[2]}'
            yield place.problem((), what, "merge them into one post, or give each its own place", key=True)
        known.setdefault(kind, spec.name)


def missing_secrets(whole: Whole) -> Iterator[Problem]:
    """Secrets that the flow will need have a value here."""
    told: set[str] = set()
    for spec in whole.flow.nodes.values():
        scope = whole.scopes.get(spec.environment)
        if scope is None or spec.disabled:
            continue
        name = getattr(spec.config, "connection", None)
        connection = scope.environment.connections.get(name) if isinstance(name, str) else None
        of_connection = [] if connection is None else [(named, ("connection",)) for named in secrets_of(connection)]
        for secret, at in [*of_connection, *((named, ()) for named in secrets_of(spec.config))]:
            if secret in told or secrets.find(secret, scope.project) is not None:
                continue
            told.add(secret)
            place = whole.at(spec)
            yield place.problem(at, f'the secret "{secret}" has no value here', secrets.where(secret), warning=True)


def tests_name_what_is_there(whole: Whole) -> Iterator[Problem]:
    """The flow's tests name nodes, ports and parameters of the flow."""
    for index, test in enumerate(whole.flow.tests):
        place = whole.place.inside("tests", index, who=f'test "{test.name}"')
        yield from _given(test, whole, place)
        yield from _then(test, whole, place)
        for name in test.parameters:
            if name not in whole.flow.parameters:
                fix = close(name, tuple(whole.flow.parameters))
                yield place.problem(("parameters", name), f'no parameter is called "{name}"', fix, key=True)


def _given(test: FlowTest, whole: Whole, place: Place) -> Iterator[Problem]:
    nodes, known = whole.flow.nodes, [*whole.flow.nodes, *whole.broken]
    for name in test.given:
        if name not in known:
            yield place.problem(("given", name), f'no node is called "{name}"', close(name, known), key=True)
        elif name in nodes and not _reads(nodes[name].config) and not isinstance(nodes[name].config, Start):
            what = f'"{name}" is of type {nodes[name].type}, which reads nothing'
            gets = [spec.name for spec in nodes.values() if _reads(spec.config)]
            yield place.problem(("given", name), what, f"those that read are: {', '.join(gets)}", key=True)


def _reads(config: Node) -> bool:
    return isinstance(config, (Get, Fetch)) or (isinstance(config, Asks) and config.asks())


def _then(test: FlowTest, whole: Whole, place: Place) -> Iterator[Problem]:
    nodes, uses = whole.flow.nodes, whole.flow.uses
    known = [*nodes, *whole.broken, *uses]
    for name in test.then:
        node, _, port = name.partition(".")
        ports = tuple(uses[node].ports) if node in uses else ports_of(nodes[node]) if node in nodes else None
        if node not in known:
            yield place.problem(("then", name), f'no node is called "{node}"', close(node, known), key=True)
        elif ports is not None and port and port not in ports:
            fix = close(port, ports)
            yield place.problem(("then", name), f'"{node}" has no port "{port}"', fix, key=True)
    if not test.then:
        yield place.problem(("then",), "it expects nothing", "say under `then` what arrives where", warning=True)


def secrets_of(model: BaseModel) -> Iterator[str]:
    """The names of the secrets in a model, at any depth."""
    if isinstance(model, secrets.Secret):
        yield model.secret
        return
    for name in type(model).model_fields:
        yield from _secrets_in(getattr(model, name))


def _secrets_in(value: Any) -> Iterator[str]:
    if isinstance(value, BaseModel):
        yield from secrets_of(value)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _secrets_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets_in(item)


RULES: tuple[Callable[[Whole], Iterator[Problem]], ...] = (
    unused_outputs,
    same_targets,
    missing_secrets,
    tests_name_what_is_there,
)
