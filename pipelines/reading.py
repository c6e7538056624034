"""Reads splits: row ids given, malformed records set aside, the reading resumed where it broke off."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

import numpy as np
import pyarrow as pa

from pipelines import journal
from pipelines.entering import entry_splits
from pipelines.errors import Bug, Lost, Unavailable
from pipelines.evolving import Conformer
from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.node import MALFORMED, Chunk, Get, Malformed, Rejects, Split, Want
from pipelines.plan import Station
from pipelines.records import SOURCE_BITS, with_ids
from pipelines.retry import attempts
from pipelines.tap import Tap

Reject = Callable[[Station, pa.RecordBatch, Rejects], None]


PREVIEW_BATCH_ROWS = 2_048


def want_of(job: Job, station: Station) -> Want:
    """What the rest of the flow asks of a get. A preview of the get itself wants no more rows than it shows."""
    if job.gathering is None:
        return Want(station.wanted, None, job.plan.batch_rows)
    limits = list(job.gathering.wanted.values()) if len(job.plan.stations) == 1 else [None]
    rows = None if None in limits else max(limit or 0 for limit in limits)
    return Want(station.wanted, rows, min(job.plan.batch_rows, PREVIEW_BATCH_ROWS))


def begin(job: Job, phase: int) -> list[Plain]:
    """The splits that the gets of a phase read; they are written down so that a resumed run reads the same.

    Those of a get whose records are forwarded are written down and not given: `settle` asks for them.
    """
    planned = None if job.is_dry else journal.load_planned(job, phase)
    if planned is None:
        splits, positions, notes = plan_splits(job, phase)
        planned = {"splits": splits, "positions": positions, "notes": notes}
        if not job.is_dry:
            journal.save_planned(job, phase, planned)
    forwarded = {source.name for source, _ in job.forwards(phase)}
    found: list[Plain] = planned["splits"]
    return [split for split in found if split["node"] not in forwarded] if forwarded else found


def renew(job: Job) -> None:
    """Forgets what a dead process had planned and done in a phase that cannot be read on: it is planned anew."""
    for phase in range(job.plan.phases):
        planned = None if journal.load_phase(job, phase) is not None else journal.load_planned(job, phase)
        splits = planned["splits"] if planned else []
        stations = {station.name: station for station in job.plan.gets() if station.name not in job.entries}
        mine = [split for split in splits if split["kind"] == "read" and split["node"] in stations]
        if not all(
            _get(stations[split["node"]]).holds(split["payload"], job.scope.inside(split["node"])) for split in mine
        ):
            journal.forget_planned(job, phase)


def plan_splits(job: Job, phase: int) -> tuple[list[Plain], dict[str, object], list[tuple[str, str]]]:
    """Asks every get of a phase for its splits: those, the positions once all is delivered, and (node, note) for the log."""
    splits: list[Plain] = []
    positions: dict[str, object] = {}
    notes: list[tuple[str, str]] = []
    splits.extend(entry_splits(job, phase))
    for station in job.plan.gets():
        if station.phase != phase or station.name in job.entries:
            continue
        get = _get(station)
        if job.gathering is not None and station.name in job.gathering.given:
            splits.append({"kind": "read", "node": station.name, "payload": None, "base": 0, "weight": 0})
            continue
        policy = attempts(station.retry, job.watch.stop, lambda attempt, fault: None)
        position = None if get.changes_only else job.positions.get(station.name)
        planned = policy(get.plan, job.scope.inside(station.name), position, want_of(job, station))
        splits.extend(_placed(station, planned.splits))
        if planned.position is not None and not get.changes_only:
            positions[station.name] = planned.position
        if planned.note:
            notes.append((station.name, planned.note))
    return splits, positions, notes


def _placed(station: Station, splits: tuple[Split, ...]) -> Iterator[Plain]:
    base = station.number << SOURCE_BITS
    for split in splits:
        yield {
            "kind": "read",
            "node": station.name,
            "payload": split.payload,
            "base": base,
            "weight": split.weight_bytes,
        }
        base += split.room
    if base >= (station.number + 1) << SOURCE_BITS:
        raise Bug(f"node {station.name!r}: its splits need more row ids than there are")


def read_split(
    job: Job, station: Station, split: Plain, facts: Facts, tap: Tap, reject: Reject
) -> Generator[pa.RecordBatch, None, None]:
    """The batches of a split with their row ids; what is malformed goes to `reject`."""
    with closing(_chunks(job, station, split, tap)) as chunks:
        yield from _batches(job, station, split, facts, chunks, reject)


def _batches(
    job: Job, station: Station, split: Plain, facts: Facts, chunks: Iterator[Chunk], reject: Reject
) -> Iterator[pa.RecordBatch]:
    counts, conform = facts.ledger.of(station.name), _conformer(job, station)
    while True:
        job.watch.stop.heed()
        started = time.perf_counter()
        chunk = next(chunks, None)
        if chunk is not None and conform is not None:
            chunk = conform(chunk)
        counts.seconds += time.perf_counter() - started
        if chunk is None:
            return
        counts.taken += chunk.batch.num_rows
        counts.batches += 1
        if chunk.malformed is not None and chunk.malformed.texts:
            counts.taken += len(chunk.malformed.texts)
            reject(station, *_malformed(chunk.malformed, split["base"]))
        if chunk.position is not None:
            known = facts.positions.get(station.name)
            facts.positions[station.name] = _get(station).later(known, chunk.position)
        if chunk.batch.num_rows:
            yield with_ids(chunk.batch, pa.array(ordinals_of(chunk) + split["base"], pa.int64()))


def _conformer(job: Job, station: Station) -> Conformer | None:
    """What brings the records of a changed source to the columns that its get gives; None: they have them."""
    policy = _get(station).schema_change
    is_given = job.gathering is not None and station.name in job.gathering.given
    if station.source is None or policy is None or is_given:
        return None
    return Conformer(station.source, station.schema, policy, job.scope)


def _chunks(job: Job, station: Station, split: Plain, tap: Tap) -> Generator[Chunk, None, None]:
    """The chunks of a split; when the system goes away in the middle, reading goes on behind the last record given."""
    if job.gathering is not None and station.name in job.gathering.given:
        first = 0
        for batch in job.gathering.given[station.name]:
            yield Chunk(batch, first)
            first += batch.num_rows
        return
    done = given = -1
    failed = 0
    while True:
        try:
            scope, want = job.scope.inside(station.name), want_of(job, station)
            with _ended(_get(station).read(split["payload"], station.source or station.schema, scope, want)) as read:
                for chunk in read:
                    done = max(done, _last(chunk))
                    yield _behind(chunk, given)
                    failed = 0
            return
        except Unavailable as fault:
            failed += 1
            given = done
            if failed >= station.retry.attempts or fault.asked_again:
                raise
            if done >= 0 and not _get(station).repeats(split["payload"]):
                raise Lost(
                    f"{fault}; its records come in another order when they are read again: a new run reads all"
                ) from fault
            tap.transaction(station.name, "retry", attempt=failed, error=str(fault))
            job.watch.stop.wait(station.retry.pause_seconds(failed))


@contextmanager
def _ended(chunks: Iterator[Chunk]) -> Iterator[Iterator[Chunk]]:
    """Ends a reading when nobody wants more of it, whoever still holds on to it: connections and processes go at once."""
    try:
        yield chunks
    finally:
        end = getattr(chunks, "close", None)
        if end is not None:
            end()


def _get(station: Station) -> Get:
    config = station.spec.config
    if not isinstance(config, Get):
        raise Bug(f"node {station.name!r} is no get")
    return config


def ordinals_of(chunk: Chunk) -> np.ndarray:
    """Each record's place in its split."""
    if chunk.ordinals is not None:
        found: np.ndarray = chunk.ordinals.to_numpy(zero_copy_only=False)
        return found
    return np.arange(chunk.first, chunk.first + chunk.batch.num_rows, dtype=np.int64)


