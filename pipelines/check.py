"""Checks a whole flow before anything runs: every problem with its place, and the columns at every port.

Columns travel along the links in topological order; each node binds its expressions against what comes in. A problem
never ends the check: what cannot be known behind it is `None`, and is not complained about again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines import flowfile, parameters
from pipelines.align import unify
from pipelines.changes import written_as
from pipelines.delivery import Delivery, delivery
from pipelines.entrance import INSIDE
from pipelines.environment import Connection
from pipelines.environmentfile import environment_names, load_environment
from pipelines.errors import Invalid, Problem, Unavailable
from pipelines.evolving import Change, changed, declaring
from pipelines.expand import expand
from pipelines.flow import Flow, NodeSpec
from pipelines.language import yamltext
from pipelines.language.flowlinks import faults, inputs_of, live, order, placed, ports_of
from pipelines.language.modelproblems import Place, close
from pipelines.language.wholeflow import RULES, Whole, node_place
from pipelines.language.yamltext import At, Text
from pipelines.node import MALFORMED, Get, Schemas, Transform, Wide
from pipelines.records import rejected_schema
from pipelines.rounds import AGAIN, Gate, unreturned
from pipelines.scope import Scope
from pipelines.sql.carried import uncarried
from pipelines.sql.sandbox import Sandbox, borrowed


@dataclass(frozen=True)
class Checked:
    """What is known of a flow before it runs."""

    problems: tuple[Problem, ...] = ()
    """In the order of the text; warnings among them say so."""
    inputs: Mapping[str, pa.Schema | None] = field(default_factory=dict)
    """Per node the columns that come in, after the union of several links; None where they cannot be known."""
    named_inputs: Mapping[str, Schemas] = field(default_factory=dict)
    """Per node its inputs by name; most have one with an empty name."""
    outputs: Mapping[str, Schemas] = field(default_factory=dict)
    """Per node and port, `rejected` included, the columns that leave."""
    delivery: Delivery = Delivery()
    unavailable: tuple[Unavailable, ...] = ()
    """Systems that could not be asked for their columns; each is a warning among the problems too."""
    flow: Flow | None = None
    """The flow as it runs, the nodes of the flows that it uses among its own; None where nothing could be read."""
    uses: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What `$name` stands for in each of those: `Scope.uses`."""
    sources: Mapping[str, pa.Schema] = field(default_factory=dict)
    """Per get whose source has changed since the last run the columns that it reads, before they are brought to those it
    gives."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    """How these sources have changed."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Their texts, by name."""

    @property
    def faults(self) -> tuple[Problem, ...]:
        """The problems that are no mere warnings."""
        return tuple(problem for problem in self.problems if not problem.warning)

    def delivery_report(self) -> dict[str, Any]:
        """The label, its reasons and each post's own, as plain data."""
        return self.delivery.as_data()


def check(flow: Flow, scope: Scope, text: Text | Path | None = None, broken: Collection[str] = ()) -> Checked:
    """Checks a flow in an environment.

    `text` (or its file) gives problems their lines; `broken` names nodes of the text that could not be read at all.
    """
    if isinstance(text, Path):
        text = yamltext.parse(flowfile.read_text(text), str(text))
    checking = _Checking(flow, scope, Place(text=text, path=text.path if text else ""), frozenset(broken))
    return checking.done()


def check_file(path: Path, scope: Scope) -> Checked:
    """Checks a file, the nodes that can be read even where others cannot."""
    try:
        made = flowfile.draft(flowfile.read_text(path), str(path))
    except Invalid as fault:
        return Checked(problems=fault.problems)
    checked = check(made.flow, scope, made.text, made.broken)
    return replace(checked, problems=_sorted([*made.problems, *checked.problems], str(path)))


