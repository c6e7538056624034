"""A node type's page, made of its model: what it does, its fields, ports and examples. Markdown."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel

from pipelines.nested import Nested
from pipelines.node import Example, Get, Node, Post, Start
from pipelines.registry import connection_type

NAMED = "Secret"
"""The model of a value that is only ever named."""


def first_sentence(kind: type[BaseModel]) -> str:
    """What a type does, in one sentence."""
    return _prose(kind).split("\n", 1)[0].strip()


def page(name: str, kind: type[Node]) -> str:
    """The page of a node type."""
    parts = [f"# {name}", _prose(kind), "## Fields", *_fields(_own_first(kind))]
    parts += ["Every node also takes `from`, `after`, `in`, `snapshot`, `retry`, `rejects`, `description`, `disabled`."]
    parts += ["## Ports", _ports(kind)]
    own = [name.partition(".")[0]] if issubclass(kind, (Get, Post)) and "." in name else []
    adapters = (*own, *getattr(kind, "adapters", ()))
    for adapter in adapters:
        if (connection := connection_type(adapter)) is not None:
            head = "## Connection" if len(adapters) == 1 else f"## Connection of adapter `{adapter}`"
            parts += [head, _prose(connection), *_fields(connection.model_json_schema(by_alias=True))]
    if kind.examples:
        parts.append("## Examples")
        parts += [_example(name, example) for example in kind.examples]
    return "\n\n".join(parts) + "\n"


def _own_first(kind: type[Node]) -> dict[str, Any]:
    """A node type's schema, with the fields that every type of its kind has behind its own."""
    schema = kind.model_json_schema(by_alias=True)
    fields = schema.get("properties", {})
    shared = [name for name in Get.model_fields if issubclass(kind, Get) and name in fields]
    return {**schema, "properties": {name: fields[name] for name in [*(n for n in fields if n not in shared), *shared]}}


def _prose(kind: type[BaseModel]) -> str:
    return inspect.cleandoc(kind.__doc__ or "")


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        told = "required" if name in required else f"default `{_yaml(field.get('default'))}`"
        yield f"### `{name}`\n\n{_kind(field, schema)}, {told}. {' '.join(field.get('description', '').split())}"
        examples = field.get("examples")
        if examples:
            yield "For example " + ", ".join(f"`{name}: {_yaml(example)}`" for example in examples) + "."
        inner = "\n".join(_inner(field, schema, 0))
        if inner:
            yield inner
    if not schema.get("properties"):
        yield "It has none of its own."


def _inner(field: Mapping[str, Any], schema: Mapping[str, Any], depth: int) -> Iterator[str]:
    """The fields of the mappings that a field holds, as a list; those in them further in."""
    for model in _models(field, schema):
        required = set(model.get("required", ()))
        for name, inner in model["properties"].items():
            default = inner.get("default")
            told = "required" if name in required else "" if default in (None, "") else f"default `{_yaml(default)}`"
            if isinstance(default, Mapping):
                told = ""
            kind = ", ".join(filter(None, (_kind(inner, schema), told)))
            text = " ".join(str(inner.get("description", "")).split())
            yield f"{'  ' * depth}- `{name}`: {kind}. {text}".rstrip()
            yield from _inner(inner, schema, depth + 1)


def _models(field: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The models that a field holds; a secret is written in one way everywhere, so its only field is not told."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[-1]
        model = schema["$defs"][name]
        if name != NAMED and "properties" in model:
            yield model
    for inner in (*field.get("anyOf", ()), *field.get("oneOf", ()), *filter(None, [field.get("items")])):
        yield from _models(inner, schema)


def _kind(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A field's type in words."""
    if "$ref" in field and field["$ref"].endswith(f"/{NAMED}"):
        return "`{secret: NAME}`"
    if "$ref" in field:
        return _kind(schema["$defs"][field["$ref"].rsplit("/", 1)[-1]], schema)
    if "anyOf" in field or "oneOf" in field:
        kinds = [_kind(kind, schema) for kind in field.get("anyOf", field.get("oneOf", ()))]
        return " or ".join(dict.fromkeys(kind for kind in kinds if kind != "nothing"))
    if "enum" in field or "const" in field:
        return "one of " + ", ".join(f"`{_yaml(value)}`" for value in field.get("enum", [field.get("const")]))
    if field.get("format") == "duckdb-sql":
        return "expression"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), schema)}"
    if field.get("type") == "object":
        inner = field.get("additionalProperties")
        return f"names to {_kind(inner, schema)}" if isinstance(inner, Mapping) else "mapping"
    words = {"string": "text", "boolean": "true or false", "null": "nothing", "integer": "whole number"}
    return words.get(str(field.get("type")), str(field.get("type", "any value")))


def _ports(kind: type[Node]) -> str:
    if issubclass(kind, Start):
        return "`out` leads to the nodes that begin."
    if issubclass(kind, Get):
        return (
            "`out` carries the records read; `rejected` what could not be read as a record, with its text; `deleted`, where "
            "`changes_only` is set, the keys of records that are gone."
        )
    if issubclass(kind, Post):
        return "`out` carries the delivered records; `rejected` those that the target refused, with its words."
    if issubclass(kind, Nested):
        return "Those of its flow's ends; `rejected` carries the records set aside inside and not taken there."
    return "`rejected` carries the records set aside, with `reject_node`, `reject_code` and `reject_message`."


def _example(name: str, example: Example) -> str:
    lines = [example.says] if example.says else []
    lines.append("```yaml\n" + _yaml({"type": name, **example.config}, block=True) + "```")
    for path, text in example.files.items():
        lines.append(f"With `{path}`:\n\n```\n{text.rstrip()}\n```")
    if example.records:
        lines.append("takes\n\n```yaml\n" + _records(example.records) + "```")
    if example.gives:
        lines.append("gives\n\n```yaml\n" + _records(example.gives) + "```")
    return "\n\n".join(lines)


def _records(records: Any) -> str:
    if isinstance(records, Mapping):
        return "".join(f"{port}:\n" + "".join(f"  - {_yaml(row)}\n" for row in rows) for port, rows in records.items())
    return "".join(f"- {_yaml(row)}\n" for row in records)


def _yaml(value: Any, *, block: bool = False) -> str:
    plain = _plain(value)
    if block:
        return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=110))
    text = str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=True, width=10_000))
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _plain(value: Any) -> Any:
    """A value as YAML writes it: decimals, times and bytes as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
