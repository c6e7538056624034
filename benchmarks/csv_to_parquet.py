"""A CSV file of ten million rows (about 1 GB) filtered and mapped to Parquet, beside one DuckDB statement."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.measure import call, pairs, process
from benchmarks.projects import COMMAND, duckdb_call, duckdb_command, orders_csv, project, warm

FIELDS = {
    "order_no": "'WEB-' || order_id",
    "country": "lower(country)",
    "total": "quantity * unit_price",
    "day": "CAST(ordered_at AS DATE)",
    "size": "CASE WHEN quantity > 5 THEN 'large' ELSE 'small' END",
}
WHERE = "status <> 'cancelled'"
COLUMNS = {
    "order_id": "BIGINT",
    "customer": "VARCHAR",
    "country": "VARCHAR",
    "quantity": "INTEGER",
    "unit_price": "DECIMAL(10,2)",
    "ordered_at": "TIMESTAMP",
    "status": "VARCHAR",
    "note": "VARCHAR",
}


def flow(snapshots: str = "sample", path: str = "orders.csv") -> str:
    """The flow's text."""
    columns = ", ".join(f'{name}: "{kind}"' for name, kind in COLUMNS.items())
    fields = "".join(f'      {name}: "{text}"\n' for name, text in FIELDS.items())
    return f"""flow: bulk
settings: {{snapshots: {snapshots}}}
nodes:
  start: {{type: start}}
  orders: {{type: file.get, from: start, path: {path}, columns: {{{columns}}}}}
  kept: {{type: filter, from: orders, where: "{WHERE}"}}
  shaped:
    type: map
    from: kept
    fields:
{fields}  written: {{type: file.post, from: shaped, path: out/, format: parquet, mode: replace}}
"""


def statement(source: Path, target: Path) -> str:
    """The same as one statement, rows in any order."""
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    fields = ", ".join(f"{text} AS {name}" for name, text in FIELDS.items())
    return (
        f"SET preserve_insertion_order=false; COPY (SELECT {fields} FROM read_csv('{source}', header=true, "
        f"columns={{{columns}}}) WHERE {WHERE}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    )


def measure(folder: Path, runs: int, scale: float) -> None:
    made = project(folder / "bulk", "bulk", flow())
    orders_csv(made.folder / "orders.csv", int(10_000_000 * scale))
    sql = statement(made.folder / "orders.csv", made.folder / "limit.parquet")
    pairs(
        "CSV 10M, filter, map, Parquet: cold",
        1.25,
        lambda: process([COMMAND, "run", "bulk", "--json"], cwd=str(made.folder)),
        lambda: process(duckdb_command(sql)),
        runs,
    )
    ours, limit = warm(made, "bulk"), duckdb_call(sql)
    pairs("CSV 10M, filter, map, Parquet: warm", 1.1, lambda: call(ours), lambda: call(limit), runs)
    shutil.rmtree(made.folder)
