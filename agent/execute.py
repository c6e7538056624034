"""Runs jobs on Beam's FnApiRunner, by name: pipelines are compiled once for each number of phases, and kept.

FnApiRunner and not `DirectRunner`: that one tries a downloaded binary first and falls back in silence.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import EmbeddedPythonEnvironment

from pipelines.compile import JobSource, compiled, compiled_spread, compiled_unfused, put_job
from pipelines.job import Job

Proto = Any
"""Beam's pipeline message; its generated class has no stable place to import it from."""

_numbers = itertools.count()


class Executor:
    """Runs jobs in this process. Safe between threads: each run has a compiled pipeline of its own for its time."""

    def __init__(self, bundle_repeat: int = 0) -> None:
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        self._bundle_repeat = bundle_repeat
        self._lock = threading.Lock()
        self._idle: dict[int, list[tuple[str, Proto]]] = {}
        self._options = PipelineOptions([])

    def run(self, job: Job) -> None:
        """Runs all phases; raises what ended the run early."""
        slot, proto = self._take(job.plan.phases)
        self._run(job, slot, proto)
        with self._lock:
            self._idle.setdefault(job.plan.phases, []).append((slot, proto))

    def run_spread(self, job: Job) -> None:
        """Runs a job as a cluster would: each split an element of its own."""
        self._run_once(job, lambda root, source: compiled_spread(root, source, job.plan.phases))

    def run_unfused(self, job: Job) -> None:
        """Runs a job of one phase with each node as a ParDo of its own and record batches between them."""
        self._run_once(job, compiled_unfused)

    def _run_once(self, job: Job, build: Callable[[Pipeline, JobSource], None]) -> None:
        slot = f"slot-{next(_numbers)}"
        put_job(slot, job)
        try:
            proto = _proto(lambda root: build(root, JobSource(slot)))
        finally:
            put_job(slot, None)
        self._run(job, slot, proto)

    def _take(self, phases: int) -> tuple[str, Proto]:
        with self._lock:
            idle = self._idle.get(phases)
            if idle:
                return idle.pop()
        slot = f"slot-{next(_numbers)}"
        return slot, _proto(lambda root: compiled(root, JobSource(slot), phases))

    def _run(self, job: Job, slot: str, proto: Proto) -> None:
        put_job(slot, job)
        try:
            FnApiRunner(bundle_repeat=self._bundle_repeat).run_via_runner_api(proto, self._options)
        except Exception as fault:
            raise job.watch.fault or fault from fault
        finally:
            put_job(slot, None)
        if job.watch.fault is not None:
            raise job.watch.fault


def _proto(build: Any) -> Proto:
    pipeline = Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    build(pipeline)
    proto: Proto = pipeline.to_runner_api(default_environment=EmbeddedPythonEnvironment.default())
    return proto
