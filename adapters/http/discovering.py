"""Lists an API's endpoints: as its OpenAPI document tells them, or as a sample of its answer shows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from adapters.http import loop
from adapters.http.client import Answer, Request, client
from adapters.http.connection import Connection
from adapters.http.openapi.document import Document
from adapters.http.openapi.nodes import LeftOut, Template, templates
from adapters.http.records import declared_types, inferred
from adapters.http.retrying import said_of
from adapters.http.templates import address
from pipelines.environment import Found
from pipelines.errors import Invalid
from pipelines.scope import Scope

SAMPLE_ROWS = 100
"""So many records tell the columns of a sample."""


def discovered(connection: Connection, scope: Scope) -> Sequence[Found]:
    """What the API's document describes; without one, what `test_path` answers."""
    if connection.openapi is None:
        return [_sampled(connection, scope)]
    found = templates(Document.load(scope.path(connection.openapi)), "")
    return [each for made in found if (each := _described(made)) is not None]


def _described(made: Template | LeftOut) -> Found | None:
    if isinstance(made, LeftOut):
        return Found(made.operation, "endpoint", None, f"left out: {made.why}")
    if made.config["type"] == "http.post":
        return Found(made.operation, "endpoint", _schema(made.takes), made.says)
    if made.config["type"] == "http.get":
        return Found(made.operation, "endpoint", _schema(made.config.get("columns", {})), made.says)
    return None


def _schema(columns: Mapping[str, str]) -> pa.Schema | None:
    return pa.schema(list(declared_types(columns).items())) if columns else None


def _sampled(connection: Connection, scope: Scope) -> Found:
    url = address(connection.address, connection.test_path, {})

    def read(answer: Answer) -> Answer:
        """Here, where what it says is cleaned of secrets."""
        if answer.status >= 400:
            fix = "set `test_path` to a path that answers with records, or `openapi` to the API's document"
            raise Invalid(f"{said_of('GET', answer)}; {fix}")
        return answer

    async def asked() -> Answer:
        request = Request("GET", url, {"Accept": "application/json"})
        return await client(connection, scope).ask(request, read)

    answer = loop.run(asked())
    name = f"GET /{connection.test_path.lstrip('/')}"
    try:
        document = json.loads(answer.body)
    except ValueError:
        kind = answer.headers.get("Content-Type", "without a content type")
        return Found(name, "endpoint", None, f"answers no JSON ({kind}): give `format` and `columns`")
    place, records = _records(document)
    if not records:
        return Found(name, "endpoint", None, "answers without records, so their columns are not known")
    return Found(name, "endpoint", inferred(records[:SAMPLE_ROWS], None), f"records: {place}" if place else "")


def _records(document: Any) -> tuple[str, list[Any]]:
    """Where in an answer records stand: the answer itself, its one list of objects, or the answer as a record."""
    if isinstance(document, list):
        return "", [each for each in document if isinstance(each, dict)]
    lists = {name: each for name, each in document.items() if _is_list(each)} if isinstance(document, dict) else {}
    if len(lists) == 1:
        return next(iter(lists.items()))
    return ("@", [document]) if isinstance(document, dict) and document else ("", [])


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
