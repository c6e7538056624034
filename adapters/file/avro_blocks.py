"""The frame of an Avro file: its header, and blocks of records between sync markers.

A block says how many records and bytes it has, and ends in the file's marker. Where that does not hold, the file is
damaged: reading goes on behind the next marker, and what lies between is a block of its own with a fault.
"""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from adapters.file.looks import HEAD_BYTES, seems
from adapters.file.source import Reader, read_fully
from pipelines.errors import Invalid
from pipelines.node import Json

MAGIC = b"Obj\x01"
MARKER_BYTES = 16
MOST_BLOCK_BYTES = 256 << 20
"""Of a block, packed and unpacked: what is larger is taken for damage."""
MOST_HEADER_BYTES = 64 << 20
SEARCHED_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """What stands before the blocks."""

    schema: Json
    codec: str
    marker: bytes
    size_bytes: int


@dataclass(frozen=True)
class Block:
    """Records, or a damaged place (`fault`) that begins where a block should."""

    offset: int
    stop: int
    count: int
    data: bytes = b""
    fault: str = ""


class Cut(Exception):
    """The file ends here."""


class Bytes:
    """Reads on from a place; tells where it is."""

    def __init__(self, reader: Reader, name: str, *, can_go_back: bool = False) -> None:
        self._reader = reader
        self._name = name
        self._can_go_back = can_go_back
        self.place = 0

    def take(self, size: int) -> bytes:
        """Exactly so many bytes. Raises `Cut` where there are fewer."""
        found = read_fully(self._reader, size, self._name)
        self.place += len(found)
        if len(found) < size:
            raise Cut
        return found

    def some(self, size: int) -> bytes:
        """As many as there are, at most `size`."""
        found = read_fully(self._reader, size, self._name)
        self.place += len(found)
        return found

    def skip(self, size: int) -> bytes:
        """Goes on behind so many bytes."""
        self.place += size
        self._reader.seek(self.place)
        return b""

    def find(self, mark: bytes, start: int) -> None:
        """Goes behind the next `mark` from `start` on; to the end where there is none, or no way back."""
        if not self._can_go_back:
            while self.some(SEARCHED_BYTES):
                pass
            return
        self._reader.seek(start)
        self.place, held = start, b""
        while fresh := self.some(SEARCHED_BYTES):
            held = held[-len(mark) + 1 :] + fresh
            at = held.find(mark)
            if at >= 0:
                self.place += at + len(mark) - len(held)
                self._reader.seek(self.place)
                return

    def number(self) -> int:
        """A number of Avro's: seven bits a byte, the lowest first, zigzag."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
            if shift > 63:
                raise ValueError("a number is longer than 64 bits")


def read_header(reader: Reader, name: str) -> Header:
    """The header, from the beginning of a file.

    Raises:
        Invalid: it is no Avro file, or cut short within its header.
    """
    source = Bytes(reader, name)
    head = source.some(len(MAGIC))
    if head != MAGIC:
        what = seems(head + source.some(HEAD_BYTES))
        raise Invalid(f"{name}: is no Avro file; it seems to be {what}; set `format` to what it is, or fetch it again")
    try:
        entries = dict(_entries(source))
        marker = source.take(MARKER_BYTES)
        schema = json.loads(entries["avro.schema"])
    except Cut:
        raise Invalid(f"{name}: is cut short within its header; fetch it again") from None
    except (ValueError, KeyError, RecursionError) as fault:
        raise Invalid(f"{name}: its header is damaged ({type(fault).__name__}: {fault}); fetch it again") from fault
    codec = entries.get("avro.codec", b"null").decode("utf-8", "replace")
    if codec not in _UNPACK:
        raise Invalid(f"{name}: is compressed by {codec!r}; it can be {', '.join(_UNPACK)}")
    return Header(schema, codec, marker, source.place)


def _entries(source: Bytes) -> Iterator[tuple[str, bytes]]:
    while count := source.number():
        if count < 0:
            source.number()
        for _ in range(abs(count)):
            yield _sized(source).decode(), _sized(source)


def _sized(source: Bytes) -> bytes:
    size = source.number()
    if not 0 <= size <= MOST_HEADER_BYTES:
        raise ValueError(f"an entry of {size} bytes")
    return source.take(size)


def blocks(source: Bytes, header: Header, stop: int | None, *, with_data: bool = True) -> Iterator[Block]:
    """The blocks from where `source` stands up to `stop` (None: the end); without data they are passed over unread."""
    while stop is None or source.place < stop:
        start = source.place
        try:
            block = _block(source, header.marker, with_data)
        except Cut:
            if source.place == start:
                return
            block = _damaged(source, header.marker, start, "the file ends within a block: it is cut short")
        except ValueError as fault:
            block = _damaged(source, header.marker, start, f"a block is damaged: {fault}")
        yield block


def _block(source: Bytes, marker: bytes, with_data: bool) -> Block:
    start, count, size = source.place, source.number(), source.number()
    if count < 0 or not 0 <= size <= MOST_BLOCK_BYTES:
        raise ValueError(f"it says that it has {count} records in {size} bytes")
    data = source.take(size) if with_data else source.skip(size)
    if source.take(MARKER_BYTES) != marker:
        raise ValueError("it does not end in the file's marker")
    return Block(start, source.place, count, data)


def _damaged(source: Bytes, marker: bytes, start: int, fault: str) -> Block:
    """What lies between the place where a block should be and the next marker, or the end."""
    source.find(marker, start + 1)
    return Block(start, source.place, 0, fault=fault)


def head_of(schema: Json, codec: str, marker: bytes) -> bytes:
    """A header."""
    entries = {"avro.codec": codec.encode(), "avro.schema": json.dumps(schema).encode()}
    content = b"".join(sized(key.encode()) + sized(value) for key, value in entries.items())
    return MAGIC + number(len(entries)) + content + number(0) + marker


def framed(count: int, data: bytes, marker: bytes) -> bytes:
    """A block with its frame."""
    return number(count) + sized(data) + marker


def sized(data: bytes) -> bytes:
    """Bytes with their number in front."""
    return number(len(data)) + data


def number(value: int) -> bytes:
    """A number of Avro's, as it is written."""
    rest = (value << 1) ^ (value >> 63)
    found = bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*found, rest])


