"""Values as typed constants of DuckDB's SQL, so that an expression with parameters is planned like one without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import singledispatch
from uuid import UUID

from pipelines.errors import Invalid


@singledispatch
def literal(value: object) -> str:
    """The value as SQL; its type is the same whatever the value: a whole number is a BIGINT, never a TINYINT."""
    raise Invalid(f"a value of type {type(value).__name__} cannot stand in an expression: {value!r:.80}")


@literal.register
def _(value: None) -> str:
    return "NULL"


@literal.register
def _(value: str) -> str:
    if "\0" in value:
        return f"decode(from_hex({quoted(value.encode().hex())}))"
    return quoted(value)


@literal.register
def _(value: bool) -> str:
    return "true" if value else "false"


@literal.register
def _(value: int) -> str:
    return cast(str(value), "BIGINT" if -(1 << 63) <= value < 1 << 63 else "HUGEINT")


@literal.register
def _(value: float) -> str:
    return cast(repr(value), "DOUBLE")


@literal.register
def _(value: Decimal) -> str:
    if not value.is_finite():
        return cast(str(value), "DOUBLE")
    _sign, digits, exponent = value.as_tuple()
    scale = max(0, -int(exponent))
    width = max(len(digits) + max(0, int(exponent)), scale, 1)
    return cast(f"{value:f}", f"DECIMAL({min(width, 38)}, {scale})")


@literal.register
def _(value: datetime) -> str:
    if value.tzinfo is None:
        return cast(value.isoformat(sep=" "), "TIMESTAMP")
    return cast(value.astimezone(UTC).isoformat(sep=" "), "TIMESTAMPTZ")


@literal.register
def _(value: date) -> str:
    return cast(value.isoformat(), "DATE")


@literal.register
def _(value: time) -> str:
    return cast(value.isoformat(), "TIME" if value.tzinfo is None else "TIMETZ")


@literal.register
def _(value: timedelta) -> str:
    whole = value // timedelta(microseconds=1)
    return f"to_microseconds({literal(whole)})"


@literal.register
def _(value: UUID) -> str:
    return cast(str(value), "UUID")


@literal.register
def _(value: bytes) -> str:
    return f"from_hex({quoted(value.hex())})"


@literal.register(Sequence)
def _(value: Sequence[object]) -> str:
    return f"[{', '.join(literal(item) for item in value)}]"


@literal.register(Mapping)
def _(value: Mapping[str, object]) -> str:
    if not value:
        return "NULL"
    return "struct_pack(" + ", ".join(f"{name_of(key)} := {literal(item)}" for key, item in value.items()) + ")"


def quoted(text: str) -> str:
    """A text in quotes."""
    return "'" + text.replace("'", "''") + "'"


def name_of(name: str) -> str:
    """A column's name in quotes."""
    return '"' + str(name).replace('"', '""') + '"'


def cast(text: str, kind: str) -> str:
    return f"CAST({quoted(text)} AS {kind})"
