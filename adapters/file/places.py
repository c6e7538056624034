"""Where something stands in a file, for messages: line numbers, counted only when one is asked for."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from adapters.file.format import File
from adapters.file.quotes import NEWLINE, RETURN, Bytes, array
from adapters.file.source import read_fully

CELL_BYTES = 32 << 20
COUNTED_BYTES = 4 << 30
"""Behind this lines are not counted: a message names the byte instead."""


def line_ends(data: Bytes, following: int | None) -> int:
    """How many lines end in `data`; `following` is the byte behind it."""
    found = int(np.count_nonzero(data == NEWLINE))
    returns = data == RETURN
    if returns.any():
        pairs = int((returns[:-1] & (data[1:] == NEWLINE)).sum())
        split_pair = bool(returns[-1]) and following == NEWLINE
        found += int(returns.sum()) - pairs - int(split_pair)
    return found


@lru_cache(maxsize=1_024)
def _cell(file: File, number: int) -> int:
    return _counted(file, number * CELL_BYTES, (number + 1) * CELL_BYTES)


def _counted(file: File, start: int, stop: int) -> int:
    with file.open() as handle:
        handle.seek(start)
        data = read_fully(handle, stop - start + 1, file.name)
    following = data[stop - start] if len(data) > stop - start else None
    return line_ends(array(data)[: stop - start], following) if data else 0


def lines_before(file: File, offset: int) -> int | None:
    """How many lines end before a place of an uncompressed file; None where that takes too long to count."""
    if offset > COUNTED_BYTES:
        return None
    whole = offset // CELL_BYTES
    return sum(_cell(file, number) for number in range(whole)) + _counted(file, whole * CELL_BYTES, offset)
