"""S3 Parquet to PostgreSQL, beside the same flow over the same file on this machine's disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import duckdb

from benchmarks.measure import Timed, call, pairs, process
from benchmarks.projects import COMMAND, project, warm
from tests.parts import s3 as s3_parts
from tests.parts.postgres import Server
from tests.parts.sharing import alone

ROWS = 2_000_000
ORDERS = """COPY (SELECT n::BIGINT AS id, 'customer-' || n % 500000 AS customer, 'DE' AS country, (n % 9)::INT AS quantity,
    ((n % 100000) / 100.0)::DECIMAL(10,2) AS price, TIMESTAMP '2026-01-01' + n * INTERVAL 1 SECOND AS at, 'paid' AS status,
    CASE WHEN n % 3 > 0 THEN 'note ' || md5(n::VARCHAR) END AS note, n % 2 = 0 AS flag, n * 0.5::DOUBLE AS weight FROM range({rows}) t(n))
    TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
TARGET = """CREATE TABLE kept (id bigint, customer text, country text, quantity int, price numeric(10,2), at timestamp,
    status text, note text, flag boolean, weight float8)"""
FLOW = """flow: {name}
nodes:
  start: {{type: start}}
  orders: {{type: file.get, from: start, {where} path: orders.parquet}}
  out: {{type: postgres.post, from: orders, connection: shop, table: kept}}
"""


def measure(folder: Path, runs: int, scale: float) -> None:
    path = folder / "s3" / "orders.parquet"
    path.parent.mkdir()
    duckdb.execute(ORDERS.format(rows=int(ROWS * scale), path=path))
    with alone(Server.made) as postgres, alone(s3_parts.Server.made) as s3:
        bucket = s3.bucket(path)
        s3.client().upload_file(str(path), bucket, "orders.parquet")
        lake = {
            "adapter": "file", "url": f"s3://{bucket}", "endpoint": s3.address, "region": s3_parts.REGION,
            "access_key": s3_parts.KEY, "secret_key": {"secret": s3_parts.SECRET},
        }  # fmt: skip
        settings = {"environment": "local", "connections": {"shop": postgres.settings(), "lake": lake}}
        made = project(path.parent, "remote", FLOW.format(name="remote", where="connection: lake,"))
        project(path.parent, "local", FLOW.format(name="local", where=""))
        (path.parent / "environments").mkdir()
        (path.parent / "environments" / "local.yaml").write_text(json.dumps(settings))
        _execute(postgres, TARGET)
        print(f"{path.stat().st_size / 1e6:.0f} MB of Parquet")
        remote, local = warm(made, "remote"), warm(made, "local")
        what = f"S3 Parquet {ROWS * scale / 1e6:g}M to PostgreSQL"
        pairs(f"{what}: warm", 1.2, _fresh(postgres, lambda: call(remote)), _fresh(postgres, lambda: call(local)), runs)
        cold = [[COMMAND, "run", name, "--json"] for name in ("remote", "local")]
        ours, limit = (_fresh(postgres, _process(words, path.parent)) for words in cold)
        pairs(f"{what}: cold", 1.2, ours, limit, runs)


def _process(words: list[str], folder: Path) -> Callable[[], Timed]:
    return lambda: process(words, str(folder), dict(os.environ))


def _fresh(server: Server, timed: Callable[[], Timed]) -> Callable[[], Timed]:
    """Each run begins with an empty table; emptying it is not timed."""

    def run() -> Timed:
        _execute(server, "TRUNCATE kept")
        _execute(server, "CHECKPOINT")
        return timed()

    return run


def _execute(server: Server, statement: str) -> None:
    with server.connect() as connection:
        connection.execute(statement)
