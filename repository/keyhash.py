"""Hashes business keys, eight bytes of all at a time, and makes the filters of `repository.keyfilter` of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from repository.keyfilter import BLOCK_BYTES, BLOCK_WORDS, FIRST, SALTS, SECOND, WORD_BYTES

BITS_A_KEY = 16


def blocks_of(numbers: Iterable[np.ndarray]) -> bytes:
    """The filter of keys with these hashes."""
    found = np.sort(np.concatenate([np.empty(0, np.uint64), *numbers]))
    if not len(found):
        return b""
    found = found[np.concatenate([[True], found[1:] != found[:-1]])]
    count = max(1, len(found) * BITS_A_KEY // (8 * BLOCK_BYTES))
    places = (found >> np.uint64(32)) * np.uint64(count) >> np.uint64(32)
    starts = np.flatnonzero(np.concatenate([[True], places[1:] != places[:-1]]))
    blocks = np.zeros((count, BLOCK_WORDS), "<u4")
    low = found.astype(np.uint32)
    for word, salt in enumerate(SALTS):  # the hashes are in order, and so are the blocks they fall in
        blocks[places[starts], word] = np.bitwise_or.reduceat(_bits(low, np.uint32(salt)), starts)
    return blocks.tobytes()


def hashes_of(keys: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The hash of each key that is not null, eight bytes of all at a time."""
    chunks: Sequence[pa.Array] = keys.chunks if isinstance(keys, pa.ChunkedArray) else [keys]
    found = [_hashes(chunk.drop_null().cast(pa.large_string())) for chunk in chunks if len(chunk) > chunk.null_count]
    return np.concatenate(found) if found else np.empty(0, np.uint64)


def _hashes(keys: pa.Array) -> np.ndarray:
    _, places, text = keys.buffers()
    offsets = np.frombuffer(places, np.int64)[keys.offset : keys.offset + len(keys) + 1]
    first, end = int(offsets[0]), int(offsets[-1])
    data = np.zeros(end - first + WORD_BYTES, np.uint8)
    if text is not None:
        data[: end - first] = np.frombuffer(text, np.uint8)[first:end]
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    words = np.ndarray((len(data) - WORD_BYTES + 1,), "<u8", data, strides=(1,))  # the eight bytes from each byte on
    found = lengths.astype(np.uint64) * np.uint64(FIRST)
    for at in range(0, int(lengths.max()), WORD_BYTES):
        some = np.flatnonzero(lengths > at)
        taken = words[starts[some] + at]
        beyond = 8 * (WORD_BYTES - np.minimum(lengths[some] - at, WORD_BYTES)).astype(np.uint64)
        found[some] = _mixed(found[some] ^ (taken << beyond))
    return _mixed(found)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    mixed = (numbers ^ (numbers >> np.uint64(32))) * np.uint64(FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(SECOND)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _bits(low: np.ndarray, salt: np.uint32) -> np.ndarray:
    """The bit that hashes set in a word."""
    return np.left_shift(np.uint32(1), np.multiply(low, salt) >> np.uint32(27), dtype=np.uint32)
