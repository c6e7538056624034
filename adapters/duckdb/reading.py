"""Reads DuckDB: the catalogue, the cut into splits, and a split's rows as Arrow batches.

A table is cut by ranges of its rowid along row groups; a view or a query is one split. While a read connection is open
no other process can write; between the plan and the reading of a split one could. Rows added after the plan lie above
the last range and are left for the next run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from adapters.duckdb.opening import open_read, translated
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed, Split, Want
from pipelines.sql.literals import name_of, quoted
from pipelines.tables.finding import Matching
from pipelines.tables.get import SEEN, TableGet, among_kept, gone
from pipelines.tables.relation import Column, Table, as_list, named
from pipelines.tables.spool import TOKENS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from pipelines.scope import Scope

GROUP_ROWS = 122_880
"""DuckDB's own row group (https://duckdb.org/docs/current/internals/storage)."""
SPLIT_GROUPS = 4
SPLITS_MOST = 256
ROOM = 1 << 40
"""Room for the ordinals of a split that are places in its order, not rowids."""
TEXT_LIMIT = 65_536
_AS_TEXT = re.compile(r'ENUM\(|UNION\(|INTERVAL$|BIT$|BIGNUM$|TIME WITH TIME ZONE$|VARIANT$|GEOMETRY|"NULL"$')
_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|DOUBLE|DECIMAL\(.*\))$")
_TIMES = re.compile(r"(DATE|TIMESTAMP.*|TIME(_NS)?)$")


