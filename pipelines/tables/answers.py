"""What a live system has answered, key by key: kept for a time, within a bound, shared by the threads of a process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.sql.sandbox import Sandbox
from pipelines.tables.keys import Keys

PAGES = 16
"""So many pages are searched for a key at most."""


@dataclass(frozen=True)
class Answer:
    """What is known of some keys, a row each."""

    counts: np.ndarray
    """How many records a key has; of more than two, two."""
    records: pa.RecordBatch
    """The first record of each key; nulls where it has none."""

    def take(self, rows: np.ndarray) -> Answer:
        return Answer(self.counts[rows], self.records.take(pa.array(rows, pa.int64())))

    @classmethod
    def together(cls, answers: list[Answer]) -> Answer:
        """Several answers, one behind the other."""
        if len(answers) == 1:
            return answers[0]
        counts = np.concatenate([answer.counts for answer in answers])
        return cls(counts, pa.concat_batches([answer.records for answer in answers]))


@dataclass(frozen=True)
class _Page:
    """Answers of about one moment."""

    keys: pa.RecordBatch
    index: Keys
    answer: Answer
    at: float

    @property
    def rows(self) -> int:
        return self.keys.num_rows


class Answers:
    """A bounded memory of answers, in pages: whole pages grow old and are given up, the oldest first."""

    def __init__(
        self, seconds: float, records: int, limit_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._most = records
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: tuple[_Page, ...] = ()

    def __len__(self) -> int:
        return sum(page.rows for page in self._pages)

    def known(self, keys: pa.RecordBatch, sandbox: Sandbox) -> Iterator[tuple[np.ndarray, Answer]]:
        """What is known of distinct keys: rows of `keys`, and the answers for them."""
        left = np.arange(keys.num_rows)
        oldest = self._clock() - self._seconds
        for page in reversed(self._pages):
            if not len(left):
                return
            if page.at < oldest:
                continue
            places = page.index.find(keys.take(pa.array(left)), sandbox)
            there = places >= 0
            if there.any():
                yield left[there], page.answer.take(places[there])
                left = left[~there]

    def keep(self, keys: pa.RecordBatch, answer: Answer, since: float, sandbox: Sandbox) -> None:
        """Takes in what was asked at the moment `since`."""
        if not keys.num_rows or self._seconds <= 0 or keys.num_rows > self._most:
            return
        page = _Page(keys, Keys(keys, sandbox), answer, since)
        with self._lock:
            pages = [one for one in (*self._pages, page) if one.at >= self._clock() - self._seconds]
        pages.sort(key=lambda one: one.at)
        while len(pages) > PAGES:
            self._merge(pages, sandbox)
        while sum(one.rows for one in pages) > self._most or sum(map(_size, pages)) > self._limit_bytes:
            pages.pop(0)
        with self._lock:  # what another thread has kept meanwhile is asked for again: no answer is wrong for it
            self._pages = tuple(pages)

    def now(self) -> float:
        """The moment, as `keep` takes it."""
        return self._clock()

    def _merge(self, pages: list[_Page], sandbox: Sandbox) -> None:
        """Makes one page of the two neighbours that are smallest together; it is as old as the older."""
        at = min(range(len(pages) - 1), key=lambda place: pages[place].rows + pages[place + 1].rows)
        one, other = pages[at : at + 2]
        fresh = np.flatnonzero(one.index.find(other.keys, sandbox) < 0)
        keys = pa.concat_batches([one.keys, other.keys.take(pa.array(fresh))])
        answer = Answer.together([one.answer, other.answer.take(fresh)])
        pages[at : at + 2] = [_Page(keys, Keys(keys, sandbox), answer, one.at)]


def _size(page: _Page) -> int:
    return int(page.keys.nbytes + page.answer.records.nbytes + page.answer.counts.nbytes)
