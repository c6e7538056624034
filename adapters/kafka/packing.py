"""Makes messages of records: keys, values, headers, times and partitions. What cannot be sent is a reject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.text import lines, plain, text, without_json
from adapters.http.templates import Missing, filled, places, written
from adapters.kafka.parts import Faults
from pipelines.scope import Scope
from pipelines.tables.relation import as_list

if TYPE_CHECKING:
    from adapters.kafka.post import Post

ENVELOPE_BYTES = 100
"""What a message weighs beside its key, value and headers, at most."""
HEADER_BYTES = 10
Header = tuple[str, bytes | None]


@dataclass
class Packed:
    """A batch made ready."""

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[Header]] | None = None
    times: Sequence[int] | None = None
    partitions: Sequence[int] | None = None
    unfit: Faults = field(default_factory=dict)
    """By row why it cannot be sent: a code and a message."""

    def words(self, row: int) -> dict[str, Any]:
        """What else a row's message is sent with."""
        found: dict[str, Any] = {}
        if self.headers is not None and self.headers[row]:
            found["headers"] = self.headers[row]
        if self.times is not None:
            found["timestamp"] = self.times[row]
        if self.partitions is not None:
            found["partition"] = self.partitions[row]
        return found


class Packer:
    """Makes messages of batches, as a post's fields say."""

    def __init__(
        self, post: Post, schema: pa.Schema, scope: Scope, limit_bytes: int | None, *, needs_key: bool
    ) -> None:
        self._post = post
        self._values = scope.values
        self._sent = post.sent_columns(schema)
        self._key = as_list(post.key)
        self._limit_bytes = limit_bytes
        self._needs_key = needs_key
        self._encoder = None
        if post.format == "avro" and post.mode != "delete":
            from adapters.kafka import avro

            self._encoder = avro.Encoder(post, schema, scope)
        self._named = []
        if isinstance(post.headers, dict):
            self._named = [name for name in dict.fromkeys(places(post.headers)) if name in schema.names]

    def __call__(self, batch: pa.RecordBatch) -> Packed:
        """The messages of a batch."""
        bad: Faults = {}
        packed = Packed(self._keys(batch, bad), self._written(batch, bad), unfit=bad)
        packed.headers = self._headers(batch, bad)
        if self._post.timestamp is not None:
            packed.times = self._times(batch.column(self._post.timestamp), bad)
        if self._post.partition is not None:
            packed.partitions = self._partitions(batch.column(self._post.partition), bad)
        self._weigh(packed)
        return packed

    def _keys(self, batch: pa.RecordBatch, bad: Faults) -> list[bytes | None]:
        for name in self._key:
            for row in pc.indices_nonzero(batch.column(name).is_null()).to_pylist():
                bad.setdefault(row, ("key", f"key column {name!r} is null"))
        if not self._key:
            if self._needs_key:
                why = "the topic is compacted and takes no record without a key; name its columns in `key`"
                bad.update(dict.fromkeys(range(batch.num_rows), ("key", why)))
            return [None] * batch.num_rows
        columns = [batch.column(name) for name in self._key]
        if len(columns) > 1:
            found = lines(self._key, columns)
        else:
            column = plain(columns[0])
            found = column if _holds_bytes(column.type) else text(column)
        return _bytes(found)

    def _written(self, batch: pa.RecordBatch, bad: Faults) -> Sequence[bytes | None]:
        """Each record's value."""
        if self._post.mode == "delete":
            return [None] * batch.num_rows
        if self._encoder is not None:
            return self._encoder(batch, bad)
        if self._post.format != "json":
            return _bytes(plain(batch.column(self._sent[0])))
        for row, words in without_json(batch, self._sent):
            bad.setdefault(row, ("no_text", words))
        if not self._sent:
            return [b"{}"] * batch.num_rows
        return _bytes(lines(self._sent, [batch.column(name) for name in self._sent]))

    def _headers(self, batch: pa.RecordBatch, bad: Faults) -> list[list[Header]] | None:
        headers = self._post.headers
        if not headers:
            return None
        if isinstance(headers, str):
            return [_listed(value) for value in batch.column(headers).to_pylist()]
        fixed = {name: said for name, said in headers.items() if not list(places(said)) and not said.startswith("$")}
        known = {name: written(filled(said, self._values)).encode() for name, said in fixed.items()}
        rows = batch.select(self._named).to_pylist() if self._named else [{}] * batch.num_rows
        return [self._filled(headers, known, row) for row in rows]  # a text is made for each record

    def _filled(self, headers: Mapping[str, str], known: Mapping[str, bytes], row: Mapping[str, Any]) -> list[Header]:
        found: list[Header] = []
        for name, said in headers.items():
            if name in known:
                found.append((name, known[name]))
                continue
            try:
                value = filled(said, {**self._values, **row})
            except Missing:
                continue
            if value is not None:
                found.append((name, written(value).encode()))
        return found

    def _times(self, column: pa.Array, bad: Faults) -> list[int]:
        for row in pc.indices_nonzero(column.is_null()).to_pylist():
            bad.setdefault(row, ("timestamp", f"column {self._post.timestamp!r}, the message's time, is null"))
        found: list[int] = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64()).fill_null(0).to_pylist()
        for row, value in enumerate(found):
            if value < 0:
                bad.setdefault(
                    row, ("timestamp", f"column {self._post.timestamp!r} is before 1970, which Kafka has no time for")
                )
        return found

    def _partitions(self, column: pa.Array, bad: Faults) -> list[int]:
        for row in pc.indices_nonzero(column.is_null()).to_pylist():
            bad.setdefault(row, ("partition", f"column {self._post.partition!r}, the number of the partition, is null"))
        return [int(number) for number in column.fill_null(0).to_pylist()]

    def _weigh(self, packed: Packed) -> None:
        """Sets aside what the topic would not take."""
        if self._limit_bytes is None:
            return
        for row, (key, value) in enumerate(zip(packed.keys, packed.values, strict=True)):
            size = len(key or b"") + len(value or b"") + ENVELOPE_BYTES
            if packed.headers is not None:
                size += sum(len(name) + len(said or b"") + HEADER_BYTES for name, said in packed.headers[row])
            if size > self._limit_bytes:
                packed.unfit.setdefault(row, ("too_large", too_large(size, self._limit_bytes)))


def too_large(size: int, limit: int) -> str:
    return f"the message has {size:,} bytes, and the topic takes {limit:,} at most (its `max.message.bytes`)"


def _holds_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _bytes(array: pa.Array) -> list[bytes | None]:
    found: list[bytes | None] = array.cast(pa.large_binary()).to_pylist()
    return found


def _listed(value: Sequence[Mapping[str, Any]] | None) -> list[Header]:
    return [
        (each["name"], each["value"].encode() if isinstance(each["value"], str) else each["value"])
        for each in value or ()
    ]
