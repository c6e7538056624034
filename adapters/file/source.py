"""Opens files as bytes: decompressed, transcoded where their encoding has no single bytes, a byte-order mark skipped."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from adapters.file.format import File
from pipelines.errors import Invalid, Unavailable

COMPRESSIONS = {".gz": ("gzip", 1_100), ".zst": ("zstd", 1 << 16), ".bz2": ("bz2", 1 << 20)}
"""By suffix: Arrow's name, and how many bytes one byte may unfold to."""
MOST_ROOM = 1 << 45
UTF8 = "utf-8"
UTF8_MARK = codecs.BOM_UTF8


class Reader(Protocol):
    """What gives bytes one after the other."""

    def readinto(self, room: memoryview, /) -> int | None: ...

    def seek(self, place: int, /) -> int: ...


def compression_of(path: Path) -> str | None:
    """Arrow's name of how the file is compressed, by its suffix; None: not at all."""
    return COMPRESSIONS.get(path.suffix.lower(), (None, 0))[0]


def encoding_of(name: str) -> str:
    """Python's name of an encoding."""
    found = codecs.lookup(name).name
    return UTF8 if found in (UTF8, "utf-8-sig", "ascii") else found


def has_single_bytes(encoding: str) -> bool:
    """Whether every byte is a character of its own, ASCII as in ASCII: such text can be cut anywhere."""
    return encoding.startswith(("iso8859", "cp125", "koi8", "mac-"))


def is_one_split(path: Path, encoding: str) -> bool:
    """Whether the file can only be read from its beginning to its end."""
    return compression_of(path) is not None or not (encoding == UTF8 or has_single_bytes(encoding))


def room_of(file: File) -> int:
    """A bound of the records in a file that is one split."""
    _, factor = COMPRESSIONS.get(file.path.suffix.lower(), (None, 2))
    return min(file.size_bytes * factor + 1_024, MOST_ROOM)


def to_utf8(data: memoryview, encoding: str) -> memoryview:
    """Text of a single-byte encoding in UTF-8. What is no character stays a byte that UTF-8 does not know either."""
    if not has_single_bytes(encoding):
        return data
    return memoryview(bytes(data).decode(encoding, "surrogateescape").encode(UTF8, "surrogateescape"))


@contextmanager
def opened(file: File, encoding: str, stop: int | None = None) -> Iterator[Reader]:
    """The file's bytes: as they are, or decompressed, or in UTF-8 where characters have several bytes.

    Where it will not be read beyond `stop`, nothing there is fetched ahead.
    """
    try:
        with file.open(stop) as raw:
            compression = compression_of(file.path)
            stream = pa.CompressedInputStream(pa.PythonFile(raw, "r"), compression) if compression else raw
            if encoding != UTF8 and not has_single_bytes(encoding):
                stream = Transcoded(stream, encoding, file.name)
            yield stream
    except FileNotFoundError as fault:
        raise Unavailable(f"{file.name}: is gone; it was there when the run was planned") from fault
    except PermissionError as fault:
        raise Invalid(f"{file.name}: may not be read by this user; change its permissions") from fault


def read_into(reader: Reader, room: memoryview, name: str) -> int:
    """Fills the front of `room`; how many bytes came, 0 at the end."""
    try:
        return reader.readinto(room) or 0
    except (OSError, EOFError) as fault:
        raise Invalid(f"{name}: cannot be decompressed: {fault}; it may be cut short or damaged") from fault


def read_fully(reader: Reader, size: int, name: str) -> bytes:
    """The next `size` bytes; fewer only at the end."""
    room = bytearray(size)
    place = 0
    while place < size:
        count = read_into(reader, memoryview(room)[place:], name)
        if not count:
            break
        place += count
    return bytes(memoryview(room)[:place])


class Transcoded(io.RawIOBase):
    """Text of several bytes a character, in UTF-8. What cannot be decoded becomes a byte that UTF-8 does not know."""

    CHUNK_BYTES = 1 << 20

    def __init__(self, stream: Reader, encoding: str, name: str) -> None:
        super().__init__()
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder(encoding)("processflow_mark")
        self._ready = b""
        self._at_start = True
        self._at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, room: memoryview) -> int:  # type: ignore[override]
        while not self._ready and not self._at_end:
            data = read_fully(self._stream, self.CHUNK_BYTES, self._name)
            self._at_end = not data
            text = self._decoder.decode(data, final=self._at_end)
            if self._at_start and text:
                text, self._at_start = text.removeprefix("\ufeff"), False
            self._ready = text.encode(UTF8, "surrogatepass")
        count = min(len(room), len(self._ready))
        room[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def _mark(fault: UnicodeError) -> tuple[str, int]:
    """A lone surrogate, which becomes bytes that are no UTF-8, for what cannot be decoded."""
    if not isinstance(fault, UnicodeDecodeError):
        raise fault
    return "\udcff", fault.end


codecs.register_error("processflow_mark", _mark)
