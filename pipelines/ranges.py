"""Records in order without one sort of everything: spilled as sorted runs, cut into ranges, ordered range by range.

A worker orders what it holds before it spills it: a *run* is one batch of a file. When all runs are there, a sample of them
tells where to cut, so that each range is about as large as any other, in whatever order the records came and however
frequent a key is. Where a range begins in a run is searched in the file. Each range is ordered by itself and leaves
before the next; another thread meanwhile orders that one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.job import Job
from pipelines.order import Order
from pipelines.sql.sandbox import borrowed

RANGE_BYTES, MEMORY_SHARE = 32 << 20, 32
"""How large a range shall be: so much, or a share of the environment's memory; two are held at a time."""
RANGE_BATCHES = 16
SAMPLED = 64
"""Records that are looked at for each range."""


@dataclass(frozen=True)
class Range:
    """Records that leave before those of the next range: slices of runs, each in order. `is_even`: none comes before another."""

    slices: tuple[pa.RecordBatch, ...]
    is_even: bool = False

    @property
    def rows(self) -> int:
        return sum(piece.num_rows for piece in self.slices)

    @property
    def bytes(self) -> int:
        return sum(piece.nbytes for piece in self.slices)


def in_order(
    job: Job, runs: Sequence[pa.RecordBatch], by: Sequence[str], limit: int | None
) -> Generator[pa.RecordBatch, None, None]:
    """The records of sorted runs in order, in batches; at most `limit`."""
    left = sum(run.num_rows for run in runs)
    left = left if limit is None else min(left, limit)
    if not left:
        return
    with borrowed(job.scope) as sandbox:
        untell = job.watch.stop.tell(sandbox.interrupt)
        order = Order(by, runs[0].schema, sandbox)
        found = _ordered(ranges(Range(tuple(runs)), order, job), order, ahead=job.workers > 1)
        try:
            for batch, places in found:
                for start in range(0, min(batch.num_rows, left), job.plan.batch_rows):
                    rows = min(job.plan.batch_rows, left - start)
                    yield batch.slice(start, rows) if places is None else batch.take(places.slice(start, rows))
                left -= batch.num_rows
                if left <= 0:
                    return
        finally:
            found.close()
            untell()


Piece = tuple[pa.RecordBatch, pa.Array | None]
"""Records, and which of them come first, second, and so on; None: as they lie."""


def _ordered(found: Iterator[Range], order: Order, ahead: bool) -> Generator[Piece, None, None]:
    """The records of ranges; with `ahead` another thread orders the next while one leaves."""
    if not ahead:
        for one in found:
            yield from _worked(one, order)
        return

    def following() -> list[Piece] | None:
        one = next(found, None)
        return None if one is None else list(_worked(one, order))

    with ThreadPoolExecutor(1, "range") as pool:
        coming: Future[list[Piece] | None] = pool.submit(following)
        while (pieces := coming.result()) is not None:
            coming = pool.submit(following)
            yield from pieces


def _worked(one: Range, order: Order) -> Iterator[Piece]:
    slices = [piece for piece in one.slices if piece.num_rows]
    if one.is_even or len(slices) <= 1:
        yield from ((piece, None) for piece in slices)
        return
    whole = pa.concat_batches(slices)
    yield whole, order.places(whole)


def ranges(whole: Range, order: Order, job: Job) -> Iterator[Range]:
    """A range cut into such that are small enough to be ordered in memory, each before the next."""
    most_bytes = min(RANGE_BYTES, job.scope.environment.runner.memory_bytes // MEMORY_SHARE)
    most_rows = RANGE_BATCHES * job.plan.batch_rows
    count = max(-(-whole.bytes // most_bytes), -(-whole.rows // most_rows))
    if count <= 1 or whole.is_even:
        yield whole
        return
    for part in _cut(whole, order, count):
        is_large = part.bytes > 2 * most_bytes or part.rows > 2 * most_rows
        if is_large and part.rows < whole.rows:
            yield from ranges(part, order, job)
        elif part.rows:
            yield part


def _cut(whole: Range, order: Order, count: int) -> Iterator[Range]:
    """Cuts a range into about `count` of like size, by the order of a sample."""
    edges = _edges(sorted(_sample(whole, order, count)), count)
    ends = [*_found(whole.slices, order, edges).T, np.array([run.num_rows for run in whole.slices])]
    starts = np.zeros(len(whole.slices), np.int64)
    for number, stops in enumerate(ends):
        bounds = zip(whole.slices, starts.tolist(), stops.tolist(), strict=True)
        is_even = 0 < number < len(edges) and edges[number - 1][0] == edges[number][0]
        yield Range(tuple(run.slice(start, stop - start) for run, start, stop in bounds), is_even)
        starts = stops


def _sample(whole: Range, order: Order, count: int) -> list[bytes]:
    step, before, pieces = max(1, whole.rows // (SAMPLED * count)), 0, []
    for run in whole.slices:
        pieces.append(order.some(run, np.arange(-before % step, run.num_rows, step)))
        before += run.num_rows
    return order.keys(pieces)


Edge = tuple[bytes, bool]
"""A key, and whether a range begins behind the records that have it, or with them."""


def _edges(sample: Sequence[bytes], count: int) -> list[Edge]:
    """Where to cut. A key that has more than a range's share of the sample is a range by itself."""
    chosen = [sample[number * len(sample) // count] for number in range(1, count)]
    return sorted({(key, False) for key in chosen} | {(key, True) for key in chosen if chosen.count(key) > 1})


def _found(runs: Sequence[pa.RecordBatch], order: Order, edges: Sequence[Edge]) -> np.ndarray:
    """How many records of each run lie before each edge: halved in all runs at once, so that keys are made a few times only."""
    low = np.zeros((len(runs), len(edges)), np.int64)
    high = np.repeat(np.array([[run.num_rows] for run in runs], np.int64), len(edges), axis=1)
    while (is_open := low < high).any():
        middle = (low + high) // 2
        pieces = [order.some(run, middle[n][is_open[n]]) for n, run in enumerate(runs) if is_open[n].any()]
        wanted = [edges[edge] for edge in np.nonzero(is_open)[1].tolist()]
        # one comparison for each run and edge, not for each record
        keys = zip(order.keys(pieces), wanted, strict=True)
        is_before = [key < edge or (key == edge and is_behind) for key, (edge, is_behind) in keys]
        told = np.zeros(is_open.shape, bool)
        told[is_open] = is_before
        low, high = np.where(told, middle + 1, low), np.where(is_open & ~told, middle, high)
    return low
