"""NaN is found by those who look for it: no file of ours says that it is not there."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from adapters.file import Post
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

READINGS = pa.record_batch({"value": [1.0, math.nan, 3.0]})


def test_nan_in_a_payload_is_found_by_a_query(lake: Any) -> None:
    lake.write("readings", READINGS)

    found = lake.rows("web-orders", "readings", columns="rid", rest="WHERE isnan(value)")

    assert len(found) == 1


def test_nan_in_a_parquet_file_that_was_posted_is_found(tmp_path: Path) -> None:
    post = Post(path="readings.parquet", mode="replace")
    scope = Scope(tmp_path, run="r1", staging=tmp_path / "staging")
    writer = post.open(READINGS.schema, scope, Sandbox())
    writer.put(READINGS)

    post.publish(writer.close(), READINGS.schema, scope, "r1/readings").commit()

    found = duckdb.sql(f"SELECT count(*) FROM '{tmp_path / 'readings.parquet'}' WHERE isnan(value)").fetchall()
    assert found == [(1,)]
