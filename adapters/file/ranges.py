"""Cuts a file of text records into byte ranges, and reads a range in blocks of whole records.

Ranges are planned without looking (`nominal` places); where the record at a nominal place begins is found when a range
is read, always in the same way, so that neighbours agree. Nothing longer than `RECORD_LIMIT_BYTES` is held: a quote
that has no end within that is no quote.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from adapters.file.format import File
from adapters.file.quotes import (
    NEWLINE,
    Bytes,
    Quoting,
    array,
    ends_inside,
    first_line_end,
    last_end,
    odd_runs,
    record_ends,
)
from adapters.file.source import UTF8, Reader, opened, read_fully, read_into

RANGE_BYTES = 32 << 20
LEAST_RANGE_BYTES = 4 << 20
SEVERAL = 4
RECORD_LIMIT_BYTES = 32 << 20
WINDOW_BYTES = 1 << 18


@dataclass(frozen=True)
class Block:
    """Whole records, the first beginning at `offset` of the file. `fault` says why the one record is none."""

    data: memoryview
    offset: int
    fault: str = ""


def nominal_ranges(start: int, size_bytes: int, range_bytes: int) -> list[tuple[int, int]]:
    """Ranges of at most `range_bytes` from `start` on, of equal size; a smaller file gives a few for several workers."""
    length = size_bytes - start
    count = max(-(-length // range_bytes), min(length // LEAST_RANGE_BYTES, SEVERAL), 1)
    places = [start + length * index // count for index in range(count + 1)]
    return list(itertools.pairwise(places))


@lru_cache(maxsize=4_096)
def record_start(file: File, nominal: int, begin: int, quoting: Quoting) -> int:
    """The first place behind `nominal` where a record begins; `begin` is where the first one does."""
    if nominal <= begin:
        return begin
    if nominal >= file.size_bytes:
        return file.size_bytes
    with opened(file, UTF8) as handle:
        place = _clear_of_marks(handle, nominal, quoting)
        inside = _is_inside(handle, place, begin, quoting)
        return _next_record(handle, place, file.size_bytes, inside, quoting)


def _at(handle: Reader, start: int, stop: int) -> bytes:
    handle.seek(start)
    return read_fully(handle, stop - start, "")


def _clear_of_marks(handle: Reader, place: int, quoting: Quoting) -> int:
    """The next place that has no quote or escape right before it, so that no run of them is cut."""
    marks = bytes(quoting.marks())
    while True:
        data = _at(handle, place - 1, place + WINDOW_BYTES)
        plain = len(data) - len(data.lstrip(marks))
        if plain < len(data) or len(data) <= WINDOW_BYTES:
            return place + plain
        place += len(data)


def _is_inside(handle: Reader, place: int, begin: int, quoting: Quoting) -> bool:
    """Whether `place` lies within quotes: looks back until one run of quotes tells, or the beginning."""
    if quoting.quote is None:
        return False
    quote, marks = bytes([quoting.quote]), bytes(quoting.marks())
    flips, end, window = 0, place, WINDOW_BYTES
    while end > begin and (flips or place - end < RECORD_LIMIT_BYTES):
        start = max(end - window, begin)
        data = _at(handle, start, end)
        if quote not in data:
            end = start
            continue
        # marks at the front may go on before it: they, and the byte behind them, are left to the next window
        skipped = 0 if start == begin else len(data) - len(data.lstrip(marks)) + 1
        if skipped >= len(data):
            window *= 2
            continue
        runs = odd_runs(array(data)[skipped:], quoting, data[skipped - 1] if skipped else NEWLINE)
        settled = runs.settled()
        if settled is not None:
            return bool((settled + flips) & 1)
        flips += len(runs.ends)
        end, window = start + skipped, WINDOW_BYTES
    return bool(flips & 1)


def _next_record(handle: Reader, place: int, size_bytes: int, inside: bool, quoting: Quoting) -> int:
    window = WINDOW_BYTES
    while place < size_bytes:
        data = _at(handle, place - 1, min(place + window, size_bytes))
        ends = record_ends(array(data)[1:], quoting, inside, data[0])
        if len(ends):
            return place + int(ends[0])
        if place - 1 + len(data) >= size_bytes or window > RECORD_LIMIT_BYTES:
            return place + first_line_end(array(data)[1:])
        window *= 4
    return size_bytes


def blocks(
    reader: Reader, offset: int, stop: int | None, block_bytes: int, quoting: Quoting, name: str
) -> Iterator[Block]:
    """The records from here to `stop` (None: the end) in blocks of about `block_bytes`, at least one record each."""
    held, wanted = memoryview(b""), block_bytes
    while True:
        left = wanted if stop is None else min(wanted, stop - offset - len(held))
        held, fresh = _more(reader, held, left, name)
        is_last = fresh < left or (stop is not None and offset + len(held) >= stop)
        if not len(held):
            return
        data = array(held)
        end = last_end(data, quoting)
        if is_last and not ends_inside(data[end:], quoting):
            end = len(held)
        if end:
            yield Block(held[:end], offset)
        elif is_last or len(held) > RECORD_LIMIT_BYTES:
            end = first_line_end(data)
            yield Block(held[:end], offset, _endless(is_last, quoting, data))
        else:
            wanted = len(held)
            continue
        offset, held = offset + end, held[end:]
        wanted = max(block_bytes - len(held), block_bytes // 4, 1)


def _more(reader: Reader, held: memoryview, size: int, name: str) -> tuple[memoryview, int]:
    """What is held and up to `size` bytes more in one piece; how many came."""
    room = bytearray(len(held) + size)
    room[: len(held)] = held
    view = memoryview(room)
    place = len(held)
    while place < len(room):
        count = read_into(reader, view[place:], name)
        if not count:
            break
        place += count
    return view[:place], place - len(held)


def _endless(is_last: bool, quoting: Quoting, data: Bytes) -> str:
    limit = f"within {RECORD_LIMIT_BYTES >> 20} MiB"
    if not ends_inside(data, quoting):
        return f"the line does not end {limit}"
    return "a quote opens here that is never closed" if is_last else f"a quote opens here that is not closed {limit}"
