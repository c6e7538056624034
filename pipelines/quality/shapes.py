"""Rules about the columns' names and types, which the schema alone decides: when a flow is checked, and at a run's end."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from pipelines.quality.conditions import bounds_said, shown_values
from pipelines.quality.families import family_of
from pipelines.quality.rules import Rule

SHOWN_NAMES = 40
Shape = tuple[bool, str]
"""Whether a rule is met, and what is against what must be."""


def judge_shape(rule: Rule, schema: pa.Schema) -> Shape:
    """Whether the columns meet a rule, and in words what they are and must be."""
    return SHAPES[rule.name](rule.arguments, schema)


def within(number: float, arguments: Mapping[str, Any]) -> bool:
    """Whether a number lies within the bounds of a rule."""
    low, high = arguments.get("min_value"), arguments.get("max_value")
    least = -math.inf if low is None else float(low)
    most = math.inf if high is None else float(high)
    above = number > least if arguments.get("strict_min") else number >= least
    below = number < most if arguments.get("strict_max") else number <= most
    return above and below


def _exists(arguments: Mapping[str, Any], schema: pa.Schema) -> Shape:
    column, index = arguments["column"], arguments["column_index"]
    met = column in schema.names and index in (None, schema.names.index(column))
    where = "" if index is None else f" at place {index}"
    return met, f"the columns are {shown_values(schema.names, SHOWN_NAMES)}, {column!r} must be one{where}"


def _ordered(arguments: Mapping[str, Any], schema: pa.Schema) -> Shape:
    wanted = list(arguments["column_list"])
    return schema.names == wanted, _names_said(schema, "in this order ", wanted)


def _set(arguments: Mapping[str, Any], schema: pa.Schema) -> Shape:
    wanted, there = set(arguments["column_set"]), set(schema.names)
    if arguments["exact_match"]:
        return wanted == there, _names_said(schema, "just ", sorted(wanted))
    return wanted <= there, _names_said(schema, "among others ", sorted(wanted))


def _names_said(schema: pa.Schema, how: str, wanted: list[str]) -> str:
    have, asked = shown_values(schema.names, SHOWN_NAMES), shown_values(wanted, SHOWN_NAMES)
    return f"the columns are {have}, must be {how}{asked}"


def _count(arguments: Mapping[str, Any], schema: pa.Schema) -> Shape:
    if "value" in arguments:
        met, asked = len(schema) == arguments["value"], str(arguments["value"])
    else:
        met, asked = within(len(schema), arguments), bounds_said(arguments)
    return met, f"there are {len(schema)} columns, must be {asked}"


def _type(arguments: Mapping[str, Any], schema: pa.Schema) -> Shape:
    column = arguments["column"]
    wanted = list(arguments["type_list"]) if "type_list" in arguments else [arguments["type_"]]
    if column not in schema.names:
        return False, f"{column}: is no column, must be {' or '.join(wanted)}"
    kind = schema.field(column).type
    return any(is_type(kind, name) for name in wanted), f"{column}: is {kind}, must be {' or '.join(wanted)}"


SHAPES: Mapping[str, Callable[[Mapping[str, Any], pa.Schema], Shape]] = {
    "expect_column_to_exist": _exists,
    "expect_table_columns_to_match_ordered_list": _ordered,
    "expect_table_columns_to_match_set": _set,
    "expect_table_column_count_to_equal": _count,
    "expect_table_column_count_to_be_between": _count,
    "expect_column_values_to_be_of_type": _type,
    "expect_column_values_to_be_in_type_list": _type,
    "expect_column_type_to_be": _type,
}


def is_type(kind: pa.DataType, name: str) -> bool:
    """Whether a column's type is what a name says: DuckDB's, Arrow's or Python's.

    Python's `int`, `float`, `str` and the bare `decimal` and `timestamp` mean every type of their kind.
    """
    wanted = " ".join(name.lower().split())
    if wanted in NAMED:
        return bool(NAMED[wanted](kind))
    return str(kind).replace(" ", "") in (wanted.replace(" ", ""), _decimal(wanted))


def _decimal(wanted: str) -> str:
    """Arrow's name for DuckDB's `decimal(18, 2)`."""
    return wanted.replace(" ", "").replace("decimal(", "decimal128(").replace("numeric(", "decimal128(")


def _one(kind: pa.DataType) -> Callable[[pa.DataType], bool]:
    return lambda have: bool(have.equals(kind))


def _text(kind: pa.DataType) -> bool:
    return family_of(kind) == "text"


def _zoned(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind)) and kind.tz is not None


NAMED: Mapping[str, Callable[[pa.DataType], bool]] = {
    **dict.fromkeys(("str", "string", "varchar", "text", "char", "object", "large_string"), _text),
    **dict.fromkeys(("int", "integral"), pa.types.is_integer),
    **dict.fromkeys(("float", "floating"), pa.types.is_floating),
    **dict.fromkeys(("bool", "boolean", "bool_", "logical"), pa.types.is_boolean),
    **dict.fromkeys(("decimal", "numeric"), pa.types.is_decimal),
    **dict.fromkeys(("timestamp", "datetime", "datetime64", "datetime64[ns]", "datetime64[us]"), pa.types.is_timestamp),
    **dict.fromkeys(("timestamptz", "timestamp with time zone"), _zoned),
    **dict.fromkeys(("date", "date32"), pa.types.is_date),
    **dict.fromkeys(("time",), pa.types.is_time),
    **dict.fromkeys(("blob", "bytes", "bytea", "binary"), pa.types.is_binary),
    **dict.fromkeys(("list", "array"), pa.types.is_list),
    **dict.fromkeys(("dict", "struct"), pa.types.is_struct),
    **dict.fromkeys(("tinyint", "int8"), _one(pa.int8())),
    **dict.fromkeys(("smallint", "int16"), _one(pa.int16())),
    **dict.fromkeys(("integer", "int4", "int32"), _one(pa.int32())),
    **dict.fromkeys(("bigint", "long", "int64"), _one(pa.int64())),
    **dict.fromkeys(("utinyint", "uint8"), _one(pa.uint8())),
    **dict.fromkeys(("usmallint", "uint16"), _one(pa.uint16())),
    **dict.fromkeys(("uinteger", "uint32"), _one(pa.uint32())),
    **dict.fromkeys(("ubigint", "uint64"), _one(pa.uint64())),
    **dict.fromkeys(("real", "float32", "float4"), _one(pa.float32())),
    **dict.fromkeys(("double", "double precision", "float64", "float8"), _one(pa.float64())),
}
