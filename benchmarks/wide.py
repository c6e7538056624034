"""Ten million orders joined with customers and grouped, sorted, and deduplicated, beside DuckDB.

Ours always has the 1 GiB that is an environment's default for wide nodes; DuckDB has what it takes, and then 1 GB.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from benchmarks.measure import call, pairs, process
from benchmarks.projects import COMMAND, duckdb_call, duckdb_command, project, warm

SOURCES = """  start: {type: start}
  orders: {type: file.get, from: start, path: orders.parquet}
  customers: {type: file.get, from: start, path: customers.parquet}
"""
CASES = {
    "join and group": (
        1.7,
        1.25,
        """  joined: {type: join, from: {left: orders, right: customers}, on: customer}
  wide: {type: aggregate, from: joined, by: [product, country], measures: {orders: count(*), total: sum(amount)}}
""",
        """SELECT product, country, count(*) AS orders, sum(amount) AS total
        FROM orders JOIN customers USING (customer) GROUP BY product, country""",
    ),
    "sort": (
        1.7,
        1.25,
        "  seen: {type: end, from: customers}\n  wide: {type: sort, from: orders, by: [-amount, id]}\n",
        "SELECT * FROM orders ORDER BY amount DESC, id",
    ),
    "dedupe": (
        1.7,
        1.25,
        "  seen: {type: end, from: customers}\n  wide: {type: dedupe, from: orders, key: [product], keep: last}\n",
        "SELECT * FROM orders QUALIFY row_number() OVER (PARTITION BY product ORDER BY id DESC) = 1",
    ),
}


LIMITS = {"": {}, ", both 1 GB": {"memory_limit": "1GB"}}


def made(folder: Path, rows: int) -> None:
    """Orders of 100,000 customers in five countries and, for ten million, of 555,000 products: 2.7 million pairs of those."""
    products = max(1, 555_000 * rows // 10_000_000)
    duckdb.execute(
        f"COPY (SELECT i AS id, hash(i) % 100000 AS customer, hash(i * 7) % {products} AS product, "
        f"((hash(i * 5) % 100000) / 100)::DECIMAL(10,2) AS amount FROM range({rows}) t(i)) TO '{folder / 'orders.parquet'}'"
    )
    duckdb.execute(
        "COPY (SELECT i::UBIGINT AS customer, 'country ' || (i % 5) AS country FROM range(100000) t(i)) "
        f"TO '{folder / 'customers.parquet'}'"
    )


def measure(folder: Path, runs: int, scale: float) -> None:
    for name in CASES:
        for limit in LIMITS:
            _measure(name, limit, folder / "wide", runs, int(10_000_000 * scale))


def _measure(name: str, limited: str, folder: Path, runs: int, rows: int) -> None:
    cold, warmed, nodes, sql = CASES[name]
    text = (
        f"flow: wide\nsettings: {{snapshots: sample}}\nnodes:\n{SOURCES}{nodes}"
        "  out: {type: file.post, from: wide, path: out/, format: parquet, mode: replace}\n"
    )
    there = project(folder, "wide", text)
    made(there.folder, rows)
    views = "; ".join(
        f"CREATE OR REPLACE VIEW {table} AS FROM '{there.folder / table}.parquet'" for table in ("orders", "customers")
    )
    statement = f"{views}; COPY ({sql}) TO '{there.folder / 'limit.parquet'}' (FORMAT parquet, COMPRESSION zstd)"
    pairs(
        f"{name}, {rows / 1e6:g}M{limited}: cold",
        cold,
        lambda: process([COMMAND, "run", "wide", "--json"], cwd=str(there.folder)),
        lambda: process(duckdb_command(statement, **LIMITS[limited])),
        runs,
    )
    ours, limit = warm(there, "wide"), duckdb_call(statement, **LIMITS[limited])
    pairs(f"{name}, {rows / 1e6:g}M{limited}: warm", warmed, lambda: call(ours), lambda: call(limit), runs)
    shutil.rmtree(there.folder)
