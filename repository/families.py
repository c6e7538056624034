"""Which records were made of which: what the data logs know of a run's wide nodes, asked for single records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from repository.columns import literal
from repository.opening import opened, read_files

Place = tuple[str, int]
"""A run and a row id."""


@dataclass(frozen=True)
class Made:
    """A record that a node made of several."""

    node: str
    rid: int
    parents: tuple[int, ...]
    """The smallest row ids of those it was made of; the data log keeps some of them."""
    count: int
    """How many it was made of."""


def families(paths: Collection[str], places: Collection[Place], most: int = 10) -> Mapping[Place, list[Made]]:
    """For each record those that it is, or that it went into, so many at most, by row id."""
    found: dict[Place, list[Made]] = {place: [] for place in places}
    if not paths or not places:
        return found
    runs = ", ".join(sorted({literal(run) for run, _ in places}))
    rids = f"[{', '.join(str(rid) for rid in sorted({rid for _, rid in places}))}]::BIGINT[]"
    where = f"run IN ({runs}) AND (list_contains({rids}, rid) OR list_has_any(parents, {rids}))"
    with opened(list(paths)) as connection:
        sql = f'SELECT run, node, rid, parents, "count" FROM {read_files(list(paths))} WHERE {where} ORDER BY rid, node'
        rows: list[tuple[Any, ...]] = connection.sql(sql).fetchall()
    for run, node, rid, parents, count in rows:
        for place in {(run, rid), *((run, parent) for parent in parents)} & found.keys():
            if len(found[place]) < most:
                found[place].append(Made(node, rid, tuple(parents), count))
    return found
