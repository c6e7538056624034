"""MySQL's types as Arrow's, and back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from pipelines.sql.literals import name_of
from pipelines.tables.relation import Column

if TYPE_CHECKING:
    from pymysql.protocol import FieldDescriptorPacket

UNSIGNED, ENUM, SET = 32, 256, 2048
BINARY = 63
"""The number of the character set of what is no text."""
PRECISION_MOST = 38
WIDEST, FINEST = 65, 30
"""A DECIMAL's digits, and those behind its point."""
KEY_LETTERS = 768
"""So many letters of four bytes an index holds."""
_WHOLE = {1: 8, 2: 16, 3: 32, 8: 64, 9: 32}
"""Whole numbers by the protocol's type number, and the bits Arrow has for them."""
_FLOAT, _DOUBLE, _NULL, _TIMESTAMP, _DATE, _TIME, _DATETIME, _YEAR, _BIT, _JSON = 4, 5, 6, 7, 10, 11, 12, 13, 16, 245
_DECIMALS = (0, 246)
_BOTH = (249, 250, 251, 252, 253, 254, 255)
"""Texts where they have a character set, bytes where not."""
_TEXTS_BY_NAME = ("uuid", "inet", "json")


@dataclass(frozen=True)
class MyColumn(Column):
    """A column with what the server's kind of values it has."""

    sort: str = "text"
    """int, bool, bit, year, decimal, float, double, date, time, datetime, timestamp, text, enum, set, json, binary."""
    scale: int = 0
    """Digits behind the point, or of a second."""
    length: int = 0
    """For char, varchar, binary and varbinary: letters or bytes."""
    members: tuple[str, ...] = ()
    """For an enum or a set."""
    is_padded: bool = False
    """Whether values get or lose blanks or zeros at their end: char and binary."""

    def picked(self, column: str) -> str:
        """SQL whose text keeps every value: the server shows six digits of a float, and bits as bytes."""
        return f"({column} + 0e0)" if self.sort == "float" else f"({column} + 0)" if self.sort == "bit" else column


def described(field: FieldDescriptorPacket, declared: str = "") -> MyColumn:
    """A column of an answer; `declared` is its type where it is a table's."""
    code, is_unsigned = field.type_code, bool(field.flags & UNSIGNED)
    name, words = field.name, declared.lower()
    if code in _WHOLE:
        bits = _WHOLE[code]
        if code == 1 and field.length == 1 and not is_unsigned:
            return MyColumn(name, declared or "tinyint(1)", pa.bool_(), sort="bool")
        kind = getattr(pa, f"{'u' if is_unsigned else ''}int{bits}")()
        return MyColumn(name, declared or f"integer of {bits} bits", kind, sort="int")
    if code in _DECIMALS:
        return _decimal(name, declared, field, is_unsigned)
    if code in (_DATETIME, _TIMESTAMP, _TIME):
        return _moment(name, declared, code, min(field.scale, 6))
    plain = {
        _FLOAT: ("float", pa.float32()), _DOUBLE: ("double", pa.float64()), _DATE: ("date", pa.date32()),
        _YEAR: ("year", pa.int16()), _NULL: ("text", pa.string()), _JSON: ("json", pa.string()),
    }  # fmt: skip
    if code in plain:
        sort, kind = plain[code]
        return MyColumn(name, declared or sort, kind, sort=sort)
    if code == _BIT:
        kind = pa.bool_() if field.length == 1 else pa.uint64()
        return MyColumn(name, declared or f"bit({field.length})", kind, sort="bit")
    is_binary = code in _BOTH and field.charsetnr == BINARY and not words.startswith(_TEXTS_BY_NAME)
    return _text(name, declared, field, is_binary)


def _decimal(name: str, declared: str, field: FieldDescriptorPacket, is_unsigned: bool) -> MyColumn:
    precision = max(field.length - (field.scale > 0) - (not is_unsigned), field.scale, 1)
    kind = pa.decimal128(precision, field.scale) if precision <= PRECISION_MOST else pa.string()
    return MyColumn(name, declared or f"decimal({precision},{field.scale})", kind, sort="decimal", scale=field.scale)


def _moment(name: str, declared: str, code: int, scale: int) -> MyColumn:
    sort, kind = {
        _DATETIME: ("datetime", pa.timestamp("us")),
        _TIMESTAMP: ("timestamp", pa.timestamp("us", "UTC")),
        _TIME: ("time", pa.time64("us")),
    }[code]
    return MyColumn(name, declared or f"{sort}({scale})", kind, sort=sort, scale=scale)


