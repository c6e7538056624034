"""PostgreSQL to PostgreSQL, to Parquet, written and upserted, beside psql and COPY done by hand."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb

from benchmarks.measure import Timed, call, pairs, process
from benchmarks.projects import COMMAND, project, warm
from tests.parts.postgres import PASSWORD, USER, Server
from tests.parts.sharing import alone

TABLE = """CREATE TABLE orders AS SELECT n::bigint AS id, 'customer-' || n % 500000 AS customer, 'DE' AS country,
    (n % 9)::int AS quantity, ((n % 100000) / 100.0)::numeric(10,2) AS price, now()::timestamp + n * interval '1 second' AS at,
    'paid' AS status, CASE WHEN n % 3 > 0 THEN 'note ' || n END AS note, n % 2 = 0 AS flag, n * 0.5::float8 AS weight
    FROM generate_series(1, {rows}) n"""
COLUMNS = ("id", "customer", "country", "quantity", "price", "at", "status", "note", "flag", "weight")
TARGET = """CREATE TABLE kept (id bigint PRIMARY KEY, customer text, country text, quantity int, price numeric(10,2), at timestamp,
    status text, note text, flag boolean, weight float8)"""
READ = """  orders: {type: postgres.get, from: start, connection: shop, table: orders}
  out: {type: file.post, from: orders, path: out/, format: parquet, mode: replace}
"""
WRITE = """  orders: {{type: file.get, from: start, path: orders.parquet}}
  out: {{type: postgres.post, from: orders, connection: shop, table: kept, mode: {mode}, key: [id]}}
"""
COPY = """  orders: {type: postgres.get, from: start, connection: shop, table: orders}
  out: {type: postgres.post, from: orders, connection: shop, table: moved}
"""
MAP = """  orders: {type: postgres.get, from: start, connection: shop, table: orders}
  shaped: {type: map, from: orders, fields: {customer: upper(customer), price: "CAST(price * 2 AS decimal(10,2))", weight: weight / 1000}}
  out: {type: postgres.post, from: shaped, connection: shop, table: moved}
"""
BY_HAND = """
import sys, threading, psycopg, asyncio, asyncpg, pyarrow as pa, pyarrow.csv as csv, pyarrow.parquet as pq
words, target = {words!r}, {target!r}
kinds = dict(zip({columns!r}, [pa.int64(), pa.string(), pa.string(), pa.int32(), pa.decimal128(10, 2), pa.timestamp("us"),
    pa.string(), pa.string(), pa.bool_(), pa.float64()]))
