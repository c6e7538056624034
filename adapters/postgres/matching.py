"""Says in SQL that a record has one of some keys, so that an index of theirs is used."""

from __future__ import annotations

import re
from datetime import date, datetime, time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.postgres.types import PLAIN, TEXTS, PgColumn, PgType
from pipelines.tables.finding import Matching
from pipelines.tables.get import TableGet
from pipelines.tables.relation import Column

UUID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
"""How the server shows one."""
_SIZE = re.compile(r"\(.*\)")


def matched(get: TableGet, matching: Matching, values: dict[str, object]) -> str:
    """SQL that is true for the records of `get` with one of these keys; what is bound is put into `values`."""
    place = get.relation()
    keys = matching.keys.filter(_possible(matching))
    if not keys.num_rows:
        return "false"
    names, arrays = [], []
    for number, column in enumerate(matching.columns):
        name = place.column(column.name)
        native = _native(column)
        names.append(name if native else f"CAST({name} AS text)")
        values[f"__k{number}"] = [_text(value) for value in keys.column(number).to_pylist()]
        arrays.append(f"CAST($__k{number} AS {native or 'text'}[])")
    if len(names) == 1:
        return f"{names[0]} = ANY ({arrays[0]})"
    return f"({', '.join(names)}) IN (SELECT * FROM unnest({', '.join(arrays)}))"


def _native(column: Column) -> str:
    """The type in which the server compares; nothing: as text, for types whose values are text here."""
    pg = column.pg if isinstance(column, PgColumn) else PgType("text", "b")
    is_exact = pg.name in PLAIN or pg.name in TEXTS or pa.types.is_decimal(column.type)
    if not is_exact or pg.kind != "b":
        return ""
    return "bpchar" if pg.name == "bpchar" else _SIZE.sub("", column.declared)  # a size would cut what is looked for


def _possible(matching: Matching) -> pa.Array:
    """Which keys the server can have, and be asked for."""
    found = np.ones(matching.keys.num_rows, dtype=bool)
    for column, keys in zip(matching.columns, matching.keys.columns, strict=True):
        if not pa.types.is_string(keys.type):
            continue
        if isinstance(column, PgColumn) and column.pg.name == "uuid":
            found &= pc.match_substring_regex(keys, UUID).to_numpy(zero_copy_only=False)
        found &= ~pc.match_substring(keys, "\0").to_numpy(zero_copy_only=False)
    return pa.array(found)


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    return value.isoformat() if isinstance(value, (datetime, date, time)) else str(value)
