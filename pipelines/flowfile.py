"""Reads a flow file into a `Flow`, and writes a `Flow` as the text a person would have typed.

`parse(render(flow)) == flow` for every flow whose version is that of its rendered text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipelines import registry
from pipelines.errors import Invalid, Problem
from pipelines.flow import Flow, FlowTest, Link, NodeSpec, Parameter, RejectPolicy, Retry, Settings, Snapshot
from pipelines.language import yamltext
from pipelines.language.flowlinks import faults
from pipelines.language.modelproblems import Place, checked, close
from pipelines.language.yamlrender import dashed, entry
from pipelines.language.yamltext import Text
from pipelines.model import Model
from pipelines.node import Node

FLOW_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
NODE_NAME = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")
VALUE_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
NAME_LENGTH = 63
FIELDS = ("flow", "description", "parameters", "settings", "nodes", "tests")


class Common(Model):
    """The keys that every node takes besides the fields of its type."""

    model_config = ConfigDict(populate_by_name=True)

    type: str
    """The node's type, such as `file.get` or `map`."""
    from_: str | list[str] | dict[str, str] = Field(
        default_factory=list, alias="from", examples=["orders", "large.direct"]
    )
    """What it takes its records from: a node, `node.port`, a list of them, or names of inputs to them."""
    after: str | list[str] = Field(default_factory=list)
    """Nodes of this flow that must have ended first: order between branches."""
    in_: str | None = Field(default=None, alias="in")
    """The environment it runs in; without it, the one the flow runs in."""
    snapshot: Snapshot | None = None
    """Which records each of its ports keeps in the data log; without it what the flow's settings say."""
    retry: Retry | None = None
    """How an unavailable system is asked again; without it what the flow's settings say."""
    rejects: RejectPolicy | None = None
    """When its rejects stop the run; without it what the flow's settings say."""
    description: str = ""
    """What it is for."""
    disabled: bool = False
    """Whether it passes nothing."""


COMMON = tuple(field.alias or name for name, field in Common.model_fields.items())


@dataclass(frozen=True)
class Draft:
    """What could be made of a text: the flow without the nodes that could not be read, and every problem."""

    flow: Flow
    problems: tuple[Problem, ...] = ()
    broken: frozenset[str] = frozenset()
    text: Text | None = None


def parse(text: str, path: str = "") -> Flow:
    """The flow of a text.

    Raises:
        Invalid: with every problem, in the order of the text.
    """
    made = draft(text, path)
    if made.problems:
        raise Invalid(made.problems)
    return made.flow


