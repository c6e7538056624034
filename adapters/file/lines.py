"""Records read from lines of text on their way into chunks: counted, placed, the malformed among them set aside."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from adapters.file.blocks import Block
from adapters.file.format import File
from adapters.file.places import line_ends, lines_before
from adapters.file.quotes import LINES, NEWLINE, RETURN, Bytes, Quoting, array, record_ends
from pipelines.node import Chunk, Malformed, Want

TEXT_BYTES = 64 << 10


@dataclass(frozen=True)
class Fault:
    """A record that cannot be read: its number within the piece, from 0, its text, and why."""

    number: int
    text: str
    code: str
    message: str


@dataclass(frozen=True)
class Piece:
    """The records of a block: those that could be read, and those that could not."""

    batch: pa.RecordBatch
    faults: Sequence[Fault] = ()

    @property
    def records(self) -> int:
        return self.batch.num_rows + len(self.faults)

    def numbers(self) -> np.ndarray:
        """The number of each record that could be read."""
        sound = np.ones(self.records, bool)
        sound[[fault.number for fault in self.faults]] = False
        return np.flatnonzero(sound)


class Places:
    """Tells in which line of a file a place of a block is. Of a stream, lines are counted as they pass."""

    def __init__(self, file: File, passed: int | None = None) -> None:
        self._file = file
        self._passed = passed

    def leave(self, block: Block) -> None:
        """Goes behind a block."""
        if self._passed is not None:
            self._passed += line_ends(array(block.data), None)

    def said(self, block: Block, starts: Sequence[int]) -> list[str]:
        """Where records beginning at these places of the block are: `orders.csv line 17`."""
        before = self._passed if self._passed is not None else lines_before(self._file, block.offset)
        if before is None:
            return [f"{self._file.name} byte {block.offset + start}" for start in starts]
        ends = record_ends(array(block.data), LINES)
        behind = np.searchsorted(ends, np.array(starts, np.int64), side="right")
        return [f"{self._file.name} line {before + int(count) + 1}" for count in behind]


@dataclass(frozen=True)
class Spans:
    """Where the records of a block are, blank lines left out."""

    starts: np.ndarray
    stops: np.ndarray

    @classmethod
    def of(cls, data: Bytes, quoting: Quoting) -> Spans:
        ends = record_ends(data, quoting)
        if not len(ends) or ends[-1] < len(data):
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1]])
        first = data[np.minimum(starts, len(data) - 1)]
        filled = (first != NEWLINE) & (first != RETURN)
        return cls(starts[filled], ends[filled])

    def numbers(self, places: np.ndarray) -> list[int]:
        """The records that these places are in."""
        return [int(number) for number in np.unique(np.searchsorted(self.stops, places, side="right"))]

    def text(self, data: memoryview, number: int) -> str:
        """A record as it stands, cut at 64 KiB."""
        start, stop = int(self.starts[number]), int(self.stops[number])
        return cut_text(data[start : min(stop, start + TEXT_BYTES + 2)])

    def without(self, data: memoryview, numbers: Sequence[int]) -> memoryview:
        """The text with some records cut out."""
        place, kept = 0, []
        for number in numbers:  # records at fault only
            kept.append(data[place : int(self.starts[number])])
            place = int(self.stops[number])
        return memoryview(b"".join([*kept, data[place:]]))


def cut_text(raw: memoryview) -> str:
    """Raw bytes as the text of a malformed record."""
    return bytes(raw).rstrip(b"\r\n")[:TEXT_BYTES].decode("utf-8", "replace")


def chunked(pieces: Iterable[Piece], want: Want) -> Iterator[Chunk]:
    """Pieces as chunks of at most `want.batch_rows` rows; ends once `want.rows` records are given."""
    first, given = 0, 0
    for piece in pieces:
        for chunk in _chunks(piece, first, want.batch_rows):
            yield chunk
            given += chunk.batch.num_rows
            if want.rows is not None and given >= want.rows:
                return
        first += piece.records


def _chunks(piece: Piece, first: int, batch_rows: int) -> Iterator[Chunk]:
    rows = piece.batch.num_rows
    count = max(-(-rows // batch_rows), 1)
    cuts = [rows * index // count for index in range(count + 1)]
    if not piece.faults:
        for start, stop in itertools.pairwise(cuts):
            if stop > start:
                yield Chunk(piece.batch.slice(start, stop - start), first + start)
        return
    numbers = piece.numbers()
    faults = list(piece.faults)
    for start, stop in itertools.pairwise(cuts):
        behind = int(numbers[stop]) if stop < rows else piece.records
        here = [fault for fault in faults if fault.number < behind]
        faults = faults[len(here) :]
        yield Chunk(
            piece.batch.slice(start, stop - start),
            first,
            pa.array(first + numbers[start:stop], pa.int64()),
            _malformed(here, first),
        )


def _malformed(faults: Sequence[Fault], first: int) -> Malformed | None:
    if not faults:
        return None
    return Malformed(
        [fault.text for fault in faults],
        [fault.code for fault in faults],
        [fault.message for fault in faults],
        [first + fault.number for fault in faults],
    )
