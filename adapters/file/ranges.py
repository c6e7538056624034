"""Cuts a file of text records into byte ranges, and reads a range in blocks of whole records.

Ranges are planned without looking (`nominal` places); where the record at a nominal place begins is found when a range
is read, always in the same way, so that neighbours agree. Nothing longer than `RECORD_LIMIT_BYTES` is held: a quote
that has no end within that is no quote.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

from adapters.file.format import File
from adapters.file.quotes import (
    NEWLINE,
    RECORD_LIMIT_BYTES,
    Quoting,
    array,
    ends_inside,
    first_line_end,
    odd_runs,
    record_ends,
)
from adapters.file.source import UTF8, Reader, opened, read_fully

RANGE_BYTES = 32 << 20
LEAST_RANGE_BYTES = 4 << 20
SEVERAL = 4
WINDOW_BYTES = 1 << 18
STRADDLING_BYTES = 2 * RECORD_LIMIT_BYTES
"""So far at most what a range reads reaches over its nominal end."""


def nominal_ranges(start: int, size_bytes: int, range_bytes: int) -> list[tuple[int, int]]:
    """Ranges of at most `range_bytes` from `start` on, of equal size; a smaller file gives a few for several workers."""
    length = size_bytes - start
    count = max(-(-length // range_bytes), min(length // LEAST_RANGE_BYTES, SEVERAL), 1)
    places = [start + length * index // count for index in range(count + 1)]
    return list(itertools.pairwise(places))


@lru_cache(maxsize=4_096)
def record_start(file: File, nominal: int, begin: int, quoting: Quoting, window_bytes: int = WINDOW_BYTES) -> int:
    """The first place behind `nominal` where a record begins; `begin` is where the first one does."""
    if nominal <= begin:
        return begin
    if nominal >= file.size_bytes:
        return file.size_bytes
    with opened(file, UTF8) as handle:
        place = _plain_place(handle, nominal, begin, quoting)
        inside = _is_inside(handle, place, begin, quoting, window_bytes)
        before = NEWLINE if place == begin else _at(handle, place - 1, place)[0]
        return _next_record(handle, file, nominal, Point(place, inside, before), quoting, window_bytes)


@dataclass(frozen=True)
class Point:
    """A place of a file, whether it lies within quotes, and the byte before it."""

    place: int
    inside: bool
    before: int


def _at(handle: Reader, start: int, stop: int) -> bytes:
    handle.seek(start)
    return read_fully(handle, stop - start, "")


def _plain_place(handle: Reader, nominal: int, begin: int, quoting: Quoting) -> int:
    """The last place up to `nominal` that has only plain bytes right before it; at the least `begin`."""
    size = 64
    while True:
        start = max(nominal - size, begin)
        back = _at(handle, start, nominal)[::-1]
        behind = _behind_plain(back, quoting)
        if behind is not None:
            return nominal - behind + (1 if quoting.escape is None else 2)
        if start == begin:
            return begin
        size *= 4


def _behind_plain(data: bytes, quoting: Quoting) -> int | None:
    """The first place in `data` behind a byte whose meaning no mark can change; None where there is none.

    A run of marks is then never cut; with an escape the byte before must be plain too, or it might escape this one.
    """
    marks = bytes(quoting.marks())
    needed = 1 if quoting.escape is None else 2
    plain = 0
    for place, byte in enumerate(data):  # ends within a few bytes
        plain = 0 if byte in marks else plain + 1
        if plain == needed:
            return place + 1
    return None


def _is_inside(handle: Reader, place: int, begin: int, quoting: Quoting, window_bytes: int) -> bool:
    """Whether `place` lies within quotes: looks back until one run of quotes tells, or the beginning."""
    if quoting.quote is None:
        return False
    quote = bytes([quoting.quote])
    room = bytearray(window_bytes)
    flips, end, window = 0, place, window_bytes
    while end > begin and (flips or place - end < RECORD_LIMIT_BYTES):
        start = max(end - window, begin)
        if quoting.escape is None and window == window_bytes and _lacks(handle, start, end, quote, room):
            end = start
            continue
        data = _at(handle, start, end)
        skipped = 0 if start == begin else _behind_plain(data, quoting)
        if skipped is None or skipped >= len(data):
            window *= 2
            continue
        runs = odd_runs(array(data)[skipped:], quoting, data[skipped - 1] if skipped else NEWLINE)
        settled = runs.settled()
        if settled is not None:
            return bool((settled + flips) & 1)
        flips += len(runs.ends)
        end, window = start + skipped, window_bytes
    return bool(flips & 1)


def _lacks(handle: Reader, start: int, stop: int, quote: bytes, room: bytearray) -> bool:
    """Whether there is no quote between two places: the common case, so that nothing is copied."""
    handle.seek(start)
    return handle.readinto(memoryview(room)[: stop - start]) == stop - start and room.find(quote, 0, stop - start) < 0


def _next_record(handle: Reader, file: File, nominal: int, known: Point, quoting: Quoting, window_bytes: int) -> int:
    """The first end of a record behind `nominal`, from what is known at a place before it."""
    window = window_bytes
    while True:
        data = array(_at(handle, known.place, nominal + window))
        is_all = known.place + len(data) >= file.size_bytes
        ends = known.place + record_ends(data, quoting, known.inside, known.before)
        ends = ends[ends > nominal]
        # a line end in the last byte may be the first half of one
        if len(ends) and (is_all or ends[0] < known.place + len(data)):
            return int(ends[0])
        if is_all and not ends_inside(data, quoting, known.inside, known.before):
            return file.size_bytes
        if is_all or window >= STRADDLING_BYTES:  # a quote that is never closed, or a line without end
            end = first_line_end(data[nominal - known.place :], quoting)
            return known.place + len(data) if end is None else nominal + end
        window *= 4
