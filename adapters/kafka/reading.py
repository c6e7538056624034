"""Reads a split: the messages of one partition between two offsets, batch by batch, as records with their places."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from adapters.file.lines import cut_text
from adapters.kafka.client import QUIET, Faults, making, meant, settings
from adapters.kafka.connection import Connection
from adapters.kafka.formats import Decoder, decoder
from adapters.kafka.parts import Faults as Bad
from adapters.kafka.parts import column, taken
from pipelines.errors import Lost
from pipelines.node import Chunk, Json, Malformed, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

    from adapters.kafka.get import Get

GROWTH = 16
"""A batch has so many times the rows of the one before at most: how large messages are is known only once some are there."""
BATCH_BYTES = 24 << 20
"""About so many bytes of values make a batch, once it is known how large they are."""
WAIT_SECONDS = 0.1
AHEAD = {
    "queued.max.messages.kbytes": 64 << 10,
    "max.partition.fetch.bytes": 8 << 20,
    # at its default a client that was slow for a moment waits a second before it fetches again
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 50,
}
"""What a consumer fetches before it is asked for."""


@contextmanager
def consuming(connection: Connection, scope: Scope, *, committed: bool = True) -> Iterator[tuple[Consumer, Faults]]:
    """A consumer of no group, with what it hears of the brokers."""
    from confluent_kafka import Consumer

    faults = Faults(connection)
    own = {
        "group.id": "processflow",  # never joined: partitions are assigned
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed" if committed else "read_uncommitted",
    }
    with making(connection):
        consumer = Consumer({**settings(connection, scope, faults), **AHEAD, **own}, logger=QUIET)
    try:
        yield consumer, faults
    finally:
        consumer.close()


class Partition:
    """The messages of one partition from one offset up to another."""

    def __init__(self, consumer: Consumer, faults: Faults, split: Json, connection: Connection) -> None:
        from confluent_kafka import TopicPartition

        self._consumer = consumer
        self._faults = faults
        self._connection = connection
        self.topic, self.number, self._end = split["topic"], split["partition"], split["end"]
        self._place = split["first"]
        self._seen_end: int | None = None
        consumer.assign([TopicPartition(self.topic, self.number, self._place)])

    def batches(self, most_rows: int) -> Iterator[list[Message]]:
        """The messages, so many at a time as make a batch."""
        rows, waited = 1, time.monotonic()
        while self._place < self._end:
            heard = self._consumer.consume(min(rows, self._end - self._place), WAIT_SECONDS)
            found = self._messages(heard)
            if found:
                self._faults.answered()
                size = sum([len(message) for message in found])
                rows = max(1, min(most_rows, rows * GROWTH, BATCH_BYTES * len(found) // max(size, 1)))
                yield found
            elif not heard:
                self._wait(waited)
                continue
            waited = time.monotonic() if found else waited

    def _messages(self, heard: Sequence[Message]) -> list[Message]:
        """Those that are messages of the split; the others tell of the partition."""
        from confluent_kafka import KafkaError

        found = [message for message in heard if message.error() is None]
        if len(found) < len(heard):
            for one in heard:
                if (error := one.error()) is None:
                    continue
                if error.code() == KafkaError._PARTITION_EOF:
                    self._seen_end = one.offset()
                else:
                    self._heed(error)
        if found:
            self._place = int(found[-1].offset() or 0) + 1
            if self._place > self._end:
                found = [message for message in found if int(message.offset() or 0) < self._end]
        if self._seen_end is not None and self._seen_end >= self._end:
            self._place = self._end  # what is behind the last message are marks of transactions, or was compacted
        return found

    def _heed(self, error: KafkaError) -> None:
        """Raises what will not pass by waiting."""
        from confluent_kafka import KafkaError

        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            raise Lost(
                f"topic {self.topic!r} partition {self.number}: the records from offset {self._place} on were deleted while "
                "the run was reading"
            )
        if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return  # it looks for its group's coordinator, though it is of none
        if error.fatal() or not (error.code() < 0 or error.retriable()):
            raise meant(error, self._connection, self._faults, topic=self.topic)

    def _wait(self, since: float) -> None:
        self._faults.heed(patiently=True)
        if time.monotonic() - since > self._connection.timeout_seconds:
            if self._seen_end is not None:
                raise Lost(
                    f"topic {self.topic!r} partition {self.number}: it had {self._end} offsets when the run began, and now ends "
                    f"at {self._seen_end}: it lost records"
                )
            raise self._faults.away()


def chunks(get: Get, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
    """The records of a split, by ascending ordinal: a message's distance from the first offset."""
    connection = scope.connection(get.connection, Connection)
    most_rows = want.batch_rows if want.rows is None else min(want.rows, want.batch_rows)
    with (
        borrowed(scope) as sandbox,
        consuming(connection, scope, committed=not get.include_uncommitted) as (line, faults),
    ):
        names = taken(get)
        value = pa.schema([field for field in schema if field.name not in names])
        maker = Maker(get, schema, decoder(get, value, scope, sandbox))
        partition = Partition(line, faults, split, connection)
        given = 0
        for messages in partition.batches(most_rows):
            chunk = maker(messages, split["first"])
            yield chunk
            given += chunk.batch.num_rows
            if want.rows is not None and given >= want.rows:
                return