def load(path: Path) -> Flow:
    """The flow of a file."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a file as it is, line breaks included."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as fault:
        raise Invalid(Problem(str(path), 0, 0, "there is no such file")) from fault
    except OSError as fault:
        raise Invalid(Problem(str(path), 0, 0, f"the file cannot be read: {fault.strerror}")) from fault
    return yamltext.decoded(data, str(path))


def draft(text: str, path: str = "") -> Draft:
    """What can be made of a text, with its problems.

    Raises:
        Invalid: where it is not YAML, so that nothing can be made of it.
    """
    located = yamltext.parse(text, path)
    version = sha256(text.encode()).hexdigest()[:12]
    return replace(drafted(located.value, Place(text=located, path=path), version), text=located)


def drafted(tree: Any, place: Place, version: str = "") -> Draft:
    """What can be made of plain values shaped as a flow file."""
    if not isinstance(tree, Mapping):
        what = "the file is empty" if tree is None else "a flow is a mapping"
        raise Invalid(place.problem((), what, "begin with `flow: NAME` and `nodes:`"))
    problems = list(_top_level(tree, place))
    parameters = dict(_parameters(tree, place, problems))
    settings, wrong = checked(Settings, tree.get("settings") or {}, place.inside("settings", who="settings"))
    problems += wrong
    nodes, broken = nodes_of(tree.get("nodes"), place, problems)
    flow = Flow(
        name=str(tree.get("flow")),
        nodes=nodes,
        description=_text(tree, "description", place, problems),
        parameters=parameters,
        settings=settings or Settings(),
        tests=tuple(_tests(tree, place, problems)),
        version=version,
    )
    for fault in faults(flow, broken):
        if not fault.warning:
            problems.append(place.problem(fault.at, fault.what, fault.fix, key=fault.key))
    if place.text is not None:
        problems.sort(key=lambda problem: (problem.line, problem.column))
    return Draft(flow, tuple(dict.fromkeys(problems)), broken)


def _top_level(tree: Mapping[str, Any], place: Place) -> Iterator[Problem]:
    for key in tree:
        if key not in FIELDS:
            yield place.problem((key,), f'unknown field "{key}"', close(key, FIELDS), key=True)
    name = tree.get("flow")
    if "flow" not in tree:
        yield place.problem((), 'the field "flow" is missing', "begin with `flow: NAME`")
    elif not isinstance(name, str) or not FLOW_NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        yield place.problem(("flow",), f'a flow cannot be called "{name}"', named_like(str(name), "-"))
    if not tree.get("nodes"):
        yield place.problem(("nodes",), "the flow has no nodes", "begin with `nodes: {start: {type: start}}`")


def named_like(name: str, joint: str) -> str:
    """What a name that is not allowed would rather be."""
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())
    while words and not words[0].isalpha():
        words.pop(0)
    form = f'lower-case words joined by "{joint}", at most {NAME_LENGTH} characters'
    example = joint.join(words)[:NAME_LENGTH].rstrip(joint)
    return f"names are {form}" + (f', such as "{example}"' if example else "")


def _text(tree: Mapping[str, Any], key: str, place: Place, problems: list[Problem]) -> str:
    value = tree.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    written = place.text.written((key,)) if place.text else None
    if written is None and isinstance(value, (Mapping, list)):
        problems.append(place.problem((key,), f'"{key}" must be text'))
    return written or str(value)


def _section(tree: Mapping[str, Any], key: str, place: Place, problems: list[Problem]) -> Mapping[str, Any]:
    value = tree.get(key)
    if value is None or isinstance(value, Mapping):
        return value or {}
    problems.append(place.problem((key,), f'"{key}" must be a mapping of names'))
    return {}


def _parameters(tree: Mapping[str, Any], place: Place, problems: list[Problem]) -> Iterator[tuple[str, Parameter]]:
    for name, value in _section(tree, "parameters", place, problems).items():
        who = f'parameter "{name}"'
        if not VALUE_NAME.fullmatch(name) or len(name) > NAME_LENGTH:
            problems.append(place.problem(("parameters", name), f"{who}: not a name", named_like(name, "_"), key=True))
        made, wrong = checked(Parameter, value, place.inside("parameters", name, who=who))
        problems += wrong
        if made is not None:
            yield name, made


def _tests(tree: Mapping[str, Any], place: Place, problems: list[Problem]) -> Iterator[FlowTest]:
    listed = tree.get("tests")
    if listed is not None and not isinstance(listed, list):
        problems.append(place.problem(("tests",), '"tests" must be a list', "begin each test with `- name: `"))
        return
    names: set[str] = set()
    for index, value in enumerate(listed or ()):
        who = f"test {index + 1}"
        made, wrong = checked(FlowTest, value, place.inside("tests", index, who=who))
        problems += wrong
        if made is not None and made.name in names:
            problems.append(place.problem(("tests", index, "name"), f'{who}: another test is called "{made.name}"'))
        if made is not None:
            names.add(made.name)
            yield made


def nodes_of(value: Any, place: Place, problems: list[Problem]) -> tuple[dict[str, NodeSpec], frozenset[str]]:
    """The nodes of a section `nodes`, and the names of those that cannot be read."""
    if value is not None and not isinstance(value, Mapping):
        problems.append(place.problem(("nodes",), '"nodes" must be a mapping of names to nodes'))
    nodes: dict[str, NodeSpec] = {}
    given = value if isinstance(value, Mapping) else {}
    for name, fields in given.items():
        inner = place.inside("nodes", name, who=f'node "{name}"')
        if not NODE_NAME.fullmatch(name) or len(name) > NAME_LENGTH:
            problems.append(inner.problem((), "a node cannot be called so", named_like(name, "_"), key=True))
        spec = _node(name, fields, inner, problems)
        if spec is not None:
            nodes[name] = spec
        elif isinstance(fields, Mapping):
            problems += _lost_links(fields.get("from"), list(given), inner)
    return nodes, frozenset(given) - nodes.keys()


def _node(name: str, fields: Any, place: Place, problems: list[Problem]) -> NodeSpec | None:
    if not isinstance(fields, Mapping):
        problems.append(place.problem((), "a node is a mapping", "write its type, such as `type: map`"))
        return None
    if "type" not in fields:
        fix = close("type", [str(key) for key in fields], "write its type, such as `type: map`")
        problems.append(place.problem((), 'the field "type" is missing', fix if "write" in fix else "is it misspelt?"))
        return None
    kind = _kind(fields["type"], place, problems)
    common, wrong = checked(Common, {key: item for key, item in fields.items() if key in COMMON}, place)
    problems += wrong
    config = None
    if kind is not None:
        own = {key: item for key, item in fields.items() if key not in COMMON}
        config, wrong = _config(kind, own, place)
        problems += wrong
    if common is None or config is None:
        return None
    return NodeSpec(
        name=name,
        type=common.type,
        config=config,
        inputs=tuple(_links(common.from_, config)),
        after=(common.after,) if isinstance(common.after, str) else tuple(common.after),
        environment=common.in_,
        snapshot=common.snapshot,
        retry=common.retry,
        rejects=common.rejects,
        description=common.description,
        disabled=common.disabled,
    )


def _lost_links(value: Any, names: list[str], place: Place) -> Iterator[Problem]:
    """What a node that cannot be read takes from is looked up all the same."""
    sources = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    for index, source in enumerate(sources):
        node = str(source).partition(".")[0]
        if isinstance(source, str) and node not in names:
            fix = close(node, [name for name in names if name != place.at[-1]])
            yield place.problem(("from", index), f'takes from "{node}", which is no node of this flow', fix)


def _kind(name: Any, place: Place, problems: list[Problem]) -> type[Node] | None:
    try:
        return registry.node_type(str(name))
    except Invalid as fault:
        what, _, fix = fault.problems[0].what.partition("; ")
        problems.append(place.problem(("type",), what.replace("'", '"'), fix.replace("'", '"')))
        return None


def _config(kind: type[Node], fields: Mapping[str, Any], place: Place) -> tuple[Node | None, list[Problem]]:
    """The node's own fields as its model; an unknown one may also have been meant as a common key."""
    config, wrong = checked(kind, fields, place)
    own = len(place.at) + 1
    known = [*(field.alias or name for name, field in kind.model_fields.items()), *COMMON]
    return config, [
        replace(problem, fix=close(str(problem.at[-1]), known))
        if "unknown field" in problem.what and len(problem.at) == own
        else problem
        for problem in wrong
    ]


