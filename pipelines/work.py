"""Runs the splits of a phase, several at a time, each thread with a program of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines import journal
from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.kernel import Program
from pipelines.lending import as_of

CHECKPOINT_SECONDS = 10.0
"""A worker writes down what it has done this often: so much, and one split, a run that is killed loses at most."""


def run_splits(job: Job, phase: int, splits: Sequence[Plain]) -> list[Facts]:
    """The facts of all splits. A fault in one stops all, removes what they staged, and is raised.

    What an earlier process has done of them, before it died, is not done again.
    """
    job = as_of(job, phase)
    known = [] if job.is_dry else _known(job, phase, splits)
    done = {name for names, _ in known for name in names}
    left = [split for split in splits if journal.split_name(split) not in done] if done else splits
    return [*(facts for _, facts in known), *_run(job, phase, left)]


def _known(job: Job, phase: int, splits: Sequence[Plain]) -> list[tuple[frozenset[str], Facts]]:
    found = journal.load_checkpoints(job, phase)
    names = {journal.split_name(split) for split in splits} if found else set()
    return [one for one in found if names & one[0]]


def _run(job: Job, phase: int, splits: Sequence[Plain]) -> list[Facts]:
    threads = min(job.workers, len(splits))
    queue = _Queue(sorted(splits, key=lambda split: -int(split.get("weight", 0))) if threads > 1 else splits)
    if threads <= 1:
        return _work(job, phase, queue)
    with ThreadPoolExecutor(threads, "split") as pool:
        futures = [pool.submit(_work, job, phase, queue) for _ in range(threads)]
        for future in futures:
            future.exception()
        faults = [fault for future in futures if (fault := future.exception()) is not None]
        if faults:
            for future in futures:
                job.watch.partial.extend(future.result() if future.exception() is None else ())
            raise queue.first_fault or faults[0]
        return [facts for future in futures for facts in future.result()]


class _Queue:
    """Hands out splits to threads until they are gone, somebody failed, or a preview has enough."""

    def __init__(self, splits: Sequence[Plain]) -> None:
        self._lock = threading.Lock()
        self._splits = deque(splits)
        self.first_fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        with self._lock:
            self.first_fault = self.first_fault or fault

    def take(self, job: Job) -> Iterator[Plain]:
        while self.first_fault is None and not (job.gathering is not None and job.gathering.is_full()):
            with self._lock:
                split = self._splits.popleft() if self._splits else None
            if split is None:
                return
            yield split

    @property
    def has_more(self) -> bool:
        return bool(self._splits)


def _work(job: Job, phase: int, queue: _Queue) -> list[Facts]:
    """The facts of one thread. What it has done so far is written down from time to time, and it begins anew."""
    program, done, finished, since = Program(job, phase), [], [], time.monotonic()
    try:
        for split in queue.take(job):
            program.read(split)
            finished.append(split)
            if time.monotonic() - since >= CHECKPOINT_SECONDS and not job.is_dry and queue.has_more:
                done.append(program.close())
                program, finished_now, finished = Program(job, phase), finished, []
                journal.save_checkpoint(job, phase, finished_now, done[-1])
                since = time.monotonic()
        return [*done, program.close()]
    except BaseException as fault:
        job.watch.partial.extend(done)
        queue.fail(fault)
        if not job.watch.stop.asked:
            job.watch.stop.ask(_passed_on(fault))
        job.watch.partial.append(program.abandon())
        raise


def _passed_on(fault: BaseException) -> Exception:
    """What the other threads stop with: the fault itself."""
    return fault if isinstance(fault, Exception) else RuntimeError(str(fault))
