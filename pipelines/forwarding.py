"""Forwards a get's records into a post of the same system without looking at them, where both agree to it.

It happens when a phase is settled, into a transaction that stays open until the ledger was checked and all was written
down. Where the systems do not agree after all, or the target refuses a record, the records are read as ever. Row ids are
those that reading would give: of each split the number of records is known, and their order.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipelines import journal
from pipelines.errors import Bug, Failed
from pipelines.facts import Facts, Plain
from pipelines.job import Job
from pipelines.node import Get, Part, Post, Receipts
from pipelines.passage import NotForwarded, Passage
from pipelines.plan import Station
from pipelines.reading import ordinals_of, want_of
from pipelines.records import with_ids
from pipelines.retry import attempts
from pipelines.work import run_splits

FEW_ROWS = 10_000
"""Fewer records than these are looked at in the source once more, so that a data log can keep all of them."""
SAMPLE_ROWS = 1_000
SAMPLE_SPLITS = 2
"""Of more, the first ones of some splits are: together so many records."""
RECEIPT_ROWS = 1 << 20


@dataclass
class Forwarded:
    """The records of a get, in the target and not yet visible."""

    source: Station
    passage: Passage
    ranges: Sequence[tuple[int, int]]
    """Of each split the first row id and the number of records."""
    sample: Sequence[pa.RecordBatch]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.ranges)


Open = dict[str, Forwarded]
"""Per post what is forwarded and waits to be made visible."""


def forward(job: Job, phase: int, held: Open) -> list[Facts]:
    """Forwards what can be; the facts of it, and of the records that had to be read. `held` takes what is to be published."""
    return [facts for source, post in job.forwards(phase) for facts in _tried(job, phase, source, post, held)]


def _tried(job: Job, phase: int, source: Station, post: Station, held: Open) -> list[Facts]:
    facts, tap = Facts(), job.open_tap(job.tap_plan)

    def told(attempt: int, fault: Exception) -> None:
        tap.transaction(post.name, "retry", attempt=attempt, error=str(fault))

    splits = _splits(job, phase, source)
    try:
        done = attempts(post.retry, job.watch.stop, told)(_forwarded, job, source, post, splits)
    except NotForwarded as why:
        tap.transaction(post.name, "not forwarded", why=str(why))
        facts.pieces.extend(dict(piece) for piece in tap.close())
        return [facts, *run_splits(job, phase, splits)]
    held[post.name] = done
    _count(facts, source, post, done)
    for batch in done.sample if source.snapshots.get("out", "none") != "none" else ():
        tap.records(source.name, "out", batch)
    tap.transaction(post.name, "forwarded", records=done.rows, splits=len(splits))
    facts.pieces.extend(dict(piece) for piece in tap.close())
    return [facts]


def is_forwarded(parts: Sequence[Part]) -> bool:
    """Whether what a post is to publish was forwarded."""
    return bool(parts) and isinstance(parts[0].payload, dict) and "forwarded" in parts[0].payload


def publish(job: Job, post: Station, parts: Sequence[Part], held: Open) -> Facts:
    """Makes what was forwarded visible; where the line broke since, it is forwarded anew, if that gives the same.

    Raises:
        Failed: it gives something else.
    """
    done = held.pop(post.name, None)
    if done is None:
        source = job.plan.stations[post.forwards]
        try:
            done = _forwarded(job, source, post, _splits(job, post.phase, source))
        except NotForwarded as why:
            raise Failed(f"node {post.name!r}: {why}; nothing was published, the next run reads it again") from why
        job.watch.meter.add(source.name, "out", -done.rows)  # they were counted the first time
    try:
        if [list(one) for one in done.ranges] != parts[0].payload["forwarded"]:
            raise Failed(
                f"node {post.name!r}: {done.rows:,} records were forwarded where {parts[0].rows:,} had been before the "
                "line to the target broke; nothing was published, the next run reads it again"
            )
        facts = _settled(job, post, done)
        journal.save_settled(job, post.name, facts)
        done.passage.commit()
    except BaseException:
        done.passage.abandon()
        raise
    return facts


def abandon(held: Open) -> None:
    """Leaves the targets as they were."""
    while held:
        held.popitem()[1].passage.abandon()


def _splits(job: Job, phase: int, source: Station) -> list[Plain]:
    planned = journal.load_planned(job, phase)
    if planned is None:
        raise Bug(f"node {source.name!r}: what it was to read is not written down")
    return [split for split in planned["splits"] if split["node"] == source.name]


def _forwarded(job: Job, source: Station, post: Station, splits: Sequence[Plain]) -> Forwarded:
    get, config = source.spec.config, post.spec.config
    assert isinstance(get, Get)
    assert isinstance(config, Post)
    started = time.perf_counter()
    passage = config.passage(get, post.schema, job.scope.inside(post.name), job.token(post.name))
    counts: list[int] = []
    try:
        for rows in passage.forward([split["payload"] for split in splits], job.watch.stop.heed):
            counts.append(rows)
            job.watch.meter.add(source.name, "out", rows)
        if not sum(counts):
            raise NotForwarded("there are none")
        seconds = time.perf_counter() - started
        sample = list(_sample(job, source, post, splits, sum(counts)))
    except BaseException:
        job.watch.meter.add(source.name, "out", -sum(counts))
        passage.abandon()
        raise
    ranges = [(split["base"], rows) for split, rows in zip(splits, counts, strict=True)]
    return Forwarded(source, passage, ranges, sample, seconds)


def _sample(job: Job, source: Station, post: Station, splits: Sequence[Plain], rows: int) -> Iterator[pa.RecordBatch]:
    """Records for the data log, read from the source itself, with the row ids that they have."""
    if {source.snapshots.get("out", "none"), post.snapshots.get("out", "none")} == {"none"} or not rows:
        return
    get, want = source.spec.config, want_of(job, source)
    assert isinstance(get, Get)
    chosen = splits
    if rows >= FEW_ROWS:
        chosen = splits[:: -(-len(splits) // SAMPLE_SPLITS)]
        want = replace(want, rows=SAMPLE_ROWS // len(chosen))
    for split in chosen:
        for chunk in get.read(split["payload"], source.schema, job.scope.inside(source.name), want):
            ids = pa.array(ordinals_of(chunk) + split["base"], pa.int64())
            yield with_ids(chunk.batch, ids)


def _count(facts: Facts, source: Station, post: Station, done: Forwarded) -> None:
    """What left the get has arrived at the post, whose target is yet to make it visible."""
    left, came = facts.ledger.of(source.name), facts.ledger.of(post.name)
    left.taken = came.taken = came.pending = done.rows
    left.out["out"] = done.rows
    left.batches = came.batches = len(done.ranges)
    left.seconds = came.seconds = done.seconds
    facts.ledger.link(source.name, "out", post.name, done.rows)
    facts.parts[post.name] = [Part({"forwarded": [list(one) for one in done.ranges]}, done.rows)]


def _settled(job: Job, post: Station, done: Forwarded) -> Facts:
    """The records as the target has them: delivered, each with a receipt."""
    facts, tap, receipts = Facts(), job.open_tap(job.tap_plan), job.open_tap(job.tap_plan)
    counts = facts.ledger.of(post.name)
    counts.pending, counts.delivered, counts.out["out"] = -done.rows, done.rows, done.rows
    job.watch.meter.add(post.name, "out", done.rows)
    for batch in done.sample if post.snapshots.get("out", "none") != "none" else ():
        tap.records(post.name, "out", batch)
    for base, rows in done.ranges:
        for first in range(base, base + rows, RECEIPT_ROWS):
            ids = pa.array(np.arange(first, min(first + RECEIPT_ROWS, base + rows)), pa.int64())
            receipts.deliveries(post.name, ids, Receipts(milliseconds=done.seconds * 1000), 1)
    facts.pieces = [dict(piece) for piece in tap.close()]
    facts.receipts[post.name] = [dict(piece) for piece in receipts.close()]
    return facts
