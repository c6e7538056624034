"""The careful way through a block of CSV text in which some value does not fit its column's type.

All fields are read as bytes once; then each column is converted by the same parser that reads whole blocks, values that
look plain all at once and the rest one by one, so that exactly those that do not fit are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.dialect import Dialect


@dataclass(frozen=True)
class Spelling:
    """What the parser need not be asked one by one: patterns of fields that mostly fit, and of those that cannot."""

    plain: str
    impossible: str


INTEGER = Spelling("^-?[0-9]{1,2}$|^-?[1-9][0-9]{2,17}$", "[^-+0-9xXa-fA-F \t]|(^|[^0])[xX]|^[^xX]*[a-fA-F]")
NUMBER = Spelling("^-?[0-9]{1,15}([.,][0-9]{1,15})?$", "[^-+0-9.,eEnNaAiIfFtTyY \t]")
TIME = Spelling(
    "^[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9]:[0-5][0-9](Z|[.][0-9]{1,6}Z?)?)?$",
    "[^-+0-9:.TZ \t]",
)
OTHER = Spelling("", "[^\\s\\S]")
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Bad:
    """A value that does not fit: the column, its text and its reject code."""

    column: str
    text: bytes
    code: str


@dataclass(frozen=True)
class Sifted:
    """A block's columns, null where a value does not fit, and by row the first value that does not."""

    columns: Mapping[str, pa.Array]
    bad: Mapping[int, Bad]


def sift(texts: pa.Table, kinds: Mapping[str, pa.DataType], dialect: Dialect) -> Sifted:
    """Converts columns of raw fields (binary) to their types."""
    columns: dict[str, pa.Array] = {}
    bad: dict[int, Bad] = {}
    for name, kind in kinds.items():
        raw = texts.column(name).combine_chunks()
        is_text = pa.types.is_string(kind)
        if not is_text:
            raw = _without(raw, dialect.null_values)
        columns[name], rows = _text(raw) if is_text else _typed(raw, kind, dialect)
        for row in rows:  # rejects only
            bad.setdefault(int(row), Bad(name, raw[int(row)].as_py(), "encoding" if is_text else "type"))
    return Sifted(columns, bad)


def _without(raw: pa.BinaryArray, null_values: tuple[str, ...]) -> pa.BinaryArray:
    """Fields in quotes that stand for null in a column that is no text."""
    words = pa.array([word.encode() for word in {"", *null_values}], pa.binary())
    return pc.if_else(pc.is_in(raw, words), pa.scalar(None, pa.binary()), raw)


def _text(raw: pa.BinaryArray) -> tuple[pa.Array, np.ndarray]:
    """Fields as text; the rows of those that are no UTF-8."""
    bad = _failing_rows(raw, 0)
    if bad:
        raw = _nulled(raw, np.array(bad))
    return raw.cast(pa.string()), np.array(bad, np.int64)


def _failing_rows(raw: pa.BinaryArray, first: int) -> list[int]:
    try:
        raw.cast(pa.string())
        return []
    except pa.ArrowInvalid:
        if len(raw) == 1:
            return [first]
    half = len(raw) // 2
    return [*_failing_rows(raw.slice(0, half), first), *_failing_rows(raw.slice(half), first + half)]


def _typed(raw: pa.BinaryArray, kind: pa.DataType, dialect: Dialect) -> tuple[pa.Array, np.ndarray]:
    """Fields as `kind`; the rows of those that do not fit. Where some do not, each distinct field is looked at once."""
    try:
        return dialect.values(raw, kind), np.empty(0, np.int64)
    except pa.ArrowInvalid:
        encoded = raw.dictionary_encode()
    distinct, places = encoded.dictionary, encoded.indices
    spelling = _spelling(kind)
    plain = _matches(distinct, spelling.plain)
    possible = ~plain & ~_matches(distinct, spelling.impossible)
    groups = [np.flatnonzero(plain), *([place] for place in np.flatnonzero(possible))]
    found = [each for group in groups for each in _convertible(distinct, np.asarray(group, np.int64), kind, dialect)]
    rows = np.concatenate([rows for rows, _ in found]) if found else np.empty(0, np.int64)
    where = np.full(len(distinct), -1, np.int64)
    where[rows] = np.arange(len(rows))
    values = pa.concat_arrays([values for _, values in found]) if found else pa.nulls(0, kind)
    taken = pa.array(where, pa.int64(), mask=where < 0).take(places)
    bad = pc.and_(raw.is_valid(), taken.is_null())
    return values.take(taken), pc.indices_nonzero(bad).to_numpy()


def _convertible(
    texts: pa.BinaryArray, rows: np.ndarray, kind: pa.DataType, dialect: Dialect
) -> list[tuple[np.ndarray, pa.Array]]:
    """Of these rows those that convert, with their values: all at once, else by halves."""
    if not len(rows):
        return []
    try:
        return [(rows, dialect.values(texts.take(pa.array(rows)), kind))]
    except pa.ArrowInvalid:
        if len(rows) == 1:
            return []
    half = len(rows) // 2
    return [
        *_convertible(texts, rows[:half], kind, dialect),
        *_convertible(texts, rows[half:], kind, dialect),
    ]


def _spelling(kind: pa.DataType) -> Spelling:
    if pa.types.is_integer(kind):
        return INTEGER
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return NUMBER
    return TIME if pa.types.is_timestamp(kind) or pa.types.is_date(kind) else OTHER


def _matches(texts: pa.BinaryArray, pattern: str) -> np.ndarray:
    found: np.ndarray = pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)
    return found


def _nulled(raw: pa.BinaryArray, rows: np.ndarray) -> pa.BinaryArray:
    mask = np.zeros(len(raw), bool)
    mask[rows] = True
    return pc.if_else(pa.array(mask), pa.scalar(None, pa.binary()), raw)


def shown(text: bytes) -> str:
    """A field as a message shows it."""
    try:
        words = repr(text.decode()[: SHOWN_CHARACTERS + 1])
    except UnicodeDecodeError:
        words = repr(text[: SHOWN_CHARACTERS + 1])[1:]
    return words if len(text) <= SHOWN_CHARACTERS else f"{words[:-2]}…'"