class _Checking:
    """One check: what was found so far."""

    def __init__(self, flow: Flow, scope: Scope, place: Place, broken: frozenset[str]) -> None:
        self.text_flow, self.place = flow, place
        self.expanded = expand(flow, place, scope)
        self.flow = flow = placed(self.expanded.flow)
        self.broken = broken = broken | self.expanded.broken
        self.live = live(flow, broken)
        self.problems: list[Problem] = list(self.expanded.problems)
        self.told: set[str] = set()
        self.sources: dict[str, pa.Schema] = {}
        self.changes: dict[str, Change] = {}
        self.declared: dict[str, NodeSpec] = {}
        self.unavailable: list[Unavailable] = []
        self.inputs: dict[str, pa.Schema | None] = {}
        self.named: dict[str, Schemas] = {}
        self.outputs: dict[str, Schemas] = {}
        values = self.values(scope)
        self.scope = replace(scope, values=values, flow=flow.name, version=flow.version)
        self.scope = replace(self.scope, uses=self.used_values())
        self.scopes: dict[str | None, Scope] = {None: self.scope, scope.environment.name: self.scope}

    def done(self) -> Checked:
        """The whole check."""
        for fault in faults(self.text_flow, self.broken):
            self.problems.append(
                self.place.problem(fault.at, fault.what, fault.fix, key=fault.key, warning=fault.warning)
            )
        for name in order(self.flow):
            self.node(self.flow.nodes[name])
        self.loops_come_round()
        whole = Whole(self.flow, self.scopes, self.place, self.broken, self.expanded.places)
        for rule in RULES:
            self.problems += rule(whole)
        return Checked(
            problems=_sorted(self.problems, self.place.path),
            inputs={name: self.inputs.get(name) for name in self.flow.nodes},
            named_inputs={name: self.named.get(name, {}) for name in self.flow.nodes},
            outputs={name: self.outputs.get(name, {}) for name in self.flow.nodes},
            delivery=delivery(self.flow),
            unavailable=tuple(self.unavailable),
            flow=replace(self.expanded.flow, nodes={**self.expanded.flow.nodes, **self.declared}),
            sources=self.sources,
            changes=self.changes,
            uses=self.scope.uses,
            texts=self.expanded.texts,
        )

    def values(self, scope: Scope) -> dict[str, object]:
        """What `$name` stands for: what was set, else the defaults as their types."""
        found: dict[str, object] = dict(scope.environment.variables)
        sandbox = Sandbox.borrow(scope)
        try:
            for name, parameter in self.flow.parameters.items():
                who = self.place.inside("parameters", name, who=f'parameter "{name}"')
                try:
                    parameters.cast(None, parameter, sandbox)
                    found[name] = parameters.cast(parameter.default, parameter, sandbox)
                except Invalid as fault:
                    at = ("default",) if "is no DuckDB type" not in str(fault) else ("type",)
                    self.problems.append(who.problem(at, str(fault)))
                    found[name] = None
        finally:
            sandbox.give_back()
        return {**found, **scope.values}

    def used_values(self) -> dict[str, Mapping[str, object]]:
        """What `$name` stands for in the flows that are used as nodes."""
        found: dict[str, Mapping[str, object]] = {}
        with borrowed(self.scope) as sandbox:
            for node, use in self.flow.uses.items():
                if use.parameters is None:
                    continue
                around = replace(self.scope, uses=found).inside(node).values
                values, wrong = parameters.used_values(use, around, sandbox)
                found[node] = values
                for at, what, fix in wrong:
                    self.tell(node, at, what, fix)
        return found

    def place_of(self, node: str) -> Place:
        """Where a node stands."""
        return node_place(node, self.place, self.expanded.places)

    def report(self, spec: NodeSpec, at: At, what: str, fix: str = "", warning: bool = False) -> None:
        """Takes a problem of a node; those of a disabled one are warnings."""
        self.tell(written_as(spec), at, what, fix, warning=warning or spec.disabled)

    def tell(self, node: str, at: At, what: str, fix: str = "", *, warning: bool = False) -> None:
        """Takes a problem of a node of the text or of a flow that it uses."""
        problem = self.place_of(node).problem(at, what, fix, warning=warning)
        self.told.add(node)
        known = {(told.what, told.at[:2]) for told in self.problems}
        if (problem.what, problem.at[:2]) not in known:
            self.problems.append(problem)

    def scope_of(self, spec: NodeSpec) -> Scope | None:
        """The scope of the environment that a node is placed in; None where that cannot be had."""
        name = spec.environment
        if name in self.scopes:
            return self.scopes[name]
        names = environment_names(self.scope.project)
        if name not in names:
            self.report(spec, ("in",), f'no environment is called "{name}"', close(str(name), names))
            return None
        try:
            environment = load_environment(self.scope.project, name)
        except Invalid as fault:
            self.problems += [problem for problem in fault.problems if problem not in self.problems]
            return None
        values = {**environment.variables, **self.scope.values}
        self.scopes[name] = replace(self.scope, environment=environment, values=values)
        return self.scopes[name]

    def node(self, spec: NodeSpec) -> None:
        """Carries the columns through one node."""
        inputs = self.inputs_of(spec)
        self.named[spec.name] = inputs
        self.inputs[spec.name] = next(iter(inputs.values()), None) if len(inputs) == 1 else self.union(spec, inputs)
        scope = self.scope_of(spec)
        given: Schemas = dict.fromkeys(spec.config.ports())
        if scope is not None:
            self.connection(spec, scope)
            given = {**given, **self.checked(spec, inputs, scope)}
            if isinstance(spec.config, Get) and spec.config.schema_change and given["out"] is not None:
                given["out"] = self.compared(spec, spec.config, given["out"], scope)
            self.columns_are_known(spec, inputs, given)
        self.outputs[spec.name] = {**given, **self.rejects(spec)}

    def checked(self, spec: NodeSpec, inputs: Schemas, scope: Scope) -> Schemas:
        """What the node's own check says of its ports."""

        def report(at: At, what: str, fix: str = "", *, warning: bool = False) -> None:
            self.report(spec, at, what, fix, warning)

        if isinstance(spec.config, Wide) and self.is_uncarried(spec, inputs):
            return {}
        try:
            return spec.config.check(inputs, scope.inside(spec.name), report)
        except Invalid as fault:
            for problem in fault.problems:
                self.report(spec, _inside(problem.at, spec), problem.what, problem.fix, problem.warning)
        except Unavailable as fault:
            self.unavailable.append(fault)
            self.report(spec, (), f"its columns cannot be looked up now: {fault}", warning=True)
        return {}

    def compared(self, spec: NodeSpec, get: Get, now: pa.Schema, scope: Scope) -> pa.Schema:
        """What a get gives whose source may have other columns than the last run saw."""
        seen = scope.seen.get(spec.name)
        change = None if seen is None else changed(get, seen, now, scope)
        if change is None:
            return now
        if get.schema_change == "fail":
            what = f"the source's columns are not those that the last run saw: {'; '.join(change.told)}"
            flow = self.flow.name
            fix = f"change the flow where that matters, then let the next run take them: processflow positions accept {flow}"
            self.report(spec, ("schema_change",), what, fix)
            return now
        declared = declaring(get, change)
        if declared is not get:
            text = self.expanded.flow.nodes[spec.name]
            self.declared[spec.name] = replace(text, config=declared)
            now = self.checked(replace(spec, config=declared), {}, scope).get("out") or now
        self.sources[spec.name], self.changes[spec.name] = now, change
        return change.given

    def is_uncarried(self, spec: NodeSpec, inputs: Schemas) -> bool:
        """Whether a wide node would take columns that DuckDB does not give back as they were; each is reported."""
        columns = [field for schema in inputs.values() if schema is not None for field in schema]
        wrong = {field.name: field.type for field in columns if uncarried(field.type)}
        for name, kind in wrong.items():
            fix = "leave it out, or make it a number or text where it is read"
            self.report(spec, ("from",), f"column {name!r} is {kind}, which this node cannot keep as it is", fix)
        return bool(wrong)

    def loops_come_round(self) -> None:
        """What goes into a loop comes back to its gate, so that it can go round again."""
        for spec in self.flow.nodes.values():
            if isinstance(spec.config, Gate):
                went = self.outputs.get(spec.config.entrance, {}).get(INSIDE)
                came = self.outputs.get(spec.name, {}).get(AGAIN)
                for what, fix in unreturned(went, came) if went is not None and came is not None else ():
                    self.tell(spec.name, (), what, fix)

    def columns_are_known(self, spec: NodeSpec, inputs: Schemas, given: Schemas) -> None:
        """A run needs the columns of every port: what gives them first must be able to tell them."""
        is_first = isinstance(spec.config, Get) or (inputs and None not in inputs.values())
        told = spec.name in self.told or any(problem.at[:2] == ("nodes", spec.name) for problem in self.problems)
        if is_first and None in given.values() and not told:
            what = "its columns cannot be known before the run"
            self.report(spec, (), what, "declare them with `columns`")

    def inputs_of(self, spec: NodeSpec) -> Schemas:
        """The columns at each of a node's inputs."""
        names = [link.into for link in spec.inputs] if inputs_of(spec) != ("",) else [""]
        found: dict[str, pa.Schema | None] = {}
        for name in dict.fromkeys(names):
            coming = [
                (link.node, self.outputs.get(link.node, {}).get(link.port)) for link in spec.inputs if link.into == name
            ]
            runs = [(node, schema) for node, schema in coming if node in self.live or schema is not None]
            found[name] = self.united(spec, [schema for _, schema in (runs if spec.name in self.live else coming)])
        return found

    def united(self, spec: NodeSpec, schemas: Sequence[pa.Schema | None]) -> pa.Schema | None:
        """The columns of several links into one input; None where one of them is not known."""
        known = [schema for schema in schemas if schema is not None]
        if not known or len(known) < len(schemas):
            return None
        try:
            by_place = isinstance(spec.config, Transform) and spec.config.meets_by_place()
            return known[0] if len(known) == 1 else unify(known, by_place)
        except Invalid as fault:
            self.report(spec, ("from",), str(fault))
            return None

    def union(self, spec: NodeSpec, inputs: Schemas) -> pa.Schema | None:
        """The columns of all named inputs together, where they fit together; it is their rejects' payload."""
        known = [schema for schema in inputs.values() if schema is not None]
        if not known or len(known) < len(inputs):
            return None
        try:
            return unify(known)
        except Invalid:
            return None

    def rejects(self, spec: NodeSpec) -> Schemas:
        """The columns of the port `rejected`."""
        if "rejected" not in ports_of(spec):
            return {}
        schema = MALFORMED if isinstance(spec.config, Get) else self.inputs[spec.name]
        return {"rejected": None if schema is None else rejected_schema(schema)}

    def connection(self, spec: NodeSpec, scope: Scope) -> None:
        """A node's connection is there."""
        name = getattr(spec.config, "connection", None)
        if isinstance(name, str):
            try:
                scope.connection(name, Connection)
            except Invalid as fault:
                for problem in fault.problems:
                    fix = close(name, tuple(scope.environment.connections)) if name else ""
                    self.report(spec, ("connection",), problem.what, fix if fix.startswith("did") else "")


def _inside(at: At, spec: NodeSpec) -> At:
    return at[2:] if at[:2] == ("nodes", spec.name) else at


def _sorted(problems: Sequence[Problem], path: str) -> tuple[Problem, ...]:
    """In the order of the text, those of other files behind; each once."""
    once = dict.fromkeys(problems)
    return tuple(sorted(once, key=lambda problem: (problem.path != path, problem.path, problem.line, problem.column)))
