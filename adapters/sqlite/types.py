"""SQLite's values as Arrow columns. A value that does not fit its column's type is a fault, never changed in silence.

SQLite's types belong to values, a column's declared type is a wish (https://sqlite.org/datatype3.html). Each declared
type has one Arrow type here. A real in a decimal column is taken for the decimal of at most 15 significant digits that
SQLite promises to give back; with more digits it is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from json import loads

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DECLARED = re.compile(r"\s*([^()]*?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*([^()]*)$")
DIGITS = 15
"""So many significant digits of a number survive in an SQLite real."""
BARE_DECIMAL = pa.decimal128(38, 10)
"""What a `NUMERIC` or `DECIMAL` without precision is read as."""
_WORDS: tuple[tuple[str, pa.DataType], ...] = (
    (r"TIMESTAMP_?TZ|DATETIME_?TZ|TIMESTAMP WITH (LOCAL )?TIME ZONE", pa.timestamp("us", "UTC")),
    (r"TIMESTAMP_NS", pa.timestamp("ns")),
    (r"TIMESTAMP|DATETIME", pa.timestamp("us")),
    (r"DATE", pa.date32()),
    (r"TIME", pa.time64("us")),
    (r"BOOL", pa.bool_()),
    (r"INTERVAL|.*(CHAR|CLOB|TEXT|UUID|JSON|ENUM|STRING)", pa.string()),
    (r".*INT", pa.int64()),
    (r".*(BLOB|BINARY|BYTEA)", pa.binary()),
    (r".*(REAL|FLOA|DOUB)", pa.float64()),
)
_WIDE = Context(prec=400)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def arrow_type(declared: str) -> pa.DataType | None:
    """The Arrow type of a declared type; None where it tells none, as for columns that are computed."""
    match = DECLARED.match(declared.upper())
    if match is None:
        return None
    word = f"{match[1]} {match[4]}".strip()
    if re.match(r"DEC|NUMERIC|NUMBER|MONEY", word):
        if match[2] is None:
            return BARE_DECIMAL
        precision, scale = int(match[2]), int(match[3] or 0)
        return pa.decimal128(precision, scale) if scale <= precision <= 38 and precision else pa.string()
    return next((kind for pattern, kind in _WORDS if re.match(pattern, word)), None)


def affinity(declared: str) -> str:
    """What SQLite itself makes of a declared type (https://sqlite.org/datatype3.html, 3.1)."""
    word = declared.upper()
    if "INT" in word:
        return "INTEGER"
    if any(part in word for part in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if "BLOB" in word or not word:
        return "BLOB"
    return "REAL" if any(part in word for part in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def has_one_form(kind: pa.DataType) -> bool:
    """Whether SQLite has one way to store a value of a type, so that equal values are the same in the database."""
    plain = (pa.types.is_integer, pa.types.is_float64, pa.types.is_boolean, pa.types.is_string, pa.types.is_binary)
    return any(test(kind) for test in plain)


def seen_type(values: Sequence[object]) -> pa.DataType:
    """The type of a column that declares none, from some of its values."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {int}:
        return pa.int64()
    if kinds and kinds <= {int, float}:
        return pa.float64()
    return pa.binary() if kinds == {bytes} else pa.string()


def arrow_column(values: Sequence[object], kind: pa.DataType, loose: bool) -> tuple[pa.Array, dict[int, str]]:
    """The values as a column, and what is wrong with those that do not fit (they are null in the column).

    Args:
        loose: Whether text may be made of numbers: where a user declares the type, or SQLite turns text into numbers.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), kind), {}
    try:
        quick = _quick(values, kinds, kind)
        if quick is not None:
            return quick, {}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError, UnicodeEncodeError):
        pass  # the values are looked at one by one below, where each tells what is wrong with it
    exact = _exact(kind, loose)
    taken: list[object] = []
    faults: dict[int, str] = {}
    for row, value in enumerate(values):  # only for a batch in which some value is not plainly of its type
        try:
            taken.append(None if value is None else exact(value))
        except (ValueError, ArithmeticError) as fault:
            taken.append(None)
            faults[row] = f"{_shown(value)} is no {kind}" + (f": {fault}" if str(fault) else "")
    return pa.array(taken, kind), faults


