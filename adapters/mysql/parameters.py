"""Puts values in the place of the parameters `$name` in SQL, outside of its texts, names and comments.

The server's text protocol knows no bound values: they become typed constants here, of forms that no quoting mode can open.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal

from pipelines.errors import Invalid

_TOKEN = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|--(?=\s|$)[^\n]*|#[^\n]*|/\*.*?\*/|(?<![\w$@])\$([A-Za-z_]\w*)",
    re.DOTALL,
)


def filled(sql: str, values: Mapping[str, object]) -> str:
    """The statement with a constant for each parameter."""

    def shown(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        if match[1] not in values:
            raise Invalid(f"${match[1]} has no value")
        return literal(values[match[1]])

    return _TOKEN.sub(shown, sql)


def literal(value: object) -> str:
    """A value as a constant."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, (int, float, Decimal)):
        return _number(value)
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, str):
        if "\\" in value or "\0" in value:
            return f"CONVERT(x'{value.encode().hex()}' USING utf8mb4)"
        return text(value)
    return _moment(value)


def text(value: str) -> str:
    """A text in quotes; it must hold no backslash where the server's mode is not known."""
    return "'" + value.replace("'", "''") + "'"


def _number(value: int | float | Decimal) -> str:
    if not math.isfinite(value):
        raise Invalid(f"{value} is no number for MySQL")
    if isinstance(value, float):
        shown = repr(value)
        return f"({shown})" if "e" in shown else f"({shown}e0)"
    return f"({value:f})" if isinstance(value, Decimal) else f"({value})"


def _moment(value: object) -> str:
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        return f"TIMESTAMP'{moment.isoformat(sep=' ')}'"
    if isinstance(value, date):
        return f"DATE'{value.isoformat()}'"
    if isinstance(value, time) and value.tzinfo is None:
        return f"TIME'{value.isoformat()}'"
    raise Invalid(f"a value of type {type(value).__name__} cannot stand in a statement: {value!r:.80}")
