"""What gets with `changes_only` know of their sources: added to when a run is done, merged, told.

A record that is rejected anywhere behind such a get is not known as delivered: what the run wrote of it is left out, so
that it is as new, changed or gone in the next run as in this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agent.narrowing import reached_from
from pipelines.changes import Changes
from pipelines.differing import ROW_IDS
from pipelines.errors import Invalid
from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.node import Wide
from pipelines.plan import Plan, Station
from repository.kept import Kept

Line = dict[str, Any]


def telling(plan: Plan) -> list[Station]:
    """The nodes that tell changes."""
    return [station for station in plan.stations.values() if isinstance(station.spec.config, Changes)]


def delivered_only(job: Job, facts: Facts) -> dict[str, list[Plain]]:
    """Per node the files of keys that a run leaves, without records that tell changes and were rejected. Done again it
    gives the same."""
    found = dict(facts.keys)
    for station in telling(job.plan):
        behind = _rejecting(job.plan, station, facts)
        if not behind or station.name not in found:
            continue
        if _are_made_of_others(job.plan, station, behind):
            found[station.name] = []
            continue
        rejected = Kept(job.tap_plan.root).rejected(job.scope.run, behind)
        files = [_without(file, rejected) for file in found[station.name]]
        found[station.name] = [file for file in files if file["rows"]]
    return found


def notes(job: Job, facts: Facts) -> Iterator[str]:
    """What a run's report says of changes that come again, and of records that may be gone."""
    for station in telling(job.plan):
        config = station.spec.config
        assert isinstance(config, Changes)
        get, behind = config.source, _rejecting(job.plan, station, facts)
        if facts.ledger.of(get).rejected and job.memories.get(station.name) is not None:
            yield (
                f"{get}: {facts.ledger.of(get).rejected:,} records could not be read, so none is taken for deleted in this run"
            )
        if behind and not _are_made_of_others(job.plan, station, behind):
            yield f"{get}: what {', '.join(behind)} rejected comes again in the next run"
        elif behind:
            yield (
                f"{get}: all changes come again in the next run, because {', '.join(behind)} rejected records that were "
                "made of several"
            )


def _rejecting(plan: Plan, station: Station, facts: Facts) -> list[str]:
    """The nodes behind one that rejected something."""
    reached = reached_from(plan, [station.name])
    return [name for name in plan.stations if name in reached and facts.ledger.of(name).rejected]


def _are_made_of_others(plan: Plan, station: Station, rejecting: list[str]) -> bool:
    """Whether between a node and those that reject stands one whose records are made of others."""
    reached = reached_from(plan, [station.name])
    made = [
        name
        for name in reached
        if isinstance(config := plan.stations[name].spec.config, Wide) and not config.keeps_records
    ]
    return bool(reached_from(plan, made).intersection(rejecting)) if made else False


def _without(file: Plain, rejected: pa.Int64Array) -> Plain:
    """The file without the rows that tell of rejected records; written anew where there are some."""
    path = Path(file["path"])
    if not path.exists() or not len(rejected):
        return file  # it was moved before a crash
    partial = path.with_suffix(".tmp")
    rows = 0
    with pq.ParquetFile(path) as source, pq.ParquetWriter(partial, source.schema_arrow, compression="zstd") as target:
        for batch in source.iter_batches(use_threads=False):
            kept = batch.filter(pc.invert(_is_among(batch.column(ROW_IDS), rejected)))
            rows += kept.num_rows
            target.write_batch(kept)
    partial.replace(path)
    return {**file, "rows": rows}


def _is_among(lists: pa.ListArray, rejected: pa.Int64Array) -> pa.BooleanArray:
    """Per row whether one of its row ids is rejected."""
    hits = pc.filter(pc.list_parent_indices(lists), pc.is_in(pc.list_flatten(lists), rejected))
    return pc.is_in(pa.array(range(len(lists)), pa.int64()), pc.cast(hits, pa.int64()))


def refuse_merged(station: Station, lines: list[Line], before: datetime | None) -> None:
    """Says that what a node knew at a time can no longer be told: later runs' files were merged with earlier ones.

    Raises:
        Invalid: so it is.
    """
    for line in lines:
        is_merged = "~" not in Path(line["path"]).name
        if before is not None and is_merged and line["since"] < before <= line["at"]:
            raise Invalid(
                f"node {station.name!r}: what it knew at {before:%Y-%m-%d %H:%M:%S} was merged with what it learned since; "
                "try a later run"
            )