def _last(chunk: Chunk) -> int:
    malformed = max(chunk.malformed.ordinals, default=-1) if chunk.malformed else -1
    rows = chunk.batch.num_rows
    if not rows:
        return malformed
    last = chunk.first + rows - 1 if chunk.ordinals is None else chunk.ordinals[rows - 1].as_py()
    return max(last, malformed)


def _behind(chunk: Chunk, given: int) -> Chunk:
    """The part of a chunk that was not given before the reading broke off; all of it where it never did."""
    if given < 0:
        return chunk
    ordinals = ordinals_of(chunk)
    keep = np.flatnonzero(ordinals > given)
    malformed = chunk.malformed
    if malformed is not None:
        left = [index for index, ordinal in enumerate(malformed.ordinals) if ordinal > given]
        malformed = Malformed(
            [malformed.texts[index] for index in left],
            [malformed.codes[index] for index in left],
            [malformed.messages[index] for index in left],
            [malformed.ordinals[index] for index in left],
        )
    rows = pa.array(keep, pa.int64())
    return Chunk(chunk.batch.take(rows), 0, pa.array(ordinals[keep], pa.int64()), malformed, chunk.position)


def _malformed(malformed: Malformed, base: int) -> tuple[pa.RecordBatch, Rejects]:
    """Malformed records as a batch with row ids, and why."""
    texts = pa.record_batch([pa.array(malformed.texts, pa.string())], schema=MALFORMED)
    ids = pa.array([base + ordinal for ordinal in malformed.ordinals], pa.int64())
    rows = pa.array(range(len(malformed.texts)), pa.int64())
    return with_ids(texts, ids), Rejects(rows, malformed.codes, malformed.messages)
