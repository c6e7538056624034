"""Records leave a sort in DuckDB's order, in whatever order they came, and however few keys they have."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.conformance.wides import worked
from pipelines.order import Order
from pipelines.plan import Plan
from pipelines.ranges import Range, in_order, ranges
from pipelines.records import ROW_ID
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.pipelines.engine import job_of
from transforms.sort import Sort

DAY = date(2026, 1, 1)
KEYS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "numbers": (pa.int64(), [None, *range(-500, 500)]),
    "ends of numbers": (pa.int64(), [None, 2**63 - 1, -(2**63), 0, -1]),
    "large numbers": (pa.uint64(), [0, 2**64 - 1, 2**63, None]),
    "small numbers": (pa.int8(), [None, -128, 127, 0]),
    "one number": (pa.int32(), [7]),
    "nulls": (pa.int32(), [None]),
    "decimals": (pa.decimal128(10, 2), [None, *(Decimal(n) / 100 for n in range(-300, 300, 7))]),
    "long decimals": (pa.decimal128(38, 2), [None, *(Decimal(n) * 10**25 for n in range(-30, 30, 7))]),
    "days": (pa.date32(), [None, *(DAY + timedelta(days=n) for n in range(40))]),
    "moments": (pa.timestamp("us", "UTC"), [None, *(datetime(2026, 1, 1, n, tzinfo=UTC) for n in range(24))]),
    "truths": (pa.bool_(), [None, True, False]),
    "floats": (pa.float64(), [None, 0.0, -0.0, 1.5, float("nan"), float("inf"), float("-inf")]),
    "texts": (pa.string(), [None, "", "a", "A", "ä", "a\x00", "customer-0001", "customer-0002"]),
    "lists": (pa.list_(pa.int64()), [None, [], [1], [1, None], [2]]),
}


def records(kind: pa.DataType, keys: Sequence[Any], seed: int) -> pa.RecordBatch:
    chance = random.Random(seed)
    columns = {
        "k": pa.array(keys, kind),
        "n": pa.array([chance.choice([None, 1, 2, 3]) for _ in keys], pa.int16()),
        "id": pa.array(range(len(keys)), pa.int64()),
    }
    return pa.record_batch(columns)


def expected(batch: pa.RecordBatch, order: str) -> list[int]:
    with duckdb.connect() as connection:
        connection.register("t", batch)
        return [number for (number,) in connection.execute(f"SELECT id FROM t ORDER BY {order}").fetchall()]


@pytest.mark.parametrize("kind", KEYS)
def test_the_order_is_duckdbs_for(kind: str, tmp_path: Path) -> None:
    sandbox = Sandbox()

    @settings(max_examples=6, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.sampled_from(KEYS[kind][1]), max_size=120),
        st.integers(1, 5),
        st.sampled_from([["k"], ["-k"], ["n", "-k"], ["-k", "n"]]),
        st.one_of(st.none(), st.integers(0, 130)),
        st.integers(0, 9),
    )
    def holds(keys: list[Any], batch_rows: int, by: list[str], limit: int | None, seed: int) -> None:
        batch = records(KEYS[kind][0], keys, seed)
        order = ", ".join(f"{name.removeprefix('-')} {'DESC' if '-' in name else 'ASC'} NULLS LAST" for name in by)

        found = worked(Sort(by=by, limit=limit), {"": batch}, Scope(tmp_path, staging=tmp_path), sandbox, batch_rows)

        assert [number for left in found for number in left["id"].to_pylist()] == expected(batch, f"{order}, id")[
            :limit
        ]

    holds()


WAYS: dict[str, Callable[[int], np.ndarray]] = {
    "up": np.arange,
    "down": lambda n: np.arange(n)[::-1],
    "anyhow": lambda n: np.random.default_rng(1).permutation(n),
    "of which nine of ten are one": lambda n: np.where(np.arange(n) % 10 > 0, 7, np.arange(n) % 500),
    "all one": lambda n: np.zeros(n, np.int64),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("ids", ["their own", "one for all"])
def test_ranges_are_of_like_size_when_keys_come(way: str, ids: str, tmp_path: Path) -> None:
    job = job_of(Plan("sorted", "1", {}, batch_rows=100), tmp_path)
    keys = WAYS[way](20_000)
    identities = np.arange(20_000) if ids == "their own" else np.zeros(20_000, np.int64)
    whole = pa.record_batch({"k": pa.array(keys, pa.int64()), ROW_ID: pa.array(identities, pa.int64())})
    order = Order(["k"], whole.schema, Sandbox())
    pieces = [whole.slice(start, 1000) for start in range(0, 20_000, 1000)]
    runs = [piece.take(order.places(piece)) for piece in pieces]

    found = list(ranges(Range(tuple(runs)), order, job))

    assert sum(one.rows for one in found) == 20_000
    assert all(one.is_even or one.rows <= 3200 for one in found), [one.rows for one in found]
    ends = [[value for piece in one.slices for value in piece["k"].to_pylist()] for one in found]
    assert all(max(before) <= min(after) for before, after in itertools.pairwise(ends))
    assert all(len(set(keys)) == 1 for keys, one in zip(ends, found, strict=True) if one.is_even)


def test_nothing_goes_on_ordering_when_nobody_takes_what_leaves(tmp_path: Path) -> None:
    job = job_of(Plan("sorted", "1", {}, batch_rows=10), tmp_path)
    numbers = np.arange(5000)
    whole = pa.record_batch({"k": pa.array(numbers % 7), ROW_ID: pa.array(numbers)})
    order = Order(["k"], whole.schema, Sandbox())
    leaving = in_order(job, [whole.take(order.places(whole))], ["k"], None)
    first = next(leaving)

    leaving.close()

    assert first["k"].to_pylist() == [0] * 10
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("range")]
