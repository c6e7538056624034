"""Reads PostgreSQL: the catalogue, the cut into splits, and a split's rows as Arrow batches.

A table is cut by ranges of its blocks (`ctid`), all read from one snapshot by connections of their own; a view or a query
is one split. Where the server keeps no snapshot for other connections, all is one split, and the run's note says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from json import dumps
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters.postgres import snapshots
from adapters.postgres.copying import blocks, small
from adapters.postgres.frames import Cell, Faults, Frames
from adapters.postgres.locks import watched
from adapters.postgres.matching import matched
from adapters.postgres.opening import Server, connect, translated
from adapters.postgres.parameters import literal, numbered, placed
from adapters.postgres.schemas import refuse_closed
from adapters.postgres.snapshots import Held
from adapters.postgres.types import PgColumn, PgType, arrow_type
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed, Split, Want
from pipelines.sql.literals import name_of
from pipelines.tables.finding import Matching
from pipelines.tables.get import SEEN, TableGet, among_kept, gone
from pipelines.tables.relation import Column, Table, as_list
from pipelines.tables.spool import TOKENS

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGresult

    from pipelines.scope import Scope

BLOCK_BYTES = 8192
SPLIT_BLOCKS = (1024, 16_384)
"""A split has so many blocks at least and at most; in between a table is cut into `SPLITS`."""
SPLITS = 32
TUPLES_MOST = 291
"""So many records a block of 8 KiB holds at most (MaxHeapTuplesPerPage)."""
ROOM = 1 << 40
"""Room for the ordinals of a split whose number of records nothing bounds."""
RANGES_SINCE = 140_000
"""Before PostgreSQL 14 a range of blocks is found by reading all of them."""


class PostgresReader:
    """A connection in a transaction that reads one snapshot."""

    def __init__(self, server: Server, connection: Connection[Any], run: str = "", node: str = "") -> None:
        self.server = server
        self.connection = connection
        self.run = run
        self.node = node
        self.held: Held | None = None
        self.is_kept = False
        self.seen: list[list[object]] | None = None
        self._columns: dict[tuple[str | None, str | None], list[PgColumn]] = {}

    def rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        text, bound = numbered(sql, values)
        with translated(self.server):
            return self.connection.execute(text.encode(), bound).fetchall()

    def tables(self) -> list[str]:
        """Tables and views: those of the connection's search path, or where it has none all, with their schema's name."""
        sql = (
            "SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') "
            "AND n.nspname !~ '^(pg_|information_schema$)' AND NOT c.relispartition "
            r"AND c.relname NOT LIKE '\_processflow\_%' "
            f"{'AND pg_table_is_visible(c.oid) ' if self.server.search_path else ''}ORDER BY 1"
        )
        return [str(name) for (name,) in self.rows(sql, {})]

    def kind(self, table: str) -> str:
        """The relation's kind in the catalogue, or nothing where there is no such table."""
        sql = "SELECT relkind::text FROM pg_class WHERE oid = to_regclass($name)"
        found = self.rows(sql, {"name": target_sql(table)})
        return str(found[0][0]) if found else ""

    def columns(self, get: TableGet, values: Mapping[str, object]) -> list[Column]:
        return list(self.typed_columns(get, values))

    def typed_columns(self, get: TableGet, values: Mapping[str, object]) -> list[PgColumn]:
        name = (get.table, get.query)
        if name not in self._columns:
            if get.table is not None and not self.kind(get.table):
                refuse_closed(self.server, self.rows)
                return []
            self._columns[name] = self.selected(f"SELECT * FROM {get.relation().sql}")
        return self._columns[name]

    def selected(self, sql: str) -> list[PgColumn]:
        """The columns of one SELECT, which the server plans and does not run."""
        names: list[str] = []

        def number(name: str) -> str:
            names.append(name) if name not in names else None
            return f"${names.index(name) + 1}"

        answer = self._described(placed(sql, number))
        found = [
            ((answer.fname(place) or b"").decode(), answer.ftype(place), answer.fmod(place))
            for place in range(answer.nfields)
        ]
        types = self._types([(kind, modifier) for _, kind, modifier in found])
        return [
            PgColumn(name, types[kind, modifier][0], arrow_type(types[kind, modifier][1]), pg=types[kind, modifier][1])
            for name, kind, modifier in found
        ]

    def _described(self, sql: str) -> PGresult:
        """What the server says of a statement: waited for as psycopg's own cursors do, so that other threads go on."""
        from psycopg import errors, generators
        from psycopg.pq import ExecStatus

        low = self.connection.pgconn
        with watched(self.server, self.connection), translated(self.server):
            low.send_prepare(b"", sql.encode())
            answer = self.connection.wait(generators.execute(low))[-1]
            if answer.status == ExecStatus.COMMAND_OK:
                low.send_describe_prepared(b"")
                answer = self.connection.wait(generators.execute(low))[-1]
            if answer.status != ExecStatus.COMMAND_OK:
                raise errors.error_from_result(answer)
        return answer

    def _types(self, wanted: Sequence[tuple[int, int]]) -> dict[tuple[int, int], tuple[str, PgType]]:
        sql = (
            "SELECT w.o, w.m, format_type(w.o, w.m), t.typname::text, t.typtype::text, e.typname::text, e.typtype::text, "
            "t.typcategory = 'A' AND t.typelem <> 0 FROM unnest($oids::int8[], $modifiers::int4[]) AS w(o, m) "
            "JOIN pg_type t ON t.oid = w.o LEFT JOIN pg_type e ON e.oid = t.typelem"
        )
        pairs = list(dict.fromkeys(wanted))
        rows = self.rows(sql, {"oids": [kind for kind, _ in pairs], "modifiers": [modifier for _, modifier in pairs]})
        found: dict[tuple[int, int], tuple[str, PgType]] = {}
        for kind, modifier, declared, name, sort, element, element_sort, is_array in rows:
            inner = PgType(str(element), str(element_sort), int(str(modifier))) if is_array else None
            found[int(str(kind)), int(str(modifier))] = (
                str(declared),
                PgType(str(name), str(sort), int(str(modifier)), inner, int(str(kind))),
            )
        return found

    def table(self, table: str) -> Table | None:
        """A table to write to; None where there is none."""
        if self.kind(table) not in ("r", "p", "f", "v"):
            return None
        facts_sql = (
            "SELECT attname::text, attnotnull AND NOT atthasdef AND attidentity = '', "
            "attgenerated <> '' OR attidentity = 'a' FROM pg_attribute "
            "WHERE attrelid = to_regclass($name) AND attnum > 0 AND NOT attisdropped"
        )
        facts = {str(row[0]): row for row in self.rows(facts_sql, {"name": target_sql(table)})}
        columns = [
            PgColumn(
                column.name,
                column.declared,
                column.type,
                bool(facts[column.name][1]),
                not facts[column.name][2],
                column.pg,
            )
            for column in self.selected(f"SELECT * FROM {target_sql(table)}")
        ]
        return Table(columns, [frozenset(name.casefold() for name in names) for names in self._unique(table)])

    def _unique(self, table: str) -> list[list[str]]:
        sql = (
            "SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a "
            "ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) "
            "WHERE i.indrelid = to_regclass($name) AND i.indisunique AND i.indimmediate AND i.indisvalid "
            "AND i.indpred IS NULL AND i.indexprs IS NULL GROUP BY i.indexrelid"
        )
        return [list(names) for (names,) in self.rows(sql, {"name": target_sql(table)})]  # type: ignore[call-overload]

    def published(self, token: str) -> bool:
        """Whether the database holds the publication of this token."""
        if not self.kind(TOKENS):
            return False
        return bool(self.rows(f"SELECT 1 FROM {TOKENS} WHERE token = $token", {"token": token}))

    def highest(self, cursor: str, column: Column) -> str:
        return f"max({cursor})"

    def capture(self, column: str) -> str:
        return f"CAST({column} AS text)"

    def restore(self, parameter: str, column: Column) -> str:
        return f"CAST({parameter} AS {column.declared})"

    def same(self, one: str, other: str) -> str:
        return f"ARRAY[{one}] = ARRAY[{other}]"  # nulls are equal in arrays, and a hash join can compare them

    def among(self, get: TableGet, keys: Sequence[Sequence[object]], values: Mapping[str, object]) -> str:
        return among_kept(self, get, keys, values)

    def keep(self, keys: Sequence[Sequence[object]]) -> None:
        """Keeps the keys for the statement: a transaction that only reads can make no temporary table."""
        self.seen = [list(key) for key in keys]

    def matching(self, get: TableGet, matching: Matching, values: dict[str, object]) -> str:
        return matched(get, matching, values)

    def unmatched(self, column: Column) -> str:
        return ""

    def whole(self, span: Json) -> Json:
        return {"snapshot": None, "span": span, "first": None, "last": None}

    def splits(self, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
        return iter(list(splits(self, get, spans)))

    def read(self, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        return read(self, get, split, schema, scope, want)

    def lock(self, table: str) -> None:
        """Lets nobody alter, truncate or rewrite a table until what keeps the snapshot is released."""
        kept = self.connection if self.held is None else self.held.connection
        with watched(self.server, kept), translated(self.server), kept.transaction():
            kept.execute(f"SELECT 1 FROM {target_sql(table)} LIMIT 0".encode())

    def export(self) -> str | None:
        """The snapshot's name for other connections; None where the server keeps none for them."""
        if self.held is not None:
            self.held.planned.add(self.node)
            return self.held.name
        try:
            name = str(self.rows("SELECT pg_export_snapshot()", {})[0][0])
        except Invalid:
            return None  # a pooler, or a system that only speaks like PostgreSQL
        self.is_kept = True
        snapshots.hold(Held(self.run, self.server.address, name, self.connection, {self.node}))
        return name


def target_sql(table: str) -> str:
    return ".".join(name_of(part) for part in table.split("."))


@contextmanager
def reader(server: Server, run: str = "", node: str = "") -> Iterator[PostgresReader]:
    """A connection in a transaction that only reads: in the run's snapshot where it has one for this node to plan by."""
    connection = connect(server, read_only=True)
    made = PostgresReader(server, connection, run, node)
    try:
        with translated(server):
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            made.held = snapshots.of_run(run, server.address, node)
            if made.held is not None:
                connection.execute(f"SET TRANSACTION SNAPSHOT '{made.held.name}'".encode())
        yield made
    finally:
        if not made.is_kept:
            connection.close()


def splits(reader: PostgresReader, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
    """The splits of some spans of the cursor; those marked are worth cutting."""
    size = None
    if get.table:
        reader.lock(get.table)
        size = _blocks(reader, get.table)
    snapshot = reader.export()
    size = size if snapshot else None
    for span, is_bulk in spans:
        payload = {"snapshot": snapshot, "span": span, "first": None, "last": None}
        if size is None:
            yield Split(payload, ROOM, SPLIT_BLOCKS[0] * BLOCK_BYTES)
            continue
        step = min(max(SPLIT_BLOCKS[0], -(-size // SPLITS)), SPLIT_BLOCKS[1]) if is_bulk else max(size, 1)
        for first in range(0, max(size, 1), step):
            last = first + step if first + step < size else None  # children of a table may be longer than it
            room = step * TUPLES_MOST if last is not None else ROOM
            yield Split({**payload, "first": first, "last": last}, room, min(step, size) * BLOCK_BYTES)


def _blocks(reader: PostgresReader, table: str) -> int | None:
    """The blocks of a table, or of its largest partition; None where it cannot be read by ranges of them."""
    if reader.connection.info.server_version < RANGES_SINCE:
        return None
    sql = (
        "SELECT max(pg_relation_size(c.oid) / current_setting('block_size')::int), "
        "bool_and(coalesce(a.amname, 'heap') = 'heap' AND c.relkind IN ('r', 'm', 'p')) "
        "AND has_table_privilege(to_regclass($name), 'select') "  # without it no block may be asked for, only columns
        "FROM (SELECT to_regclass($name)::oid AS oid UNION SELECT relid FROM pg_partition_tree(to_regclass($name))) AS o "
        "JOIN pg_class c ON c.oid = o.oid LEFT JOIN pg_am a ON a.oid = c.relam"
    )
    size, is_heap = reader.rows(sql, {"name": target_sql(table)})[0]
    return int(str(size)) if is_heap and size is not None else None


def read(
    reader: PostgresReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want
) -> Iterator[Chunk]:
    """The records of a split."""
    sql, cells = _statement(reader, get, split, schema, scope, want)
    frames = Frames(cells)
    first = 0
    try:
        for block in (small if "matching" in split["span"] else blocks)(
            reader.server, reader.connection, split["snapshot"], sql
        ):
            batch, faults, raw = frames(block)
            for begin in range(0, batch.num_rows, want.batch_rows):
                part = batch.slice(begin, want.batch_rows)
                yield _chunk(part, faults, raw, begin, first)
                first += part.num_rows
    finally:
        frames.close()


def _statement(
    reader: PostgresReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want
) -> tuple[str, list[Cell]]:
    there = {column.name: column for column in reader.typed_columns(get, get.values(scope))}
    place, declared = get.relation(), get.columns if isinstance(get.columns, dict) else {}
    condition, values = get.condition(reader, scope, split["span"])
    items: list[str] = []
    cells: list[Cell] = []
    for field in schema:
        if field.name not in there:
            raise gone(get, field.name, there)
        column = there[field.name]
        is_list = pa.types.is_list(column.type)
        items.append(f"array_to_json({place.column(column.name)})" if is_list else place.column(column.name))
        cells.append(Cell(column.name, column.declared, column.type, field.type, declared.get(column.name)))
    return statement(reader, get, split, items, condition, values, want.rows), cells


def statement(
    reader: PostgresReader,
    get: TableGet,
    split: Json,
    items: Sequence[str],
    condition: str,
    values: dict[str, object],
    rows: int | None = None,
) -> str:
    """The SELECT of a split, accepted by the server, with its values in it."""
    place = get.relation()
    order = [] if get.table else [place.column(name) for name in as_list(get.key)]
    if split["first"] is not None:
        condition, order = _ranged(condition, f"{place.prefix}.ctid", split)
    sql = f"SELECT {', '.join(items)} FROM {place.sql} WHERE {condition}"
    if order:
        sql += f" ORDER BY {', '.join(order)}"
    if rows is not None:
        sql += f" LIMIT {int(rows)}"
    if reader.seen is not None:
        names = ", ".join(f"e ->> {number}" for number in range(len(as_list(get.key))))
        columns = ", ".join(f"k{number}" for number in range(len(as_list(get.key))))
        values["__keys"] = dumps(reader.seen)
        sql = f"WITH {SEEN} ({columns}) AS (SELECT {names} FROM json_array_elements($__keys::json) AS e) {sql}"
    reader.selected(sql)  # what is one SELECT here is one inside of COPY
    return literal(sql, values, reader.connection)


def _ranged(condition: str, ctid: str, split: Json) -> tuple[str, list[str]]:
    """Ranges of blocks come in their order by themselves; with a condition the server may take another way."""
    order = [ctid] if condition != "true" else []
    ranges = [] if condition == "true" else [condition]
    ranges.append(f"{ctid} >= '({int(split['first'])},0)'")
    if split["last"] is not None:
        ranges.append(f"{ctid} < '({int(split['last'])},0)'")
    return " AND ".join(ranges), order


def _chunk(batch: pa.RecordBatch, faults: Faults, raw: Callable[[int], str], begin: int, first: int) -> Chunk:
    """Part of a block that begins at row `begin` there, and at ordinal `first` in the split."""
    bad = [row - begin for row in sorted(faults) if begin <= row < begin + batch.num_rows]
    if not bad:
        return Chunk(batch, first)
    wrong = set(bad)
    good = pa.array([row for row in range(batch.num_rows) if row not in wrong], pa.int64())
    malformed = Malformed(
        [raw(begin + row) for row in bad],
        ["type"] * len(bad),
        ["; ".join(faults[begin + row]) for row in bad],
        [first + row for row in bad],
    )
    return Chunk(batch.take(good), first, pc.add(good, first), malformed)
