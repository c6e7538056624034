"""The JSON Schema (2020-12) of a flow file, for editors: made from the node models, accepting what the parser accepts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from pipelines import registry
from pipelines.flow import FlowTest, Parameter, Settings
from pipelines.flowfile import FLOW_NAME, NAME_LENGTH, NODE_NAME, VALUE_NAME, Common
from pipelines.node import Node

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NODES = "flow-nodes"
"""The format of a field that holds nodes as a flow does."""


def flow_schema(types: Mapping[str, type[Node]] | None = None) -> dict[str, Any]:
    """The schema of a whole flow file with the node types that are installed here."""
    types = registry.node_types() if types is None else types
    definitions: dict[str, Any] = {}
    kinds = {name: _node_type(name, kind, definitions) for name, kind in types.items()}
    definitions["node"] = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(kinds), "description": "The node's type."}},
        "allOf": [
            {"if": {"properties": {"type": {"const": name}}, "required": ["type"]}, "then": {"$ref": f"#/$defs/{key}"}}
            for name, key in kinds.items()
        ],
    }
    return {
        "$schema": DIALECT,
        "title": "A flow of ProcessFlow",
        "type": "object",
        "additionalProperties": False,
        "required": ["flow", "nodes"],
        "properties": {
            "flow": _named(FLOW_NAME.pattern) | {"type": "string", "description": "The flow's name."},
            "description": {"type": "string", "description": "What the flow is for."},
            "parameters": {
                "type": ["object", "null"],
                "description": "Values that whoever starts the flow may give, by name: `$name` in expressions.",
                "propertyNames": _named(VALUE_NAME.pattern),
                "additionalProperties": _model("parameter", Parameter, definitions),
            },
            "settings": {"anyOf": [_model("settings", Settings, definitions), {"type": "null"}]},
            "nodes": {
                "type": "object",
                "description": "The nodes by name; links follow from their `from`.",
                "minProperties": 1,
                "propertyNames": _named(NODE_NAME.pattern),
                "additionalProperties": {"$ref": "#/$defs/node"},
            },
            "tests": {
                "type": ["array", "null"],
                "description": "Tests that live in the flow.",
                "items": _model("test", FlowTest, definitions),
            },
        },
        "$defs": definitions,
    }


def node_schema(name: str) -> dict[str, Any]:
    """The schema of one node type's own fields."""
    definitions: dict[str, Any] = {"node": {"type": "object", "required": ["type"]}}
    key = _node_type(name, registry.node_type(name), definitions)
    return {"$schema": DIALECT, "$ref": f"#/$defs/{key}", "$defs": definitions}


def _named(pattern: str) -> dict[str, Any]:
    return {"pattern": f"^(?:{pattern})$", "maxLength": NAME_LENGTH}


def _node_type(name: str, kind: type[Node], definitions: dict[str, Any]) -> str:
    """Defines a node type, its own fields behind the common keys, and gives the name of its definition."""
    common = _model("common", Common, {}, keep=True)
    own = _model(name, kind, definitions, keep=True)
    definitions.update(_model_definitions("common", Common))
    fields = {**common["properties"], "type": {"const": name}, **own.get("properties", {})}
    for field in fields.values():
        if field.get("format") == NODES:
            field.pop("format")
            for one in (field, *field.get("anyOf", ())):
                if one.get("type") == "object":
                    one["additionalProperties"] = {"$ref": "#/$defs/node"}
    definitions[name] = {
        "type": "object",
        "title": name,
        "description": inspect.getdoc(kind) or "",
        "additionalProperties": False,
        "required": list(dict.fromkeys(["type", *own.get("required", ())])),
        "properties": fields,
    }
    if kind.examples:
        definitions[name]["examples"] = [{"type": name, **example.config} for example in kind.examples]
    return name


def _model(name: str, model: type[BaseModel], definitions: dict[str, Any], *, keep: bool = False) -> dict[str, Any]:
    """A model's schema; its inner models go to the definitions, under names of their own."""
    schema = _schema(name, model)
    definitions.update(_inner(name, schema.pop("$defs", {})))
    schema = _opened(schema)
    if keep:
        return schema
    definitions[name] = schema
    return {"$ref": f"#/$defs/{name}"}


def _model_definitions(name: str, model: type[BaseModel]) -> dict[str, Any]:
    return _inner(name, _schema(name, model).get("$defs", {}))


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(by_alias=True, ref_template=f"#/$defs/{name}:{{model}}")


def _inner(name: str, inner: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{name}:{key}": _opened(value) for key, value in inner.items()}


def _opened(schema: Any) -> Any:
    """The schema with text open to the unquoted numbers and booleans that the parser takes as they were typed."""
    if isinstance(schema, list):
        return [_opened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    opened = {
        key: value if key in ("default", "examples", "enum", "const", "required") else _values(key, value)
        for key, value in schema.items()
    }
    if (opened.get("type") == "string" and not {"enum", "const", "pattern", "format"}.intersection(opened)) or (
        opened.get("type") == "string" and opened.get("format") == "duckdb-expression"
    ):
        opened["type"] = ["string", "number", "boolean"]
    return opened


def _values(key: str, value: Any) -> Any:
    if key in ("properties", "$defs", "patternProperties") and isinstance(value, dict):
        return {name: _opened(item) for name, item in value.items()}
    return _opened(value)
