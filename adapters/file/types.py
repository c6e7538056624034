"""DuckDB's names of types and Arrow's types, for declared columns and for messages."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from pipelines.quality import declared
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed


@lru_cache(maxsize=1_024)
def arrow_type(text: str) -> pa.DataType:
    """The Arrow type of a DuckDB type such as `DECIMAL(18,2)`. `Invalid` where it is none."""
    with borrowed(Scope(project=Path())) as sandbox:
        kind = declared.arrow_type(text, sandbox)
    return pa.string() if isinstance(kind, pa.BaseExtensionType) else kind


_NAMES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.time64("ns"): "TIME_NS",
    pa.timestamp("s"): "TIMESTAMP_S",
    pa.timestamp("ms"): "TIMESTAMP_MS",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("ns"): "TIMESTAMP_NS",
}


def duckdb_name(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type."""
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind) and kind.tz:
        return "TIMESTAMPTZ_NS" if kind.unit == "ns" else "TIMESTAMPTZ"
    if pa.types.is_struct(kind):
        inner = ", ".join(f'"{field.name}" {duckdb_name(field.type)}' for field in kind)
        return f"STRUCT({inner})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{duckdb_name(kind.value_type)}[]"
    return _NAMES.get(kind, str(kind))
