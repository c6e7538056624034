"""The sample of a port is the same records, however the data was split."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.records import ROW_ID, ids_of
from repository.sample import SAMPLE_ROWS, Hashes, Sample, sampled


def records(ids: list[int] | np.ndarray, width: int = 0) -> pa.RecordBatch:
    numbers = pa.array(ids, pa.int64())
    columns: dict[str, pa.Array] = {"n": numbers}
    if width:
        columns["text"] = pa.array(["x" * width] * len(ids))
    return pa.record_batch({**columns, ROW_ID: numbers})


def chosen(batches: list[pa.RecordBatch]) -> list[int]:
    return sorted(value for batch in batches for value in ids_of(batch).to_pylist())


def plainly(ids: list[int], rows: int) -> list[int]:
    """The same rule in Python's own integers."""

    def hashed(number: int) -> int:
        mixed = (number * 0x9E3779B97F4A7C15) & (2**64 - 1)
        return ((mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93) & (2**64 - 1)

    return sorted(sorted(ids, key=hashed)[:rows])


@given(
    ids=st.lists(st.integers(0, 2**62), unique=True, max_size=400),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    threads=st.integers(1, 4),
    rows=st.integers(1, 50),
)
@settings(max_examples=50, deadline=None)
def test_samples_of_threads_merge_to_the_smallest_hashes_of_all(
    ids: list[int], cuts: list[int], threads: int, rows: int
) -> None:
    edges = sorted({0, len(ids), *(cut for cut in cuts if cut < len(ids))})
    parts = [records(ids[a:b]) for a, b in itertools.pairwise(edges)]

    by_thread = [sampled(parts[thread::threads], rows) for thread in range(threads)]
    merged = sampled([batch for batches in by_thread for batch in batches], rows)

    assert chosen(merged) == plainly(ids, rows)


def test_later_batches_cost_one_compare_and_few_copies() -> None:
    kept, seen, sample = [], Hashes(), Sample()

    for start in range(0, 100 * 65_536, 65_536):
        batch = records(np.arange(start, start + 65_536))
        hashes = seen.of(ids_of(batch))
        near = sample.near(hashes)
        assert near is not None
        kept.append(len(near))
        sample.add(batch.take(pa.array(near)), hashes[near])

    assert sum(kept) < 20 * SAMPLE_ROWS
    assert max(kept[50:]) < 100
    assert sum(batch.num_rows for batch in sample.close()) == SAMPLE_ROWS


def test_the_same_ids_handed_on_are_hashed_once() -> None:
    seen = Hashes()
    batch = records(np.arange(1000))
    first = seen.of(ids_of(batch))
    first[0] = 7

    again = int(seen.of(ids_of(batch.append_column("more", ids_of(batch))))[0])
    other = seen.of(ids_of(batch.slice(1)))

    assert again == 7
    assert len(other) == 999


def test_records_of_one_row_id_are_taken_in_the_order_they_came() -> None:
    ids = [5] * 30 + [6] * 30
    batch = pa.record_batch({"n": pa.array(range(60)), ROW_ID: pa.array(ids, pa.int64())})

    kept = sampled([batch.slice(0, 20), batch.slice(20)], rows=40)

    numbers = sorted(value for one in kept for value in one.column("n").to_pylist())
    half = numbers[10:] if numbers[:10] == list(range(10)) and numbers[10] >= 30 else numbers[:30]
    assert len(numbers) == 40
    assert half in (list(range(30)), list(range(30, 60)))


def test_large_records_are_sampled_within_the_bytes_and_merge_the_same() -> None:
    ids = random.Random(3).sample(range(10**9), 60)
    whole, halves = Sample(50, 20_000), [Sample(50, 20_000), Sample(50, 20_000)]
    hashes = Hashes()

    for place, number in enumerate(ids):
        batch = records([number], width=1000)
        for sample in (whole, halves[place % 2]):
            sample.add(batch, hashes.of(ids_of(batch)))
    merged = Sample(50, 20_000)
    for half in halves:
        for batch in half.close():
            merged.add(batch, hashes.of(ids_of(batch)))

    assert chosen(merged.close()) == chosen(whole.close())
    assert whole.bytes <= 20_000
    assert len(chosen(whole.close())) >= 15


def test_one_record_larger_than_the_limit_is_still_kept() -> None:
    batch = records([1, 2, 3], width=5000)
    sample = Sample(10, 1000)

    sample.add(batch, Hashes().of(ids_of(batch)))

    assert len(chosen(sample.close())) == 1
