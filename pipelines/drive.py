"""Runs a job's phases in this thread without an engine: previews, flow tests, and finishing what a crash left behind."""

from __future__ import annotations

from pipelines import journal
from pipelines.job import Job
from pipelines.reading import begin
from pipelines.settle import settle
from pipelines.work import run_splits


def drive(job: Job) -> None:
    """Runs all phases; those that the journal has are only settled."""
    splits = begin(job, 0)
    for phase in range(job.plan.phases):
        done = None if job.is_dry else journal.load_phase(job, phase)
        facts = [done] if done is not None else run_splits(job, phase, splits)
        splits = settle(job, phase, facts)
