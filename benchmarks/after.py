"""A replay of 1,000 rejects out of 10M; a key traced and a question answered over 1,000 runs and 100M logged records."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from agent.prepare import Request
from agent.report import Report
from agent.runs import run
from agent.tracing import trace
from benchmarks.measure import Timed, call, process
from benchmarks.projects import COMMAND, orders_csv, project
from pipelines.node import Receipts, Rejects
from pipelines.records import with_ids
from pipelines.tap import TapPlan
from repository.catalogue import Catalogue
from repository.lake import commit, open_tap
from repository.project import Project
from repository.query import rows

REJECTS = 1_000
RULE = """flow: bulk
settings: {{snapshots: sample}}
nodes:
  start: {{type: start}}
  orders: {{type: file.get, from: start, path: orders.csv, columns: {{order_id: bigint, customer: string, country: string,
    quantity: integer, unit_price: "decimal(10,2)", ordered_at: timestamp, status: string, note: string}}}}
  checked: {{type: validate, from: orders, expectations: [{{expect_column_values_to_be_between: {{column: order_id, max_value: {most}}}}}]}}
  shaped: {{type: map, from: checked, fields: {{total: quantity * unit_price}}}}
  out: {{type: file.post, from: shaped, path: out/, format: parquet}}
"""
NIGHTS = """flow: nightly
settings: {snapshots: all}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.parquet, key: [order_no]}
  shaped: {type: map, from: orders, fields: {total: quantity * price}}
  out: {type: file.post, from: shaped, path: out/, format: parquet}
"""
RUNS = 1_000
RECORDS = 50_000
"""What a run logs of each of its two ports."""
SOME, EVERY = "WEB-LOOKED-FOR", "WEB-EVERY-NIGHT"
"""A key that every two-hundredth run has seen, and one that all have."""
AGGREGATE = (
    'SELECT country, count(*) AS records, sum(total) AS total FROM "nightly".shaped GROUP BY country ORDER BY country'
)
COUNTED = "SELECT node, port, count(*) AS records FROM records GROUP BY ALL ORDER BY ALL"


def measure(folder: Path, runs: int, scale: float) -> None:
    _replays(folder / "replay", runs, int(10_000_000 * scale))
    _nights(folder / "nights", runs, int(RUNS * scale))


def _replays(folder: Path, runs: int, records: int) -> None:
    made = project(folder, "bulk", RULE.format(most=records - REJECTS - 1))
    orders_csv(folder / "orders.csv", records)
    before = run(Request(made, "bulk"))
    assert before["nodes"]["checked"]["rejected"] == REJECTS, before["error"]
    (folder / "flows" / "bulk.yaml").write_text(RULE.format(most=records))
    words = [COMMAND, "replay", before["run"], "--again", "--json"]
    _told(f"replay of {REJECTS:,} of {records:,}: cold", 2, partial(process, words, cwd=str(folder)), runs)
    shutil.rmtree(folder)


def _nights(folder: Path, runs: int, nights: int) -> None:
    made = project(folder, "nightly", NIGHTS)
    logged(made, nights)
    files = list(made.lake.rglob("*.parquet"))
    size = sum(path.stat().st_size for path in files)
    print(f"{nights:,} runs, {2 * RECORDS * nights:,} logged records, {len(files):,} files, {size / (1 << 30):.1f} GiB")
    asked(made, runs)
    shutil.rmtree(folder)


def asked(made: Project, runs: int) -> None:
    """Traces keys and answers questions over what was laid down."""
    for key, said in ((SOME, "that every 200th run saw"), (EVERY, "that every run saw, the latest 20 shown")):
        _both(f"trace of a key {said}", 0.3, ["trace", key, "--json"], partial(trace, made, key), made, runs)
    for said, sql in (("sum by a column of a node", AGGREGATE), ("count of all records by port", COUNTED)):
        _both(f"query, {said}", 3, ["query", sql], partial(rows, made.lake, sql), made, runs)


def _both(name: str, goal: float, words: list[str], ours: Callable[[], object], made: Project, runs: int) -> None:
    _told(f"{name}: cold", goal, partial(process, [COMMAND, *words], cwd=str(made.folder)), runs)
    _told(f"{name}: warm", goal, partial(call, ours), runs)


def logged(made: Project, nights: int) -> None:
    """Lays the data logs of many runs down as their taps and commits would."""
    made.prepare()
    catalogue = Catalogue(made.catalogue_url)
    try:
        for night in range(nights):
            _night(made, catalogue, night)
    finally:
        catalogue.close()


def _night(made: Project, catalogue: Catalogue, night: int) -> None:
    started = datetime(2026, 1, 1, 2, tzinfo=UTC) + timedelta(hours=6 * night)
    name = f"{started:%Y%m%d-%H%M%S}-{night:04x}"
    orders = _orders(night)
    ids = pa.array(np.arange(RECORDS, dtype=np.int64) * 40)
    total = pa.compute.multiply(orders["quantity"].cast(pa.float64()), orders["price"])
    keys = dict.fromkeys(("orders", "shaped", "out"), ("order_no",))
    policy = {"orders.out": "all", "shaped.out": "all", "out.out": "none"}
    staging = made.staging(name)
    tap = open_tap(TapPlan(made.lake, staging, "nightly", "v1", name, policy, keys))
    tap.records("orders", "out", with_ids(orders, ids))
    tap.records("shaped", "out", with_ids(orders.append_column("total", total), ids))
    refused = Rejects(pa.array([0], pa.int64()), pa.array(["unique"]), pa.array(["was there"]))
    tap.rejects("out", with_ids(orders, ids).slice(RECORDS - 1), refused, 1)
    tap.deliveries("out", ids.slice(0, RECORDS - 1), Receipts(orders["order_no"].slice(0, RECORDS - 1)), 1)
    pieces = [dict(piece) for piece in tap.close()]
    report = _report(name, started)
    catalogue.begin_run(name, "nightly", "v1", "local", started)
    commit(made.lake, report, pieces)
    catalogue.end_run(name, report)
    shutil.rmtree(staging, ignore_errors=True)


def _orders(night: int) -> pa.RecordBatch:
    """A night's orders: their numbers are without order, a fifth of them were seen in nights before."""
    chance = np.random.default_rng(night)
    numbers = chance.integers(0, (night + 4) * RECORDS, RECORDS)
    texts = pa.compute.binary_join_element_wise("WEB", pa.array(numbers).cast(pa.string()), "-").to_pylist()
    texts[17] = EVERY
    if night % 200 == 0:
        texts[4_711] = SOME
    return pa.record_batch(
        {
            "order_no": pa.array(texts),
            "country": pa.array(["DE", "FR", "NL", "AT", "US"]).take(pa.array(chance.integers(0, 5, RECORDS))),
            "quantity": pa.array(chance.integers(1, 10, RECORDS), pa.int32()),
            "price": pa.array(chance.integers(100, 10_000, RECORDS) / 100),
            "status": pa.array(["new", "paid", "sent"]).take(pa.array(chance.integers(0, 3, RECORDS))),
        }
    )


