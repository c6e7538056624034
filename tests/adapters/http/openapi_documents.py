"""OpenAPI documents for tests: that of the test shop, and small ones around one operation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adapters.http.openapi.document import Document
from adapters.http.openapi.nodes import LeftOut, Template, templates
from tests.parts.shop_api import Shop, api_of

ORDER = {
    "type": "object",
    "required": ["id", "placed"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "number": {"type": "integer", "format": "int32"},
        "placed": {"type": "string", "format": "date-time"},
        "due": {"type": "string", "format": "date", "nullable": True},
        "total": {"type": "number"},
        "paid": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {"$ref": "#/components/schemas/Address"},
    },
}
ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}, "post code": {"type": ["string", "null"]}}}


def shop_document() -> dict[str, Any]:
    """What FastAPI says of the test shop, as it would be downloaded."""
    found: dict[str, Any] = json.loads(json.dumps(api_of(Shop()).openapi()))
    return found


def described(paths: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A document with these paths."""
    components = {"schemas": {"Order": ORDER, "Address": ADDRESS}, **more.pop("components", {})}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Shop", "version": "2"},
        "servers": [{"url": "https://shop.example.org/{stage}/", "variables": {"stage": {"default": "v2"}}}],
        "paths": paths,
        "components": components,
        **more,
    }


def answering(schema: Any, parameters: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    """A get that answers so."""
    content = {"application/json": {"schema": schema}}
    return {"get": {"parameters": parameters or [], "responses": {"200": {"content": content, **more}}}}


def query(name: str, kind: str = "integer", **more: Any) -> dict[str, Any]:
    """A parameter of the query."""
    required = more.pop("required", False)
    return {"name": name, "in": "query", "required": required, "schema": {"type": kind, **more}}


def document(tree: Any) -> Document:
    """The document of a tree."""
    return Document(tree, "shop.json")


def nodes_of(tree: Any) -> dict[str, Template]:
    """The templates of a document, by name."""
    return {each.name: each for each in templates(document(tree), "shop") if isinstance(each, Template)}


def left_out_of(tree: Any) -> list[LeftOut]:
    """What no node could be made of."""
    return [each for each in templates(document(tree), "shop") if isinstance(each, LeftOut)]


def saved(folder: Path, tree: Any) -> Path:
    """The document as a file."""
    path = folder / "openapi.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path