class Maker:
    """Makes chunks of messages."""

    def __init__(self, get: Get, schema: pa.Schema, decode: Decoder) -> None:
        self._get = get
        self._schema = schema
        self._decode = decode
        self._names = {name: part for name, part in taken(get).items() if name in schema.names}

    def __call__(self, messages: Sequence[Message], first: int) -> Chunk:
        ordinals = np.array([message.offset() for message in messages], np.int64) - first
        values = pa.array([message.value() for message in messages], pa.binary())
        bad: Bad = {}
        parts = {name: column(part, self._schema.field(name), messages, bad) for name, part in self._names.items()}
        left = self._tombstones(values, bad)
        records, rows = self._records(values, bad)
        sound = np.ones(len(messages), bool)
        sound[[*bad, *left]] = False
        places = np.flatnonzero(sound)
        batch = self._whole(records, rows, parts, places)
        malformed = self._malformed(messages, ordinals, bad)
        if len(places) == len(messages) and _is_dense(ordinals):
            return Chunk(batch, int(ordinals[0]), malformed=malformed)
        return Chunk(batch, 0, pa.array(ordinals[places], pa.int64()), malformed)

    def _tombstones(self, values: pa.BinaryArray, bad: Bad) -> Sequence[int]:
        """What is left out; what is rejected becomes a fault."""
        if not values.null_count or self._get.tombstones == "keep":
            return ()
        rows: list[int] = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)).tolist()
        if self._get.tombstones == "drop":
            return rows
        why = "has no value, by which its key is deleted; `tombstones: keep` or `drop` says what becomes of such"
        for row in rows:
            bad.setdefault(row, ("tombstone", why))
        return ()

    def _records(self, values: pa.BinaryArray, bad: Bad) -> tuple[pa.RecordBatch, np.ndarray | None]:
        """The records of the values, and for each message which of them is its own (-1: none); None: one each."""
        if not values.null_count:
            records, faults = self._decode(values)
            if not faults:
                return records, None
            filled = np.arange(len(values))
        else:
            filled = np.flatnonzero(values.is_valid().to_numpy(zero_copy_only=False))
            records, faults = self._decode(values.drop_null())
        kept = np.ones(len(filled), bool)
        kept[list(faults)] = False
        for number, fault in faults.items():
            bad.setdefault(int(filled[number]), fault)
        rows = np.full(len(values), -1)
        rows[filled[kept]] = np.arange(records.num_rows)
        return records, rows

    def _whole(
        self, records: pa.RecordBatch, rows: np.ndarray | None, parts: dict[str, pa.Array], places: np.ndarray
    ) -> pa.RecordBatch:
        """The columns of value and message, in their order."""
        if rows is not None or len(places) < records.num_rows:
            own = places if rows is None else rows[places]
            records = records.take(pa.array(own, pa.int64(), mask=own < 0)) if len(records.schema) else records
            parts = {name: array.take(pa.array(places)) for name, array in parts.items()}
        if not len(self._schema):
            return pa.record_batch([pa.nulls(len(places))], ["nothing"]).select([])
        columns: list[Any] = [parts[name] if name in parts else records.column(name) for name in self._schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _malformed(self, messages: Sequence[Message], ordinals: np.ndarray, bad: Bad) -> Malformed | None:
        if not bad:
            return None
        rows = sorted(bad)
        said = [
            f"{messages[row].topic()} partition {messages[row].partition()} offset {messages[row].offset()}"
            for row in rows
        ]
        return Malformed(
            [cut_text(memoryview(messages[row].value() or b"")) for row in rows],
            [bad[row][0] for row in rows],
            [f"{place}: {bad[row][1]}" for place, row in zip(said, rows, strict=True)],
            [int(ordinals[row]) for row in rows],
        )


def _is_dense(ordinals: np.ndarray) -> bool:
    return bool(ordinals[-1] - ordinals[0] == len(ordinals) - 1)


def parsed(get: Get, texts: Sequence[str], schema: pa.Schema, scope: Scope) -> Iterator[Chunk]:
    """The records of texts that an earlier run could not read."""
    if not texts:
        return
    with borrowed(scope) as sandbox:
        decode = decoder(get, schema, scope, sandbox)
        batch, bad = decode(pa.array([text.encode() for text in texts], pa.binary()))
    rows = sorted(bad)
    places = np.delete(np.arange(len(texts)), rows)
    malformed = None
    if rows:
        malformed = Malformed(
            [texts[row] for row in rows], [bad[row][0] for row in rows], [bad[row][1] for row in rows], rows
        )
    yield Chunk(batch, 0, pa.array(places, pa.int64()), malformed)
