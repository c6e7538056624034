"""Records that come back: rejected in an earlier run, they enter at the node that rejected them, with the row ids they had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.facts import Plain
from pipelines.job import Job
from pipelines.node import MALFORMED, Chunk, Get, Rejects, Want
from pipelines.plan import Station
from pipelines.records import ids_of, with_ids
from pipelines.wire import read_spill

if TYPE_CHECKING:
    from pipelines.kernel import Program


def entry_splits(job: Job, phase: int) -> Iterator[Plain]:
    """The splits of a phase that hold records which come back."""
    for node, path in job.entries.items():
        if job.plan.stations[node].phase == phase:
            yield {"kind": "into", "node": node, "path": path, "weight": Path(path).stat().st_size}


def enter(program: Program, split: Plain) -> None:
    """Lets the records of such a split in: a get reads its texts again, any other node takes them as its input."""
    station = program.job.plan.stations[split["node"]]
    for batch in read_spill(Path(split["path"])):
        if isinstance(station.spec.config, Get):
            _read_again(program, station, station.spec.config, batch)
        else:
            program.take("", "", station, batch)


def _read_again(program: Program, station: Station, get: Get, batch: pa.RecordBatch) -> None:
    """What a get could not read as a record, read as it reads today; what still is none is rejected again."""
    texts, ids, counts = batch.column(0).to_pylist(), ids_of(batch), program.facts.ledger.of(station.name)
    left = np.ones(len(texts), bool)
    for chunk in get.parse(texts, station.schema, program.job.scope.inside(station.name), Want(station.wanted)):
        records, broken = _places(chunk)
        left[records] = False
        counts.taken += len(records) + len(broken)
        counts.batches += 1
        if chunk.malformed is not None and len(broken):
            left[broken] = False
            rows = pa.array(broken, pa.int64())
            again = pa.record_batch([pa.array([texts[place] for place in broken], pa.string())], schema=MALFORMED)
            rejects = Rejects(pa.array(range(len(broken)), pa.int64()), chunk.malformed.codes, chunk.malformed.messages)
            program.reject(station, with_ids(again, ids.take(rows)), rejects)
        program.emit(station, "out", with_ids(chunk.batch, ids.take(pa.array(records, pa.int64()))))
    counts.taken += int(left.sum())
    counts.filtered += int(left.sum())  # records that the get's own condition leaves out


def _places(chunk: Chunk) -> tuple[np.ndarray, list[int]]:
    """Which texts became records, and which did not."""
    broken = list(chunk.malformed.ordinals) if chunk.malformed is not None else []
    if chunk.ordinals is not None:
        return chunk.ordinals.to_numpy(zero_copy_only=False), broken
    return np.arange(chunk.first, chunk.first + chunk.batch.num_rows), broken