def _links(value: str | list[str] | dict[str, str], config: Node) -> Iterator[Link]:
    if isinstance(value, dict):
        for into, source in value.items():
            yield link(source, into)
        return
    any_name = getattr(config, "inputs", ("",)) == ("*",)
    for source in [value] if isinstance(value, str) else value:
        yield link(source, re.sub(r"\W", "_", source) if any_name else "")


def link(source: str, into: str = "") -> Link:
    """A link from `node` or `node.port`."""
    node, dot, port = source.partition(".")
    return Link(node, port if dot else "out", into)


def as_tree(flow: Flow) -> dict[str, Any]:
    """A flow as the plain values of its file."""
    settings = _dumped(flow.settings)
    parameters = {name: _dumped(parameter) for name, parameter in flow.parameters.items()}
    tests = [_dumped(test) for test in flow.tests]
    tree: dict[str, Any] = {"flow": flow.name}
    optional = {"description": flow.description, "parameters": parameters, "settings": settings}
    tree.update((key, value) for key, value in optional.items() if value)
    tree["nodes"] = {name: node_tree(spec) for name, spec in flow.nodes.items()}
    return {**tree, "tests": tests} if tests else tree


def node_tree(spec: NodeSpec) -> dict[str, Any]:
    """A node as the plain values of its part of the file."""
    common: dict[str, Any] = {
        "type": spec.type,
        "from": _from(spec),
        "after": spec.after[0] if len(spec.after) == 1 else list(spec.after),
        "in": spec.environment,
    }
    behind: dict[str, Any] = {
        "snapshot": spec.snapshot,
        "retry": None if spec.retry is None else _dumped(spec.retry),
        "rejects": None if spec.rejects is None else _dumped(spec.rejects),
        "description": spec.description,
        "disabled": spec.disabled or None,
    }
    tree = {key: value for key, value in common.items() if value not in (None, [])}
    tree.update(_dumped(spec.config))
    tree.update((key, value) for key, value in behind.items() if value not in (None, ""))
    return tree


def _from(spec: NodeSpec) -> str | list[str] | dict[str, str]:
    any_name = getattr(spec.config, "inputs", ("",)) == ("*",)
    if any(one.into and not (any_name and one.into == re.sub(r"\W", "_", str(one))) for one in spec.inputs):
        return {one.into: str(one) for one in spec.inputs}
    listed = [str(one) for one in spec.inputs]
    return listed[0] if len(listed) == 1 else listed


def _dumped(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def render(flow: Flow) -> str:
    """The text of a flow: a node a line where it fits, in the order of its nodes."""
    return render_tree(as_tree(flow))


def render_tree(tree: Mapping[str, Any]) -> str:
    """The text of plain values shaped as a flow file."""
    lines: list[str] = []
    for key, value in tree.items():
        if key in ("nodes", "parameters") and isinstance(value, Mapping) and value:
            lines += [
                f"{key}:",
                *(f"  {line}" if line else line for one, item in value.items() for line in entry(one, item, 118)),
            ]
        elif key == "tests" and value:
            lines += [
                f"{key}:",
                *(f"  {line}" if line else line for test in value for line in dashed(test, 118, open_up=True)),
            ]
        else:
            lines += entry(key, value)
    return "\n".join(lines) + "\n"
