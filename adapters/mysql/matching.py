"""Says in SQL that a record has one of some keys."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.mysql.parameters import literal
from adapters.mysql.types import MyColumn
from pipelines.tables.finding import Matching
from pipelines.tables.get import TableGet
from pipelines.tables.relation import as_list


def matched(get: TableGet, matching: Matching) -> str:
    """SQL that is true for the records of `get` with one of these keys, and perhaps for others that their collation takes
    for the same; an index of theirs is used."""
    place, names = get.relation(), []
    for column in matching.columns:
        assert isinstance(column, MyColumn)
        name = place.column(column.name)
        names.append(f"CAST({name} AS CHAR)" if column.sort == "json" else column.picked(name))
    rows = zip(*(column.to_pylist() for column in matching.keys.columns), strict=True)
    lists = ", ".join(f"({', '.join(map(literal, key))})" for key in rows)
    return f"({', '.join(names)}) IN ({lists})" if lists else "false"


def among(get: TableGet, columns: Sequence[MyColumn], keys: Sequence[Sequence[object]]) -> str:
    """SQL that is true for the records with one of these keys, each told by the digits of its bytes: no blank, letter or null
    is taken for another, and the server looks a key up in a sorted list."""
    place = get.relation()
    items = []
    for name in as_list(get.key):
        column = next(column for column in columns if column.name == name)
        sql = place.column(name)
        text = sql if column.sort == "binary" else f"CONVERT({sql} USING utf8mb4)"
        items.append(f"ifnull(hex({text}), 'N')")
    found = ", ".join(f"'{','.join(map(digits, key))}'" for key in keys)
    return f"concat_ws(',', {', '.join(items)}) IN ({found})"


def digits(value: object) -> str:
    if value is None:
        return "N"
    return (value if isinstance(value, bytes) else str(value).encode()).hex().upper()
