"""A file of a store as a stream: every byte in its place, pieces fetched ahead, and never more than a few of them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.file.stores.ahead import GROUPS_BYTES, LEAST_BYTES, MOST_BYTES, Ahead

DATA = bytes(range(251)) * 40_000


@dataclass
class Kept:
    """A source in memory, which notes what it was asked for."""

    data: bytes
    lanes: int = 4
    asked: list[tuple[int, int]] = field(default_factory=list)
    is_closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, start: int, stop: int) -> bytes:
        with self._lock:
            self.asked.append((start, stop))
        return self.data[start:stop]

    def close(self) -> None:
        self.is_closed = True


@given(
    st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(0, 3 * LEAST_BYTES)), max_size=8),
    st.one_of(st.none(), st.integers(0, len(DATA))),
)
@settings(max_examples=40, deadline=None)
def test_whatever_is_read_in_whatever_order_is_what_stands_there(
    reads: list[tuple[int, int]], stop: int | None
) -> None:
    with Ahead(Kept(DATA), len(DATA), stop) as stream:
        for place, size in reads:
            stream.seek(place)
            assert stream.read(size) == DATA[place : place + size]
            assert stream.read(100) == DATA[place + size : place + size + 100] or place > len(DATA)


def test_reading_on_fetches_each_byte_once_in_larger_and_larger_pieces() -> None:
    source = Kept(DATA * 4)
    with Ahead(source, len(source.data)) as stream:
        pieces = iter(lambda: stream.read(100_000), b"")
        found = b"".join(pieces)

    assert found == source.data
    assert sum(stop - start for start, stop in source.asked) == len(source.data)
    assert max(stop - start for start, stop in source.asked) == MOST_BYTES
    assert source.is_closed


def test_nothing_is_fetched_ahead_beyond_the_end_that_is_told() -> None:
    source = Kept(DATA * 4)
    with Ahead(source, len(source.data), stop=5_000_000) as stream:
        while stream.tell() < 5_000_000:
            stream.read(min(100_000, 5_000_000 - stream.tell()))

    assert max(stop for _, stop in source.asked) <= 5_000_000


def test_no_more_is_fetched_than_a_few_pieces_before_it_is_read() -> None:
    source = Kept(bytes(200 << 20), lanes=4)
    with Ahead(source, len(source.data)) as stream:
        most = 0
        for _turn in range(200):
            stream.read(500_000)
            most = max(most, sum(stop - start for start, stop in source.asked) - stream.tell())

    assert most <= 6 * MOST_BYTES


def test_announced_groups_are_fetched_up_to_a_limit_and_the_next_when_one_has_passed() -> None:
    source = Kept(bytes(256 << 20), lanes=1)
    size = GROUPS_BYTES // 2
    groups = [[(number * size, (number + 1) * size)] for number in range(6)]
    with Ahead(source, len(source.data)) as stream:
        stream.announce(groups)
        for number in range(6):
            stream.seek(number * size)
            stream.read(size)
            assert max(stop for _, stop in source.asked) <= (number + 2) * size
            stream.pass_group()

    assert sum(stop - start for start, stop in source.asked) == 6 * size


def test_a_group_too_large_to_be_held_is_read_as_it_comes() -> None:
    source = Kept(bytes(GROUPS_BYTES + (1 << 20)), lanes=1)
    with Ahead(source, len(source.data)) as stream:
        stream.announce([[(0, len(source.data))]])
        stream.read(100)

    assert sum(stop - start for start, stop in source.asked) <= 2 * MOST_BYTES
