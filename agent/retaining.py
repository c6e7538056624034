"""Lets old runs go as the flows' settings say, and keeps the data logs small, while everything runs on."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.errors import Invalid
from pipelines.flowfile import load
from repository.catalogue import RUNNING, Catalogue
from repository.project import Project
from repository.retention import GRACE_SECONDS, older_than, tidy

Done = dict[str, Any]


def retain(
    project: Project,
    keep_days: int | None = None,
    flow: str | None = None,
    *,
    dry: bool = False,
    now: datetime | None = None,
    grace_seconds: float = GRACE_SECONDS,
) -> Done:
    """Removes the runs that are older than their flow's `keep_days`, or than `keep_days` where a flow says nothing.

    Small files of the runs that stay are merged. With `dry` only the runs that would go are told.

    Raises:
        Invalid: there are no runs of such a flow.
        Unavailable: another process is at it.
    """
    now = now or datetime.now(UTC)
    catalogue = Catalogue(project.catalogue_url)
    try:
        lines = [line for line in catalogue.runs(limit=None) if flow in (None, line["flow"])]
        if flow is not None and not lines:
            raise Invalid(f"there is no run of flow {flow!r}")
        days = {name: _days(project, name, keep_days) for name in {line["flow"] for line in lines}}
        limits = {name: now - timedelta(days=kept) for name, kept in days.items() if kept is not None}
        started = {line["run"]: datetime.fromisoformat(line["started"]) for line in lines if line["status"] != RUNNING}
        keep = older_than(started, limits)
        going = [line for line in lines if not keep(line["flow"], line["run"])]
        done: Done = {"keep_days": dict(sorted(days.items())), "dry": dry, "runs": going}
        if not dry:
            tidied = tidy(project.lake, keep, grace_seconds)
            catalogue.forget_runs([line["run"] for line in going])
            done |= asdict(tidied)
    finally:
        catalogue.close()
    return done


def _days(project: Project, flow: str, otherwise: int | None) -> int | None:
    """How long a flow's runs are kept; of a flow that is gone or cannot be read, as long as was asked for."""
    path = project.folder / "flows" / f"{flow}.yaml"
    if not path.is_file():
        return otherwise
    try:
        own = load(path).settings.keep_days
    except Invalid:
        return otherwise
    return otherwise if own is None else own
