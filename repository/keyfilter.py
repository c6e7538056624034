"""Which runs may have kept a business key: a filter for each run, asked before any of its files is opened.

A split-block Bloom filter, as Parquet's specification describes it
(https://github.com/apache/parquet-format/blob/master/BloomFilter.md). A key that the run has
kept is always found; of a thousand runs that have not, about one is asked in vain. `repository.keyhash` makes them.
"""

from __future__ import annotations

import base64
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BLOCK_WORDS = 8
BLOCK_BYTES = 4 * BLOCK_WORDS
WORD_BYTES = 8
ALL = (1 << 64) - 1
FIRST, SECOND = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
INLINE_BYTES = 1 << 12
"""Up to this size a filter stands in its run's manifest, beyond in a file beside it."""
SALTS = (0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31)
"""The specification's: each picks a bit of one word of a block."""


@dataclass(frozen=True)
class KeyFilter:
    """Where a run's filter is: `inline` in its manifest, or in a file below the root."""

    inline: bytes | None = None
    path: str = ""
    offset: int = 0
    length: int = 0
    has_receipts: bool = True
    """Whether the keys of receipts are among them; of very many they are not."""

    def plain(self) -> dict[str, Any]:
        """As a manifest has it."""
        place: dict[str, Any] = {"path": self.path, "offset": self.offset, "length": self.length}
        if self.inline is not None:
            place = {"inline": base64.b64encode(self.inline).decode()}
        return {**place, "has_receipts": self.has_receipts}

    def may_have(self, number: int, blocks: Blocks) -> bool:
        """Whether a key with this hash may be among those of the run. Reads one block."""
        length = self.length if self.inline is None else len(self.inline)
        if not length:
            return False
        place = BLOCK_BYTES * ((number >> 32) * (length // BLOCK_BYTES) >> 32)
        if self.inline is not None:
            block: bytes | None = self.inline[place : place + BLOCK_BYTES]
        else:
            block = blocks.read(self.path, self.offset + place, BLOCK_BYTES)
        if block is None:
            return True
        words = struct.unpack(f"<{BLOCK_WORDS}I", block)
        return all(word >> ((number * salt & 0xFFFFFFFF) >> 27) & 1 for word, salt in zip(words, SALTS, strict=True))


class Blocks:
    """The files of filters below a root, each opened once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, int | None] = {}

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        """Some bytes of a file; None where it has gone: a merge has put them elsewhere."""
        if path not in self._files:
            try:
                self._files[path] = os.open(self._root / path, os.O_RDONLY)
            except FileNotFoundError:
                self._files[path] = None
        file = self._files[path]
        return None if file is None else os.pread(file, length, offset)

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *fault: object) -> None:
        for file in self._files.values():
            if file is not None:
                os.close(file)


def hash_of(key: str) -> int:
    """The hash of one key: what `repository.keyhash` computes for many."""
    text = key.encode()
    found = len(text) * FIRST & ALL
    for at in range(0, len(text), WORD_BYTES):
        word = text[at : at + WORD_BYTES]
        found = _mixed(found ^ int.from_bytes(word, "little") << 8 * (WORD_BYTES - len(word)))
    return _mixed(found)


def _mixed(number: int) -> int:
    mixed = (number ^ number >> 32) * FIRST & ALL
    mixed = (mixed ^ mixed >> 29) * SECOND & ALL
    return mixed ^ mixed >> 32


def of_plain(plain: dict[str, Any] | None) -> KeyFilter | None:
    """What a manifest says; None: it knows nothing of keys."""
    if plain is None:
        return None
    inline = plain.get("inline")
    if inline is not None:
        return KeyFilter(base64.b64decode(inline), has_receipts=plain["has_receipts"])
    return KeyFilter(None, plain["path"], plain["offset"], plain["length"], plain["has_receipts"])
