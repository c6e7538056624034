"""Columns that a node declares: their values brought to the declared type, and those that cannot be named.

A value that would lose something is not brought over: `1.5` is no integer, `1.234` no `decimal(9, 2)`, a time of day no
date. White space around numbers and dates is no loss, nor is `12.0` as an integer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipelines.errors import Invalid, Problem
from pipelines.quality.families import family_of, missing
from pipelines.quality.rules import At, close_to
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox

INTEGERS = {
    pa.int8(): "TINYINT", pa.int16(): "SMALLINT", pa.int32(): "INTEGER", pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT", pa.uint16(): "USMALLINT", pa.uint32(): "UINTEGER", pa.uint64(): "UBIGINT",
}  # fmt: skip

PLAIN_TEXT = re.compile(r"\s*(?:varchar|string|text|char|bpchar)\s*(?:\(\s*(\d+)\s*\))?\s*", re.IGNORECASE)
"""Types that any text has, and the most characters where they are given. Others that Arrow holds as text (uuid, json,
enums) take only some."""


@dataclass(frozen=True)
class Declared:
    """What is asked of one column."""

    type: str | None = None
    """A DuckDB type; None: as it comes."""
    required: bool = False
    at: At = ()


@dataclass(frozen=True)
class Conversion:
    """How one column gets its declared type, in SQL over the column as it comes."""

    name: str
    value: str
    wrong: str
    """Whether a value that is there cannot be brought over."""
    type: str
    kind: pa.DataType


def most_characters(text: str) -> str | None:
    """The 3 of `varchar(3)`, which DuckDB itself does not heed."""
    found = PLAIN_TEXT.fullmatch(text)
    return found[1] if found else None


def arrow_type(text: str, sandbox: Sandbox) -> pa.DataType:
    """The Arrow type of a DuckDB type's name. Invalid where there is no such type."""
    depths = [text[: end + 1].count("(") - text[: end + 1].count(")") for end in range(len(text))]
    if not text.strip() or min(depths) < 0 or depths[-1] != 0 or ";" in text:
        raise Invalid(f"{text!r} is no type")
    try:
        return sandbox.prepare(f"CAST(NULL AS {text}) AS x", pa.schema([])).schema.field(0).type
    except duckdb.Error as fault:
        raise Invalid(f"{text!r} is no DuckDB type") from fault


def conversions(declared: Mapping[str, Declared], schema: pa.Schema, sandbox: Sandbox) -> list[Conversion]:
    """The conversions that are needed; columns that have their declared type need none.

    Raises:
        Invalid: for columns that do not come in and types that are none, all of them at once.
    """
    problems: list[Problem] = []
    found: list[Conversion] = []
    for name, wish in declared.items():
        if name not in schema.names:
            problems.append(Problem("", 0, 0, f"no column is called {name!r}", close_to(name, schema.names), wish.at))
            continue
        if wish.type is None:
            continue
        try:
            kind = arrow_type(wish.type, sandbox)
        except Invalid as invalid:
            fix = "write one such as integer, decimal(18, 2), varchar, date or timestamp"
            problems.append(Problem("", 0, 0, str(invalid), fix, wish.at))
            continue
        have = schema.field(name).type
        plain = PLAIN_TEXT.fullmatch(wish.type)
        if (plain and not plain[1] and family_of(have) == "text") or (have.equals(kind) and family_of(kind) != "text"):
            continue
        found.append(_conversion(name, wish.type, have, kind))
    if problems:
        raise Invalid(problems)
    return found


def converted_schema(schema: pa.Schema, found: list[Conversion]) -> pa.Schema:
    """The columns with their declared types."""
    for each in found:
        schema = schema.set(schema.get_field_index(each.name), pa.field(each.name, each.kind))
    return schema


def required(declared: Mapping[str, Declared], schema: pa.Schema) -> dict[str, str]:
    """SQL per required column: whether its value is missing."""
    return {name: missing(name, schema) for name, wish in declared.items() if wish.required and name in schema.names}


def _conversion(name: str, wanted: str, have: pa.DataType, kind: pa.DataType) -> Conversion:
    column = name_of(name)
    value = f"TRY_CAST({column} AS {wanted})"
    if family_of(have) == "text":
        text = column if not pa.types.is_dictionary(have) else f"CAST({column} AS VARCHAR)"
        value = f"TRY_CAST({text} AS {wanted})"
        exact = _text_exact(text, wanted, kind)
    else:
        exact = _value_exact(column, value, wanted, have, kind)
    sound = f"{value} IS NOT NULL" + (f" AND {exact}" if exact else "")
    wrong = f"({column} IS NOT NULL AND NOT coalesce({sound}, false))"
    return Conversion(name, f"CASE WHEN {wrong} THEN NULL ELSE {value} END", wrong, wanted, kind)


def _text_exact(text: str, wanted: str, kind: pa.DataType) -> str:
    """SQL: whether a text says exactly a value of the type, where DuckDB's cast would round or cut."""
    if pa.types.is_integer(kind):
        return f"regexp_full_match(trim({text}), '[+-]?[0-9]+(\\.0*)?')"
    if pa.types.is_decimal(kind):
        number = f"regexp_full_match(trim({text}), '[+-]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)')"
        return f"({number} AND length(rtrim(regexp_extract(trim({text}), '\\.([0-9]*)$', 1), '0')) <= {kind.scale})"
    if most := most_characters(wanted):
        return f"length({text}) <= {most}"
    if pa.types.is_date(kind):
        return f"coalesce(TRY_CAST({text} AS TIMESTAMP) = CAST(TRY_CAST({text} AS {wanted}) AS TIMESTAMP), true)"
    return ""


def _value_exact(column: str, value: str, wanted: str, have: pa.DataType, kind: pa.DataType) -> str:
    """SQL: whether a value survives the way there and back."""
    if most := most_characters(wanted):
        return f"length({value}) <= {most}"
    numbers = {"number", "floating"}
    if family_of(have) in numbers and family_of(kind) == "number":
        back = INTEGERS.get(have) or _sql_number(have)
        return f"TRY_CAST({value} AS {back}) = {column}"
    if pa.types.is_integer(have) and pa.types.is_floating(kind):
        return f"TRY_CAST({value} AS HUGEINT) = {column}"
    if pa.types.is_timestamp(have) and pa.types.is_date(kind):
        return f"CAST({value} AS TIMESTAMP) = CAST({column} AS TIMESTAMP)"
    return ""


def _sql_number(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision}, {kind.scale})"
    return "DOUBLE" if kind.bit_width == 64 else "FLOAT"
