"""Arrow columns as SQLite's values.

What SQLite would change in silence is a fault: NaN (it stores NULL), integers beyond 64 bits, decimals of more than 15
digits in a column that turns them into reals, text that looks like a number in a column that turns it into one.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.sqlite import types
from pipelines.tables.relation import Column
from pipelines.values import UNITS, finer, outside, shown

EXACT_TEXT = "DECIMAL_TEXT"
"""The declared type of decimals that no SQLite number holds: its affinity is TEXT, so that every digit stays."""


def declared_type(kind: pa.DataType) -> str:
    """The declared type of a column that is made for an Arrow type; empty where SQLite has none."""
    if pa.types.is_dictionary(kind):
        return declared_type(kind.value_type)
    if pa.types.is_decimal(kind):
        word = "DECIMAL" if kind.precision <= types.DIGITS else EXACT_TEXT
        return f"{word}({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP_NS" if kind.unit == "ns" else "TIMESTAMP"
    words = (
        (pa.types.is_boolean, "BOOLEAN"),
        (pa.types.is_integer, "INTEGER"),
        (pa.types.is_floating, "REAL"),
        (_is_text, "TEXT"),
        (_is_bytes, "BLOB"),
        (pa.types.is_date, "DATE"),
        (pa.types.is_time, "TIME"),
        (pa.types.is_nested, "JSON"),
        (pa.types.is_null, "TEXT"),
    )
    return next((word for is_it, word in words if is_it(kind)), "")


def unfit(kind: pa.DataType, column: Column | None) -> str:
    """Why values of a type cannot go into a column (None: one made for them), or nothing."""
    made = declared_type(kind)
    if not made:
        return f"SQLite has no type for {kind}"
    if column is None or made in ("REAL", "BOOLEAN", "INTEGER") or made.startswith("DECIMAL("):
        return ""
    target = types.affinity(column.declared)
    if (
        target in ("INTEGER", "REAL")
        and made != EXACT_TEXT
        and not made.startswith(EXACT_TEXT)
        and not pa.types.is_null(kind)
    ):
        return f"{kind} does not fit {column.declared}"
    if made in ("TEXT", "BLOB") and pa.types.is_decimal(column.type) and not pa.types.is_null(kind):
        return f"{kind} does not fit {column.declared}"
    return ""


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def stored(array: pa.Array, column: Column) -> tuple[list[object], dict[int, str]]:
    """An array as the values SQLite is given for a column, and what is wrong with those that it would change."""
    affinity = types.affinity(column.declared)
    if isinstance(array.type, pa.ExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_decimal(array.type):
        return _stored_decimals(array, affinity)
    array, faults = _stored(array, affinity, column.type)
    values = array.to_pylist()
    for row in faults:
        values[row] = None
    return values, faults


def _stored(array: pa.Array, affinity: str, read_as: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    kind = array.type
    if pa.types.is_uint64(kind):
        above = pc.greater(array, pa.scalar(2**63 - 1, pa.uint64()))
        return array, _found(array, above, "is above SQLite's greatest integer")
    if pa.types.is_floating(kind):
        array = array.cast(pa.float64())
        return array, _found(array, pc.is_nan(array), "would be stored as NULL")
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()), {}
    if pa.types.is_temporal(kind):
        return _stored_times(array, read_as)
    if pa.types.is_nested(kind):
        return _stored_json(array)
    if _is_text(kind) and affinity not in ("TEXT", "BLOB"):
        looks = pc.match_substring_regex(array, r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")
        return array, _found(array, looks, "would be turned into a number")
    return array, {}


def _found(array: pa.Array, mask: pa.BooleanArray, words: str) -> dict[int, str]:
    rows = pc.indices_nonzero(mask.fill_null(False)).to_pylist()
    return {row: f"{shown(array, row)} {words}" for row in rows}


def _stored_times(array: pa.Array, read_as: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """ISO 8601 text; with a zone as UTC with a Z. SQLite knows the years up to 9999, a column as many digits as are read."""
    faults: dict[int, str] = {}
    if pa.types.is_date64(array.type):
        array = array.cast(pa.date32())
    if pa.types.is_timestamp(array.type) and array.type.tz:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    digits = UNITS[read_as.unit] if pa.types.is_timestamp(read_as) or pa.types.is_time(read_as) else None
    wrong = [(outside(array), "lies outside of the years 1 to 9999 or of a day")]
    if digits is not None:
        wrong.append((finer(array, digits), f"has more than {digits} digits of a second, which this column keeps"))
    for mask, words in wrong:
        if mask is not None:
            faults = {**_found(array, mask, words), **faults}
            array = pc.if_else(mask, pa.scalar(None, array.type), array)
    if digits == UNITS["us"] and getattr(array.type, "unit", "") == "ns":
        array = array.cast(pa.time64("us") if pa.types.is_time(array.type) else pa.timestamp("us", array.type.tz))
    return array.cast(pa.string()), faults


def _stored_json(array: pa.Array) -> tuple[pa.Array, dict[int, str]]:
    """Nested values as JSON text, made by DuckDB: decimals keep their digits, times are ISO 8601."""
    import duckdb

    given = pa.table({"item": array})
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", given)
        sql = "SELECT CASE WHEN item IS NOT NULL THEN CAST(to_json(item) AS VARCHAR) END AS t FROM given"
        texts = connection.sql(f"SELECT t, t IS NOT NULL AND NOT json_valid(t) AS wrong FROM ({sql})").to_arrow_table()
    column = texts["t"].combine_chunks()
    return column, _found(column, texts["wrong"].combine_chunks(), "is no JSON")


def _stored_decimals(array: pa.Array, affinity: str) -> tuple[list[object], dict[int, str]]:
    """Text where the column keeps text; else integers and reals, where they hold every digit."""
    if affinity in ("TEXT", "BLOB"):
        return array.cast(pa.string()).to_pylist(), {}
    doubles = _nearest_doubles(array)
    if doubles is not None:
        return doubles.to_pylist(), {}
    values: list[object] = []
    faults: dict[int, str] = {}
    for row, value in enumerate(array.to_pylist()):  # SQLite takes values one by one: this is the list it is given
        number, words = _number(value)
        values.append(number)
        if words:
            faults[row] = words
    return values, faults


def _nearest_doubles(array: pa.Array) -> pa.Array | None:
    """Decimals as the doubles nearest to them, where 15 digits hold every one; SQLite makes integers of whole ones."""
    if array.type.bit_width != 128 or array.type.scale > types.DIGITS or array.type.scale < 0:
        return None
    present = array.drop_null()
    words = np.frombuffer(present.buffers()[1], np.int64).reshape(-1, 2)[present.offset : present.offset + len(present)]
    low, high = words[:, 0], words[:, 1]
    if not ((high == low >> 63) & (np.abs(low) < 10**types.DIGITS)).all():
        return None
    doubles = np.zeros(len(array))
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    doubles[valid] = low / 10.0**array.type.scale
    return pa.array(doubles, mask=~valid)


def _number(value: Decimal | None) -> tuple[object, str]:
    if value is None:
        return None, ""
    whole = int(value)
    if whole == value and -(2**63) <= whole < 2**63:
        return whole, ""
    digits = len(value.normalize().as_tuple().digits)
    if digits <= types.DIGITS:
        return float(value), ""
    return None, f"{value} has {digits} digits, of which this column keeps {types.DIGITS}; declare it {EXACT_TEXT}"
