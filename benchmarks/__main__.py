"""`python -m benchmarks [NAME…] [--runs N] [--scale F]`: measures all figures, or those named."""

from __future__ import annotations

import argparse
import importlib
import tempfile
from pathlib import Path

from benchmarks.measure import machine

FIGURES = ("csv_to_parquet", "jsonl_to_parquet", "small", "accounting", "memory", "wide", "postgres", "kafka", "after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(FIGURES))
    parser.add_argument("--runs", type=int, default=5, help="measured pairs")
    parser.add_argument("--scale", type=float, default=1.0, help="of the data: 1 is what the figures are stated for")
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="processflow-bench-") as folder:
        for name in given.names:
            importlib.import_module(f"benchmarks.{name}").measure(Path(folder), given.runs, given.scale)


if __name__ == "__main__":
    main()
