"""Says in SQL that a record has one of some keys, so that an index of theirs is used."""

from __future__ import annotations

from pipelines.tables.finding import Matching
from pipelines.tables.get import TableGet


def matched(get: TableGet, matching: Matching, values: dict[str, object]) -> str:
    """SQL that is true for the records of `get` with one of these keys; what is bound is put into `values`."""
    place = get.relation()
    names = [place.column(column.name) for column in matching.columns]
    marks = []
    for row, key in enumerate(zip(*(column.to_pylist() for column in matching.keys.columns), strict=True)):
        given = {f"__k{number}_{row}": value for number, value in enumerate(key)}
        values.update(given)
        marks.append(f"({', '.join(f'${name}' for name in given)})")
    return f"({', '.join(names)}) IN (VALUES {', '.join(marks)})" if marks else "false"
