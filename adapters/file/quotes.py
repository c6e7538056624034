"""Where records of CSV text end, found without parsing: exact for quoted newlines and for stray quotes.

The parser opens a quote only at the start of a field. So an odd run of quotes that follows anything but a delimiter
or a line end leaves the state *outside*, whatever it was before: it closes a quoted field or is a stray quote in a
plain one. An odd run at what may be the start of a field flips the state. Even runs change nothing (an empty field,
escaped quotes). One odd run of the first kind therefore tells the state at once, from anywhere in a file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

NEWLINE, RETURN = 10, 13
PIECE_BYTES = 1 << 18
RECORD_LIMIT_BYTES = 32 << 20
"""Nothing longer is taken for a record: a quote that has no end within that is no quote."""
Bytes = np.ndarray
"""A one-dimensional array of uint8."""


_MAY_FOLLOW = np.zeros((256, 256), bool)
"""Per delimiter the bytes that stand before an opening and behind a closing quote."""
_MAY_FOLLOW[:, [NEWLINE, RETURN]] = True
np.fill_diagonal(_MAY_FOLLOW, val=True)


@dataclass(frozen=True)
class Quoting:
    """The marks of a dialect, as bytes; `quote` and `escape` are None where there are none."""

    delimiter: int
    quote: int | None
    escape: int | None = None
    returns_end: bool = True
    """Whether a carriage return by itself ends a record, as it does in CSV."""

    def marks(self) -> tuple[int, ...]:
        """Bytes whose meaning depends on the one before: no window may begin with them."""
        return tuple(mark for mark in (self.quote, self.escape) if mark is not None)


LINES = Quoting(0, None)
"""No quotes at all: every line is a record."""


@dataclass(frozen=True)
class Runs:
    """The odd runs of quotes: where each ends, and whether it flips the state (else it leaves it outside)."""

    ends: Bytes
    flips: Bytes

    def states(self, inside: bool) -> Bytes:
        """Whether the text after each run is inside quotes, `inside` being the state before the first."""
        flipped = np.cumsum(self.flips) + int(inside)
        settled = np.maximum.accumulate(np.where(self.flips, 0, flipped + 1)) if len(flipped) else flipped
        # `flipped` never falls, so the last run that settles the state has the greatest value so far
        since = np.where(settled > 0, flipped - (settled - 1), flipped)
        return (since & 1).astype(bool)

    def settled(self) -> int | None:
        """The state after the last run, where the runs alone tell it: 0 outside, 1 inside."""
        places = np.flatnonzero(~self.flips)
        return None if not len(places) else int(len(self.flips) - 1 - places[-1]) & 1


def array(data: bytes | bytearray | memoryview) -> Bytes:
    return np.frombuffer(data, np.uint8)


def odd_runs(data: Bytes, quoting: Quoting, before: int = NEWLINE) -> Runs:
    """The odd runs of quotes in `data`; `before` is the byte ahead of it, which is neither quote nor escape."""
    places = np.flatnonzero(data == quoting.quote) if quoting.quote is not None else np.empty(0, np.int64)
    if quoting.escape is not None and len(places):
        places = places[~_escaped(data, quoting.escape)[places]]
    if not len(places):
        return Runs(places, places.astype(bool))
    firsts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    starts = stops = places
    if len(firsts) < len(places):
        lengths = np.diff(firsts, append=len(places))
        odd = (lengths & 1).astype(bool)
        starts = places[firsts[odd]]
        stops = starts + lengths[odd] - 1
    opens = _MAY_FOLLOW[quoting.delimiter][data[starts - 1]]
    if len(starts) and starts[0] == 0:
        opens[0] = _MAY_FOLLOW[quoting.delimiter][before]
    if quoting.escape is not None:
        opens &= ~_escaped(data, quoting.escape)[np.maximum(starts - 1, 0)]
    return Runs(stops, opens)


def record_ends(data: Bytes, quoting: Quoting, inside: bool = False, before: int = NEWLINE) -> Bytes:
    """The places just behind each line end that ends a record; blank lines count as records here."""
    ends = np.flatnonzero(data == NEWLINE)
    returns = np.flatnonzero(data == RETURN) if quoting.returns_end else ends[:0]
    if len(returns):
        following = np.append(data[1:], 0)[returns]
        ends = np.sort(np.concatenate([ends, returns[following != NEWLINE]]))
    if quoting.escape is not None and len(ends):
        ends = ends[~_escaped(data, quoting.escape)[ends]]
    runs = odd_runs(data, quoting, before)
    if len(runs.ends) or inside:
        states = np.concatenate([[inside], runs.states(inside)])
        ends = ends[~states[np.searchsorted(runs.ends, ends)]]
    return ends + 1


def last_end(data: Bytes, quoting: Quoting) -> int:
    """The place behind the last record that ends in `data`, which begins with a record; 0 where none ends."""
    if quoting.quote is not None and not _holds(data, quoting.quote):
        quoting = replace(quoting, quote=None)
    window = 1 << 16
    while True:
        start = _clean(data, max(len(data) - window, 0), quoting)
        part, offset = data[start:], start
        if start > 0 and quoting.quote is not None:
            runs = odd_runs(part, quoting, int(data[start - 1]))
            settling = runs.ends[~runs.flips]
            if not len(settling):
                window *= 4
                continue
            offset = start + int(settling[0]) + 1
            part = data[offset:]
        ends = record_ends(part, quoting, before=int(data[offset - 1]) if offset else NEWLINE)
        if len(ends):
            return offset + int(ends[-1])
        if start == 0:
            return 0
        window *= 4


def _holds(data: Bytes, byte: int) -> bool:
    """Whether a byte is in the text, looked for in pieces that the processor's cache holds."""
    return any((data[place : place + PIECE_BYTES] == byte).any() for place in range(0, len(data), PIECE_BYTES))


