"""Where an answer holds its records, and how its pages are asked for, as far as an OpenAPI document says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adapters.http.openapi.document import Document, Object, Operation
from adapters.http.openapi.types import rows_of

HOLDERS = ("", "meta", "links", "paging", "pagination", "page", "page_info", "pageInfo", "_links")
"""Where else than in the answer itself it is looked for."""
NEXT_ADDRESSES = ("next", "next_url", "nextUrl", "next_link", "nextLink", "next_page_url", "@odata.nextLink")
NEXT_CURSORS = (
    "next_cursor",
    "nextCursor",
    "next_page_token",
    "nextPageToken",
    "cursor",
    "next",
    "after",
    "end_cursor",
)
CURSORS = ("cursor", "after", "page_token", "pageToken", "next_token", "continuation_token")
OFFSETS = ("offset", "skip")
PAGES = ("page", "page_no", "page_number", "pageNumber")
SIZES = ("limit", "per_page", "perPage", "page_size", "pageSize", "size", "count")
TOTALS = ("total", "total_count", "totalCount", "total_items", "totalItems")


def records_in(document: Document, schema: Any) -> tuple[str | None, Any, str]:
    """Where the records stand, their schema, and what is uncertain about it."""
    if "type" not in document.schema(schema):
        return None, None, "the document does not say what is answered: set `records` and `columns`"
    rows = rows_of(document, schema)
    whole = document.schema(schema)
    if rows is not None or whole.get("type") == "array":
        return None, rows, "" if rows is not None else "the document does not say what columns the records have"
    lists = dict(_lists(document, whole))
    if not lists:
        return "@", schema, ""
    place = next(iter(lists))
    note = f"the answer has several lists: {', '.join(lists)}; `records` names the first" if len(lists) > 1 else ""
    return place, lists[place], note


def _lists(document: Document, whole: Object) -> Iterator[tuple[str, Any]]:
    """The lists of objects in an answer and, one step deeper, in what it holds."""
    properties: Mapping[str, Any] = whole.get("properties") or {}
    paged = len(properties) <= 1 or any(
        name in properties for name in (*HOLDERS[1:], *NEXT_ADDRESSES, *NEXT_CURSORS, *TOTALS)
    )
    for name, inner in properties.items():
        rows = rows_of(document, inner)
        if rows is not None and (paged or _only_list(document, properties)):
            yield _step(name), rows


def _only_list(document: Document, properties: Mapping[str, Any]) -> bool:
    """Whether all beside one list are plain values that tell of it, and none a field of a record called `id`."""
    return "id" not in properties and sum(rows_of(document, each) is not None for each in properties.values()) == 1


def paging_of(document: Document, operation: Operation, schema: Any) -> dict[str, Any] | None:
    """How the next page is asked for; None where the document does not say."""
    asked = {str(each.get("name")): document.schema(each.get("schema", {})) for each in operation.placed("query")}
    fields = dict(_fields(document, schema))
    size = _size(asked)
    total = next(
        (place for place, each in fields.items() if _last(place) in TOTALS and each.get("type") == "integer"), None
    )
    told = {"total": total} if total else {}
    if any(str(name).lower() == "link" for name in document.answer(operation).get("headers") or ()):
        return {"by": "link", **size}
    for there, each in fields.items():
        if _last(there) in NEXT_ADDRESSES and str(each.get("format", "")).startswith(("uri", "iri")):
            return {"by": "next", "from": there, **size}
    cursor = next((name for name in CURSORS if name in asked), None)
    place = next((place for place, each in fields.items() if _last(place) in NEXT_CURSORS and _is_plain(each)), None)
    if cursor and place:
        return {"by": "cursor", "parameter": cursor, "from": place, **size}
    offset = next((name for name in OFFSETS if asked.get(name, {}).get("type") == "integer"), None)
    if offset:
        return {"by": "offset", "parameter": offset, **size, **(told if "size" in size else {})}
    page = next((name for name in PAGES if asked.get(name, {}).get("type") == "integer"), None)
    if page:
        first = asked[page].get("minimum", asked[page].get("default", 1))
        return {"by": "page", "parameter": page, **size, **({"first": 0} if first == 0 else {}), **told}
    return None


def _size(asked: Mapping[str, Object]) -> dict[str, Any]:
    for name in SIZES:
        schema = asked.get(name, {})
        most = schema.get("maximum", schema.get("default"))
        if schema.get("type") == "integer" and isinstance(most, int) and most >= 1:
            return {"size_parameter": name, "size": most}
    return {}


def _fields(document: Document, schema: Any) -> Iterator[tuple[str, Object]]:
    """The plain fields of an answer beside its records, by their place."""
    properties: Mapping[str, Any] = document.schema(schema).get("properties") or {}
    for holder in HOLDERS:
        inner = properties if not holder else document.schema(properties.get(holder, {})).get("properties") or {}
        for name, each in inner.items():
            yield f"{_step(holder)}.{_step(name)}" if holder else _step(name), document.schema(each)


def _is_plain(schema: Object) -> bool:
    return schema.get("type") in ("string", "integer")


def _step(name: str) -> str:
    """A name as a step of JMESPath."""
    return name if name.isidentifier() and name.isascii() else '"' + name.replace('"', '\\"') + '"'


def _last(place: str) -> str:
    return place.rpartition('."')[2].strip('"') if place.endswith('"') else place.rpartition(".")[2]
