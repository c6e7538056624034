"""What stands in braces in paths and queries, and `$names` in bodies: values of a record or of the run, each written once and for all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from pipelines.errors import Invalid

PLACE = re.compile(r"\{([A-Za-z_][\w.]*)\}")
NAME = re.compile(r"\$([A-Za-z_]\w*)")
PATH_SIGNS = "/?:@!$&'()*+,;=~%"
"""Signs that a path may have as they are."""
Query = Mapping[str, Any]


class Missing(Exception):
    """A value that an address needs is not there."""


def places(text: Any) -> Iterator[str]:
    """The names in braces of a text, or of all texts in a value."""
    if isinstance(text, str):
        yield from (match[1] for match in PLACE.finditer(text))
    elif isinstance(text, Mapping):
        for value in text.values():
            yield from places(value)
    elif isinstance(text, list):
        for value in text:
            yield from places(value)


def filled_path(text: str, values: Mapping[str, Any]) -> str:
    """The path with its places filled, each value as one step of it: a `/` in it is no step."""

    def value(match: re.Match[str]) -> str:
        found = written(_found(match[1], values))
        if found in ("", ".", ".."):
            raise Missing(f"{match[1]} is {found!r}, which is no step of a path")
        return quote(found, safe="")

    parts = re.split(r"(\{[A-Za-z_][\w.]*\})", text)
    matches = [PLACE.fullmatch(part) for part in parts]
    return "".join(
        value(match) if match else quote(part, safe=PATH_SIGNS) for part, match in zip(parts, matches, strict=True)
    )


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """A value of a query or body with its places filled. A text that is one place, or one `$name`, is that value itself."""
    if isinstance(value, Mapping):
        return {name: filled(inner, values) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, values) for inner in value]
    if not isinstance(value, str):
        return value
    alone = PLACE.fullmatch(value) or NAME.fullmatch(value)
    if alone is not None:
        return _found(alone[1], values, may_be_null=True)
    return PLACE.sub(lambda match: written(_found(match[1], values)), value)


def _found(name: str, values: Mapping[str, Any], *, may_be_null: bool = False) -> Any:
    if name not in values:
        raise Invalid(
            f"{{{name}}} is no column, parameter or variable; there are: {', '.join(sorted(values)) or 'none'}"
        )
    value = values[name]
    if value is None and not may_be_null:
        raise Missing(f"{name} is null, and the address needs it")
    return value


def written(value: Any) -> str:
    """A value as text in an address: times in ISO 8601, decimals in plain digits."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value)


def query_of(query: Query) -> str:
    """The parameters as they stand behind the `?`: a list gives its name again and again, null leaves it out."""
    pairs = [
        (name, each)
        for name, value in query.items()
        for each in (value if isinstance(value, list | tuple) else [value])
        if each is not None
    ]
    return "&".join(f"{quote(name, safe='[]$.')}={quote(written(each), safe='')}" for name, each in pairs)


def address(base: str, path: str, query: Query) -> str:
    """The whole address."""
    place = f"{base}/{path.lstrip('/')}" if path.strip("/") else base
    if path.endswith("/") and not place.endswith("/"):
        place += "/"
    text = query_of(query)
    if not text:
        return place
    return f"{place}{'&' if '?' in place else '?'}{text}"
