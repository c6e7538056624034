"""PostgreSQL's types as Arrow's, and back."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from pipelines.tables.relation import Column

PLAIN: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.uint32(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "bytea": pa.binary(),
}
TEXTS = ("text", "varchar", "bpchar", "name", "uuid", "citext")
PRECISION_MOST = 38
ROUNDING = ("numeric", "time", "timetz", "timestamp", "timestamptz", "interval", "varchar", "bpchar")
"""Types whose declared size rounds or cuts what is given."""


@dataclass(frozen=True)
class PgType:
    """A type as the catalogue has it."""

    name: str
    kind: str
    """`b` base, `e` enum, `c` composite, `r` range, …"""
    modifier: int = -1
    element: PgType | None = None
    """What an array is of."""
    oid: int = 0


@dataclass(frozen=True)
class PgColumn(Column):
    """A column with its type in the catalogue."""

    pg: PgType = PgType("text", "b")


def numeric_of(modifier: int) -> tuple[int, int] | None:
    """Precision and scale of a numeric's modifier; None where it has none."""
    if modifier < 4:
        return None
    packed = modifier - 4
    return (packed >> 16) & 0xFFFF, ((packed & 0x7FF) ^ 1024) - 1024


def arrow_type(pg: PgType) -> pa.DataType:
    """What a type is read as: text where Arrow has no type that keeps every value."""
    if pg.element is not None:
        item = arrow_type(pg.element)
        is_text = pg.element.name in TEXTS or pg.element.kind == "e"
        if pa.types.is_binary(item) or (pa.types.is_string(item) and not is_text):
            return pa.string()
        return pa.list_(item)
    if pg.name == "numeric":
        found = numeric_of(pg.modifier)
        if found is None or found[0] > PRECISION_MOST or not 0 <= found[1] <= found[0]:
            return pa.string()
        return pa.decimal128(*found)
    return PLAIN.get(pg.name, pa.string())


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries and extensions."""
    if isinstance(kind, pa.ExtensionType):
        return plain_type(kind.storage_type)
    return plain_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def declared_type(kind: pa.DataType) -> str:
    """The column type for a table to be made; empty where there is none."""
    kind = plain_type(kind)
    for test, words in _DECLARED:
        if test(kind):
            return words
    if pa.types.is_decimal(kind):
        return f"numeric({kind.precision},{max(kind.scale, 0)})" if kind.scale >= 0 else "numeric"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if is_list(kind):
        item = plain_type(kind.value_type)
        return "jsonb" if pa.types.is_nested(item) or not declared_type(item) else f"{declared_type(item)}[]"
    return "jsonb" if pa.types.is_nested(kind) else ""


BUILT_IN_MOST = 16_383
"""Types with higher numbers are made in a database, and have other numbers in the next."""
BINARY = frozenset(
    (*PLAIN, *TEXTS, "numeric", "json", "jsonb", "interval", "timetz", "bit", "varbit", "inet", "cidr", "macaddr")
) | {"macaddr8", "point", "line", "lseg", "box", "path", "polygon", "circle"}
"""Built-in types whose binary form means the same on every server."""


def is_same(source: PgType, target: PgType) -> bool:
    """Whether values in binary form go from a column of one type into one of the other unchanged."""
    if target.modifier not in (-1, source.modifier):
        return False
    if source.kind == target.kind == "e":
        return source.name == target.name  # sent by their labels
    if {source.name, target.name} <= {"text", "varchar"}:
        return max(source.oid, target.oid) <= BUILT_IN_MOST
    of = source.element or source
    is_known = of.name in BINARY or of.kind in ("r", "m")
    return source.oid == target.oid and 0 < source.oid <= BUILT_IN_MOST and is_known


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def is_bytes(kind: pa.DataType) -> bool:
    return "binary" in str(kind)


_DECLARED = (
    (pa.types.is_boolean, "boolean"),
    (lambda kind: kind in (pa.int8(), pa.uint8(), pa.int16()), "smallint"),
    (lambda kind: kind in (pa.uint16(), pa.int32()), "integer"),
    (lambda kind: kind in (pa.uint32(), pa.int64()), "bigint"),
    (pa.types.is_uint64, "numeric(20,0)"),
    (lambda kind: kind in (pa.float16(), pa.float32()), "real"),
    (pa.types.is_float64, "double precision"),
    (is_text, "text"),
    (pa.types.is_null, "text"),
    (is_bytes, "bytea"),
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
)


def unfit(kind: pa.DataType, column: Column | None) -> str:
    """Why values of a type cannot go into a column (None: one made for them), or nothing."""
    if not declared_type(kind):
        return f"PostgreSQL has no type for {kind}"
    if column is None or not isinstance(column, PgColumn):
        return ""
    return "" if _fits(plain_type(kind), column.pg) else f"{kind} does not fit {column.declared}"


def _fits(kind: pa.DataType, pg: PgType) -> bool:
    if pa.types.is_null(kind):
        return True
    if pg.element is not None:
        if is_text(kind):  # what would be rounded in such a text cannot be seen
            return pg.element.modifier < 0 or pg.element.name not in ROUNDING
        return is_list(kind) and _fits(plain_type(kind.value_type), pg.element)
    if pg.name in ("json", "jsonb"):
        return is_text(kind) or pa.types.is_nested(kind) or pa.types.is_boolean(kind) or _is_number(kind)
    if pg.name in ("text", "varchar", "bpchar", "citext"):
        return not pa.types.is_nested(kind) and not is_bytes(kind)
    if pg.name not in PLAIN and pg.name != "numeric":
        return is_text(kind)  # the server reads a value of its own type from text
    return _fits_plain(kind, pg)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _fits_plain(kind: pa.DataType, pg: PgType) -> bool:
    is_whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale <= 0)
    is_number = pa.types.is_integer(kind) or pa.types.is_decimal(kind)
    is_moment = pa.types.is_timestamp(kind)
    return {
        "bool": pa.types.is_boolean(kind),
        "float4": kind in (pa.float16(), pa.float32(), pa.int8(), pa.int16(), pa.uint8(), pa.uint16()),
        "float8": pa.types.is_floating(kind) or pa.types.is_integer(kind),
        "numeric": is_number
        or (pa.types.is_floating(kind) and pg.modifier < 0)
        or (is_text(kind) and pa.types.is_string(arrow_type(pg))),
        "bytea": is_bytes(kind),
        "date": pa.types.is_date(kind),
        "time": pa.types.is_time(kind),
        "timestamp": pa.types.is_date(kind) or (is_moment and not kind.tz),
        "timestamptz": pa.types.is_date(kind) or is_moment,
    }.get(pg.name, is_whole)
