"""Makes of an OpenAPI document what a project needs: a connection, and a text of node templates to copy from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.http.openapi.auth import asking
from adapters.http.openapi.document import Document
from adapters.http.openapi.nodes import LeftOut, Template, templates
from pipelines.errors import Invalid
from pipelines.language.yamlrender import entry

MADE = "# Made by `processflow connections import openapi`"
"""What a text of templates begins with: one that does not is somebody's own."""


@dataclass(frozen=True)
class Imported:
    """What an OpenAPI document gives."""

    connection: dict[str, Any]
    nodes: Sequence[Template]
    left_out: Sequence[LeftOut]
    open: Sequence[str]
    """What is left to do for a person."""


def imported(document: Document, name: str, url: str | None = None) -> Imported:
    """The connection called `name` and its nodes; `url` is where the API is, if the document does not say.

    Raises:
        Invalid: nobody says where the API is, or the document describes nothing that can be asked.
    """
    address = url or document.server()
    if address is None:
        raise Invalid(f"{document.path}: names no server with its host; say where the API is: --url https://host/api")
    made = list(templates(document, name))
    if not made:
        raise Invalid(f"{document.path}: has no `paths`, so there is nothing to ask")
    nodes = [each for each in made if isinstance(each, Template)]
    ask = asking(document, name)
    connection: dict[str, Any] = {"adapter": "http", "url": address}
    for field in ("auth", "headers", "query"):
        if value := getattr(ask, field):
            connection[field] = value
    if (path := _tested(nodes)) is not None:
        connection["test_path"] = path
    return Imported(
        connection, nodes, [each for each in made if isinstance(each, LeftOut)], _open(ask.open, connection)
    )


def _tested(nodes: Sequence[Template]) -> str | None:
    """The shortest path that can be asked for as it is."""
    found = [
        each.config["path"] for each in nodes
        if each.config["type"] == "http.get" and "{" not in each.config["path"] and "query" not in each.config
    ]  # fmt: skip
    return min(found, key=len, default=None)


def _open(told: Sequence[str], connection: dict[str, Any]) -> list[str]:
    secrets = re.findall(r"'secret': '(\w+)'", str(connection))
    return [*told, *(f"give secret {name} a value" for name in dict.fromkeys(secrets))]


def written(document: Document, name: str, found: Imported) -> str:
    """The templates as a YAML text with comments."""
    what = " ".join(f"{document.title} {document.version}".split())
    lines = [f"{MADE} of {what}, for the connection {name}.", "# Copy what you need under `nodes:` of a flow."]
    parameters = {key: value for each in found.nodes for key, value in each.parameters.items()}
    if parameters:
        lines += ["# Nodes that name `$parameter` need it in the flow.", *entry("parameters", parameters, open_up=True)]
    lines.append("nodes:")
    for each in found.nodes:
        lines += [f"  {line}".rstrip() for line in _node(each)]
    if found.left_out:
        lines += ["# Left out:", *(f"#   {each.operation}: {each.why}" for each in found.left_out)]
    return "\n".join(lines) + "\n"


def _node(template: Template) -> Iterator[str]:
    yield f"# {template.operation}{f': {template.says}' if template.says else ''}"
    for note in template.notes:
        yield f"# {' '.join(note.split())}"
    yield from entry(template.name, template.config, open_up=True)
