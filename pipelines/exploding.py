"""Joins that would make far more records than anybody wants: found by counting keys, before the first pair is made."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.errors import Failed
from pipelines.job import Job
from pipelines.node import Wide
from pipelines.plan import Station
from pipelines.sql.literals import name_of
from pipelines.sql.workbench import Workbench


def refuse_explosion(bench: Workbench, station: Station, job: Job, rows: Mapping[str, int], alike: int = 0) -> None:
    """Fails where the pairs of a join's records are more than its limit, or the environment's; says which key it is.

    Args:
        rows: how many records lie in the relations `left` and `right`.
        alike: how many of the smaller one have the same key at most; 0: that is to be counted.
    """
    config = station.spec.config
    pairing = config.pairing(station.named_inputs) if isinstance(config, Wide) else None
    if pairing is None:
        return
    keys = pairing.keys
    limit = pairing.limit or job.scope.environment.runner.made_records
    made = job.watch.meter.rows(station.name, "out")
    if made + rows["left"] * rows["right"] <= limit or (alike and made + alike * max(rows.values()) <= limit):
        return
    few = "left" if rows["left"] < rows["right"] else "right"
    columns = [mine if few == "left" else theirs for mine, theirs in keys.items()]
    counted = f"SELECT max(n) FROM (SELECT count(*) AS n FROM {name_of(few)} GROUP BY {_list(columns)})"
    ((most,),) = bench.rows(counted)
    if made + int(str(most or 0)) * max(rows.values()) <= limit:
        return
    found = bench.rows(_pairs(keys))
    if found and made + int(str(found[0][-1])) > limit:
        raise Failed(_told(station.name, keys, found[0], rows, made, limit))


def _pairs(keys: Mapping[str, str]) -> str:
    """The key with the most pairs: its values, how often it is on the left and right, and all pairs there are."""
    sides = {
        side: f"(SELECT {_list(columns)}, count(*) AS n FROM {name_of(side)} GROUP BY {_list(columns)})"
        for side, columns in (("left", list(keys)), ("right", list(keys.values())))
    }
    on = " AND ".join(f"l.{name_of(mine)} = r.{name_of(theirs)}" for mine, theirs in keys.items())
    values = ", ".join(f"l.{name_of(mine)}" for mine in keys)
    return (
        f"SELECT {values}, l.n, r.n, sum(l.n::HUGEINT * r.n) OVER () FROM {sides['left']} l JOIN {sides['right']} r ON {on} "
        "ORDER BY l.n::HUGEINT * r.n DESC LIMIT 1"
    )


def _told(
    node: str, keys: Mapping[str, str], worst: tuple[object, ...], rows: Mapping[str, int], made: int, limit: int
) -> str:
    *values, left, right, pairs = worst
    key = ", ".join(f"{name} = {value}" for name, value in zip(keys, values, strict=True))
    total = made + int(str(pairs))
    return (
        f"node {node!r}: it would make {total:,} records or more, of {rows['left']:,} and {rows['right']:,}, and {limit:,} "
        f"are allowed; {key} is there {left:,} times on the left and {right:,} times on the right: dedupe one side, join by "
        "more columns, or raise `limit` at the node or `made_records` of the environment's runner"
    )


def _list(names: list[str]) -> str:
    return ", ".join(map(name_of, names))