def unpacked(data: bytes, codec: str) -> bytes:
    """A block's records.

    Raises:
        ValueError: they cannot be unpacked, or would be too many bytes.
    """
    try:
        found = _UNPACK[codec](data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as fault:
        raise ValueError(f"it cannot be unpacked as {codec}: {fault}") from fault
    if len(found) > MOST_BLOCK_BYTES:
        raise ValueError(f"it unpacks to more than {MOST_BLOCK_BYTES >> 20} MiB")
    return found


def packed(data: bytes, codec: str) -> bytes:
    """A block's records as they are written."""
    if codec == "deflate":
        return zlib.compress(data, 6, -15)
    if codec == "snappy":
        return pa.compress(data, codec="snappy", asbytes=True) + zlib.crc32(data).to_bytes(4, "big")
    return pa.compress(data, codec="zstd", asbytes=True) if codec == "zstandard" else data


def _deflate(data: bytes) -> bytes:
    return zlib.decompressobj(-15).decompress(data, MOST_BLOCK_BYTES + 1)


def _bzip2(data: bytes) -> bytes:
    return bz2.BZ2Decompressor().decompress(data, MOST_BLOCK_BYTES + 1)


def _xz(data: bytes) -> bytes:
    return lzma.LZMADecompressor(memlimit=MOST_BLOCK_BYTES).decompress(data, MOST_BLOCK_BYTES + 1)


def _zstandard(data: bytes) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        found: bytes = stream.read(MOST_BLOCK_BYTES + 1)
    return found


def _snappy(data: bytes) -> bytes:
    """Snappy, its length in front; then the checksum of what was packed."""
    size = shift = 0
    for byte in data[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > MOST_BLOCK_BYTES:
        raise ValueError(f"it says that it unpacks to {size} bytes")
    found: bytes = pa.decompress(data[:-4], decompressed_size=size, codec="snappy", asbytes=True)
    if zlib.crc32(found).to_bytes(4, "big") != data[-4:]:
        raise ValueError("its checksum is wrong")
    return found


_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {
    "null": bytes,
    "deflate": _deflate,
    "snappy": _snappy,
    "zstandard": _zstandard,
    "bzip2": _bzip2,
    "xz": _xz,
}
