"""What a run did, as `run --json` gives it and the data logs keep it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pipelines.errors import Bug, Unavailable
from pipelines.facts import Facts
from pipelines.job import Job
from pipelines.ledger import Counts, Ledger, imbalances
from pipelines.node import Post
from pipelines.plan import Station

Report = dict[str, Any]


def report(
    job: Job,
    facts: Facts,
    *,
    ended: datetime,
    delivery: Mapping[str, Any],
    trigger: str = "hand",
    fault: BaseException | None = None,
    cancelled: bool = False,
) -> Report:
    """The report of an ended run. A run without a fault whose ledger does not balance has failed, and says where."""
    wrong = [] if fault else _wrong(job, facts.ledger)
    error = str(fault) if fault else "the ledger does not balance: " + "; ".join(wrong) if wrong else None
    rejected = sum(counts.rejected for counts in facts.ledger.nodes.values())
    status = "cancelled" if cancelled else "failed" if error else "done_with_rejects" if rejected else "done"
    return {
        "run": job.scope.run,
        "flow": job.plan.flow,
        "version": job.plan.version,
        "environment": job.scope.environment.name,
        "trigger": trigger,
        "status": status,
        "balanced": not wrong and fault is None,
        "started": job.began.isoformat(),
        "ended": ended.isoformat(),
        "seconds": round((ended - job.began).total_seconds(), 3),
        "parameters": plain_values(job.scope.values),
        "delivery": dict(delivery),
        "error": error,
        "warnings": [dict(warning) for warning in facts.warnings],
        "exit_code": fault.exit_code if isinstance(fault, (Unavailable, Bug)) else int(error is not None),
        "nodes": {
            name: node_report(station, facts.ledger.of(name), "failed" if error else "done")
            for name, station in job.plan.stations.items()
        },
    }


def node_report(station: Station, counts: Counts, status: str) -> dict[str, Any]:
    """One node's line of the ledger."""
    is_post = isinstance(station.spec.config, Post)
    return {
        "type": station.spec.type,
        "status": status,
        "in": counts.taken,
        "created": counts.created,
        "out": dict(counts.out),
        "filtered": counts.filtered,
        "rejected": counts.rejected,
        "merged": counts.merged,
        "delivered": counts.delivered if is_post else 0,
        "seconds": round(counts.seconds, 4),
    }


def _wrong(job: Job, ledger: Ledger) -> list[str]:
    posts = [] if job.is_dry else [station.name for station in job.plan.posts()]
    return list(imbalances(ledger, job.plan.links(), posts))


def plain_values(values: Mapping[str, object]) -> dict[str, object]:
    """Parameters as JSON has them: what it does not know, as text."""
    simple = (str, int, float, bool)
    return {name: value if value is None or isinstance(value, simple) else str(value) for name, value in values.items()}
