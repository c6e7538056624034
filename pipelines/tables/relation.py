"""What a database's tables are called, made of and addressed by: the words that table gets and posts share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.sql.literals import name_of

Names = str | list[str]
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$([A-Za-z_]\w*)", re.DOTALL)


def as_list(names: Names | Mapping[str, str] | None) -> list[str]:
    """One name or several, as a list."""
    return [names] if isinstance(names, str) else list(names or ())


def named(sql: str) -> list[str]:
    """The parameters `$name` of a statement, outside of its texts and comments, in order of first sight."""
    return list(dict.fromkeys(match[1] for match in _TOKEN.finditer(sql) if match[1]))


def without_parameters(sql: str) -> str:
    """The statement with NULL for each parameter: what a database takes where it knows no parameters."""
    return _TOKEN.sub(lambda match: "NULL" if match[1] else match[0], sql)


def suggestion(name: str, there: Sequence[str]) -> str:
    """What may have been meant."""
    close = get_close_matches(name.casefold(), [other.casefold() for other in there], 1)
    meant = [other for other in there if close and other.casefold() == close[0]]
    return f"did you mean {meant[0]!r}?" if meant else f"there are: {', '.join(there) or 'none'}"


@dataclass(frozen=True)
class Column:
    """A column of a table, view or query as the database declares it."""

    name: str
    declared: str
    type: pa.DataType
    must_be_given: bool = False
    """Whether a record without it is refused: not null, and no default."""
    is_written: bool = True
    """Whether it can be written: generated columns cannot."""

    def field(self) -> pa.Field:
        return pa.field(self.name, self.type)


@dataclass(frozen=True)
class Table:
    """What the catalogue says of a table."""

    columns: Sequence[Column]
    unique: Sequence[frozenset[str]] = ()
    """Sets of columns, case-folded, whose values identify a record."""


@dataclass(frozen=True)
class Relation:
    """What a get reads: a table, or a query in brackets, and how its columns are addressed."""

    sql: str
    prefix: str

    def column(self, name: str) -> str:
        """A column that must be this relation's (SQLite takes an unknown bare name in quotes for a text)."""
        return f"{self.prefix}.{name_of(name)}"


def relation(table: str | None, query: str | None) -> Relation:
    if query is not None:
        return Relation(f"({query.strip().rstrip(';')}\n) AS __query", "__query")
    quoted = ".".join(name_of(part) for part in str(table).split("."))
    return Relation(quoted, name_of(str(table).split(".")[-1]))


def is_number(kind: pa.DataType) -> bool:
    """Whether values of a type are ordered as numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def arrow_type_of(kind: str) -> pa.DataType:
    """The Arrow type of a DuckDB type, such as `decimal(18,2)`."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            found = connection.sql(f"SELECT CAST(NULL AS {kind}) AS item").to_arrow_table().schema.field(0).type
        except duckdb.Error as fault:
            raise Invalid(f"{kind!r} is no DuckDB type, such as integer, decimal(18,2) or timestamp") from fault
    return pa.timestamp(found.unit, "UTC") if pa.types.is_timestamp(found) and found.tz else found
