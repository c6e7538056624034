"""Runs the splits of a phase, several at a time, each thread with a program of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.kernel import Program


def run_splits(job: Job, phase: int, splits: Sequence[Plain]) -> list[Facts]:
    """The facts of all splits, one a thread. A fault in one stops all, removes what they staged, and is raised."""
    threads = min(job.workers, len(splits))
    queue = _Queue(sorted(splits, key=lambda split: -int(split.get("weight", 0))) if threads > 1 else splits)
    if threads <= 1:
        return [_work(job, phase, queue)]
    with ThreadPoolExecutor(threads, "split") as pool:
        futures = [pool.submit(_work, job, phase, queue) for _ in range(threads)]
        for future in futures:
            future.exception()
        faults = [fault for future in futures if (fault := future.exception()) is not None]
        if faults:
            job.watch.partial.extend(future.result() for future in futures if future.exception() is None)
            raise queue.first_fault or faults[0]
        return [future.result() for future in futures]


class _Queue:
    """Hands out splits to threads until they are gone, somebody failed, or a preview has enough."""

    def __init__(self, splits: Sequence[Plain]) -> None:
        self._lock = threading.Lock()
        self._splits = iter(splits)
        self.first_fault: BaseException | None = None

    def fail(self, fault: BaseException) -> None:
        with self._lock:
            self.first_fault = self.first_fault or fault

    def take(self, job: Job) -> Iterator[Plain]:
        while self.first_fault is None and not (job.gathering is not None and job.gathering.is_full()):
            with self._lock:
                split = next(self._splits, None)
            if split is None:
                return
            yield split


def _work(job: Job, phase: int, queue: _Queue) -> Facts:
    program = Program(job, phase)
    try:
        for split in queue.take(job):
            program.read(split)
        return program.close()
    except BaseException as fault:
        queue.fail(fault)
        if not job.watch.stop.asked:
            job.watch.stop.ask(_passed_on(fault))
        job.watch.partial.append(program.abandon())
        raise


def _passed_on(fault: BaseException) -> Exception:
    """What the other threads stop with: the fault itself."""
    return fault if isinstance(fault, Exception) else RuntimeError(str(fault))
