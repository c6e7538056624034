"""What a get plans and reads: splits, chunks of records, and what could not be read as a record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

Json = Any
"""What `json.dumps` takes."""


@dataclass(frozen=True)
class Want:
    """What the rest of the flow asks of a source."""

    columns: frozenset[str] | None = None
    """The columns that anything needs; None: all. A source may give more."""
    rows: int | None = None
    """For a preview: this many records are enough."""
    batch_rows: int = 65_536


@dataclass(frozen=True)
class Split:
    """Part of a source that can be read alone, again and again with the same result.

    `room` bounds the ordinals of its records: the kernel gives record i the row id `base + i`, where the bases of
    successive splits are `room` apart. `weight_bytes` tells large splits from small.
    """

    payload: Json
    room: int
    weight_bytes: int = 0


@dataclass(frozen=True)
class SplitPlan:
    """How a source will be read in this run, and where the next one goes on once all of it is delivered or rejected."""

    splits: tuple[Split, ...]
    position: Json = None
    note: str = ""
    """A sentence for the transaction log, such as `3 new files, 2 read before`."""


@dataclass(frozen=True)
class Chunk:
    """Records read, with the ordinal of each in its split; what could not be read as a record is `malformed`."""

    batch: pa.RecordBatch
    first: int = 0
    ordinals: pa.Int64Array | None = None
    """Ordinals where they have gaps; else record i has `first + i`."""
    malformed: Malformed | None = None
    position: Json = None
    """What the position becomes once this chunk is delivered, where only reading tells."""


@dataclass(frozen=True)
class Malformed:
    """What could not be read as a record: its raw text (cut at 64 KiB), a code, a message and an ordinal each."""

    texts: Sequence[str]
    codes: Sequence[str]
    messages: Sequence[str]
    ordinals: Sequence[int]


MALFORMED = pa.schema([pa.field("line", pa.string())])
"""The payload of a malformed record in the rejects table."""
