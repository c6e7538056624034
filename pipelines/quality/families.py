"""Types of columns as rules see them: what can be compared with what, what is missing, and values of a flow's text."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Literal

import pyarrow as pa

from pipelines.quality.rules import Rule
from pipelines.sql.literals import literal, name_of

Family = Literal["text", "number", "floating", "boolean", "date", "timestamp", "time", "other"]


def family_of(kind: pa.DataType) -> Family:
    """What can be compared with what."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_floating(kind):
        return "floating"
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_date(kind):
        return "date"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "time" if pa.types.is_time(kind) else "other"


def missing(name: str, schema: pa.Schema) -> str:
    """SQL: whether a column's value is null, or NaN in a floating column."""
    column = name_of(name)
    if family_of(schema.field(name).type) == "floating":
        return f"({column} IS NULL OR isnan({column}))"
    return f"{column} IS NULL"


def comparable(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether values of two types can be equal."""
    numbers, moments = {"number", "floating"}, {"date", "timestamp"}
    families = {family_of(one), family_of(other)}
    return len(families) == 1 or families <= numbers or families <= moments


def typed_literal(rule: Rule, argument: str, value: Any, kind: pa.DataType) -> str:
    """A value of the flow's text in SQL, as a value of a column's type. Invalid where it can never be one."""
    family = family_of(kind)
    right = {"text": "a text, in quotes", "date": "a date such as 2026-01-31", "time": "a time such as 23:59:00"}
    right |= {"timestamp": "a time such as 2026-01-31T12:00:00", "boolean": "true or false"}
    if family == "text" and isinstance(value, str):
        return literal(value)
    if family in ("number", "floating") and not isinstance(value, bool) and _number(value, kind) is not None:
        return literal(_number(value, kind))
    if family == "boolean" and isinstance(value, bool):
        return literal(value)
    if family in ("date", "timestamp") and (moment := _moment(value)) is not None:
        zoned = pa.types.is_timestamp(kind) and kind.tz is not None
        return f"CAST({literal(moment.isoformat(' '))} AS TIMESTAMP{'TZ' if zoned else ''})"
    if family == "time" and isinstance(value, str):
        return f"TRY_CAST({literal(value)} AS TIME)"
    if family == "other":
        return literal(value)
    raise rule.invalid(
        argument,
        f"{argument} has {value!r}, but {rule.subject} is {kind}",
        f"it must be {right.get(family, 'a number')}",
    )


def _number(value: Any, kind: pa.DataType) -> Any:
    """The value where it is a number; for decimals a text of one too, which YAML keeps exact."""
    if isinstance(value, float) and pa.types.is_decimal(kind) and isfinite(value):
        return Decimal(repr(value))
    if isinstance(value, int | float | Decimal):
        return value
    if isinstance(value, str) and pa.types.is_decimal(kind):
        try:
            return Decimal(value)
        except InvalidOperation:
            return None
    return None


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 - a date has no zone
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        from dateutil import parser  # type: ignore[import-untyped]

        try:
            moment: datetime = parser.parse(value)
        except (ValueError, OverflowError):
            return None
        return moment
