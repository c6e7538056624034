"""Reads SQLite: the catalogue, the cut into splits, and a split's rows as Arrow batches.

A table is cut by ranges of its rowid, or of its primary key's first column where it has no rowid; a view or a query is
one split. Each split is read by a connection of its own in one read transaction. Rows added after the plan lie above
the last range and are left for the next run; rows changed or deleted meanwhile are seen as they are when their split
is read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from adapters.sqlite import types
from adapters.sqlite.matching import matched
from adapters.sqlite.opening import open_read, translated
from adapters.sqlite.parameters import bound
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed, Split, Want
from pipelines.sql.literals import name_of
from pipelines.tables.finding import Matching
from pipelines.tables.get import SEEN, TableGet, among_kept, gone
from pipelines.tables.relation import Column, Table, named, without_parameters
from pipelines.tables.spool import TOKENS

if TYPE_CHECKING:
    from pipelines.scope import Scope

SPLIT_ROWS = 250_000
SPLITS_MOST = 64
ROOM = 1 << 40
"""Room for the ordinals of a split that are places in its order, not rowids."""
SPAN_MOST = 1 << 48
"""Rowids further apart than this are no ordinals."""
HEAD_ROWS = 1_000
"""So many rows tell the type of a column that declares none."""
TEXT_LIMIT = 65_536


class SqliteReader:
    """A read-only connection."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self._columns: dict[tuple[str | None, str | None], list[Column]] = {}

    def tables(self) -> list[str]:
        sql = (
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        )
        return sorted(name for (name,) in self.rows(sql, {}) if not str(name).startswith("_processflow_"))  # type: ignore[misc]

    def rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        with translated(self.path):
            return self.connection.execute(sql, bound(sql, values)).fetchall()

    def highest(self, cursor: str, column: Column) -> str:
        return f"max({cursor})"

    def capture(self, column: str) -> str:
        return column

    def restore(self, parameter: str, column: Column) -> str:
        return parameter

    def same(self, one: str, other: str) -> str:
        return f"{one} IS {other}"

    def among(self, get: TableGet, keys: Sequence[Sequence[object]], values: Mapping[str, object]) -> str:
        return among_kept(self, get, keys, values)

    def keep(self, keys: Sequence[Sequence[object]]) -> None:
        width = len(keys[0]) if keys else 1
        names = ", ".join(f"k{number}" for number in range(width))
        marks = ", ".join("?" * width)
        with translated(self.path):
            self.connection.execute(f"CREATE TEMP TABLE {SEEN} ({names})")
            self.connection.executemany(f"INSERT INTO {SEEN} VALUES ({marks})", keys)
            self.connection.execute(f"CREATE INDEX temp.{SEEN}_keys ON {SEEN} ({names})")

    def matching(self, get: TableGet, matching: Matching, values: dict[str, object]) -> str:
        return matched(get, matching, values)

    def unmatched(self, column: Column) -> str:
        return "" if types.has_one_form(column.type) else "which SQLite may store in more than one way"

    def whole(self, span: Json) -> Json:
        return {"by": None, "first": None, "last": None, "span": span}

    def kind(self, table: str) -> str:
        """`table`, `without rowid`, `view`, or nothing where there is no such table."""
        sql = "SELECT type, sql FROM sqlite_master WHERE name = $name COLLATE NOCASE AND type IN ('table', 'view')"
        found = self.rows(sql, {"name": table})
        if not found or found[0][0] == "view" or str(found[0][1]).upper().startswith("CREATE VIRTUAL"):
            return "view" if found else ""
        try:
            self.rows(f"SELECT {rowid_of(self.table_columns(table))} FROM {name_of(table)} LIMIT 0", {})
        except Invalid:
            return "without rowid"
        return "table"

    def published(self, token: str) -> bool:
        """Whether the database holds the publication of this token."""
        if not self.kind(TOKENS):
            return False
        return bool(self.rows(f"SELECT 1 FROM {TOKENS} WHERE token = $token", {"token": token}))

    def columns(self, get: TableGet, values: Mapping[str, object]) -> list[Column]:
        name = (get.table, get.query)
        if name not in self._columns:
            self._columns[name] = self._described(get, values)
        return self._columns[name]

    def table_columns(self, table: str) -> list[Column]:
        """The columns of a table or view as it declares them."""
        found = self.rows(
            "SELECT name, type, [notnull], dflt_value, pk, hidden FROM pragma_table_xinfo($name)", {"name": table}
        )
        single = sum(1 for row in found if row[4]) == 1
        columns = []
        for column, declared, not_null, default, place, hidden in found:
            is_alias = single and place and str(declared).upper() == "INTEGER"
            kind = types.arrow_type(str(declared)) or pa.null()
            must = bool(not_null) and default is None and not is_alias
            if hidden != 1:
                columns.append(Column(str(column), str(declared), kind, must, hidden not in (2, 3)))
        return columns

    def splits(self, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
        return splits(self, get, spans)

    def read(self, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        return read(self, get, split, schema, scope, want)

    def _described(self, get: TableGet, values: Mapping[str, object]) -> list[Column]:
        if get.query is None:
            found = self.table_columns(str(get.table))
        else:
            with translated(self.path):
                source = get.relation().sql
                self.connection.execute(f"SELECT * FROM {source} LIMIT 0", dict.fromkeys(named(get.query)))
                self.connection.execute(
                    f"CREATE TEMP VIEW __described AS {without_parameters(f'SELECT * FROM {source}')}"
                )
            found = self.table_columns("__described")
            self.rows("DROP VIEW temp.__described", {})
        unknown = [column.name for column in found if pa.types.is_null(column.type)]
        if not unknown:
            return found
        place = get.relation()
        picked = ", ".join(place.column(name) for name in unknown)
        head = self.rows(f"SELECT {picked} FROM {place.sql} LIMIT {HEAD_ROWS}", values)
        seen = {name: types.seen_type([row[number] for row in head]) for number, name in enumerate(unknown)}
        return [Column(c.name, c.declared, seen.get(c.name, c.type), c.must_be_given, c.is_written) for c in found]


def described(reader: SqliteReader, table: str) -> Table | None:
    """A table with the sets of columns whose values identify a record."""
    if not reader.kind(table):
        return None
    unique = [frozenset(column.casefold() for column in columns) for columns in _unique(reader, table)]
    return Table(reader.table_columns(table), unique)


def _unique(reader: SqliteReader, table: str) -> Iterator[list[str]]:
    primary = reader.rows("SELECT name FROM pragma_table_info($name) WHERE pk > 0", {"name": table})
    yield [str(name) for (name,) in primary]
    indexes = "SELECT name FROM pragma_index_list($name) WHERE [unique] AND NOT partial"
    for (index,) in reader.rows(indexes, {"name": table}):
        columns = reader.rows("SELECT name FROM pragma_index_info($name)", {"name": index})
        if all(name is not None for (name,) in columns):
            yield [str(name) for (name,) in columns]


@contextmanager
def reader(path: Path, lock_seconds: float) -> Iterator[SqliteReader]:
    connection = open_read(path, lock_seconds)
    try:
        yield SqliteReader(path, connection)
    finally:
        connection.close()


def rowid_of(columns: Sequence[Column]) -> str | None:
    """The name by which the rowid can be read: one that no column has taken."""
    taken = {column.name.casefold() for column in columns}
    return next((name for name in ("rowid", "_rowid_", "oid") if name not in taken), None)


def splits(reader: SqliteReader, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
    """The splits of some spans of the cursor; those marked are worth cutting."""
    columns = reader.table_columns(get.table) if get.table else []
    kind = reader.kind(get.table) if get.table else "query"
    rowid = rowid_of(columns) if kind == "table" else None
    place = get.relation()
    if rowid:
        least, most = reader.rows(
            f"SELECT (SELECT min({rowid}) FROM {place.sql}), (SELECT max({rowid}) FROM {place.sql})", {}
        )[0]
        if isinstance(least, int) and isinstance(most, int):
            yield from _by_rowid(least, most, rowid, spans)
        return
    for span, is_bulk in spans:
        ranges = _key_ranges(reader, get) if kind == "without rowid" and is_bulk else [(None, None, None)]
        for by, first, last in ranges:
            yield Split({"by": by, "first": first, "last": last, "span": span}, ROOM, SPLIT_ROWS * 64)


def _by_rowid(least: int, most: int, rowid: str, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
    count = most - least + 1
    for span, is_bulk in spans:
        number = min(SPLITS_MOST, -(-count // SPLIT_ROWS)) if is_bulk else 1
        step = -(-count // number)
        for first in range(least, most + 1, step):
            last = min(first + step - 1, most)
            payload = {"rowid": rowid, "by": rowid, "first": first, "last": last, "span": span}
            room = last - first + 1
            yield Split(payload, room if count <= SPAN_MOST else ROOM, min(room, SPLIT_ROWS) * 64)


def _key_ranges(reader: SqliteReader, get: TableGet) -> Iterator[tuple[str, Json, Json]]:
    """Ranges of the primary key's first column, cut where its index says; a `last` belongs to the next range."""
    info = reader.rows("SELECT name FROM pragma_table_info($name) WHERE pk = 1", {"name": get.table})
    by, place = str(info[0][0]), get.relation()
    count = reader.rows(f"SELECT count(*) FROM {place.sql}", {})[0][0]
    assert isinstance(count, int)
    number = max(1, min(SPLITS_MOST, -(-count // SPLIT_ROWS)))
    cuts: list[Json] = [None]
    for cut in range(1, number):
        sql = f"SELECT {place.column(by)} FROM {place.sql} ORDER BY 1 LIMIT 1 OFFSET {count * cut // number}"
        found = reader.rows(sql, {})[0][0]
        if isinstance(found, (int, str)) and found != cuts[-1]:
            cuts.append(found)
    yield from ((by, first, last) for first, last in zip(cuts, [*cuts[1:], None], strict=True))


def read(
    reader: SqliteReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want
) -> Iterator[Chunk]:
    """The records of a split; text that is not UTF-8 makes it begin again with a reader that can tell which it is."""
    given = 0
    try:
        for chunk, rows in _chunks(reader, get, split, schema, scope, want, 0):
            given += rows
            yield chunk
    except UnreadableText:
        reader.connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        for chunk, _ in _chunks(reader, get, split, schema, scope, want, given):
            yield chunk


class UnreadableText(Exception):
    """A text in the database is not UTF-8."""


def _chunks(
    reader: SqliteReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want, skip: int
) -> Iterator[tuple[Chunk, int]]:
    there = {column.name: column for column in reader.columns(get, get.values(scope))}
    columns = [there[name] for name in schema.names if name in there]
    if len(columns) < len(schema.names):
        raise gone(get, next(name for name in schema.names if name not in there), there)
    sql, values = _statement(reader, get, split, [column.name for column in columns], scope, want)
    declared = get.columns if isinstance(get.columns, dict) else {}
    loose = [
        column.name in declared or "JSON" in column.declared.upper() or types.arrow_type(column.declared) is None
        for column in columns
    ]
    base = split["first"] if _has_rowids(split) else None
    cursor = _fetched(reader, sql, values)
    done = 0
    while rows := _next(reader, cursor, want.batch_rows):
        first, done = done, done + len(rows)
        if done > skip:
            yield _chunk(rows, schema, loose, base, first), len(rows)
        # Rows before `skip` were given by a reading that broke off: the same transaction gives them in the same order.


def _has_rowids(split: Json) -> bool:
    return "rowid" in split and split["last"] - split["first"] < SPAN_MOST


def _statement(
    reader: SqliteReader, get: TableGet, split: Json, names: Sequence[str], scope: Scope, want: Want
) -> tuple[str, dict[str, object]]:
    place = get.relation()
    condition, values = get.condition(reader, scope, split["span"])
    conditions = [condition]
    order = [place.column(name) for name in _order(reader, get)]
    identity = "NULL"
    if "rowid" in split:
        identity = f"{place.prefix}.{split['rowid']}"
        conditions.append(f"{identity} BETWEEN {int(split['first'])} AND {int(split['last'])}")
        order = [identity]
    elif split["by"]:
        column = place.column(split["by"])
        for name, sign in (("first", ">="), ("last", "<")):
            if split[name] is not None:
                conditions.append(f"{column} {sign} $__{name}")
                values[f"__{name}"] = split[name]
    picked = ", ".join([identity, *(place.column(name) for name in names)])
    sql = f"SELECT {picked} FROM {place.sql} WHERE {' AND '.join(conditions)}"
    if order:
        sql += f" ORDER BY {', '.join(order)}"
    if want.rows is not None:
        sql += f" LIMIT {int(want.rows)}"
    return sql, values


def _order(reader: SqliteReader, get: TableGet) -> list[str]:
    """What keeps the order of a split the same when it is read again: its primary key, or the key that is declared."""
    if get.table:
        sql = "SELECT name FROM pragma_table_info($name) WHERE pk > 0 ORDER BY pk"
        found = [str(name) for (name,) in reader.rows(sql, {"name": get.table})]
        if found:
            return found
    return [get.key] if isinstance(get.key, str) else list(get.key or ())


def _fetched(reader: SqliteReader, sql: str, values: Mapping[str, object]) -> sqlite3.Cursor:
    with translated(reader.path):
        if not reader.connection.in_transaction:
            reader.connection.execute("BEGIN")
        return reader.connection.execute(sql, bound(sql, values))


def _next(reader: SqliteReader, cursor: sqlite3.Cursor, count: int) -> list[tuple[object, ...]]:
    with translated(reader.path):
        try:
            return cursor.fetchmany(count)
        except sqlite3.OperationalError as fault:
            if "decode to UTF-8" in str(fault):
                raise UnreadableText from fault
            raise


def _chunk(
    rows: Sequence[tuple[object, ...]], schema: pa.Schema, loose: Sequence[bool], base: int | None, first: int
) -> Chunk:
    """Rows as a batch; a row with a value that does not fit its column is malformed."""
    identities, *columns = zip(*rows, strict=True)
    arrays: list[pa.Array] = []
    faults: dict[int, list[str]] = {}
    for field, values, is_loose in zip(schema, columns, loose, strict=True):
        array, wrong = types.arrow_column(values, field.type, is_loose)
        arrays.append(array)
        for row, message in wrong.items():
            faults.setdefault(row, []).append(f"column {field.name!r}: {message}")
    ordinals = None if base is None else [identity - base for identity in identities]
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    if not faults:
        return Chunk(batch, first, None if ordinals is None else pa.array(ordinals, pa.int64()))
    places = ordinals if ordinals is not None else list(range(first, first + len(rows)))
    bad = sorted(faults)
    where = ["" if identities[row] is None else f"rowid {identities[row]}: " for row in bad]
    malformed = Malformed(
        [_raw(schema.names, rows[row][1:]) for row in bad],
        ["type"] * len(bad),
        [at + "; ".join(faults[row]) for at, row in zip(where, bad, strict=True)],
        [places[row] for row in bad],
    )
    good = [row for row in range(len(rows)) if row not in faults]
    taken = batch.take(pa.array(good, pa.int64()))
    return Chunk(taken, first, pa.array([places[row] for row in good], pa.int64()), malformed)


def _raw(names: Sequence[str], values: Sequence[object]) -> str:
    """A row as SQLite has it, as JSON text; bytes as hexadecimal digits."""
    shown = {
        name: value.hex() if isinstance(value, bytes) else _utf8(value) if isinstance(value, str) else value
        for name, value in zip(names, values, strict=True)
    }
    return dumps(shown, ensure_ascii=False)[:TEXT_LIMIT]


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