def ends_inside(data: Bytes, quoting: Quoting, inside: bool = False, before: int = NEWLINE) -> bool:
    """Whether the end of `data` is within quotes, `inside` being whether its beginning is."""
    states = odd_runs(data, quoting, before).states(inside)
    return bool(states[-1]) if len(states) else inside


def broken_fields(data: Bytes, quoting: Quoting) -> Bytes:
    """The places behind closing quotes that a field goes on at; `data` begins with a record."""
    if quoting.quote is None or not _holds(data, quoting.quote):
        return np.empty(0, np.int64)
    runs = odd_runs(data, quoting)
    behind = runs.ends + 1
    goes_on = ~_MAY_FOLLOW[quoting.delimiter][data[np.minimum(behind, len(data) - 1)]] & (behind < len(data))
    if runs.flips[0::2].all() and not goes_on[1::2].any():  # opening and closing by turns
        return np.empty(0, np.int64)
    after = runs.states(inside=False)
    closing = ~after & np.concatenate([[False], after[:-1]])
    return behind[closing & goes_on]


def plain_line_ends(data: Bytes, quoting: Quoting) -> Bytes:
    """The places behind all line ends, whatever is quoted."""
    return record_ends(data, replace(quoting, quote=None, escape=None))


def first_line_end(data: Bytes, quoting: Quoting) -> int | None:
    """The place behind the first line end, whatever is quoted; None where there is none."""
    ends = plain_line_ends(data[:PIECE_BYTES], quoting)
    if not len(ends) or ends[0] >= PIECE_BYTES:  # a line end in the last byte may be the first half of one
        ends = plain_line_ends(data, quoting)
    return int(ends[0]) if len(ends) else None


def _clean(data: Bytes, start: int, quoting: Quoting) -> int:
    """The nearest place at or before `start` with no mark right before it, so that no run is cut."""
    marks = quoting.marks()
    while start > 0 and int(data[start - 1]) in marks:  # runs of marks are short
        start -= 1
    return start


def _escaped(data: Bytes, escape: int) -> Bytes:
    """Per byte whether an escape stands right before it and is not itself escaped."""
    places = np.flatnonzero(data == escape)
    found = np.zeros(len(data) + 1, bool)
    if len(places):
        firsts = np.flatnonzero(np.diff(places, prepend=-2) != 1)
        lengths = np.diff(firsts, append=len(places))
        # in a run of escapes every second byte is escaped, and the byte behind an odd run
        within = np.arange(len(places)) - np.repeat(firsts, lengths)
        found[places + 1] = (within & 1) == 0
    return found[:-1]
