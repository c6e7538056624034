"""Runs that stop when a post has published, or may have: they are kept to be finished, or say what will come once more."""

from __future__ import annotations

from pipelines import journal
from pipelines.errors import Cancelled, Unavailable
from pipelines.facts import Facts
from pipelines.job import Job
from pipelines.publishing import adds

SUSPENDED = "suspended"


def is_to_be_finished(job: Job, fault: BaseException | None) -> bool:
    """Whether a run that stops with this fault is finished later, from its journal, instead of run anew.

    Waiting helps where a system was away, and who cancelled may go on; what is wrong with the records or the flow
    would stop it again.
    """
    done, doubtful = journal.delivering(job)
    if isinstance(fault, Cancelled):
        return bool(doubtful or _adding(job, done))
    return isinstance(fault, Unavailable) and bool(done or doubtful)


def suspend(job: Job) -> None:
    """Writes down that the run waits to be finished."""
    journal.write(job.journal / SUSPENDED, True, durable=True)


def is_suspended(job: Job) -> bool:
    """Whether a run waits to be finished."""
    return bool(journal.read(job.journal / SUSPENDED))


def told(job: Job, facts: Facts, *, later: bool) -> str:
    """What a report says of such a run behind its fault; nothing where no target holds anything of it."""
    done, doubtful = journal.delivering(job)
    counts = [f"{name} ({facts.ledger.of(name).delivered:,} records)" for name in done]
    parts = [f"; {' and '.join(counts)} had published before"] if done else []
    parts += [f"; whether {' and '.join(doubtful)} had committed is not known"] if doubtful else []
    run, again = job.scope.run, [*_adding(job, done), *_adding(job, doubtful)]
    if later:
        parts.append(
            "; what is left stays staged: the flow's next run finishes this one first, `processflow runs resume "
            f"{run}` does so now, `processflow runs cancel {run}` gives it up"
        )
    elif again:
        parts.append(f"; a run that reads the same again delivers the records of {' and '.join(again)} once more")
    return "".join(parts)


def _adding(job: Job, names: list[str]) -> list[str]:
    """Those posts to which the same records in another run would be added once more."""
    return [name for name in names if adds(job.plan.stations[name].spec.config)]
