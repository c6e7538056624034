"""Types of JSON lines, inferred from the head of a file.

Whole numbers are BIGINT, or DECIMAL(38,0) beyond 64 bits; texts that all read as dates or times in ISO 8601 are those;
objects and lists are nested types. Values of several kinds, and objects that use keys as data, are text holding JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa

from adapters.file.infer import BIG_INTEGER, TIMESTAMP, TIMESTAMP_UTC

MOST_KEYS = 1_000
MOST_DEPTH = 30
DATE = re.compile(r"\d{4}-[01]\d-[0-3]\d")
TIME = re.compile(r"\d{4}-[01]\d-[0-3]\d[T ][0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,6})?(Z|[+-]\d\d(:?\d\d)?)?")


def infer(lines: Iterable[bytes], declared: Collection[str] = ()) -> dict[str, pa.DataType]:
    """The type of each key of the records in some lines; null where no line has a value, or the type is declared."""
    found: dict[str, pa.DataType] = {}
    for line in lines:  # a bounded sample
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            for name, value in record.items():
                kind = pa.null() if name in declared else kind_of(value, 1)
                found[name] = common(found[name], kind) if name in found else kind
    return found


def kind_of(value: Any, depth: int) -> pa.DataType:
    """The type of one JSON value."""
    if value is None:
        return pa.null()
    if isinstance(value, bool):
        return pa.bool_()
    if isinstance(value, int):
        return _whole(value)
    if isinstance(value, float):
        return pa.float64()
    if isinstance(value, str):
        return _text(value)
    if depth > MOST_DEPTH:
        return pa.string()
    if isinstance(value, list):
        return pa.list_(reduce(common, (kind_of(item, depth + 1) for item in value), pa.null()))
    return _object(value, depth)


def _whole(value: int) -> pa.DataType:
    if -(1 << 63) <= value < 1 << 63:
        return pa.int64()
    return BIG_INTEGER if len(str(abs(value))) <= 38 else pa.string()


def _text(value: str) -> pa.DataType:
    if DATE.fullmatch(value):
        return pa.date32()
    time = TIME.fullmatch(value)
    if time is None:
        return pa.string()
    return TIMESTAMP_UTC if time[2] else TIMESTAMP


def _object(value: Mapping[str, Any], depth: int) -> pa.DataType:
    folded = {name.casefold() for name in value}
    if not value or "" in value or len(folded) < len(value) or len(value) > MOST_KEYS:
        return pa.string()
    return pa.struct([pa.field(name, kind_of(item, depth + 1)) for name, item in value.items()])


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds both."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _united(one, other)
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(common(one.value_type, other.value_type))
    families = {_family(one), _family(other)}
    if families == {"whole"}:
        return BIG_INTEGER
    if families <= {"whole", "number"}:
        return pa.float64()
    return TIMESTAMP if families <= {"date", "time"} else pa.string()


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "number"
    if pa.types.is_date(kind):
        return "date"
    return "time" if pa.types.is_timestamp(kind) and kind.tz is None else "other"


def _united(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    kinds = {each.name: each.type for each in one}
    for each in other:
        kinds[each.name] = common(kinds[each.name], each.type) if each.name in kinds else each.type
    if len({name.casefold() for name in kinds}) < len(kinds) or len(kinds) > MOST_KEYS:
        return pa.string()
    return pa.struct([pa.field(name, kind) for name, kind in kinds.items()])


def twins(names: Sequence[str]) -> list[str]:
    """Names that are empty or differ only in case from another."""
    folded = [name.casefold() for name in names]
    return sorted(name for name in names if not name or folded.count(name.casefold()) > 1)
