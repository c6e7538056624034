"""Staged records on their way into a topic, with what the brokers said of each."""

from __future__ import annotations

import bisect
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.kafka.client import LISTEN_SECONDS, meant
from adapters.kafka.packing import Packed, Packer
from adapters.kafka.parts import Faults
from pipelines.node import Outcome, Part, Piece, Receipts, Rejects
from pipelines.records import without_ids
from pipelines.tables.post import record_keys
from pipelines.tables.relation import as_list
from pipelines.tables.spool import in_order

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from adapters.kafka.post import Post
    from adapters.kafka.transactions import Line

POLL_EACH = 500
"""After so many records the client is asked which are delivered."""


class Sending:
    """Staged records on their way, with what the brokers said of each. A record's place is its number among all."""

    def __init__(self, post: Post, parts: Sequence[Part], packer: Packer, folder: Path) -> None:
        self._post = post
        self._parts = parts
        self._packer = packer
        self._rows = sum(part.rows for part in parts)
        folder.mkdir(parents=True, exist_ok=True)
        self._offsets = _numbers(folder, self._rows, np.int64)
        self._partitions = _numbers(folder, self._rows, np.int32)
        self.left_out: Faults = {}
        """By place why a record is not delivered: a code and a message."""
        self._failed: dict[int, KafkaError] = {}
        self._seconds = 0.0

    def __call__(self, line: Line, only: Collection[int] | None = None) -> dict[int, KafkaError]:
        """Sends all records, or only some; gives those that the brokers refused.

        Raises:
            Invalid: the brokers refuse all of them.
            Unavailable: the brokers are away.
        """
        started = time.perf_counter()
        self._failed = {}
        first = 0
        for batch in in_order(self._parts):
            packed = self._packer(without_ids(batch))
            self.left_out.update({first + row: fault for row, fault in packed.unfit.items()})
            self._send(line, packed, first, only)
            first += batch.num_rows
            if self._failed and self._post.transaction:
                break
        self._wait(line)
        self._seconds = time.perf_counter() - started
        return {place: error for place, error in self._failed.items() if not _is_bystander(error)}

    def _send(self, line: Line, packed: Packed, first: int, only: Collection[int] | None) -> None:
        produce, delivered = line.producer.produce, self._delivered
        topic, out = self._post.topic, self.left_out
        plain = packed.headers is None and packed.times is None and packed.partitions is None
        # one by one: it is how the client takes them
        for place, (key, value) in enumerate(zip(packed.keys, packed.values, strict=True), first):
            if (out and place in out) or (only is not None and place not in only):
                continue
            words: dict[str, Any] = {} if plain else packed.words(place - first)
            try:
                produce(topic, value, key, on_delivery=partial(delivered, place), **words)
            except Exception as fault:  # noqa: BLE001 - a full queue, or the record is refused: told apart there
                self._not_taken(line, fault, place, partial(produce, topic, value, key, **words))
            if not place % POLL_EACH:
                line.listen(0)
                if self._failed and self._post.transaction:
                    return

    def _not_taken(self, line: Line, fault: Exception, place: int, again: Any) -> None:
        """What the client did not take: asked again while so much is under way as may be, or left out."""
        from confluent_kafka import KafkaError, KafkaException

        while isinstance(fault, BufferError):
            line.listen(LISTEN_SECONDS)
            try:
                again(on_delivery=partial(self._delivered, place))
                return
            except Exception as other:  # noqa: BLE001 - as above
                fault = other
        if not isinstance(fault, KafkaException):
            raise fault
        error = fault.args[0]
        if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError._UNKNOWN_PARTITION):
            self.left_out[place] = said_of(error)
            return
        line.listen(LISTEN_SECONDS)
        if error.code() == KafkaError._STATE and self._failed:
            return  # a record before it was refused: the transaction takes no more
        raise line.meant(fault)

    def _delivered(self, place: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self._offsets[place] = message.offset()
            self._partitions[place] = message.partition()
        else:
            self._failed[place] = error

    def _wait(self, line: Line) -> None:
        """Until all that is under way is delivered or refused."""
        while line.call(line.producer.flush, LISTEN_SECONDS * 4):
            line.faults.heed(patiently=True)
        others = [error for error in self._failed.values() if not (_is_refusal(error) or _is_bystander(error))]
        if others:
            raise meant(others[0], line.connection, line.faults, topic=self._post.topic)

    def leave_out(self, refused: dict[int, KafkaError], *, alone: bool) -> None:
        """Leaves refused records out from now on; those that were too large only where they were sent `alone`."""
        from confluent_kafka import KafkaError

        for place, error in refused.items():
            if alone or error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
                self.left_out[place] = said_of(error)

    def outcomes(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """What became of each batch."""
        bad, first = sorted(self.left_out), 0
        for batch in in_order(self._parts):
            end = first + batch.num_rows
            here = bad[bisect.bisect_left(bad, first) : bisect.bisect_left(bad, end)]
            milliseconds = self._seconds * 1000 * batch.num_rows / max(self._rows, 1)
            yield batch, self._outcome(without_ids(batch), first, here, milliseconds)
            first = end

    def _outcome(self, batch: pa.RecordBatch, first: int, bad: Sequence[int], milliseconds: float) -> Outcome:
        sound = np.ones(batch.num_rows, bool)
        sound[[place - first for place in bad]] = False
        rows = np.flatnonzero(sound)
        key = as_list(self._post.key)
        taken = batch.take(pa.array(rows)) if bad else batch
        partitions = pa.array(self._partitions[first + rows]).cast(pa.string())
        ids = pc.binary_join_element_wise(partitions, pa.array(self._offsets[first + rows]).cast(pa.string()), ":")
        piece = Piece(taken, pa.array(rows, pa.int64()) if bad else None)
        return Outcome(
            {"out": piece},
            rejects=self._rejects(batch, first, bad, key) if bad else None,
            receipts=Receipts(record_keys(taken, key), ids, "ok", milliseconds),
        )

    def _rejects(self, batch: pa.RecordBatch, first: int, bad: Sequence[int], key: Sequence[str]) -> Rejects:
        rows = pa.array([place - first for place in bad], pa.int64())
        keys = record_keys(batch.take(rows), key)
        codes, messages = zip(*(self.left_out[place] for place in bad), strict=True)
        if keys is not None:
            messages = tuple(f"{named}: {said}" for named, said in zip(keys.to_pylist(), messages, strict=True))
        return Rejects(rows, codes, messages)


def _numbers(folder: Path, rows: int, kind: Any) -> np.ndarray:
    """Room for a number of each record: in a file, as they may be more than memory has room for. It has no name, so that
    nothing stays of it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, kind, "w+", shape=(max(rows, 1),))


def _is_refusal(error: KafkaError) -> bool:
    """Whether the brokers refuse this one record."""
    from confluent_kafka import KafkaError

    codes = (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_MSG,
    )
    return error.code() in (*codes, KafkaError._UNKNOWN_PARTITION)


def _is_bystander(error: KafkaError) -> bool:
    """Whether a record was not delivered just because another in its batch or transaction was refused."""
    from confluent_kafka import KafkaError

    codes = (
        KafkaError._INVALID_DIFFERENT_RECORD,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._STATE,
    )
    return error.code() in codes


def said_of(error: KafkaError) -> tuple[str, str]:
    """A refusal as a reject's code and message."""
    from confluent_kafka import KafkaError

    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return "too_large", "the message is larger than the topic takes (its `max.message.bytes`)"
    if error.code() == KafkaError._UNKNOWN_PARTITION:
        return "partition", "the topic has no partition of this number"
    return "refused", error.str()
