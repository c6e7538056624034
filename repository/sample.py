"""The sample of a port: the records whose row ids have the smallest hashes.

Which records those are depends on row ids alone. So every port of a run samples the same records, and the samples of
threads merge into the one that a single thread would have taken, however the data was split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from pipelines.records import ids_of
from repository.storable import taken

SAMPLE_ROWS = 1000
SAMPLE_BYTES = 4 << 20
"""Where records are large the sample is the longest run of smallest hashes that fits, and at least one record."""

PINNED_BYTES = 1 << 16
"""What a kept slice may hold of its parent's memory before it is copied."""

# Multipliers of MurmurHash3's 64-bit finaliser relatives: odd, so that the hash is a bijection and never ties two ids.
FIRST, SECOND, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93), np.uint64(32)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)

Chunk = tuple[pa.RecordBatch, np.ndarray]
"""Records with the hash of each."""


class Hashes:
    """Hashes row ids into memory of its own, so that a batch costs no allocation; remembers the batch it saw last."""

    def __init__(self) -> None:
        self._space = np.empty((2, 0), np.uint64)
        self._ids: pa.Int64Array | None = None
        self._hashes = self._space[0]

    def of(self, ids: pa.Int64Array) -> np.ndarray:
        """The hash of each id; valid until the next call."""
        if not self._is_last(ids):
            self._hashes = self._hash(ids.to_numpy(zero_copy_only=False).view(np.uint64))
            self._ids = ids
        return self._hashes

    def _is_last(self, ids: pa.Int64Array) -> bool:
        """Whether these are the ids hashed last: nodes that keep rows hand on the same buffer."""
        last = self._ids
        return (
            last is not None
            and len(last) == len(ids)
            and last.offset == ids.offset
            and last.buffers()[1].address == ids.buffers()[1].address
        )

    def _hash(self, numbers: np.ndarray) -> np.ndarray:
        rows = len(numbers)
        if rows > self._space.shape[1]:
            self._space = np.empty((2, rows), np.uint64)
        hashes, shifted = self._space[0, :rows], self._space[1, :rows]
        np.multiply(numbers, FIRST, out=hashes)
        np.right_shift(hashes, SHIFT, out=shifted)
        np.bitwise_xor(hashes, shifted, out=hashes)
        np.multiply(hashes, SECOND, out=hashes)
        return hashes


class Sample:
    """Keeps the records with the smallest hashes of all that it is given."""

    def __init__(self, rows: int = SAMPLE_ROWS, limit_bytes: int = SAMPLE_BYTES) -> None:
        self._rows = rows
        self._limit_bytes = limit_bytes
        self._chunks: list[Chunk] = []
        self._threshold: np.uint64 | None = None
        self._held = 0
        self.bytes = 0

    def near(self, hashes: np.ndarray) -> np.ndarray | None:
        """The rows that may belong to the sample; None: all. For most batches one compare finds few or none."""
        if self._threshold is not None:
            return np.flatnonzero(hashes < self._threshold)
        if len(hashes) > 2 * self._rows:
            return np.flatnonzero(hashes <= np.partition(hashes, self._rows)[self._rows])
        return None

    def add(self, batch: pa.RecordBatch, hashes: np.ndarray) -> None:
        """Takes records that may belong to the sample, as `near` chose them."""
        batch = detached(batch)
        self._chunks.append((batch, hashes.copy()))
        self._held += len(hashes)
        self.bytes += batch.nbytes
        if self._held > 2 * self._rows or self.bytes > 2 * self._limit_bytes:
            self._prune()

    def held(self) -> list[pa.RecordBatch]:
        """What may belong to the sample, so far."""
        return [batch for batch, _ in self._chunks]

    def close(self) -> list[pa.RecordBatch]:
        """The sampled records, in the order they came."""
        self._prune()
        return [batch for batch, _ in self._chunks]

    def _prune(self) -> None:
        """Keeps no more than the sample may hold, and raises the bar for what follows."""
        if self._held <= self._rows and self.bytes <= self._limit_bytes:
            return
        hashes = np.concatenate([some for _, some in self._chunks])
        order = np.argsort(hashes, kind="stable")
        fits = self._rows if self.bytes <= self._limit_bytes else min(self._rows, self._fitting(order))
        if fits < len(order):
            self._threshold = hashes[order[fits]]
        kept = np.zeros(len(hashes), bool)
        kept[order[:fits]] = True
        self._chunks = together(_filtered(self._chunks, kept))
        self._held = sum(len(some) for _, some in self._chunks)
        self.bytes = sum(batch.nbytes for batch, _ in self._chunks)

    def _fitting(self, order: np.ndarray) -> int:
        """How many records fit. Row by row: Arrow tells no row's size, and large records are few."""
        sizes = np.array([batch.slice(row, 1).nbytes for batch, _ in self._chunks for row in range(batch.num_rows)])
        return max(1, int(np.searchsorted(np.cumsum(sizes[order]), self._limit_bytes, side="right")))


def sampled(batches: Iterable[pa.RecordBatch], rows: int = SAMPLE_ROWS) -> list[pa.RecordBatch]:
    """The sample of all records given, with row ids."""
    seen, sample = Hashes(), Sample(rows)
    for batch in batches:
        hashes = seen.of(ids_of(batch))
        near = sample.near(hashes)
        if near is None:
            sample.add(batch, hashes)
        elif len(near):
            sample.add(taken(batch, pa.array(near)), hashes[near])
    return sample.close()


def detached(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The records in memory of their own, where they are a small part of larger buffers."""
    if batch.get_total_buffer_size() <= 2 * batch.nbytes + PINNED_BYTES:
        return batch
    return taken(batch, pa.array(np.arange(batch.num_rows)))


def together(chunks: Iterable[Chunk]) -> list[Chunk]:
    """Neighbouring chunks of one schema made one: copied, so that they no longer hold the batches they were cut from."""
    groups: list[list[Chunk]] = []
    for chunk in chunks:
        if groups and groups[-1][0][0].schema.equals(chunk[0].schema):
            groups[-1].append(chunk)
        else:
            groups.append([chunk])
    return [
        (one_batch([batch for batch, _ in group]), np.concatenate([hashes for _, hashes in group])) for group in groups
    ]


def one_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of one schema as one batch."""
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches).combine_chunks()
    if not whole.num_columns:
        return batches[0]
    return pa.RecordBatch.from_arrays(
        [column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in whole.columns],
        schema=whole.schema,
    )


def _filtered(chunks: Sequence[Chunk], kept: np.ndarray) -> Iterable[Chunk]:
    first = 0
    for batch, hashes in chunks:
        here = kept[first : first + len(hashes)]
        first += len(hashes)
        if here.all():
            yield batch, hashes
        elif here.any():
            rows = np.flatnonzero(here)
            yield taken(batch, pa.array(rows)), hashes[rows]
