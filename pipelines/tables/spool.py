"""Staged batches of a database post, and the one transaction in which they become visible.

A writer spools its batches, with their row ids, to an Arrow IPC file. The publication reads all spools in the order of
the source, loads them inside one transaction of the target that also writes the publication's token, and commits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.node import Outcome, Part
from pipelines.records import ROW_ID
from pipelines.wire import SpillWriter

TOKENS = "_processflow_publications"
"""The table in a target that tells which publications it holds."""


class SpoolWriter:
    """Stages batches in a file of its own; their outcome is told when they are published."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.arrow"
        self._spill = SpillWriter(self._path)

    def put(self, batch: pa.RecordBatch) -> Outcome:
        if batch.num_rows:
            self._spill.write(batch)
        return Outcome(pending=batch.num_rows)

    def close(self) -> Sequence[Part]:
        self._spill.close()
        if not self._spill.rows:
            return ()
        return (Part(str(self._path), self._spill.rows, self._path.stat().st_size),)

    def abandon(self) -> None:
        self._spill.close()
        self._path.unlink(missing_ok=True)


def in_order(parts: Sequence[Part]) -> Iterator[pa.RecordBatch]:
    """The staged batches of all parts by their first row id: the order of the source, whoever read it."""
    with ExitStack() as files:
        readers = [
            files.enter_context(pa.ipc.open_file(files.enter_context(pa.memory_map(str(part.payload)))))
            for part in parts
        ]
        places = [
            (pc.min(reader.get_batch(index).column(ROW_ID)).as_py(), number, index)
            for number, reader in enumerate(readers)
            for index in range(reader.num_record_batches)
        ]
        for _, number, index in sorted(places):
            yield readers[number].get_batch(index)


class Session(Protocol):
    """A connection to a target with one transaction open."""

    def published(self, token: str) -> bool:
        """Whether this token's publication is already in the target."""

    def load(self, parts: Sequence[Part]) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Writes all staged records and tells what became of each batch."""

    def record(self, token: str) -> None:
        """Writes the token, in the same transaction."""

    def commit(self) -> None:
        """Ends transaction and connection: everything loaded shows."""

    def rollback(self) -> None:
        """Ends transaction and connection: the target is as it was."""


class TablePublication:
    """The staged parts of one post on their way into a table.

    From `settle` to `commit` the target's transaction is open: whoever settles several publications into a database
    with one writer commits each before the next is settled.
    """

    def __init__(self, begin: Callable[[], Session], parts: Sequence[Part], token: str) -> None:
        self._begin = begin
        self._parts = parts
        self._token = token
        self._session: Session | None = None
        self._is_settled = False
        self._is_done = False

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Loads everything and tells each batch's outcome; nothing, where this token is already published."""
        session = self._session = self._begin()
        if session.published(self._token):
            self._is_done = True
            session.rollback()
        else:
            yield from session.load(self._parts)
            session.record(self._token)
        self._is_settled = True

    def commit(self) -> None:
        """Commits; where nothing is loaded in this process, as after a crash, loads it first."""
        if not self._is_settled:
            for _ in self.settle():
                pass
        if self._session is not None and not self._is_done:
            self._session.commit()
            self._is_done = True

    def abandon(self) -> None:
        if self._session is not None and not self._is_done:
            self._session.rollback()
        self._is_done = True
