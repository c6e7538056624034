"""Column types of the data logs as plain data: how a view names them, and what two runs' types have in common.

A type is a DuckDB type's name, or a list: `["list", T]`, `["array", T, n]`, `["map", K, V]`, `["struct", [[name, T], …]]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

Type = Any
"""A type as plain data: a name, or a list as the module's text says."""
Columns = list[list[Any]]
"""A payload's columns in order: `[name, type]` each."""

WHOLE_NUMBERS = {
    "BOOLEAN": 0, "UTINYINT": 3, "TINYINT": 3, "USMALLINT": 5, "SMALLINT": 5,
    "UINTEGER": 10, "INTEGER": 10, "UBIGINT": 20, "BIGINT": 19, "HUGEINT": 38,
}  # fmt: skip
"""Whole numbers by how many decimal digits hold any of them."""
SIGNED = (("TINYINT", 3), ("SMALLINT", 5), ("INTEGER", 10), ("BIGINT", 19), ("HUGEINT", 38))
TIMES = ("DATE", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP", "TIMESTAMP_NS")
ZONED = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")
DECIMAL_DIGITS = 38


def sql_type(kind: Type) -> str:
    """The type as SQL."""
    if isinstance(kind, str):
        return "INTEGER" if kind == "NULL" else kind
    name, *rest = kind
    if name == "list":
        return f"{sql_type(rest[0])}[]"
    if name == "array":
        return f"{sql_type(rest[0])}[{int(rest[1])}]"
    if name == "map":
        return f"MAP({sql_type(rest[0])}, {sql_type(rest[1])})"
    return "STRUCT(" + ", ".join(f"{quoted(field)} {sql_type(of)}" for field, of in rest[0]) + ")"


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def common_type(one: Type, other: Type) -> Type:
    """The type that holds the values of both; text where nothing nearer does."""
    if one == other or other == "NULL":
        return one
    if one == "NULL":
        return other
    if isinstance(one, str) and isinstance(other, str):
        return _common_plain(one, other)
    if isinstance(one, list) and isinstance(other, list):
        return _common_nested(one, other)
    return "VARCHAR"


def common_columns(versions: Sequence[Columns]) -> Columns:
    """The columns of all versions by name, in the order of the first that has them."""
    found: dict[str, list[Any]] = {}
    for columns in versions:
        for name, kind in columns:
            known = found.get(name.lower())
            if known is None:
                found[name.lower()] = [name, kind]
            else:
                known[1] = common_type(known[1], kind)
    return list(found.values())


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names, each unlike the others to SQL, which takes `a` and `A` for one: `a`, `A_1`."""
    taken: set[str] = set()
    given = []
    for name in names:
        free, number = name, 0
        while free.lower() in taken:
            number += 1
            free = f"{name}_{number}"
        taken.add(free.lower())
        given.append(free)
    return given


def _common_nested(one: list[Any], other: list[Any]) -> Type:
    lists = ("list", "array")
    if one[0] in lists and other[0] in lists:
        return ["list", common_type(one[1], other[1])]
    if one[0] == other[0] == "map":
        return ["map", common_type(one[1], other[1]), common_type(one[2], other[2])]
    if one[0] == other[0] == "struct":
        shared = {name.lower() for name, _ in one[1]} & {name.lower() for name, _ in other[1]}
        return ["struct", common_columns([one[1], other[1]])] if shared else "VARCHAR"
    return "VARCHAR"


def _common_plain(one: str, other: str) -> str:
    pair = {one, other}
    for family in (TIMES, (*TIMES, *ZONED)):
        if pair <= set(family):
            return family[max(family.index(one), family.index(other))]
    digits = [_digits(kind) for kind in (one, other)]
    if digits[0] is not None and digits[1] is not None:
        return _common_number(digits[0], digits[1])
    floats = {"FLOAT", "DOUBLE"}
    if pair & floats and all(kind in floats or _digits(kind) for kind in pair):
        return "DOUBLE"
    return "VARCHAR"


def _common_number(one: tuple[int, int], other: tuple[int, int]) -> str:
    """The exact number type for digits before and after the point; DOUBLE where none is wide enough."""
    before, after = max(one[0], other[0]), max(one[1], other[1])
    if after == 0:
        return next((name for name, digits in SIGNED if digits >= before), "DOUBLE")
    return f"DECIMAL({before + after},{after})" if before + after <= DECIMAL_DIGITS else "DOUBLE"


def _digits(kind: str) -> tuple[int, int] | None:
    if kind in WHOLE_NUMBERS and kind != "BOOLEAN":
        return WHOLE_NUMBERS[kind], 0
    found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else None
