"""What accounting and snapshots cost: the bulk flow with its sample of every port, beside the same without any."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.csv_to_parquet import flow
from benchmarks.measure import call, pairs
from benchmarks.projects import orders_csv, project, warm


def measure(folder: Path, runs: int, scale: float) -> None:
    made = project(folder / "accounting", "bulk", flow("sample"))
    plain = project(folder / "accounting", "plain", flow("none").replace("flow: bulk", "flow: plain"))
    orders_csv(made.folder / "orders.csv", int(10_000_000 * scale))
    sampled, bare = warm(made, "bulk"), warm(plain, "plain")
    pairs("snapshots on, to off: warm", 1.15, lambda: call(sampled), lambda: call(bare), runs)
    shutil.rmtree(made.folder)