blocks = psycopg.connect(words).execute("SELECT pg_relation_size('orders') / 8192").fetchone()[0]
def part(number):
    async def go():
        con = await asyncpg.connect(words)
        with pq.ParquetWriter(f"{{target}}-{{number}}.parquet", pa.schema(list(kinds.items())), compression="zstd") as file:
            held, size = [], 0
            def write():
                text = b"".join(held); held.clear()
                if text:
                    file.write_table(csv.read_csv(pa.BufferReader(text), read_options=csv.ReadOptions(column_names=list(kinds),
                        use_threads=False, block_size=len(text) + 1), convert_options=csv.ConvertOptions(column_types=kinds,
                        true_values=["t"], false_values=["f"], strings_can_be_null=True, quoted_strings_can_be_null=False)))
            async def take(data):
                nonlocal size
                held.append(data); size += len(data)
                if size > 16 << 20: write(); size = 0
            ends = (blocks * number // 2, blocks * (number + 1) // 2 if number == 0 else 1 << 31)
            await con.copy_from_query(f"SELECT * FROM orders WHERE ctid >= '({{ends[0]}},0)' AND ctid < '({{ends[1]}},0)'",
                output=take, format="csv")
            write()
        await con.close()
    asyncio.run(go())
threads = [threading.Thread(target=part, args=(number,)) for number in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


WRITE_BY_HAND = """
import psycopg
with psycopg.connect({words!r}) as connection, connection.cursor() as cursor:
    if {stage!r}:
        cursor.execute({stage!r})
    with cursor.copy({copy!r}) as copy, open({text!r}, "rb") as file:
        while block := file.read(1 << 20):
            copy.write(block)
    if {merge!r}:
        cursor.execute({merge!r})
"""


def measure(folder: Path, runs: int, scale: float) -> None:
    with alone(Server.made) as server:
        words = f"postgresql://{USER}@127.0.0.1:{server.port}/postgres"
        os.environ["PGPASSWORD"] = PASSWORD
        _run(server, TABLE.format(rows=int(5_000_000 * scale)))
        _run(server, "VACUUM ANALYZE orders")
        _move(server, words, folder / "copy", runs, COPY, "PostgreSQL 5M to PostgreSQL", (1.25, 1.1))
        _move(server, words, folder / "map", runs, MAP, "PostgreSQL 5M, map, to PostgreSQL", (1.6, 1.6))
        _read(server, words, folder / "read", runs)
        _write(server, words, folder / "write", runs, int(1_000_000 * scale), "append")
        _write(server, words, folder / "upsert", runs, int(100_000 * scale), "upsert")


def _flow(server: Server, folder: Path, nodes: str) -> Callable[[], object]:
    made = project(folder, "moved", f"flow: moved\nnodes:\n  start: {{type: start}}\n{nodes}")
    (folder / "environments").mkdir()
    settings = {"environment": "local", "connections": {"shop": server.settings()}}
    (folder / "environments" / "local.yaml").write_text(json.dumps(settings))
    return warm(made, "moved")


def _run(server: Server, statement: str) -> None:
    with server.connect() as connection:
        connection.execute(statement)


def _fresh(server: Server, statements: Sequence[str], timed: Callable[[], Timed]) -> Callable[[], Timed]:
    """Each run begins with the same tables; making them is not timed."""

    def run() -> Timed:
        for statement in [*statements, "CHECKPOINT"]:
            _run(server, statement)
        return timed()

    return run


def _move(
    server: Server, words: str, folder: Path, runs: int, nodes: str, what: str, goals: tuple[float, float]
) -> None:
    """From one table into another like it, beside two psql and a pipe."""
    _run(server, "CREATE TABLE IF NOT EXISTS moved (LIKE orders)")
    ours = _flow(server, folder, nodes)
    psql = shutil.which("psql") or "psql"
    pipe = f'{psql} -qc "copy orders to stdout (format binary)" {words} | {psql} -qc "copy moved from stdin (format binary)" {words}'
    limit = _fresh(server, ["TRUNCATE moved"], lambda: process(["sh", "-c", pipe]))
    cold = [COMMAND, "run", "moved", "--json"]
    pairs(
        f"{what}: cold", goals[0], _fresh(server, ["TRUNCATE moved"], lambda: process(cold, str(folder))), limit, runs
    )
    pairs(f"{what}: warm", goals[1], _fresh(server, ["TRUNCATE moved"], lambda: call(ours)), limit, runs)
    _run(server, "DROP TABLE moved")


def _read(server: Server, words: str, folder: Path, runs: int) -> None:
    ours = _flow(server, folder, READ)
    code = BY_HAND.format(columns=COLUMNS, words=words, target=str(folder / "limit"))
    command = [sys.executable, "-c", code]
    cold = [COMMAND, "run", "moved", "--json"]
    pairs("PostgreSQL 5M to Parquet: cold", 1.5, lambda: process(cold, str(folder)), lambda: process(command), runs)
    pairs("PostgreSQL 5M to Parquet: warm", 1.3, lambda: call(ours), lambda: call(lambda: exec(code, {})), runs)


def _write(server: Server, words: str, folder: Path, runs: int, rows: int, mode: str) -> None:
    """Append of a million, or upsert of a hundred thousand into a million, half of them there."""
    _run(server, "DROP TABLE IF EXISTS kept")
    _run(server, TARGET)
    base = 10 * rows if mode == "upsert" else 0
    columns = ", ".join(COLUMNS)
    folder.mkdir(parents=True)
    lowest = base - rows // 2 if base else 1
    rows_sql = (
        TABLE.removeprefix("CREATE TABLE orders AS ")
        .format(rows=0)
        .replace("generate_series(1, 0) n", "range({first}, {end}) t(n)")
    )
    query = rows_sql.replace("::int AS quantity", "::INTEGER AS quantity").format(first=lowest, end=lowest + rows)
    duckdb.execute(f"COPY ({query}) TO '{folder / 'orders.parquet'}'")
    text = str(folder / "orders.csv")
    duckdb.execute(f"COPY (FROM '{folder / 'orders.parquet'}') TO '{text}' (HEADER false)")
    ours = _flow(server, folder, WRITE.format(mode=mode))
    sets = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
    code = WRITE_BY_HAND.format(
        words=words,
        text=text,
        stage="CREATE TEMP TABLE stage (LIKE kept) ON COMMIT DROP" if base else "",
        copy=f"COPY {'stage' if base else 'kept'} ({columns}) FROM STDIN (FORMAT csv)",
        merge=f"INSERT INTO kept SELECT * FROM stage ON CONFLICT (id) DO UPDATE SET {sets}" if base else "",
    )

    made = [f"INSERT INTO kept {TABLE.removeprefix('CREATE TABLE orders AS ').format(rows=base)}"] if base else []
    first = ["TRUNCATE kept", *made, "VACUUM ANALYZE kept"]
    what, cold_goal, warm_goal = ("upsert 100k into 1M", 2.4, 1.45) if base else ("write 1M", 2.4, 1.45)
    cold = [COMMAND, "run", "moved", "--json"]
    pairs(
        f"PostgreSQL {what}: cold",
        cold_goal,
        _fresh(server, first, lambda: process(cold, str(folder))),
        _fresh(server, first, lambda: process([sys.executable, "-c", code])),
        runs,
    )
    pairs(
        f"PostgreSQL {what}: warm",
        warm_goal,
        _fresh(server, first, lambda: call(ours)),
        _fresh(server, first, lambda: call(lambda: exec(code, {}))),
        runs,
    )
