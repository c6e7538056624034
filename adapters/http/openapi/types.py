"""The columns that a schema of an OpenAPI document describes, as DuckDB types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.http.openapi.document import Document, Object
from pipelines.sql.literals import name_of

TEXT = "VARCHAR"
"""Also of what has no certain columns: JSON stays as its text."""
NESTED = 8
"""Deeper than this, and in what holds itself, JSON stays text."""
NUMBERS = {
    ("integer", "int32"): "INTEGER",
    ("integer", "int64"): "BIGINT",
    ("number", "float"): "DOUBLE",
    ("number", "double"): "DOUBLE",
    ("string", "date"): "DATE",
    ("string", "date-time"): "TIMESTAMPTZ",
}
KINDS = {"integer": "BIGINT", "number": "DOUBLE", "boolean": "BOOLEAN", "string": TEXT}


def columns_of(document: Document, schema: Any) -> dict[str, str]:
    """The properties of an object's schema, with their types."""
    properties: Mapping[str, Any] = document.schema(schema).get("properties") or {}
    return {str(name): type_of(document, inner) for name, inner in properties.items()}


def required_of(document: Document, schema: Any) -> list[str]:
    """The properties that have to be there and cannot be null."""
    whole = document.schema(schema)
    properties: Mapping[str, Any] = whole.get("properties") or {}
    return [
        name
        for name in whole.get("required") or ()
        if name in properties and not may_be_null(document, properties[name])
    ]


def may_be_null(document: Document, schema: Any) -> bool:
    """Whether null fits a schema."""
    found = document.followed(schema)
    kinds = found.get("type")
    if found.get("nullable") is True or kinds == "null" or (isinstance(kinds, list) and "null" in kinds):
        return True
    return any(may_be_null(document, part) for name in ("oneOf", "anyOf") for part in found.get(name) or ())


def type_of(document: Document, schema: Any, inside: frozenset[str] = frozenset(), depth: int = 0) -> str:
    """The type of one value; `inside` has the references that lead to it."""
    met: set[str] = set()
    whole = document.schema(schema, met)
    kind = str(whole.get("type"))
    if depth >= NESTED or met & inside:
        return KINDS.get(kind, TEXT)
    inside |= met
    if kind == "array":
        return f"{type_of(document, whole.get('items', {}), inside, depth + 1)}[]"
    if kind == "object":
        return _struct(document, whole, inside, depth)
    return NUMBERS.get((kind, str(whole.get("format"))), KINDS.get(kind, TEXT))


def _struct(document: Document, whole: Object, inside: frozenset[str], depth: int) -> str:
    properties: Mapping[str, Any] = whole.get("properties") or {}
    if not properties or whole.get("additionalProperties") not in (None, False):
        return TEXT
    types = {str(name): type_of(document, each, inside, depth + 1) for name, each in properties.items()}
    return f"STRUCT({', '.join(f'{name_of(name)} {kind}' for name, kind in types.items())})"


def rows_of(document: Document, schema: Any) -> Any:
    """The schema of a list's elements; None where it is no list of objects."""
    whole = document.schema(schema)
    if whole.get("type") != "array":
        return None
    items = whole.get("items", {})
    return items if document.schema(items).get("properties") else None
