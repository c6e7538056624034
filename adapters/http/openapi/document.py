"""Reads an OpenAPI 3 document: references are followed, `allOf` is taken together, operations come with all that holds for them.

The rules are those of https://spec.openapis.org/oas/v3.1.1.html and v3.0.4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.errors import Invalid
from pipelines.language import yamltext

METHODS = ("get", "post", "put", "patch", "delete")
JSON_TYPES = ("application/json", "+json", "text/json", "*/*")
DEPTH = 32
"""So deep references and `allOf` may be nested."""
FORMS: dict[str, type | tuple[type, ...]] = {"properties": Mapping, "required": list, "type": (str, list), "enum": list}
"""What has another form in a schema is taken as not written."""
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Operation:
    """Something that can be asked of the API."""

    method: str
    path: str
    node: Object
    """The operation as it is written."""
    parameters: Sequence[Object]
    """All that hold for it, references followed."""
    security: Sequence[Object]

    @property
    def told(self) -> str:
        """As messages name it: `GET /orders`."""
        return f"{self.method.upper()} {self.path}"

    def placed(self, place: str) -> list[Object]:
        """Its parameters in the `path`, `query` or `header`."""
        return [each for each in self.parameters if each.get("in") == place]


class Document:
    """An OpenAPI 3 document."""

    def __init__(self, tree: Any, path: str) -> None:
        self.path = path
        if not isinstance(tree, Mapping):
            raise Invalid(f"{path}: is no OpenAPI document: it has no fields; it begins with `openapi: 3.`")
        version = tree.get("openapi")
        if version is None and str(tree.get("swagger", "")).startswith("2"):
            raise Invalid(f"{path}: is Swagger 2.0; convert it to OpenAPI 3 first, for example with swagger2openapi")
        if not isinstance(version, str | float | int) or not str(version).startswith("3."):
            raise Invalid(
                f"{path}: `openapi` is {version!r}; what can be imported is OpenAPI 3, such as 3.0.3 or 3.1.0"
            )
        self.tree = tree

    @classmethod
    def load(cls, path: Path) -> Document:
        """The document of a file in JSON or YAML.

        Raises:
            Invalid: it is no file, no text, or no OpenAPI 3.
        """
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as fault:
            raise Invalid(f"{path}: cannot be read: {fault.strerror}") from fault
        except UnicodeDecodeError as fault:
            raise Invalid(f"{path}: is no text in UTF-8") from fault
        if text.lstrip()[:1] != "{":
            return cls(yamltext.parse(text, str(path)).value, str(path))
        try:
            return cls(json.loads(text), str(path))
        except (ValueError, RecursionError) as fault:
            raise Invalid(f"{path}: is no JSON: {fault}") from fault

    @property
    def title(self) -> str:
        """What the API is called."""
        return str(_mapping(self.tree.get("info")).get("title") or Path(self.path).stem)

    @property
    def version(self) -> str:
        """The API's version, empty where it has none."""
        return str(_mapping(self.tree.get("info")).get("version") or "")

    def server(self) -> str | None:
        """The address of the first server, its variables as their defaults; None where it has no host."""
        servers = [_mapping(each) for each in _list(self.tree.get("servers"))]
        if not servers:
            return None
        address = str(servers[0].get("url", ""))
        for name, variable in _mapping(servers[0].get("variables")).items():
            address = address.replace("{" + name + "}", str(_mapping(variable).get("default", "")))
        place = urlsplit(address)
        return address.rstrip("/") if place.scheme in ("http", "https") and place.hostname else None

    def operations(self) -> Iterator[Operation]:
        """What can be asked, in the document's order."""
        for path, written in _mapping(self.tree.get("paths")).items():
            item = self.followed(written)
            for method in METHODS:
                node = item.get(method)
                if not isinstance(node, Mapping):
                    continue
                known = [
                    self.followed(each) for each in [*_list(item.get("parameters")), *_list(node.get("parameters"))]
                ]
                parameters = {(str(each.get("in")), str(each.get("name"))): each for each in known if "name" in each}
                security = _list(node["security"] if "security" in node else self.tree.get("security"))
                yield Operation(
                    method, str(path), node, tuple(parameters.values()), [_mapping(one) for one in security]
                )

    def followed(self, value: Any, met: set[str] | None = None) -> Object:
        """What a value stands for: itself, or what its `$ref` points to, with what is written beside it.

        The references go into `met`.
        """
        found = _mapping(value)
        for _ in range(DEPTH):
            if "$ref" not in found:
                return found
            if met is not None:
                met.add(str(found["$ref"]))
            beside = {name: inner for name, inner in found.items() if name != "$ref"}
            found = {**_mapping(self._at(str(found["$ref"]))), **beside}
        raise Invalid(f"{self.path}: {found['$ref']!r} points to itself")

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise Invalid(
                f"{self.path}: $ref {reference!r} points to another document; make one document of them first, "
                "for example with `redocly bundle`"
            )
        found: Any = self.tree
        for step in reference.removeprefix("#").split("/")[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            elif isinstance(found, Mapping) and name in found:
                found = found[name]
            else:
                raise Invalid(f"{self.path}: $ref {reference!r} points to nothing: there is no {name!r}")
        return found

    def schema(self, value: Any, met: set[str] | None = None, depth: int = 0) -> Object:
        """A schema with references followed, and `allOf`, `oneOf` and `anyOf` taken together as far as they go together."""
        found = self.followed(value, met)
        if depth > DEPTH:
            return {}
        whole = {name: inner for name, inner in found.items() if name not in ("allOf", "oneOf", "anyOf")}
        whole = {name: inner for name, inner in whole.items() if name not in FORMS or isinstance(inner, FORMS[name])}
        whole |= {name: _texts(whole[name]) for name in ("required", "type") if isinstance(whole.get(name), list)}
        for part in _list(found.get("allOf")):
            whole = _both(whole, self.schema(part, met, depth + 1))
        for choice in ("oneOf", "anyOf"):
            parts = [self.schema(part, met, depth + 1) for part in _list(found.get(choice))]
            parts = [part for part in parts if part.get("type") != "null"]
            if parts:
                whole = _both(whole, self._either(parts))
        kinds = [kind for kind in _list(whole.get("type")) if kind != "null"]
        if isinstance(whole.get("type"), list):
            whole["type"] = kinds[0] if len(kinds) == 1 else None
        if whole.get("type") is None and "properties" in whole:
            whole["type"] = "object"
        return whole

    def _either(self, parts: Sequence[Object]) -> dict[str, Any]:
        """A schema that any of several would fit, as far as it can be said in columns."""
        if len(parts) == 1:
            return dict(parts[0])
        kinds = {str(part.get("type")) for part in parts}
        if kinds <= {"integer", "number"}:
            return {"type": "number"}
        if kinds != {"object"}:
            alike = len({(part.get("type"), part.get("format")) for part in parts}) == 1
            return (
                {"type": parts[0].get("type"), "format": parts[0].get("format")}
                if alike and "array" not in kinds
                else {}
            )
        properties: dict[str, Any] = {}
        for part in parts:
            for name, inner in _mapping(part.get("properties")).items():
                same = name not in properties or self.schema(properties[name]) == self.schema(inner)
                properties[name] = inner if same else {}
        required = set.intersection(*(set(_list(part.get("required"))) for part in parts))
        return {"type": "object", "properties": properties, "required": sorted(required)}

    def content(self, holder: Any) -> tuple[Any, list[str]]:
        """The schema of what a request or answer holds in JSON, None where it has none, and the content types it has."""
        kinds = _mapping(self.followed(holder).get("content"))
        for name, media in kinds.items():
            if str(name).split(";")[0].strip().endswith(JSON_TYPES):
                return _mapping(media).get("schema", {}), list(kinds)
        return None, list(kinds)

    def answer(self, operation: Operation) -> Object:
        """What is answered where all went well."""
        answers = _mapping(operation.node.get("responses"))
        good = [code for code in answers if str(code).upper().startswith("2")] or [
            code for code in answers if str(code) == "default"
        ]
        return self.followed(answers[min(good, key=str)]) if good else {}


def _both(one: Object, other: Object) -> dict[str, Any]:
    """What has to fit two schemas."""
    properties = {**_mapping(other.get("properties")), **_mapping(one.get("properties"))}
    required = [*_list(one.get("required")), *_list(other.get("required"))]
    whole = {**other, **one}
    if properties:
        whole["properties"] = properties
    if required:
        whole["required"] = list(dict.fromkeys(required))
    return whole


def _mapping(value: Any) -> Object:
    return value if isinstance(value, Mapping) else {}


def _texts(value: list[Any]) -> list[str]:
    return [each for each in value if isinstance(each, str)]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
