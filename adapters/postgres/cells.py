"""Arrow columns as the fields of COPY's CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from adapters.postgres.fitting import changed
from adapters.postgres.types import PgColumn, is_bytes, is_list, is_text
from pipelines.sql.literals import quoted
from pipelines.values import shown

Faults = dict[int, tuple[str, str]]
"""Per row a code and a message."""


@dataclass(frozen=True)
class Fields:
    """A batch as COPY takes it."""

    columns: Mapping[str, pa.Array]
    faults: Faults
    """What the table's types would change."""

    def text(self, rows: pa.Int64Array | None, first: int, end: int) -> bytes:
        """CSV with a line of names, which tells the server how lines end, of rows `first` to `end` among `rows`."""
        table = pa.table(dict(self.columns))
        table = table.slice(first, end - first) if rows is None else table.take(rows.slice(first, end - first))
        sink = pa.BufferOutputStream()
        csv.write_csv(table, sink)
        return sink.getvalue().to_pybytes()

    def last_lines(self, rows: pa.Int64Array | None, first: int, end: int) -> np.ndarray:
        """The line of that text on which each row ends."""
        breaks = np.zeros(end - first, np.int64)
        for column in self.columns.values():
            if pa.types.is_string(column.type):
                part = column if rows is None else column.take(rows)
                found = pc.count_substring(part.slice(first, end - first), "\n").fill_null(0)
                breaks += found.to_numpy(zero_copy_only=False)
        found_lines: np.ndarray = np.cumsum(breaks + 1) + 1
        return found_lines


def fields(batch: pa.RecordBatch, columns: Sequence[PgColumn], names: Sequence[str]) -> Fields:
    """The named columns of a batch as the table's columns take them."""
    faults: Faults = {}
    taken: dict[str, pa.Array] = {}
    for number, (name, column) in enumerate(zip(names, columns, strict=True)):
        array = plain(batch.column(name))
        mask = changed(array, column.pg)
        if mask is not None:
            for row in pc.indices_nonzero(mask.fill_null(False)).to_pylist():
                words = f"column {name!r}: {shown(array, row)} {_reason(array[row], column)}"
                faults.setdefault(row, ("type", words))
            if pa.types.is_nested(array.type):  # DuckDB, which writes these, stops at times that it has not
                places = pa.array(np.arange(len(array)), mask=pc.fill_null(mask, False).to_numpy(zero_copy_only=False))
                array = array.take(places)
        taken[f"c{number}"] = rendered(array, column)
    return Fields(taken, faults)


def _reason(value: pa.Scalar, column: PgColumn) -> str:
    if is_text(value.type) and "\0" in value.as_py():
        return "holds a NUL character, which no text of PostgreSQL has"
    return f"does not fit {column.declared}"


def plain(column: pa.Array) -> pa.Array:
    """The column without dictionaries and extensions."""
    if isinstance(column.type, pa.ExtensionType):
        return plain(column.storage)
    return plain(column.dictionary_decode()) if pa.types.is_dictionary(column.type) else column


def rendered(array: pa.Array, column: PgColumn) -> pa.Array:
    """Values as Arrow's CSV writes them, or as texts where it has no words that PostgreSQL knows."""
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if is_text(kind):
        return array if pa.types.is_string(kind) else array.cast(pa.string())
    if is_bytes(kind):
        return _computed(array, "'\\x' || hex(item)")
    if pa.types.is_nested(kind):
        is_array = is_list(kind) and column.pg.element is not None
        return _computed(array, _array_text(kind) if is_array else "CAST(to_json(item) AS VARCHAR)")
    if pa.types.is_float16(kind):
        return array.cast(pa.float32())
    if pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_timestamp(kind) and kind.tz:  # an offset of before 1900 has seconds, for which Arrow has no words
        return array.cast(pa.timestamp(kind.unit, "UTC"))
    return array


def _array_text(kind: pa.DataType) -> str:
    """SQL for an array as PostgreSQL writes it, each value in quotes."""
    is_binary = is_bytes(kind.value_type)
    text = "'\\x' || hex(x)" if is_binary else "CAST(x AS VARCHAR)"
    inner = f"replace(replace({text}, {quoted(chr(92))}, {quoted(chr(92) * 2)}), '\"', {quoted(chr(92) + chr(34))})"
    each = f"lambda x: CASE WHEN x IS NULL THEN 'NULL' ELSE '\"' || {inner} || '\"' END"
    return f"'{{' || array_to_string(list_transform(item, {each}), ',') || '}}'"


def _computed(array: pa.Array, expression: str) -> pa.StringArray:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", pa.table({"item": array}))
        sql = f"SELECT CASE WHEN item IS NOT NULL THEN {expression} END AS item FROM given"
        found = connection.sql(sql).to_arrow_table()["item"]
    return pa.concat_arrays(found.chunks) if found.num_chunks else pa.array([], pa.string())
