"""Runs that stop when a post has already published: they are kept to be finished, or say what will come once more."""

from __future__ import annotations

from pipelines import journal
from pipelines.errors import Cancelled, Unavailable
from pipelines.facts import Facts
from pipelines.job import Job
from pipelines.publishing import adds, is_staged

SUSPENDED = "suspended"


def published(job: Job) -> list[str]:
    """The posts that have published and would add the same records once more in another run."""
    return [
        post.name
        for post in job.plan.posts()
        if is_staged(post.spec.config) and adds(post.spec.config) and journal.is_published(job, post.name)
    ]


def is_to_be_finished(job: Job, fault: BaseException | None) -> bool:
    """Whether a run that stops with this fault is finished later, from its journal, instead of run anew.

    Waiting helps where a system was away, and who cancelled may go on; what is wrong with the records or the flow
    would stop it again.
    """
    return isinstance(fault, (Unavailable, Cancelled)) and bool(published(job))


def suspend(job: Job) -> None:
    """Writes down that the run waits to be finished."""
    journal.write(job.journal / SUSPENDED, True, durable=True)


def is_suspended(job: Job) -> bool:
    """Whether a run waits to be finished."""
    return bool(journal.read(job.journal / SUSPENDED))


def told(job: Job, facts: Facts, *, later: bool) -> str:
    """What a report says of such a run behind its fault; nothing where no post had published."""
    names = published(job)
    if not names:
        return ""
    counts = " and ".join(f"{name} ({facts.ledger.of(name).delivered:,} records)" for name in names)
    run = job.scope.run
    if later:
        return (
            f"; {counts} had published before: the flow's next run finishes this one first, `processflow runs resume "
            f"{run}` does so now, `processflow runs cancel {run}` gives it up"
        )
    return f"; {counts} had published before: a run that reads the same again delivers these records once more"
