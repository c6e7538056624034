"""What nodes with `across: runs` know of former runs: given to a job, kept at its end, merged, told."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from agent.knowing import delivered_only, refuse_merged
from pipelines.changes import Changes
from pipelines.errors import FlowError, Invalid
from pipelines.facts import Facts
from pipelines.job import Job
from pipelines.node import Wide
from pipelines.plan import Plan, Station
from pipelines.remembering import Memory, key_of
from pipelines.sql.carried import plain_schema
from pipelines.sql.sandbox import borrowed
from repository import memory
from repository.catalogue import Catalogue
from repository.knowledge import merged_log
from repository.project import Project

Line = dict[str, Any]


def memories_of(
    project: Project,
    catalogue: Catalogue,
    plan: Plan,
    environment: str,
    now: datetime,
    *,
    before: datetime | None = None,
    nodes: Collection[str] | None = None,
) -> dict[str, Memory]:
    """Per node that remembers what former runs have let through; with `before`, as it was then.

    Raises:
        Invalid: its key is another one than that which is remembered.
    """
    lines = catalogue.memory_lines(plan.flow, environment)
    found = {}
    for name, station in plan.stations.items():
        config = station.spec.config
        if not isinstance(config, Wide) or not config.remembered_key() or (nodes is not None and name not in nodes):
            continue
        own = [line for line in lines if line["node"] == name]
        _check(station, config, own, plan.flow)
        if isinstance(config, Changes):
            refuse_merged(station, own, before)
        days = config.remembered_days()
        since = None if days is None else now - timedelta(days=days)
        files = tuple(str(project.home / memory.FOLDER / line["path"]) for line in own)
        found[name] = Memory(files, since, before)
    return found


def _check(station: Station, config: Wide, lines: list[Line], flow: str) -> None:
    (schema,) = station.named_inputs.values()
    key = key_of(schema, config.remembered_key())
    other = next((line["key"] for line in lines if line["key"] != key), None)
    if other is not None:
        raise Invalid(
            f"node {station.name!r}: its key is {_told(key)}, and what it remembers of earlier runs is {_told(other)}; "
            f"make the columns as they were, or let it forget: processflow positions reset {flow} {station.name}"
        )


def _told(key: list[list[str]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in key)


def remembered(project: Project, job: Job, facts: Facts) -> list[Line]:
    """The files of keys that a run which is done leaves, for the catalogue."""
    scope, keys = job.scope, delivered_only(job, facts)
    return memory.taken_over(project.home, scope.environment.name, job.plan.flow, scope.run, job.began, keys)


def tidy(project: Project, job: Job, catalogue: Catalogue) -> None:
    """Merges small files of keys and removes what no longer counts. Where that cannot be, the next run tries again."""
    flow, environment = job.plan.flow, job.scope.environment.name
    for node in job.memories:
        try:
            own = [line for line in catalogue.memory_lines(flow, environment) if line["node"] == node]
            some, station = memory.alike(own), job.plan.stations[node]
            config = station.spec.config
            if some and isinstance(config, Changes):
                (schema,) = station.named_inputs.values()
                key = pa.schema([plain_schema(schema).field(name) for name in config.key])
                with borrowed(job.scope) as sandbox:
                    new = merged_log(project.home, some, key, sandbox, is_whole=len(some) == len(own))
                catalogue.swap_memories([line["path"] for line in some], new)
            elif some and isinstance(config, Wide):
                with borrowed(job.scope) as sandbox:
                    new = memory.merged(project.home, some, config.remembered_days(), job.began, sandbox)
                catalogue.swap_memories([line["path"] for line in some], new)
            counting = [line["path"] for line in catalogue.memory_lines(flow, environment)]
            memory.swept(project.home, memory.folder_of(environment, flow, node), counting)
        except (FlowError, OSError):
            continue


def lines_of(catalogue: Catalogue, flow: str, environment: str) -> list[Line]:
    """Per node how many keys it remembers, since when, and the last run that added some."""
    found: dict[str, Line] = {}
    for line in catalogue.memory_lines(flow, environment):
        known = found.setdefault(line["node"], {"node": line["node"], "keys": 0, "since": line["since"]})
        known["keys"] += line["rows"]
        known["since"] = min(known["since"], line["since"])
        known.update(run=line["run"], at=line["at"], key=line["key"])
    return list(found.values())
