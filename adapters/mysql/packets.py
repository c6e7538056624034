"""Takes a query's answer in large blocks of whole rows: the driver makes each value an object of its own, at ten times the cost.

The blocks are rows of the text protocol
(https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_com_query_response_text_resultset.html).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymysql import Connection as Driver
    from pymysql.protocol import FieldDescriptorPacket

BLOCK_BYTES = 2 << 20
PIECE_BYTES = 1 << 18
MOST_BYTES = 0xFFFFFF
"""A packet of this length goes on in the next."""
END, FAULT = 0xFE, 0xFF
_head = struct.Struct("<I").unpack_from


class Rows:
    """The answer to one query: its columns, then blocks of rows, each with the places where its rows begin."""

    def __init__(self, connection: Driver[Any], sql: str) -> None:
        from pymysql.constants import COMMAND
        from pymysql.protocol import FieldDescriptorPacket

        self._connection = connection
        connection._execute_command(COMMAND.COM_QUERY, sql)
        first = connection._read_packet()
        self.is_done = first.is_ok_packet()
        self.fields: list[FieldDescriptorPacket] = []
        if not self.is_done:
            for _ in range(first.read_length_encoded_integer()):
                self.fields.append(connection._read_packet(FieldDescriptorPacket))
            connection._read_packet()  # ends the list of columns
        self._buffer = bytearray(BLOCK_BYTES + 4)
        self._have = 0

    def __iter__(self) -> Iterator[tuple[bytes, np.ndarray]]:
        while not self.is_done:
            starts, end, is_giant = self._whole()
            if starts:
                yield bytes(memoryview(self._buffer)[:end]), np.array(starts, np.int64)
            self._keep(end)
            if is_giant:
                block = self._giant()
                yield block, np.zeros(1, np.int64)

    def _whole(self) -> tuple[list[int], int, bool]:
        """Fills the buffer: where its whole rows begin, where the last ends, and whether one follows that is longer than a packet."""
        starts: list[int] = []
        at = 0
        while True:
            while at + 4 <= self._have:
                size = _head(self._buffer, at)[0] & MOST_BYTES
                if size == MOST_BYTES:
                    return starts, at, True
                if at + 4 + size > self._have:
                    break
                starts.append(at + 4)
                at += 4 + size
            if starts and self._ends(starts[-1], at):
                self.is_done = True
                return starts[:-1], at, False
            if self._have == len(self._buffer):
                if starts:
                    return starts, at, False
                self._buffer.extend(bytes(_head(self._buffer, at)[0] & MOST_BYTES))
            self._receive()

    def _ends(self, start: int, end: int) -> bool:
        """Whether the last packet is no row but the end, or a fault, which is raised."""
        first = self._buffer[start]
        if first == FAULT:
            from pymysql.err import raise_mysql_exception

            self.is_done = True
            raise_mysql_exception(bytes(self._buffer[start:end]))
        return first == END and end - start < 9

    def _receive(self) -> None:
        # `readinto1` would wait for more where the driver's own buffer already holds the end
        piece = self._connection._rfile.read1(min(len(self._buffer) - self._have, PIECE_BYTES))
        if not piece:
            from pymysql.err import OperationalError

            self.is_done = True
            self._connection._force_close()
            raise OperationalError(2013, "Lost connection to MySQL server during query")
        self._buffer[self._have : self._have + len(piece)] = piece
        self._have += len(piece)

    def _keep(self, end: int) -> None:
        rest = self._buffer[end : self._have]
        if len(self._buffer) > BLOCK_BYTES + 4 and len(rest) <= BLOCK_BYTES:
            self._buffer = bytearray(BLOCK_BYTES + 4)
        self._buffer[: len(rest)] = rest
        self._have = len(rest)

    def _giant(self) -> bytes:
        """A row of several packets, the first of which begins in the buffer."""
        pieces: list[bytes] = []
        size = MOST_BYTES
        while size == MOST_BYTES:
            size = _head(self._take(4), 0)[0] & MOST_BYTES
            pieces.append(self._take(size))
        return b"".join(pieces)

    def _take(self, size: int) -> bytes:
        piece = bytearray()
        while len(piece) < size:
            if not self._have:
                self._receive()
            count = min(size - len(piece), self._have)
            piece += self._buffer[:count]
            self._keep(count)
        return bytes(piece)


def values(block: bytes, starts: np.ndarray, count: int) -> Iterator[Any]:
    """The values of each of `count` columns as an array of bytes; it takes their places from the lengths before them."""
    import pyarrow as pa

    data, raw = pa.py_buffer(block), np.frombuffer(block, np.uint8)
    even = np.arange(0, 2 * len(starts), 2, dtype=np.int32)
    at = starts
    for _ in range(count):
        head = raw[at]
        length, begin = head.astype(np.int64), at + 1
        nulls = None
        if (head > 250).any():
            nulls = head == 251
            length[nulls] = 0
            for mark, width in ((252, 2), (253, 3), (254, 8)):
                rows = np.flatnonzero(head == mark)
                places = at[rows]
                length[rows] = sum(raw[places + 1 + byte].astype(np.int64) << (8 * byte) for byte in range(width))
                begin[rows] += width
        at = begin + length
        # every second item of this array is what lies between two values: no byte is moved before `take`
        offsets = np.empty(2 * len(starts) + 1, np.int32)
        offsets[0:-1:2], offsets[1::2], offsets[-1] = begin, at, at[-1] if len(at) else 0
        whole = pa.Array.from_buffers(pa.binary(), 2 * len(starts), [None, pa.py_buffer(offsets), data])
        yield whole.take(pa.array(even, mask=nulls))
