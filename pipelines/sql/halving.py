"""Finds by halves the records that an expression cannot be computed for: what cannot be computed at once is, in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import duckdb
import numpy as np
import pyarrow as pa

from pipelines.sql.strange import strange_rows
from pipelines.sql.wording import one_line

NOT_OF_DATA = (
    duckdb.InterruptException,
    duckdb.ConnectionException,
    duckdb.IOException,
)
INTERNAL = (duckdb.InternalException, duckdb.FatalException)
MOST_INTERNAL = 100
"""So many internal errors a batch may cost, at some 20 ms each; parts that are not sorted out by then are not tried."""


def is_of_data(error: duckdb.Error) -> bool:
    """Whether other values could do without this error: it is a record's fault, not the machine's or ours."""
    return not isinstance(error, NOT_OF_DATA)


class Halving:
    """One expression over one batch, computed in ever smaller parts."""

    def __init__(self, compute: Callable[[pa.RecordBatch], pa.Array], batch: pa.RecordBatch, kind: pa.DataType) -> None:
        self._compute = compute
        self._batch = batch
        self._kind = kind
        self._internal = 0
        self._last = ""
        self.wrong: dict[int, str] = {}
        """Why not, by row."""

    def __call__(self) -> pa.Array:
        """The column, null where it cannot be computed."""
        rows = np.arange(self._batch.num_rows)
        pieces = self._parts(rows)
        order = np.concatenate([part for part, _ in pieces]) if pieces else rows
        found = pa.concat_arrays([piece for _, piece in pieces]) if pieces else pa.nulls(0, self._kind)
        return found.take(pa.array(np.argsort(order, kind="stable")))

    def _parts(self, rows: np.ndarray) -> list[tuple[np.ndarray, pa.Array]]:
        """What came of each part. All parts of a size come before smaller ones, so that what is left is little."""
        done: list[tuple[np.ndarray, pa.Array]] = []
        parts, is_sorted = deque([rows] if len(rows) else []), False
        while parts:
            part = parts.popleft()
            found = self._tried(part)
            if found is not None or len(part) == 1:
                done.append((part, pa.nulls(1, self._kind) if found is None else found))
                continue
            halves = [part[: len(part) // 2], part[len(part) // 2 :]]
            if self._internal and not is_sorted:
                is_sorted, halves = True, self._by_strangeness([part, *parts])
                parts.clear()
            parts.extend(half for half in halves if len(half))
        return done

    def _by_strangeness(self, parts: list[np.ndarray]) -> list[np.ndarray]:
        """The same rows, those apart that are likely to be at fault."""
        rows = np.concatenate(parts)
        strange = strange_rows(self._batch)[rows]
        if strange.all() or not strange.any():
            half = len(rows) // 2
            return [rows[:half], rows[half:]]
        return [rows[~strange], rows[strange]]

    def _tried(self, part: np.ndarray) -> pa.Array | None:
        """The part's column; None where it has a fault, which is told where the part is one record."""
        if self._internal >= MOST_INTERNAL:
            words = f"not tried: it failed within DuckDB {self._internal} times in this batch, last with: {self._last}"
            self.wrong |= dict.fromkeys(part.tolist(), words)
            return pa.nulls(len(part), self._kind)
        first, last = int(part[0]), int(part[-1])
        is_stretch = last - first + 1 == len(part)
        batch = self._batch.slice(first, len(part)) if is_stretch else self._batch.take(pa.array(part))
        try:
            return self._compute(batch)
        except duckdb.Error as error:
            if not is_of_data(error):
                raise
            words = one_line(str(error))
            if isinstance(error, INTERNAL):
                self._internal += 1
                self._last = words
        if len(part) == 1:
            self.wrong[first] = words
        return None