def _quick(values: Sequence[object], kinds: set[type], kind: pa.DataType) -> pa.Array | None:
    """The column where all values are plainly of its type; None or an Arrow error where some may not be."""
    if pa.types.is_decimal(kind):
        return _quick_decimal(values, kinds, kind)
    if pa.types.is_boolean(kind) and kinds == {int} and set(values) <= {0, 1, None}:
        return pa.array(values, pa.int8()).cast(kind)
    if (pa.types.is_integer(kind) and kinds == {int}) or (pa.types.is_floating(kind) and kinds == {float}):
        return pa.array(values, kind)
    if (pa.types.is_string(kind) and kinds == {str}) or (pa.types.is_binary(kind) and kinds == {bytes}):
        return pa.array(values, kind)
    if pa.types.is_temporal(kind) and not pa.types.is_duration(kind) and kinds == {str}:
        texts = pa.array(values, pa.string())
        if pa.types.is_timestamp(kind) and kind.tz:
            try:  # without a zone it is UTC, as SQLite's own functions give it
                return texts.cast(pa.timestamp(kind.unit)).cast(kind)
            except pa.ArrowInvalid:
                return texts.cast(kind)
        return texts.cast(kind)
    return None


def _quick_decimal(values: Sequence[object], kinds: set[type], kind: pa.DataType) -> pa.Array | None:
    """Numbers as decimals, where each is the double nearest to one decimal of this scale and 15 digits at most."""
    if kinds == {str}:
        texts = pa.array(values, pa.string())
        return texts.cast(kind) if pc.all(pc.match_substring_regex(texts, r"^[+-]?\d+(\.\d+)?$")).as_py() else None
    if not kinds <= {int, float} or kind.scale > DIGITS:
        return None
    doubles = pa.array(values, pa.float64())
    present = doubles.drop_null().to_numpy()
    scaled = np.rint(present * 10.0**kind.scale)
    limit = 10.0 ** min(DIGITS, kind.precision)
    if not (np.isfinite(scaled).all() and (np.abs(scaled) < limit).all()):
        return None
    if not (scaled / 10.0**kind.scale == present).all():
        return None
    words = np.zeros((len(values), 2), np.int64)
    words[:, 0][doubles.is_valid().to_numpy(zero_copy_only=False)] = scaled.astype(np.int64)
    words[:, 1] = words[:, 0] >> 63
    valid = doubles.is_valid()
    mask = None if doubles.null_count == 0 else valid.buffers()[1]
    return pa.Array.from_buffers(kind, len(values), [mask, pa.py_buffer(words.tobytes())])


def _exact(kind: pa.DataType, loose: bool) -> Callable[[object], object]:
    """What turns one value into this type, or raises ValueError."""
    if pa.types.is_integer(kind):
        bits = kind.bit_width
        least, most = (
            (-(1 << bits - 1), (1 << bits - 1) - 1) if pa.types.is_signed_integer(kind) else (0, (1 << bits) - 1)
        )
        return lambda value: _between(_integer(value, loose), least, most)
    if pa.types.is_string(kind):
        return lambda value: _text(value, loose)
    table: tuple[tuple[Callable[[pa.DataType], bool], Callable[[object], object]], ...] = (
        (pa.types.is_boolean, lambda value: _boolean(value, loose)),
        (pa.types.is_floating, lambda value: _real(value, loose)),
        (pa.types.is_decimal, lambda value: _decimal(value, kind)),
        (pa.types.is_date, _date),
        (pa.types.is_timestamp, lambda value: _timestamp(value, kind)),
        (pa.types.is_time, _time),
        (pa.types.is_nested, lambda value: pa.scalar(loads(_text(value, False)), kind).as_py()),
        (pa.types.is_binary, _bytes),
    )
    return next((exact for is_it, exact in table if is_it(kind)), _nothing)


