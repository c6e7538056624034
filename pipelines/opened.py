"""A node made ready for one worker thread, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
from tenacity import Retrying

from pipelines.errors import Bug, Cancelled
from pipelines.fetch import Fetch
from pipelines.finding import Asks
from pipelines.job import Job, clock_of
from pipelines.lending import Borrower
from pipelines.node import Outcome, Piece, Post, Step, Transform, Wide, Writer
from pipelines.pace import Paced
from pipelines.plan import Station
from pipelines.records import ROW_ID, without_ids
from pipelines.retry import attempts
from pipelines.sql.sandbox import Sandbox
from pipelines.tap import Tap
from pipelines.wide import Intake


class Opened:
    """A station made ready for one worker thread."""

    def __init__(self, station: Station, job: Job, sandbox: Sandbox, tap: Tap) -> None:
        self.schema = station.schema.append(pa.field(ROW_ID, pa.int64(), nullable=False))
        self.step: Step | None = None
        self.writer: Writer | None = None
        self.intake: Intake | None = None
        self.borrower: Borrower | None = None
        self._clock = clock_of(job.watch)
        self._job = job
        self._station = station
        self._tap = tap
        config = station.spec.config
        self._most_rows = config.most_rows if isinstance(config, (Post, Fetch)) and not job.is_dry else None
        self.meets_by_place = isinstance(config, Transform) and config.meets_by_place()
        if isinstance(config, Fetch) and job.gathering is not None and station.name in job.gathering.given:
            self.step = _Given(job.gathering.given[station.name], station.outputs["out"])
        elif isinstance(config, Asks) and job.gathering is not None and station.name in job.gathering.given:
            there = _whole(job.gathering.given[station.name])
            self.step = config.open_given(there, station.schema, job.scope, sandbox)
        elif isinstance(config, Transform):
            self.step = config.open(station.schema, job.scope.inside(station.name), sandbox)
        elif isinstance(config, Wide) and station.lent is not None:
            self.borrower = Borrower(station, job, sandbox)
        elif isinstance(config, Wide):
            self.intake = Intake(station, job, sandbox)
        elif isinstance(config, Post) and job.is_dry:
            self.step = passes
        elif isinstance(config, Post):
            schema = self.schema if config.keeps_ids else station.schema
            self.writer = config.open(schema, job.scope.inside(station.name), sandbox)
        else:
            raise Bug(f"node {station.name!r}: a {station.spec.type} takes no records")
        self._with_ids = self.writer is not None and isinstance(config, Post) and config.keeps_ids

    def pieces(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The batch in the pieces that are to be called with, one after the other, each when its turn has come."""
        if isinstance(self.step, Paced) and not self._job.is_dry:
            sizes = self.step.turns(without_ids(batch), self._clock)
        else:
            most_rows = self._most_rows or batch.num_rows
            sizes = iter([most_rows] * -(-batch.num_rows // max(most_rows, 1)) or [0])
        start = 0
        for size in sizes:
            yield batch if size >= batch.num_rows else batch.slice(start, size)
            start += size

    def call(self, batch: pa.RecordBatch, node: str, port: str) -> Outcome:
        """The outcome of one batch that left (node, port); an unavailable target is asked again as the policy says."""
        if (wide := self.intake or self.borrower) is not None:
            wide.put(node, port, batch)
            return Outcome(pending=batch.num_rows)
        if self.step is not None:
            try:
                found: Outcome = self._again(self.step, without_ids(batch))
                return found
            except Cancelled:
                self._job.watch.stop.heed()
                raise
        if self.writer is None:
            raise Bug(f"node {self._station.name!r} was not opened")
        given = batch if self._with_ids else without_ids(batch)
        outcome: Outcome = self._again(self.writer.put, given)
        return outcome

    @property
    def _again(self) -> Retrying:
        return attempts(self._station.retry, self._job.watch.stop, self._retried)

    def _retried(self, attempt: int, fault: Exception) -> None:
        self._tap.transaction(self._station.name, "retry", attempt=attempt, error=str(fault))


def _whole(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.concat_batches(batches)


class _Given:
    """What a test gives in the place of what would be fetched: all of it for the first record that comes."""

    def __init__(self, given: Sequence[pa.RecordBatch], schema: pa.Schema) -> None:
        self._given = pa.Table.from_batches(given, schema).combine_chunks()

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        found = self._given.to_batches() if batch.num_rows else []
        if not found:
            return Outcome(filtered=batch.num_rows)
        self._given = self._given.slice(0, 0)
        rows = pa.array([0] * found[0].num_rows, pa.int64())
        return Outcome({"out": Piece(found[0], rows)}, filtered=batch.num_rows - 1)


def passes(batch: pa.RecordBatch) -> Outcome:
    """What a post does where nothing may be sent: takes all, tells nobody."""
    return Outcome({"out": Piece(batch)})
