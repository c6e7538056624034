"""Writes a flow as the Python text that builds it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from keyword import iskeyword
from typing import Any

from pipelines.builder import python_name
from pipelines.flow import Flow, NodeSpec
from pipelines.flowfile import as_tree

WIDTH = 120


def to_python(flow: Flow) -> str:
    """Python source that builds this flow under the name `flow`."""
    return "\n".join(_lines(flow)) + "\n"


def _lines(flow: Flow) -> Iterator[str]:
    tree = as_tree(flow)
    yield "from pipelines.builder import FlowBuilder"
    yield ""
    about = {"description": flow.description} if flow.description else {}
    yield _call("flow = FlowBuilder", [_literal(flow.name)], about)
    for name, fields in tree.get("parameters", {}).items():
        given = dict(fields)
        kind = [_literal(given.pop("type"))] if "type" in given else []
        yield _call("flow.parameter", [_literal(name), *kind], given)
    if "settings" in tree:
        yield _call("flow.settings", [], tree["settings"])
    variables: dict[str, str] = {}
    for name, fields in tree["nodes"].items():
        variable = _variable(name, variables)
        yield _node(flow.nodes[name], variable, fields, variables)
        variables[name] = variable
    for test in tree.get("tests", ()):
        rest = {key: value for key, value in test.items() if key != "name"}
        yield _call("flow.test", [_literal(test["name"])], rest)


def _node(spec: NodeSpec, variable: str, fields: Mapping[str, Any], variables: Mapping[str, str]) -> str:
    given = {key: value for key, value in fields.items() if key not in ("type", "from")}
    source = _source(fields["from"], variables) if "from" in fields else None
    head = f"{variable} = flow.node"
    return _call(head, [_literal(spec.name), _literal(spec.type)], given, source)


def _source(value: Any, variables: Mapping[str, str]) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_source(item, variables)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_source(item, variables) for item in value) + "]"
    node, _, port = value.partition(".")
    if node not in variables:
        return _literal(value)
    return variables[node] + (f"[{_literal(port)}]" if port else "")


def _call(head: str, places: list[str], fields: Mapping[str, Any], source: str | None = None) -> str:
    named = {} if source is None else {"from_": source}
    odd: dict[str, Any] = {}
    for key, value in fields.items():
        if key.isidentifier() and not key.endswith("_"):
            named[python_name(key)] = _literal(value)
        else:
            odd[key if not key.endswith("_") else f"{key}_"] = value
    parts = [*places, *(f"{key}={value}" for key, value in named.items())]
    if odd:
        parts.append(f"**{_literal(odd)}")
    line = f"{head}({', '.join(parts)})"
    if len(line) <= WIDTH:
        return line
    return f"{head}(\n" + "".join(f"    {part},\n" for part in parts) + ")"


def _literal(value: Any) -> str:
    if isinstance(value, str) and "'" in value and '"' not in value and "\\" not in value and value.isprintable():
        return f'"{value}"'
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text and "\\'" not in text else text
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    return 'float("nan")' if value != value else repr(value)


def _variable(name: str, taken: Mapping[str, str]) -> str:
    variable = re.sub(r"\W", "_", name)
    if iskeyword(variable) or variable in ("flow", "float", "FlowBuilder"):
        variable += "_"
    while variable in taken.values():
        variable += "_"
    return variable
