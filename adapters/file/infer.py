"""Types of CSV columns, inferred from the heads of files, and the columns of several files together.

Inferred are whole numbers, decimals beyond 64 bits, floating numbers, dates, times, timestamps, true and false; anything
else is text. Numbers written with leading zeros (`00123`) are text, as they are names rather than numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.dialect import ONLY_ASCII, Dialect

TIMESTAMP = pa.timestamp("us")
TIMESTAMP_UTC = pa.timestamp("us", "UTC")
BIG_INTEGER = pa.decimal128(38, 0)
LEADING_ZERO = "^[ \t]*[+-]?0[0-9A-Za-z]"
WHOLE = "^[ \t]*-?[0-9]{1,38}[ \t]*$"
NANOSECONDS = "[.][0-9]{7,}"


def infer(sample: bytes, names: Sequence[str], dialect: Dialect) -> dict[str, pa.DataType]:
    """The type of each column as its values in the sample tell; null where there are none."""
    if not sample.strip(b"\r\n") or not names:
        return dict.fromkeys(names, pa.null())
    sample = sample.translate(ONLY_ASCII)  # whatever is not ASCII is text
    guessed = dialect.rows(sample, names, {}, quoted_nulls=True, on_invalid=_skip)
    texts = dialect.rows(sample, names, dict.fromkeys(names, pa.binary()), quoted_nulls=True, on_invalid=_skip)
    return {name: _kind(guessed.schema.field(name).type, texts.column(name)) for name in names}


def _skip(row: object) -> str:
    return "skip"


def _kind(guess: pa.DataType, texts: pa.ChunkedArray) -> pa.DataType:
    if pa.types.is_null(guess) or pa.types.is_boolean(guess) or pa.types.is_date(guess):
        return guess
    if pa.types.is_integer(guess) or pa.types.is_floating(guess):
        if _any(texts, LEADING_ZERO) and not _all(texts, "^[ \t]*[+-]?0[.]|^[ \t]*[+-]?[^0]|^[ \t]*0[ \t]*$"):
            return pa.string()
        if pa.types.is_floating(guess) and _all(texts, WHOLE):
            return BIG_INTEGER
        return guess if _any(texts, "[0-9]") else pa.string()
    if pa.types.is_timestamp(guess):
        unit = "ns" if _any(texts, NANOSECONDS) else "us"
        return pa.timestamp(unit, "UTC" if guess.tz else None)
    return pa.time64("us") if pa.types.is_time(guess) else pa.string()


def _any(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _all(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds what was inferred in one file and in another."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    kinds = {_family(one), _family(other)}
    if kinds == {"integer", "number"}:
        return pa.float64()
    if kinds <= {"integer", "big"}:
        return BIG_INTEGER
    if kinds == {"date", "timestamp"}:
        return one if _family(one) == "timestamp" else other
    if kinds == {"timestamp"} and one.tz == other.tz:
        return pa.timestamp("ns", one.tz)
    return pa.string()


def _family(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_floating(kind):
        return "number"
    if pa.types.is_decimal(kind):
        return "big"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    return "date" if pa.types.is_date(kind) else "other"


def settled(kinds: Mapping[str, pa.DataType]) -> pa.Schema:
    """The columns of a run; those without a value in any head are text."""
    return pa.schema([pa.field(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in kinds.items()])
