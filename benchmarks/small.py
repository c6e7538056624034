"""Fixed costs: a flow of ten records, and the commands that answer without Beam, beside importing Beam."""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

from benchmarks.csv_to_parquet import flow
from benchmarks.measure import Timed, call, pairs, process
from benchmarks.projects import COMMAND, orders_csv, project, warm


def measure(folder: Path, runs: int, scale: float) -> None:
    made = project(folder / "small", "bulk", flow("auto"))
    orders_csv(made.folder / "orders.csv", 10)

    def importing() -> Timed:
        return process([sys.executable, "-c", "import apache_beam"])

    def command(*words: str) -> Timed:
        return process([COMMAND, *words], cwd=str(made.folder))

    pairs("ten records, cold, to importing Beam", 1.4, lambda: command("run", "bulk", "--json"), importing, runs)
    pairs("check, to importing Beam", 0.35, lambda: command("check", "bulk"), importing, runs)
    pairs("query, to importing Beam", 0.35, lambda: command("query", "select * from runs"), importing, runs)
    pairs("runs, to importing Beam", 0.35, lambda: command("runs"), importing, runs)
    ours = warm(made, "bulk")
    for _ in range(5):
        ours()
    seconds = sorted(call(ours).seconds for _ in range(10 * runs))
    print(f"ten records, warm: {statistics.median(seconds):.4f} s ({seconds[0]:.4f}-{seconds[-1]:.4f}), goal 0.03 s")
    shutil.rmtree(made.folder)