def _report(name: str, started: datetime) -> Report:
    def node(kind: str, taken: int, rejected: int = 0) -> Mapping[str, Any]:
        left = RECORDS - rejected
        delivered = left if kind == "file.post" else 0
        counts = {"in": taken, "created": 0, "out": {"out": left}, "filtered": 0, "rejected": rejected, "merged": 0}
        return {"type": kind, "status": "done", **counts, "delivered": delivered, "seconds": 0.1}

    return {
        "run": name, "flow": "nightly", "version": "v1", "environment": "local", "trigger": "hand",
        "status": "done_with_rejects", "balanced": True, "started": started.isoformat(),
        "ended": (started + timedelta(seconds=5)).isoformat(), "seconds": 5.0, "parameters": {}, "delivery": {}, "error": None,
        "nodes": {
            "orders": node("file.get", RECORDS), "shaped": node("map", RECORDS), "out": node("file.post", RECORDS, 1),
        },
    }  # fmt: skip


def _told(name: str, goal: float, ours: Callable[[], Timed], runs: int) -> None:
    """Runs once unmeasured and then `runs` times, and prints the median of the seconds."""
    ours()
    measured = [ours() for _ in range(runs)]
    seconds = sorted(one.seconds for one in measured)
    cpu = statistics.median(one.cpu_seconds for one in measured)
    print(
        f"{name:<64} {statistics.median(seconds):6.3f} s ({seconds[0]:.3f}-{seconds[-1]:.3f}), goal {goal:g} s"
        f" | cpu {cpu:.2f} s",
        flush=True,
    )