def _text(name: str, declared: str, field: FieldDescriptorPacket, is_binary: bool) -> MyColumn:
    words = declared.lower()
    found = re.match(r"(var)?(char|binary)\((\d+)\)", words)
    length, is_padded = (int(found[3]), not found[1]) if found else (0, False)
    sort = "json" if words == "json" else "text"
    for flag, word in ((ENUM, "enum"), (SET, "set")):
        if field.flags & flag or words.startswith(f"{word}("):
            sort = word
    members = tuple(text.replace("''", "'") for text in re.findall(r"'((?:[^']|'')*)'", declared))
    kind = pa.binary() if is_binary else pa.string()
    return MyColumn(
        name, declared or ("blob" if is_binary else "text"), kind, sort="binary" if is_binary else sort, length=length,
        members=members if sort in ("enum", "set") else (), is_padded=is_padded,
    )  # fmt: skip


def restored(parameter: str, column: Column) -> str:
    """SQL that gives a kept value back as one of the column's type."""
    assert isinstance(column, MyColumn)
    if column.sort in ("int", "year", "bit", "bool"):
        return f"CAST({parameter} AS {'UNSIGNED' if pa.types.is_unsigned_integer(column.type) else 'SIGNED'})"
    if column.sort == "decimal":
        precision = column.type.precision if pa.types.is_decimal(column.type) else WIDEST
        return f"CAST({parameter} AS DECIMAL({precision},{column.scale}))"
    if column.sort in ("float", "double"):
        return f"({parameter} + 0e0)"
    word = {"date": "DATE", "time": f"TIME({column.scale})"}.get(column.sort, f"DATETIME({column.scale})")
    return f"CAST({parameter} AS {word})" if column.sort in ("date", "time", "datetime", "timestamp") else parameter


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries and extensions."""
    if isinstance(kind, pa.ExtensionType):
        return plain_type(kind.storage_type)
    return plain_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_bytes(kind: pa.DataType) -> bool:
    return "binary" in str(kind)


_DECLARED = (
    (pa.types.is_boolean, "boolean"),
    (pa.types.is_int8, "tinyint"),
    (pa.types.is_int16, "smallint"),
    (pa.types.is_int32, "int"),
    (pa.types.is_int64, "bigint"),
    (pa.types.is_uint8, "tinyint unsigned"),
    (pa.types.is_uint16, "smallint unsigned"),
    (pa.types.is_uint32, "int unsigned"),
    (pa.types.is_uint64, "bigint unsigned"),
    (lambda kind: kind in (pa.float16(), pa.float32()), "float"),
    (pa.types.is_float64, "double"),
    (pa.types.is_null, "longtext"),
    (is_bytes, "longblob"),
    (is_text, "longtext"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time(6)"),
    (pa.types.is_timestamp, "datetime(6)"),
    (pa.types.is_nested, "json"),
)


def declared_type(kind: pa.DataType, keys: int = 0) -> str:
    """The column type for a table to be made, one of `keys` columns of its key; empty where there is none."""
    kind = plain_type(kind)
    if pa.types.is_decimal(kind):
        scale = max(kind.scale, 0)
        width = kind.precision + scale - kind.scale
        return f"decimal({width},{scale})" if width <= WIDEST and scale <= FINEST else ""
    found = next((words for test, words in _DECLARED if test(kind)), "")
    letters = min(255, KEY_LETTERS // max(keys, 1))
    return {"longtext": f"varchar({letters})", "longblob": f"varbinary({letters})"}.get(found, found) if keys else found


def unfit(kind: pa.DataType, column: Column | None) -> str:
    """Why values of a type cannot go into a column (None: one made for them), or nothing."""
    if not declared_type(kind):
        return f"MySQL has no type for {kind}"
    if column is None or not isinstance(column, MyColumn):
        return ""
    return "" if _fits(plain_type(kind), column.sort) else f"{kind} does not fit {column.declared}"


def _fits(kind: pa.DataType, sort: str) -> bool:
    if pa.types.is_null(kind):
        return True
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0)
    small = (pa.int8(), pa.int16(), pa.uint8(), pa.uint16())
    return {
        "bool": pa.types.is_boolean(kind) or is_whole,
        "bit": pa.types.is_boolean(kind) or is_whole,
        "int": is_whole or pa.types.is_boolean(kind),
        "year": is_whole,
        "decimal": pa.types.is_integer(kind) or pa.types.is_decimal(kind),
        "float": kind in (pa.float16(), pa.float32(), *small),
        "double": pa.types.is_floating(kind) or pa.types.is_integer(kind),
        "date": pa.types.is_date(kind),
        "time": pa.types.is_time(kind),
        "datetime": pa.types.is_date(kind) or pa.types.is_timestamp(kind),
        "timestamp": pa.types.is_date(kind) or pa.types.is_timestamp(kind),
        "binary": is_bytes(kind),
        "json": not is_bytes(kind),
        "enum": is_text(kind),
        "set": is_text(kind),
        "text": not pa.types.is_nested(kind) and not is_bytes(kind),
    }[sort]


def made(column: str, kind: pa.DataType, keys: int, declared: str | None) -> str:
    """A line of CREATE TABLE."""
    return f"{name_of(column)} {declared or declared_type(kind, keys)}{' NOT NULL' if keys else ''}"
