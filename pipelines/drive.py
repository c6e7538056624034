"""Runs a job's phases in this thread without an engine: previews, flow tests, and finishing what a crash left behind."""

from __future__ import annotations

from pipelines import journal
from pipelines.facts import Plain
from pipelines.job import Job
from pipelines.reading import plan_splits
from pipelines.settle import settle
from pipelines.work import run_splits


def begin(job: Job) -> list[Plain]:
    """The splits of the first phase; the plan is written down so that a resumed run reads the same."""
    planned = None if job.is_dry else journal.load_planned(job)
    if planned is None:
        splits, positions, notes = plan_splits(job)
        planned = {"splits": splits, "positions": positions, "notes": notes}
        if not job.is_dry:
            journal.save_planned(job, planned)
    found: list[Plain] = planned["splits"]
    return found


def drive(job: Job) -> None:
    """Runs all phases; those that the journal has are only settled."""
    splits = begin(job)
    for phase in range(job.plan.phases):
        done = None if job.is_dry else journal.load_phase(job, phase)
        facts = [done] if done is not None else run_splits(job, phase, splits)
        splits = settle(job, phase, facts)
