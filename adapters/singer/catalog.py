"""A tap's catalogue: its streams, what their columns are, and which of them shall be read how.

https://hub.meltano.com/singer/spec and https://github.com/singer-io/getting-started/blob/master/docs/DISCOVERY_MODE.md
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.tables.relation import suggestion

Catalog = Mapping[str, Any]
Stream = Mapping[str, Any]
TIMES = {"date-time": pa.timestamp("us", "UTC"), "date": pa.date32(), "time": pa.time64("us")}
MOST_DIGITS = 38
"""What a decimal of Arrow's 128 bits has."""


def read(text: str, tap: str) -> Catalog:
    """The catalogue that a tap has written.

    Raises:
        Invalid: it is none.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("streams"), list):
        raise Invalid(f"{tap} --discover gives no catalogue of streams; a tap that cannot discover is not served")
    return found


def names(catalog: Catalog) -> list[str]:
    """Its streams, as nodes name them."""
    return [_name(stream) for stream in catalog["streams"]]


def stream_of(catalog: Catalog, name: str) -> Stream:
    """A stream of the catalogue.

    Raises:
        Invalid: there is none of that name.
    """
    for stream in catalog["streams"]:
        if name in (stream.get("tap_stream_id"), stream.get("stream")):
            return dict(stream)
    raise Invalid(f"there is no stream {name!r}; {suggestion(name, names(catalog))}")


def key_of(stream: Stream) -> list[str]:
    """The columns that identify a record."""
    return list(stream.get("key_properties") or _metadata(stream).get("table-key-properties") or [])


def chosen(catalog: Catalog, name: str, replication: str | None, cursor: str | None, columns: Sequence[str]) -> Catalog:
    """The catalogue in which just one stream is selected, with these columns (none named: all), and how it is read."""
    whole = copy.deepcopy(dict(catalog))
    wanted = _name(stream_of(catalog, name))
    for stream in whole["streams"]:
        is_wanted = _name(stream) == wanted
        entries = stream.setdefault("metadata", [])
        root = next((entry for entry in entries if not entry.get("breadcrumb")), None)
        if root is None:
            root = {"breadcrumb": [], "metadata": {}}
            entries.append(root)
        root["metadata"]["selected"] = is_wanted
        if isinstance(stream.get("schema"), dict):
            stream["schema"]["selected"] = is_wanted
        if not is_wanted:
            continue
        if replication is not None:
            stream["replication_method"] = root["metadata"]["replication-method"] = replication
        if cursor is not None:
            stream["replication_key"] = root["metadata"]["replication-key"] = cursor
        if columns:
            _select(entries, stream, {*columns, *key_of(stream), *([cursor] if cursor else [])})
    return whole


def _select(entries: list[Any], stream: Mapping[str, Any], wanted: set[str]) -> None:
    """Asks for these columns alone; those that the tap always gives come anyway."""
    by_place = {tuple(entry.get("breadcrumb") or ()): entry for entry in entries}
    for name in stream["schema"].get("properties", {}):
        place = ("properties", name)
        entry = by_place.get(place)
        if entry is None:
            entry = {"breadcrumb": list(place), "metadata": {}}
            entries.append(entry)
        entry["metadata"]["selected"] = name in wanted


def columns_of(stream: Stream) -> pa.Schema:
    """The columns of a stream's records, of the types that its JSON Schema tells."""
    properties = (stream.get("schema") or {}).get("properties") or {}
    return pa.schema([(name, arrow_type(kind)) for name, kind in properties.items()])


def arrow_type(kind: Any) -> pa.DataType:
    """The type of what a JSON Schema describes; text, as it stands, where it may be of several.

    A number is a double unless `multipleOf` tells its decimal places: then it is a decimal of them.
    """
    kind = kind if isinstance(kind, dict) else {}
    choices = [choice for choice in kind.get("anyOf") or kind.get("oneOf") or () if choice != {"type": "null"}]
    if choices:
        found = {arrow_type(choice) for choice in choices}
        return found.pop() if len(found) == 1 else pa.string()
    words = kind.get("type", [])
    types = [word for word in ([words] if isinstance(words, str) else words) if word != "null"]
    if len(types) != 1:
        return pa.float64() if set(types) == {"integer", "number"} else pa.string()
    match types[0]:
        case "integer":
            return pa.int64()
        case "number":
            return _number(kind.get("multipleOf"))
        case "boolean":
            return pa.bool_()
        case "string":
            return TIMES.get(kind.get("format", ""), pa.string())
        case "array":
            return pa.list_(arrow_type(kind.get("items")))
        case "object" if kind.get("properties"):
            return pa.struct([(name, arrow_type(inner)) for name, inner in kind["properties"].items()])
        case _:
            return pa.string()


def _number(step: Any) -> pa.DataType:
    if not isinstance(step, (int, float)) or not 0 < step <= 1:
        return pa.float64()
    places = round(-math.log10(step))
    is_decimal = math.isclose(step, 10.0**-places, rel_tol=1e-9)
    return pa.decimal128(MOST_DIGITS, places) if is_decimal and places < MOST_DIGITS else pa.float64()


def _name(stream: Stream) -> str:
    return str(stream.get("tap_stream_id") or stream.get("stream"))


def _metadata(stream: Stream) -> Mapping[str, Any]:
    entries = stream.get("metadata") or []
    return next((entry.get("metadata") or {} for entry in entries if not entry.get("breadcrumb")), {})
