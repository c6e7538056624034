"""Records that find what they are joined with by its place: the lent input's whole-number key is the place in a list.

It serves where each key is there once and the keys lie close together, as numbers that count do. A record then is found without hashing
anything, and the columns of the other input leave as they came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLACES_A_RECORD, LEAST_PLACES = 16, 1 << 16
"""How many places a list may have for each lent record, and in any case."""
SIGN = 1 << 63


@dataclass(frozen=True)
class Pairing:
    """How a join makes one record of two: by which keys, and what it takes of `right`; all of `left` and its row id stay."""

    keys: Mapping[str, str]
    """Columns of `left` to columns of `right`, which are equal in a pair."""
    taken: Mapping[str, str]
    """New columns to columns of `right`."""
    keeps_left: bool = False
    """Whether records of `left` that find nobody leave too, with nulls."""
    keeps_right: bool = False
    """The same of `right`."""
    limit: int | None = None
    """How many pairs may be made; None: as many as the environment says."""


class Places:
    """Where the lent records of `right` are, by their key."""

    def __init__(self, pairing: Pairing, key: str, least: int, rows: np.ndarray, taken: Sequence[pa.Array]) -> None:
        self._pairing, self._key, self._least = pairing, key, least
        self._rows, self._taken = rows, taken

    @classmethod
    def of(cls, pairing: Pairing | None, left: pa.Schema, right: pa.Table) -> Places | None:
        """The places of lent records; None: records have to be found another way."""
        if pairing is None or len(pairing.keys) != 1 or pairing.keeps_right or not right.num_rows:
            return None
        ((mine, theirs),) = pairing.keys.items()
        kinds = left.field(mine).type, right.schema.field(theirs).type
        keys = right.column(theirs)
        if not all(map(pa.types.is_integer, kinds)) or keys.null_count:
            return None
        least, most = (value.as_py() for value in pc.min_max(keys).values())
        span = most - least + 1
        is_mixed = pa.types.is_signed_integer(kinds[0]) != pa.types.is_signed_integer(kinds[1])
        if span > max(PLACES_A_RECORD * right.num_rows, LEAST_PLACES) or (is_mixed and not 0 <= least <= most < SIGN):
            return None
        rows = np.full(span, -1, np.int32)
        places = _words(keys.combine_chunks()) - np.uint64(least % (1 << 64))
        rows[places] = np.arange(right.num_rows, dtype=np.int32)
        if np.count_nonzero(rows >= 0) != right.num_rows:
            return None  # a key is there twice
        return cls(pairing, mine, least, rows, [_whole(right.column(name)) for name in pairing.taken.values()])

    def paired(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """What a batch of `left`, with row ids, becomes."""
        keys = batch.column(self._key)
        places = _words(keys) - np.uint64(self._least % (1 << 64))
        is_there = places < len(self._rows)
        rows = self._rows[np.where(is_there, places, 0)]
        is_there &= rows >= 0
        if keys.null_count:
            is_there &= pc.is_valid(keys).to_numpy(zero_copy_only=False)
        if not is_there.all():
            if self._pairing.keeps_left:
                chosen = pa.array(rows, mask=~is_there)
            else:
                batch, chosen = batch.filter(pa.array(is_there)), pa.array(rows[is_there])
        else:
            chosen = pa.array(rows)
        found = dict(zip(self._pairing.taken, (column.take(chosen) for column in self._taken), strict=True))
        columns = [found[field.name] if field.name in found else batch.column(field.name) for field in schema]
        fields = [field.with_type(column.type) for field, column in zip(schema, columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else pa.concat_arrays(found.chunks)


def _words(keys: pa.Array) -> np.ndarray:
    """Whole numbers as words of 64 bits: differences are right even where they pass the sign. Anything where they are null."""
    wide = keys.cast(pa.uint64() if pa.types.is_unsigned_integer(keys.type) else pa.int64())
    numbers = pc.fill_null(wide, 0).to_numpy() if wide.null_count else wide.to_numpy()
    return numbers.view(np.uint64)