def _nothing(value: object) -> object:
    raise ValueError("SQLite's values cannot be read as this type")


def _between(value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError("out of range")
    return value


def _integer(value: object, loose: bool) -> int:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if loose and isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value, re.ASCII):
        return int(value)
    if isinstance(value, int):
        return value
    raise ValueError


def _real(value: object, loose: bool) -> float:
    if isinstance(value, float):
        return value
    if isinstance(value, int) and int(float(value)) == value:
        return float(value)
    if loose and isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    raise ValueError


def _text(value: object, loose: bool) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("its bytes are not UTF-8") from None
        return value
    if loose and isinstance(value, (int, float)):
        return repr(value)
    raise ValueError


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise ValueError


def _boolean(value: object, loose: bool) -> bool:
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    if loose and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("it is stored as 0 or 1")


def _decimal(value: object, kind: pa.DataType) -> Decimal:
    if isinstance(value, float):
        text = repr(value)
        if sum(digit.isdigit() for digit in text.split("e")[0].replace(".", "").strip("-0")) > DIGITS:
            raise ValueError(f"as a real it holds {DIGITS} digits exactly")
    elif isinstance(value, int) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        text = str(value)
    else:
        raise ValueError
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise ValueError from None
    if not found.is_finite():
        raise ValueError
    _, digits, exponent = found.normalize(_WIDE).as_tuple()
    assert isinstance(exponent, int)
    if -exponent > kind.scale:
        raise ValueError(f"it has more than {kind.scale} decimal places")
    if found and len(digits) + exponent > kind.precision - kind.scale:
        raise ValueError("out of range")
    return found


def _timestamp(value: object, kind: pa.DataType) -> object:
    if isinstance(value, (int, float)):  # seconds since 1970, as SQLite's `unixepoch` has them
        if isinstance(value, float) and not (value * 1_000_000).is_integer():
            raise ValueError("finer than microseconds")
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=round(value * 1_000_000))
        return pa.scalar(moment if kind.tz else moment.replace(tzinfo=None), kind)
    try:
        found = pa.scalar(_text(value, False)).cast(pa.timestamp(kind.unit))
    except pa.ArrowInvalid:
        found = None
    if found is None:
        try:
            found = pa.scalar(_text(value, False)).cast(pa.timestamp(kind.unit, "UTC"))
        except pa.ArrowInvalid:
            raise ValueError("not an ISO 8601 time") from None
        if not kind.tz and not re.search(r"(Z|[+-]00:?00)$", str(value)):
            raise ValueError("it has an offset; read the column as timestamptz")
    return found.cast(kind)


def _date(value: object) -> date:
    if isinstance(value, int) and value % 86_400 == 0:
        return date(1970, 1, 1) + timedelta(days=value // 86_400)
    text = re.fullmatch(r"(\d{4}-\d\d-\d\d)(?:[ T]00:00(?::00(?:\.0+)?)?)?", _text(value, False), re.ASCII)
    if text is None:
        raise ValueError("not an ISO 8601 date")
    return date.fromisoformat(text[1])


def _time(value: object) -> time:
    text = _text(value, False)
    if not re.fullmatch(r"\d\d:\d\d(:\d\d(\.\d{1,6})?)?", text, re.ASCII):
        raise ValueError("not an ISO 8601 time of day")
    return time.fromisoformat(text)


def _shown(value: object) -> str:
    """A value for a message: its SQLite type and its beginning."""
    if isinstance(value, bytes):
        return f"blob of {len(value)} bytes"
    text = str(value).encode(errors="backslashreplace").decode()
    word = {int: "integer", float: "real"}.get(type(value), "text")
    return f"{word} {text[:60]!r}" if word == "text" else f"{word} {text}"
