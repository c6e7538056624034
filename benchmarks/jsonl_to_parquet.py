"""A million nested JSON lines flattened to Parquet, beside one DuckDB statement."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from benchmarks.measure import call, pairs, process
from benchmarks.projects import COMMAND, duckdb_call, duckdb_command, project, warm

FIELDS = {
    "order_id": "order_id",
    "name": "customer.name",
    "city": "customer.address.city",
    "first_sku": "lines[1].sku",
    "lines": "len(lines)",
    "total": "list_sum(list_transform(lines, lambda x: x.quantity * x.price))",
}
COLUMNS = {
    "order_id": "BIGINT",
    "customer": "STRUCT(name VARCHAR, address STRUCT(city VARCHAR, zip VARCHAR))",
    "lines": "STRUCT(sku VARCHAR, quantity INTEGER, price DOUBLE)[]",
}


def flow() -> str:
    """The flow's text."""
    columns = "".join(f'      {name}: "{kind}"\n' for name, kind in COLUMNS.items())
    fields = "".join(f'      {name}: "{text}"\n' for name, text in FIELDS.items())
    return f"""flow: nested
settings: {{snapshots: sample}}
nodes:
  start: {{type: start}}
  orders:
    type: file.get
    from: start
    path: orders.jsonl
    columns:
{columns}  flat:
    type: map
    from: orders
    fields:
{fields}  written: {{type: file.post, from: flat, path: out/, format: parquet, mode: replace}}
"""


def orders_jsonl(path: Path, rows: int) -> None:
    duckdb.execute(f"""
        COPY (SELECT i AS order_id,
                     {{'name': 'customer ' || i, 'address': {{'city': 'city ' || (i % 1000), 'zip': (10000 + i % 89999)::VARCHAR}}}} AS customer,
                     [{{'sku': 'S-' || ((i * k) % 5000), 'quantity': 1 + (i + k) % 9, 'price': ((i * k) % 10000) / 100}}
                      for k in range(1, 2 + (i % 4)::INT)] AS lines
              FROM range({rows}) t(i)) TO '{path}' (FORMAT json)""")


def measure(folder: Path, runs: int, scale: float) -> None:
    made = project(folder / "nested", "nested", flow())
    orders_jsonl(made.folder / "orders.jsonl", int(1_000_000 * scale))
    columns = ", ".join(f"'{name}': '{kind}'" for name, kind in COLUMNS.items())
    fields = ", ".join(f"{text} AS {name}" for name, text in FIELDS.items())
    sql = (
        f"SET preserve_insertion_order=false; COPY (SELECT {fields} FROM read_json('{made.folder / 'orders.jsonl'}', "
        f"format='newline_delimited', columns={{{columns}}})) TO '{made.folder / 'limit.parquet'}' "
        "(FORMAT parquet, COMPRESSION zstd)"
    )
    pairs(
        "nested JSON lines 1M, flat Parquet: cold",
        1.45,
        lambda: process([COMMAND, "run", "nested", "--json"], cwd=str(made.folder)),
        lambda: process(duckdb_command(sql)),
        runs,
    )
    ours, limit = warm(made, "nested"), duckdb_call(sql)
    pairs("nested JSON lines 1M, flat Parquet: warm", 1.1, lambda: call(ours), lambda: call(limit), runs)
    shutil.rmtree(made.folder)
