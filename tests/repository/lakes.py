"""What tests of the data logs share: batches of numbers, and the files of a lake."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.records import ROW_ID


def numbers(first: int, rows: int, text: str = "x") -> pa.RecordBatch:
    ids = pa.array(range(first, first + rows), pa.int64())
    return pa.record_batch({"n": ids, "text": pa.array([text] * rows), ROW_ID: ids})


def files(lake: Any) -> list[str]:
    return sorted(str(path.relative_to(lake.root)) for path in lake.root.rglob("*") if path.is_file())
