"""Binds values to the parameters `$name` of a statement, in the forms in which SQLite stores them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal

from pipelines.errors import Invalid
from pipelines.tables.relation import named


def bound(sql: str, values: Mapping[str, object]) -> dict[str, object]:
    """What the statement names, as SQLite stores it: times as ISO 8601 text (with a zone in UTC), decimals as text."""
    names = named(sql)
    missing = [name for name in names if name not in values]
    if missing:
        raise Invalid(f"${missing[0]} has no value")
    return {name: _stored(values[name]) for name in names}


def _stored(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, (date, time)):
        return value.isoformat()
    return (
        str(value)
        if isinstance(value, Decimal) or not isinstance(value, (int, float, str, bytes, type(None)))
        else value
    )
