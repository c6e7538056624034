"""Data-log rows on their way to a Parquet file in the run's staging folder, so that no tap holds much in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.records import ROW_ID
from repository.columns import Columns
from repository.pieces import AT, ATTEMPT, CODE, INSTANT, KEY, MESSAGE, OWN_COLUMNS, Piece
from repository.storable import payload

REPEATED = ["run", "flow", "version", "node", "port", "code", "status", "what"]
"""Columns with few distinct values, for which a dictionary pays."""
DELTA = {"rids.list.element": "DELTA_BINARY_PACKED"}
SMALL_BYTES = 1 << 18
"""Below this the encoder's set-up costs more than it saves."""


class Spill:
    """One Parquet file of a table, written row group by row group in its final form."""

    def __init__(self, head: Mapping[str, Any], path: Path) -> None:
        self._head = dict(head)
        self._path = path
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._bytes = 0

    def write(self, table: pa.Table) -> None:
        """Adds a row group; all have the first one's schema."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._path, table.schema, **encoding(table, small=False))
        self._writer.write_table(table)
        self._rows += table.num_rows
        self._bytes += table.nbytes

    def close(self, payloads: Mapping[str, Columns]) -> Piece:
        """Ends the file and gives its piece."""
        if self._writer is not None:
            self._writer.close()
        named = {"rows": self._rows, "bytes": self._bytes, "parquet": str(self._path)}
        return {**self._head, **named, "payloads": json.dumps(payloads)}


def encoding(table: pa.Table, *, small: bool | None = None) -> dict[str, Any]:
    """How Parquet writes the table: dictionaries only where values repeat, row ids by their differences.

    Payloads get no statistics: writers leave NaN out of them, as the format says, and DuckDB believes them nevertheless.
    """
    names = set(table.schema.names)
    plain = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    return {**_form(table, names, small), "write_statistics": plain}


def _form(table: pa.Table, names: set[str], small: bool | None) -> dict[str, Any]:
    if small if small is not None else table.nbytes < SMALL_BYTES:
        return {"use_dictionary": False, "compression": "none" if table.num_rows < 100 else "snappy"}
    encoded: dict[str, Any] = {"use_dictionary": [name for name in REPEATED if name in names], "compression": "zstd"}
    if "rids" in names:
        # Differences of row ids are packed to the bit: compressing them again costs as much and gains a tenth.
        leaves = [
            f"{field.name}.list.element" if pa.types.is_list(field.type) else field.name for field in table.schema
        ]
        encoded["compression"] = {leaf: "none" if leaf in DELTA else "zstd" for leaf in leaves}
        encoded["column_encoding"] = DELTA
    return encoded


def records_table(
    constants: Mapping[str, str], name: str, batch: pa.RecordBatch, *, is_reject: bool
) -> tuple[pa.Table, Columns]:
    """Records or rejects as the lake keeps them: head columns, then the payload as a struct called `name`."""
    own = [column for column in batch.schema.names if column in OWN_COLUMNS]
    structs, columns = payload(batch.drop_columns(own))
    rows = batch.num_rows
    values = {key: pa.repeat(pa.scalar(value, pa.string()), rows) for key, value in constants.items()}
    values["rid"] = batch.column(ROW_ID)
    values["key"] = _own(batch, KEY, pa.string())
    if is_reject:
        values["code"] = _own(batch, CODE, pa.string())
        values["message"] = _own(batch, MESSAGE, pa.string())
        values["attempt"] = _own(batch, ATTEMPT, pa.int32())
    values["at"] = _own(batch, AT, INSTANT)
    return pa.table({**values, name: structs}), columns


def with_constants(constants: Mapping[str, str], batch: pa.RecordBatch) -> pa.Table:
    """Rows of ours with the run's columns before them."""
    values = {key: pa.repeat(pa.scalar(value, pa.string()), batch.num_rows) for key, value in constants.items()}
    return pa.table({**values, **dict(zip(batch.schema.names, batch.columns, strict=True))})


def _own(batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    index = batch.schema.get_field_index(name)
    return pa.nulls(batch.num_rows, kind) if index < 0 else batch.column(index)