class DuckdbReader:
    """A connection that reads."""

    def __init__(self, path: Path, connection: DuckDBPyConnection) -> None:
        self.path = path
        self.connection = connection

    def rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        with translated(self.path):
            return self.connection.execute(sql, bound(sql, values)).fetchall()

    def highest(self, cursor: str, column: Column) -> str:
        return f"max({cursor})"

    def capture(self, column: str) -> str:
        return f"CAST({column} AS VARCHAR)"

    def restore(self, parameter: str, column: Column) -> str:
        return f"CAST({parameter} AS {column.declared})"

    def same(self, one: str, other: str) -> str:
        return f"{one} IS NOT DISTINCT FROM {other}"

    def published(self, token: str) -> bool:
        """Whether the database holds the publication of this token."""
        if not self.is_table(TOKENS):
            return False
        return bool(self.rows(f"SELECT 1 FROM {TOKENS} WHERE token = $token", {"token": token}))

    def among(self, get: TableGet, keys: Sequence[Sequence[object]], values: Mapping[str, object]) -> str:
        return among_kept(self, get, keys, values)

    def keep(self, keys: Sequence[Sequence[object]]) -> None:
        width = len(keys[0]) if keys else 1
        given = pa.table(
            {f"k{number}": pa.array([key[number] for key in keys], pa.string()) for number in range(width)}
        )
        with translated(self.path):
            self.connection.register("__given_keys", given)
            self.connection.execute(f"CREATE OR REPLACE TEMP TABLE {SEEN} AS FROM __given_keys")
            self.connection.unregister("__given_keys")

    def matching(self, get: TableGet, matching: Matching, values: dict[str, object]) -> str:
        self.connection.register("__asked", matching.keys)
        place, names = get.relation(), []
        for column in matching.columns:
            name, wanted = place.column(column.name), read_as(column.declared)
            names.append(f"CAST({name} AS {wanted})" if wanted else name)
        return f"({', '.join(names)}) IN (SELECT ({', '.join(matching.keys.schema.names)}) FROM __asked)"

    def unmatched(self, column: Column) -> str:
        return ""

    def whole(self, span: Json) -> Json:
        return {"first": None, "last": None, "span": span}

    def tables(self) -> list[str]:
        """Tables and views; those outside of the schema `main` with their schema's name."""
        sql = (
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal AND NOT temporary "
            "UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal AND NOT temporary ORDER BY ALL"
        )
        names = [str(name) if schema == "main" else f"{schema}.{name}" for schema, name in self.rows(sql, {})]
        return [name for name in names if not name.startswith("_processflow_")]

    def is_table(self, table: str) -> bool:
        schema, name = place_of(table)
        sql = "SELECT 1 FROM duckdb_tables() WHERE NOT temporary AND lower(schema_name) = $schema AND lower(table_name) = $name"
        return bool(self.rows(sql, {"schema": schema, "name": name}))

    def is_there(self, table: str) -> bool:
        return table.casefold() in {name.casefold() for name in self.tables()} or self.is_table(table)

    def columns(self, get: TableGet, values: Mapping[str, object]) -> list[Column]:
        if get.table is not None and not self.is_there(get.table):
            return []
        return self.selected(get.relation().sql, values)

    def splits(self, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
        return splits(self, get, spans)

    def read(self, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        return read(self, get, split, schema, scope, want)

    def selected(self, source: str, values: Mapping[str, object] | None = None) -> list[Column]:
        """The columns of what stands behind FROM."""
        found = self.rows(f"DESCRIBE SELECT * FROM {source}", values or {})
        columns = [(str(row[0]), str(row[1])) for row in found]
        items = ", ".join(
            f"CAST(NULL AS {read_as(declared) or declared}) AS {name_of(name)}" for name, declared in columns
        )
        with translated(self.path):
            schema = self.connection.sql(f"SELECT {items}").to_arrow_table().schema
        return [
            Column(name, declared, arrow_field.type)
            for (name, declared), arrow_field in zip(columns, schema, strict=True)
        ]

    def table(self, table: str) -> Table | None:
        """A table to write to; None where there is none."""
        if not self.is_table(table):
            return None
        schema, name = place_of(table)
        sql = (
            "SELECT column_name, NOT is_nullable AND column_default IS NULL, is_generated FROM duckdb_columns() "
            "WHERE lower(schema_name) = $schema AND lower(table_name) = $name"
        )
        facts = {str(row[0]): row for row in self.rows(sql, {"schema": schema, "name": name})}
        found = self.selected(target_sql(table))
        return Table([Column(c.name, c.declared, c.type, bool(facts[c.name][1]), not facts[c.name][2]) for c in found])


def place_of(table: str) -> tuple[str, str]:
    """Schema and name, in lower case."""
    schema, dot, name = table.lower().rpartition(".")
    return (schema if dot else "main"), name


def target_sql(table: str) -> str:
    return ".".join(name_of(part) for part in table.split("."))


def read_as(declared: str) -> str | None:
    """The DuckDB type that a column is cast to because Arrow, or a file of it, has none like its own."""
    if declared in ("HUGEINT", "UHUGEINT"):
        return "DECIMAL(38,0)"
    return "VARCHAR" if _AS_TEXT.match(declared) else None


def loses(declared: str, wanted: str) -> bool:
    """Whether a cast may change a value without a fault, so that casting it back shows it."""
    return any(kind.match(declared) and kind.match(wanted) for kind in (_NUMERIC, _TIMES))


@contextmanager
def reader(path: Path, memory_bytes: int) -> Iterator[DuckdbReader]:
    connection = open_read(path, memory_bytes)
    try:
        yield DuckdbReader(path, connection)
    finally:
        connection.close()


def bound(sql: str, values: Mapping[str, object]) -> dict[str, object]:
    """What the statement names: DuckDB refuses more."""
    names = named(sql)
    missing = [name for name in names if name not in values]
    if missing:
        raise Invalid(f"${missing[0]} has no value")
    return {name: values[name] for name in names}


def splits(reader: DuckdbReader, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
    """The splits of some spans of the cursor; those marked are worth cutting."""
    if not get.table or not reader.is_table(get.table):
        yield from (Split({"first": None, "last": None, "span": span}, ROOM, GROUP_ROWS * 64) for span, _ in spans)
        return
    least, most = reader.rows(f"SELECT min(rowid), max(rowid) FROM {get.relation().sql}", {})[0]
    if not isinstance(least, int) or not isinstance(most, int):
        return
    for span, is_bulk in spans:
        groups = max(SPLIT_GROUPS, -(-(most + 1) // GROUP_ROWS // SPLITS_MOST)) if is_bulk else most // GROUP_ROWS + 1
        step = groups * GROUP_ROWS
        for first in range(least // step * step, most + 1, step):
            last = min(first + step - 1, most)
            yield Split({"first": first, "last": last, "span": span}, last - first + 1, (last - first + 1) * 64)


def read(
    reader: DuckdbReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want
) -> Iterator[Chunk]:
    """The records of a split."""
    sql, values, has_faults = _statement(reader, get, split, schema, scope, want)
    with translated(reader.path):
        batches = reader.connection.sql(sql, params=bound(sql, values)).to_arrow_reader(max(want.batch_rows, 1))
    done = 0
    while True:
        with translated(reader.path):
            batch = next(batches, None)
        if batch is None:
            return
        for begin in range(0, batch.num_rows, want.batch_rows):
            part = batch.slice(begin, want.batch_rows)
            yield _chunk(part, schema, split["first"], done, has_faults)
            done += part.num_rows


def _statement(
    reader: DuckdbReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want
) -> tuple[str, dict[str, object], bool]:
    place = get.relation()
    there = {column.name: column for column in reader.columns(get, get.values(scope))}
    condition, values = get.condition(reader, scope, split["span"])
    declared = get.columns if isinstance(get.columns, dict) else {}
    items: list[str] = []
    faults: list[str] = []
    for name in schema.names:
        if name not in there:
            raise gone(get, name, there)
        column, wanted = place.column(name), declared.get(name) or read_as(there[name].declared)
        items.append(f"TRY_CAST({column} AS {wanted}) AS {name_of(name)}" if wanted else column)
        if wanted and wanted != "VARCHAR":
            faults.append(_fault(name, column, there[name].declared, wanted))
    identity, order = "NULL::BIGINT", [place.column(name) for name in as_list(get.key)]
    if split["first"] is not None:
        identity = f"{place.prefix}.rowid"
        condition += f" AND {identity} BETWEEN {int(split['first'])} AND {int(split['last'])}"
        # A plain scan keeps the order of the rowids; one that compares keys with a table beside it need not.
        order = [identity] if {"only", "without"} & set(split["span"]) else []
    fault = f"nullif(concat_ws('; ', {', '.join(faults)}), '')" if faults else "NULL::VARCHAR"
    raw = (
        f"CASE WHEN {fault} IS NOT NULL THEN CAST(to_json({place.prefix}) AS VARCHAR) END"
        if faults
        else "NULL::VARCHAR"
    )
    sql = f"SELECT {', '.join([identity, fault, raw, *items])} FROM {place.sql} WHERE {condition}"
    if order:
        sql += f" ORDER BY {', '.join(order)}"
    if want.rows is not None:
        sql += f" LIMIT {int(want.rows)}"
    return sql, values, bool(faults)


def _fault(name: str, column: str, declared: str, wanted: str) -> str:
    """SQL for what is wrong with a value of a column that is read as another type, or NULL."""
    cast = f"TRY_CAST({column} AS {wanted})"
    wrong = f"{column} IS NOT NULL AND {cast} IS NULL"
    if loses(declared.upper(), wanted.upper()):
        wrong += f" OR TRY_CAST({cast} AS {declared}) IS DISTINCT FROM {column}"
    words = f"{quoted(f'column {name!r}: ')} || left(CAST({column} AS VARCHAR), 60) || {quoted(f' is no {wanted}')}"
    return f"CASE WHEN {wrong} THEN {words} END"


def _chunk(batch: pa.RecordBatch, schema: pa.Schema, base: int | None, first: int, has_faults: bool) -> Chunk:
    identities, faults, raw, *columns = batch.columns
    ordinals = None if base is None else pc.subtract(identities, base)
    records = pa.RecordBatch.from_arrays(
        [
            column if column.type.equals(field.type) else column.cast(field.type)
            for column, field in zip(columns, schema, strict=True)
        ],
        schema=schema,
    )
    if not has_faults or faults.null_count == len(faults):
        return Chunk(records, first, ordinals)
    places = ordinals if ordinals is not None else pa.array(range(first, first + batch.num_rows), pa.int64())
    bad, good = pc.indices_nonzero(pc.is_valid(faults)), pc.indices_nonzero(pc.is_null(faults))
    texts = [str(text)[:TEXT_LIMIT] for text in raw.take(bad).to_pylist()]
    where = "" if base is None else "rowid {}: "
    messages = [
        where.format(identity) + fault
        for identity, fault in zip(identities.take(bad).to_pylist(), faults.take(bad).to_pylist(), strict=True)
    ]
    malformed = Malformed(texts, ["type"] * len(texts), messages, places.take(bad).to_pylist())
    return Chunk(records.take(good), first, places.take(good), malformed)
