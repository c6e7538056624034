"""Finds the parameters `$name` in PostgreSQL's SQL, outside of its texts, names and comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.errors import Invalid

if TYPE_CHECKING:
    from psycopg import Connection

_TOKEN = re.compile(
    r"(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/"
    r"|(?<![\w$])(\$(?:[A-Za-z_]\w*)?\$).*?\1|(?<![\w$])\$([A-Za-z_]\w*)",
    re.DOTALL,
)


def placed(sql: str, shown: Callable[[str], str]) -> str:
    """The statement with what `shown` gives in the place of each parameter."""
    return _TOKEN.sub(lambda match: shown(match[2]) if match[2] else match[0], sql)


def numbered(sql: str, values: Mapping[str, object]) -> tuple[str, list[object]]:
    """The statement with `$1`, `$2`, … for its parameters, and what they are bound to."""
    names: list[str] = []

    def number(name: str) -> str:
        if name not in values:
            raise Invalid(f"${name} has no value")
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    text = placed(sql, number)
    return text, [values[name] for name in names]


def literal(sql: str, values: Mapping[str, object], connection: Connection[Any]) -> str:
    """The statement with each value as a literal that the driver has quoted: COPY takes no bound values."""
    from psycopg import sql as words

    def shown(name: str) -> str:
        if name not in values:
            raise Invalid(f"${name} has no value")
        return f" {words.Literal(values[name]).as_string(connection)} "

    return placed(sql, shown)
