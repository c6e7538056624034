"""Of which records a wide node has made one: asked for those that the data log keeps, while what it took still lies there."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipelines.records import ROW_ID
from pipelines.sql.literals import name_of
from pipelines.sql.workbench import Workbench

MADE = "__made"
"""The relation of records that are asked for; its only column is `rid`."""
MOST_PARENTS = 10
"""So many parents of a record are kept, those with the smallest row ids; how many there are is told besides."""


def same_key(relation: str, key: Sequence[str]) -> str:
    """A SELECT of `rid` and `parent` where a record is made of all that have its key, and has the row id of one of them."""
    if not key:
        return f"SELECT m.rid, i.{ROW_ID} AS parent FROM {MADE} m, {name_of(relation)} i"
    names = [name_of(name) for name in key]
    same = " AND ".join(f"i.{name} IS NOT DISTINCT FROM g.{name}" for name in names)
    made = f"SELECT m.rid, {', '.join(f'f.{name}' for name in names)} FROM {MADE} m JOIN {name_of(relation)} f ON f.{ROW_ID} = m.rid"
    # made first: joining all records of a key with one another would be quadratic where one key has most of them; and then
    # what has such a key, or DuckDB hashes all records to find the few
    some = f"SELECT i.{ROW_ID}, {', '.join(f'i.{name}' for name in names)} FROM {name_of(relation)} i SEMI JOIN g ON {same}"
    return f"WITH g AS MATERIALIZED ({made}) SELECT g.rid, i.{ROW_ID} AS parent FROM g JOIN ({some}) i ON {same}"


def parents_of(bench: Workbench, pairs: str, made: pa.Array) -> pa.RecordBatch:
    """`rid`, `parents` (the smallest row ids, at most `MOST_PARENTS`) and `count`, of records made of several."""
    bench.lend(MADE, pa.table({"rid": made}))
    query = (
        f"SELECT rid, min(parent, {MOST_PARENTS}) AS parents, count(*) AS count FROM (SELECT DISTINCT * FROM ({pairs})) "
        "GROUP BY rid HAVING count(*) > 1"
    )
    found = bench.rows(query)
    rids, parents, counts = zip(*found, strict=True) if found else ((), (), ())
    return pa.record_batch(
        {
            "rid": pa.array(rids, pa.int64()),
            "parents": pa.array(parents, pa.list_(pa.int64())),
            "count": pa.array(counts, pa.int64()),
        }
    )
