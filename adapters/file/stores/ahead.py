"""Reads a file of a store as a seekable stream: pieces of it are fetched ahead, several at once, in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from adapters.file.stores.store import Source

LEAST_BYTES, MOST_BYTES = 1 << 18, 4 << 20
"""A piece is as long as what is asked for, at least this; where reading goes on and on, up to that."""
GROUPS_BYTES = 64 << 20
"""So much at most is held of the groups that were announced."""


class _Piece:
    """A range that is being fetched, or has been."""

    def __init__(self, start: int, stop: int, later: Future[bytes]) -> None:
        self.start = start
        self.stop = stop
        self._later = later

    def data(self) -> bytes:
        """Its bytes; waits for them."""
        return self._later.result()

    def end(self) -> None:
        """It is not needed any more."""
        self._later.cancel()


class Ahead(io.RawIOBase):
    """The bytes of a file. Beyond `stop` it can be read too, but nothing there is fetched ahead."""

    def __init__(self, source: Source, size_bytes: int, stop: int | None = None) -> None:
        super().__init__()
        self._source = source
        self._size = size_bytes
        self._stop = size_bytes if stop is None else min(stop, size_bytes)
        self._place = 0
        self._follows = -1
        """Where the last piece ends that was asked for: reading on from there is reading in order."""
        self._length = LEAST_BYTES
        self._pieces: list[_Piece] = []
        self._to_come: list[list[tuple[int, int]]] = []
        self._groups: list[list[_Piece]] = []
        self._threads = ThreadPoolExecutor(source.lanes, thread_name_prefix="file-ahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        self._place = place + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, room: memoryview) -> int:  # type: ignore[override]
        """Fills the room; it stays in part empty only at the end of the file."""
        room, filled = memoryview(room).cast("B"), 0
        while filled < len(room) and self._place < self._size:
            piece = self._found() or self._fetched(len(room) - filled)
            data = memoryview(piece.data())[self._place - piece.start :][: len(room) - filled]
            room[filled : filled + len(data)] = data
            self._place += len(data)
            filled += len(data)
        return filled

    def announce(self, groups: Sequence[Sequence[tuple[int, int]]]) -> None:
        """Says which ranges will be read, group after group; `pass_group` says that one has been."""
        self._to_come = [_cut(group) for group in groups]
        self._fetch_groups()

    def pass_group(self) -> None:
        """The ranges of the first group are not needed any more."""
        if self._groups:
            for piece in self._groups.pop(0):
                piece.end()
        self._fetch_groups()

    def close(self) -> None:
        if not self.closed:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._pieces, self._groups, self._to_come = [], [], []
            self._source.close()
        super().close()

    def _found(self) -> _Piece | None:
        """The piece that holds the place. What lies before it is dropped, and where reading goes on, more is fetched."""
        for piece in (piece for group in self._groups for piece in group):
            if piece.start <= self._place < piece.stop:
                return piece
        for number, piece in enumerate(self._pieces):
            if piece.start <= self._place < piece.stop:
                self._drop(number)
                if number:
                    self._fetch_on()
                return piece
        return None

    def _fetched(self, wanted: int) -> _Piece:
        """A new piece at the place."""
        is_in_order = self._place == self._follows
        self._drop(len(self._pieces))
        self._length = min(self._length * 2, MOST_BYTES) if is_in_order else min(max(wanted, LEAST_BYTES), MOST_BYTES)
        limit = self._stop if self._place < self._stop else self._size
        piece = self._piece(self._place, min(self._place + self._length, limit))
        self._pieces = [piece]
        self._follows = piece.stop
        if is_in_order or wanted > self._length:
            self._fetch_on()
        return piece

    def _fetch_on(self) -> None:
        """Fetches ahead, one piece more than may be fetched at once."""
        while len(self._pieces) <= self._source.lanes and self._follows < self._stop:
            self._length = min(self._length * 2, MOST_BYTES)
            piece = self._piece(self._follows, min(self._follows + self._length, self._stop))
            self._pieces.append(piece)
            self._follows = piece.stop

    def _fetch_groups(self) -> None:
        """Fetches the next groups as far as there is room; one that has none is fetched as it is read."""
        held = sum(piece.stop - piece.start for group in self._groups for piece in group)
        while self._to_come:
            size = sum(stop - start for start, stop in self._to_come[0])
            if self._groups and held + size > GROUPS_BYTES:
                break
            group = self._to_come.pop(0)
            self._groups.append([] if size > GROUPS_BYTES else [self._piece(start, stop) for start, stop in group])
            held += size

    def _piece(self, start: int, stop: int) -> _Piece:
        return _Piece(start, stop, self._threads.submit(self._source.fetch, start, stop))

    def _drop(self, count: int) -> None:
        for piece in self._pieces[:count]:
            piece.end()
        del self._pieces[:count]


def _cut(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges close to one another together, in pieces of at most `MOST_BYTES`."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and start <= joined[-1][1] + LEAST_BYTES:
            joined[-1] = joined[-1][0], max(stop, joined[-1][1])
        else:
            joined.append((start, stop))
    return [
        (place, min(place + MOST_BYTES, stop)) for start, stop in joined for place in range(start, stop, MOST_BYTES)
    ]
