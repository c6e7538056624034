"""Peak memory of the bulk flow as its file grows: it must not grow with it."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.csv_to_parquet import flow
from benchmarks.measure import process
from benchmarks.projects import COMMAND, orders_csv, project


def measure(folder: Path, runs: int, scale: float) -> None:
    for rows in (1_000_000, 10_000_000, 200_000_000):
        made = project(folder / "memory", "bulk", flow())
        orders_csv(made.folder / "orders.csv", int(rows * scale))
        size = (made.folder / "orders.csv").stat().st_size
        timed = process([COMMAND, "run", "bulk", "--json"], cwd=str(made.folder))
        print(
            f"CSV of {size / (1 << 30):.2f} GiB: peak {timed.peak_bytes / (1 << 20):.0f} MiB, "
            f"{timed.seconds:.1f} s, goal 1536 MiB at 20 GB",
            flush=True,
        )
        shutil.rmtree(made.folder)
