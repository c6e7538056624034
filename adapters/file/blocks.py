"""Reads a range of a text file in blocks of whole records, in bounded memory.

What is no record is a block of its own: a line longer than `RECORD_LIMIT_BYTES`, a line in which a quote opens that is
never closed, or that is closed only by the quote of a later field. Reading goes on behind that line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adapters.file.quotes import (
    RECORD_LIMIT_BYTES,
    Bytes,
    Quoting,
    array,
    broken_fields,
    ends_inside,
    first_line_end,
    last_end,
    plain_line_ends,
    record_ends,
)
from adapters.file.source import Reader, read_into

WARY_BYTES = 1 << 14
"""So little is looked at behind a broken line: where one is, more may follow."""
BROKEN = "a field goes on behind its closing quote"
LEFT_OPEN = "a quote opens here that is left open: the next one stands within a field"


@dataclass(frozen=True)
class Block:
    """Whole records, the first beginning at `offset` of the file; to be used before the next block is asked for."""

    data: memoryview
    offset: int
    fault: str = ""
    """Why the one line is no record."""
    has_broken: bool = False
    """Whether some records have a field that goes on behind its closing quote."""


@dataclass(frozen=True)
class Soundness:
    """How far records are sound: up to `stop`; then comes a broken line that ends at `line_stop` (0: none)."""

    stop: int
    line_stop: int = 0
    has_broken: bool = False


class Blocks:
    """The records from `offset` to `stop` (None: the end) in blocks of about `block_bytes`, at least one record each.

    One piece of memory serves all blocks.
    """

    def __init__(
        self, reader: Reader, offset: int, stop: int | None, block_bytes: int, quoting: Quoting, name: str
    ) -> None:
        self._reader = reader
        self._offset = offset
        self._stop = stop
        self._block_bytes = block_bytes
        self._quoting = quoting
        self._name = name
        self._room = memoryview(bytearray(block_bytes))
        self._held = 0
        self._is_last = False
        self._is_within_line = False

    def __iter__(self) -> Iterator[Block]:
        wanted, look = self._block_bytes, 1 << 62
        while self._read(wanted):
            seen = self._held if self._is_within_line else min(look, self._held)
            data = array(self._room[:seen])
            is_end = self._is_last and seen == self._held
            if self._is_within_line:
                self._drop(self._line_stop(data))
            elif end := self._whole_records(data, is_end):
                sound = soundness(data[:end], self._quoting)
                if sound.stop:
                    yield Block(self._room[: sound.stop], self._offset, "", sound.has_broken)
                if sound.line_stop:
                    line = self._room[sound.stop : sound.line_stop]
                    yield Block(line, self._offset + sound.stop, LEFT_OPEN)
                look = WARY_BYTES if sound.line_stop else look * 4
                self._drop(sound.line_stop or end)
            elif seen < self._held:
                look, wanted = look * 4, 0
                continue
            elif self._is_last or self._held > RECORD_LIMIT_BYTES:
                end = self._line_stop(data)
                yield Block(self._room[:end], self._offset, self._endless(data))
                look = WARY_BYTES
                self._drop(end)
            else:
                wanted = self._held
                continue
            wanted = max(self._block_bytes - self._held, self._block_bytes // 4, 1)

    def _read(self, wanted: int) -> int:
        """Reads on; gives how much is held."""
        left = wanted if self._stop is None else min(wanted, self._stop - self._offset - self._held)
        self._make_room(self._held + left)
        while left > 0 and not self._is_last:
            count = read_into(self._reader, self._room[self._held : self._held + left], self._name)
            self._is_last = not count
            self._held += count
            left -= count
        self._is_last = self._is_last or (self._stop is not None and self._offset + self._held >= self._stop)
        return self._held

    def _make_room(self, size: int) -> None:
        if size > len(self._room):
            larger = memoryview(bytearray(size))
            larger[: self._held] = self._room[: self._held]
            self._room = larger

    def _drop(self, end: int) -> None:
        """Goes behind what was given."""
        self._room[: self._held - end] = self._room[end : self._held].tobytes()
        self._offset += end
        self._held -= end

    def _whole_records(self, data: Bytes, is_end: bool) -> int:
        """Where the whole records at the front end; 0 where there are none. The last of all needs no line end."""
        end = last_end(data, self._quoting)
        return len(data) if is_end and not ends_inside(data[end:], self._quoting) else end

    def _line_stop(self, data: Bytes) -> int:
        """Where the first line ends, whatever is quoted; a line that does not end is given up piece by piece."""
        end = first_line_end(data, self._quoting)
        self._is_within_line = end is None and not (self._is_last and len(data) == self._held)
        return len(data) if end is None else end

    def _endless(self, data: Bytes) -> str:
        limit = f"within {RECORD_LIMIT_BYTES >> 20} MiB"
        if not ends_inside(data, self._quoting):
            return f"the line does not end {limit}"
        return f"a quote opens here that is {'never closed' if self._is_last else f'not closed {limit}'}"


def soundness(data: Bytes, quoting: Quoting) -> Soundness:
    """How far the records in `data` are sound."""
    places = broken_fields(data, quoting)
    if not len(places):
        return Soundness(len(data))
    ends = record_ends(data, quoting)
    ends = ends if len(ends) and ends[-1] == len(data) else np.append(ends, len(data))
    numbers = np.unique(np.searchsorted(ends, places, side="right"))
    starts = np.concatenate([[0], ends[:-1]])[numbers]
    lines = np.append(plain_line_ends(data, quoting), len(data))
    line_stops = lines[np.searchsorted(lines, starts, side="right")]
    left_open = np.flatnonzero(line_stops < ends[numbers])
    if not len(left_open):
        return Soundness(len(data), 0, has_broken=True)
    first = int(left_open[0])
    return Soundness(int(starts[first]), int(line_stops[first]), has_broken=first > 0)
