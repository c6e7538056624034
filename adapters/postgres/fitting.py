"""Finds the values that a column's type would change in silence: rounded, cut, wrapped around."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.postgres.types import PgType, is_list, is_text, numeric_of
from pipelines.values import finer, outside

YEARS = (1, 32767)
"""Arrow writes no others, and some of them as quite another year."""
NAME_BYTES = 63
FINE = r"\.\d{%d}\d*[1-9]"
"""Digits behind the point beyond so many that are no zeros."""


def changed(array: pa.Array, pg: PgType) -> pa.Array | None:
    """Which values the server would change without a word; None: none."""
    if is_list(array.type) and pg.element is not None:
        return _items(array, pg.element)
    wrong = (outside(array, *YEARS), _with_nul(array), _rounded(array, pg), _cut(array, pg))
    found = [mask for mask in wrong if mask is not None]
    if not found:
        return None
    whole = found[0]
    for mask in found[1:]:
        whole = pc.or_kleene(whole, mask)
    return whole


def _items(array: pa.Array, pg: PgType) -> pa.Array | None:
    """Which lists hold a value that would be changed."""
    mask = changed(array.flatten(), pg)
    if mask is None or not pc.any(mask).as_py():
        return None
    parents = pc.list_parent_indices(array).filter(pc.fill_null(mask, False))
    rows = np.zeros(len(array), bool)
    rows[parents.to_numpy()] = True
    return pa.array(rows)


def _with_nul(array: pa.Array) -> pa.Array | None:
    """Which texts hold a NUL character, which no text of PostgreSQL has; None: none."""
    if not is_text(array.type):
        return None
    content = array.buffers()[2] if pa.types.is_string(array.type) else None
    if content is not None and not (content.size and np.frombuffer(content, np.uint8).min() == 0):
        return None  # a look at all bytes takes no time beside a search in each text
    return pc.match_substring(array, "\0")


def _rounded(array: pa.Array, pg: PgType) -> pa.Array | None:
    kind = array.type
    if pg.name == "numeric" and pa.types.is_decimal(kind):
        return _rounded_decimals(array, pg.modifier)
    if pg.name == "numeric" and pa.types.is_integer(kind):
        return _rounded_whole(array, pg.modifier)
    if pg.name in ("time", "timestamp", "timestamptz") and (pa.types.is_timestamp(kind) or pa.types.is_time(kind)):
        return finer(array, 6 if pg.modifier < 0 else pg.modifier)
    if pg.name == "float8" and kind in (pa.int64(), pa.uint64()):
        return pc.not_equal(array.cast(pa.float64(), safe=False).cast(kind, safe=False), array)
    if pg.name == "oid" and pa.types.is_signed_integer(kind):
        return pc.less(array, pa.scalar(0, kind))  # it would wrap around
    return None


def _cut(array: pa.Array, pg: PgType) -> pa.Array | None:
    """Which texts would be cut, or rounded as values of the server's own types."""
    if not is_text(array.type):
        return None
    if pg.name in ("varchar", "bpchar") and pg.modifier >= 4:
        most = pg.modifier - 4
        if not pc.any(pc.greater(pc.utf8_length(array), most)).as_py():
            return None
        return pc.and_(pc.greater(pc.utf8_length(array), most), pc.ends_with(array, " "))
    if pg.name == "numeric":
        found = numeric_of(pg.modifier)
        return None if found is None else pc.match_substring_regex(array, rf"\.\d{{{max(found[1], 0)}}}\d*[1-9]|[eE]")
    if pg.name in ("name", "char"):
        return pc.greater(pc.binary_length(array), NAME_BYTES if pg.name == "name" else 1)
    if pg.name in ("money", "timetz", "interval"):
        return pc.match_substring_regex(array, FINE % (2 if pg.name == "money" else _digits(pg)))
    return None


def _digits(pg: PgType) -> int:
    """Digits of a second that a type keeps; an interval has them in the lower half of its modifier."""
    found = pg.modifier & 0xFFFF if pg.name == "interval" else pg.modifier
    return found if pg.modifier >= 0 and found <= 6 else 6


def _rounded_decimals(array: pa.Array, modifier: int) -> pa.Array | None:
    found = numeric_of(modifier)
    if found is None or array.type.scale <= found[1]:
        return None
    return pc.not_equal(pc.round(array, ndigits=found[1]), array)


def _rounded_whole(array: pa.Array, modifier: int) -> pa.Array | None:
    found = numeric_of(modifier)
    if found is None or found[1] >= 0 or found[1] < -18:
        return None
    step = pa.scalar(10 ** -found[1], pa.uint64() if pa.types.is_uint64(array.type) else pa.int64())
    wide = array.cast(step.type)
    return pc.not_equal(pc.multiply(pc.divide(wide, step), step), wide)
