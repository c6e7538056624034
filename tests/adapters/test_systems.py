"""Every system that is read and written, held to one list: values at the edge, mistakes, lines that are cut or slow."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from adapters import duckdb as warehouse
from adapters import sqlite
from tests.adapters.rigs import (
    FINE,
    FLOATS,
    JSON,
    MICROSECONDS,
    NO_TEXT,
    NO_TIME,
    InFile,
    InKafka,
    OnS3,
    OverHttp,
    declared,
)
from tests.adapters.table_rigs import InDatabaseFile, InMysql, InPostgres


class TestCsv(InFile):
    path = "out.csv"
    too_large = "within 32 MiB"
    lacks = NO_TEXT
    rejects = NO_TIME | {"fine moment": frozenset({"first"})}

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        is_nested = pa.types.is_nested
        return declared(pa.schema([each.with_type(pa.string()) if is_nested(each.type) else each for each in schema]))


class TestJsonLines(InFile):
    path = "out.jsonl"
    too_large = "within 32 MiB"
    lacks = NO_TEXT
    rejects = JSON


class TestParquet(InFile):
    path = "out.parquet"

    def columns(self, schema: pa.Schema) -> dict[str, str] | None:
        return None


class TestS3(OnS3):
    """Parquet on S3."""


class TestHttp(OverHttp):
    too_large = "is longer than 32 MiB"
    lacks = NO_TEXT
    rejects = JSON


class TestKafka(InKafka):
    too_large = "the topic takes 16,000,000 at most"
    lacks = NO_TEXT
    rejects = JSON


class TestSqlite(InDatabaseFile):
    adapter = sqlite
    lacks: ClassVar[dict[str, str]] = {"duration": "SQLite has no type for duration[us]"}
    rejects = NO_TIME | {
        "uint64": frozenset({"most"}),
        "float32": frozenset({"not a number"}),
        "float64": frozenset({"not a number"}),
        "fine time": FINE,
        "fine moment": frozenset({"first"}),
        "fine instant": FINE,
    }


class TestDuckdb(InDatabaseFile):
    adapter = warehouse
    lacks: ClassVar[dict[str, str]] = {"wide decimal": "DuckDB has no type for decimal256(60, 20)"}
    texts: ClassVar[dict[str, dict[str, str]]] = {
        "duration": {"zero": "00:00:00", "a day": "24:00:00", "negative": "-00:00:00.000001"}
    }


class TestPostgres(InPostgres):
    lacks: ClassVar[dict[str, str]] = {"duration": "PostgreSQL has no type for duration[us]"}
    rejects = NO_TIME | MICROSECONDS | {"text": frozenset({"NUL", "just NUL"}), "word": frozenset({"NUL"})}


class TestMysql(InMysql):
    lacks: ClassVar[dict[str, str]] = {
        "duration": "MySQL has no type for duration[us]",
        "fraction": "MySQL has no type for decimal128(38, 38)",
    }
    rejects = (
        NO_TIME | MICROSECONDS | {"far date": NO_TIME["far date"] - {"year 0"}, "float32": FLOATS, "float64": FLOATS}
    )
