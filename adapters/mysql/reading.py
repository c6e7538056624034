"""Reads MySQL and MariaDB: the catalogue, the cut into splits, and a split's rows as Arrow batches.

A table whose primary key begins with a whole number is cut by ranges of it; any other table, a view or a query is one
split. All splits of a run are read in the state in which the run found the database, by the connections that
`snapshots` keeps. A process other than the one that planned reads each split in the state it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from adapters.mysql import snapshots
from adapters.mysql.frames import Cell, Faults, Frames
from adapters.mysql.matching import among, matched
from adapters.mysql.opening import Server, connect, translated
from adapters.mysql.packets import Rows
from adapters.mysql.parameters import filled
from adapters.mysql.snapshots import Held
from adapters.mysql.types import MyColumn, described, is_text, restored
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed, Split, Want
from pipelines.sql.literals import name_of
from pipelines.tables.finding import Matching
from pipelines.tables.get import TableGet, gone
from pipelines.tables.relation import Column, Table, as_list
from pipelines.tables.spool import TOKENS

if TYPE_CHECKING:
    from pymysql import Connection as Driver

    from pipelines.scope import Scope

SPLIT_ROWS = 100_000
SPLITS_MOST = 32
ROOM = 1 << 40
"""Room for the ordinals of a split, which are places in its order."""
HIDDEN = "_processflow_"
GENERATED = ("VIRTUAL GENERATED", "STORED GENERATED", "PERSISTENT")
VISIBLE = "AND (@@lower_case_table_names <> 0 OR CAST(table_name AS BINARY) = CAST($table AS BINARY))"
"""The catalogue finds names in any case; a server whose files have case does not."""


class MyReader:
    """A connection, perhaps in a transaction that sees one state."""

    def __init__(self, server: Server, connection: Driver[Any], held: Held | None = None, node: str = "") -> None:
        self.server = server
        self.connection = connection
        self.held = held
        self.node = node
        self._columns: dict[tuple[str | None, str | None], list[MyColumn]] = {}
        self._collation = ""

    def rows(self, sql: str, values: Mapping[str, object]) -> list[tuple[object, ...]]:
        with translated(self.server), self.connection.cursor() as cursor:
            cursor.execute(filled(sql, values))
            return list(cursor.fetchall())

    def tables(self) -> list[str]:
        sql = (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() "
            f"AND table_type IN ('BASE TABLE', 'VIEW') AND LEFT(table_name, {len(HIDDEN)}) <> '{HIDDEN}' ORDER BY 1"
        )
        return [str(name) for (name,) in self.rows(sql, {})]

    def kind(self, table: str) -> tuple[str, str]:
        """What a table is in the catalogue (BASE TABLE, VIEW) and its engine; nothing where there is no such table."""
        sql = (
            "SELECT table_type, coalesce(engine, '') FROM information_schema.tables "
            f"WHERE table_schema = coalesce($schema, DATABASE()) AND table_name = $table {VISIBLE}"
        )
        found = self.rows(sql, placed(table))
        return (str(found[0][0]), str(found[0][1])) if found else ("", "")

    def columns(self, get: TableGet, values: Mapping[str, object]) -> list[Column]:
        return list(self.typed_columns(get, values))

    def typed_columns(self, get: TableGet, values: Mapping[str, object]) -> list[MyColumn]:
        name = (get.table, get.query)
        if name not in self._columns:
            if get.table is not None and not self.kind(get.table)[0]:
                return []
            declared = self._declared(get.table) if get.table else {}
            sql = filled(f"SELECT * FROM {get.relation().sql} LIMIT 0", values)
            self._columns[name] = self.selected(sql, {column: str(row[0]) for column, row in declared.items()})
        return self._columns[name]

    def selected(self, sql: str, declared: Mapping[str, str] = {}) -> list[MyColumn]:
        """The columns of one SELECT that gives no rows."""
        with translated(self.server):
            answer = Rows(self.connection, sql)
            for _ in answer:
                pass
        return [described(field, declared.get(field.name, "")) for field in answer.fields]

    def _declared(self, table: str) -> dict[str, tuple[object, ...]]:
        sql = (
            "SELECT column_name, column_type, is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE "
            "'%auto_increment%' AND extra NOT LIKE '%DEFAULT_GENERATED%', extra, is_nullable = 'NO' "
            "FROM information_schema.columns "
            f"WHERE table_schema = coalesce($schema, DATABASE()) AND table_name = $table {VISIBLE}"
        )
        return {str(row[0]): row[1:] for row in self.rows(sql, placed(table))}

    def table(self, table: str) -> Table | None:
        """A table to write to; None where there is none."""
        if not self.kind(table)[0]:
            return None
        facts = self._declared(table)
        columns: list[Column] = []
        types = {name: str(row[0]) for name, row in facts.items()}
        for column in self.selected(f"SELECT * FROM {target_sql(table)} LIMIT 0", types):
            _, must, extra, _ = facts[column.name]
            is_written = not any(word in str(extra) for word in GENERATED)
            columns.append(
                MyColumn(**{**vars(column), "must_be_given": bool(must) and is_written, "is_written": is_written})
            )
        return Table(columns, [frozenset(names) for names in self.unique(table).values()])

    def not_null(self, table: str) -> set[str]:
        """The columns, case-folded, that are never null."""
        return {name.casefold() for name, row in self._declared(table).items() if row[3]}

    def unique(self, table: str) -> dict[str, list[str]]:
        """The unique indexes, each with its columns in order, case-folded; those of parts of values are none."""
        sql = (
            "SELECT index_name, column_name, sub_part FROM information_schema.statistics WHERE non_unique = 0 "
            f"AND table_schema = coalesce($schema, DATABASE()) AND table_name = $table {VISIBLE} "
            "ORDER BY index_name, seq_in_index"
        )
        found: dict[str, list[str]] = {}
        partial = set()
        for index, column, part in self.rows(sql, placed(table)):
            found.setdefault(str(index), []).append(str(column).casefold())
            if column is None or part is not None:
                partial.add(str(index))
        return {index: names for index, names in found.items() if index not in partial}

    def own_number(self, table: str) -> str:
        """The column that the server numbers by itself, case-folded, or nothing."""
        return next(
            (name.casefold() for name, row in self._declared(table).items() if "auto_increment" in str(row[2])), ""
        )

    def published(self, token: str) -> bool:
        """Whether the database holds the publication of this token."""
        if not self.kind(TOKENS)[0]:
            return False
        return bool(self.rows(f"SELECT 1 FROM {TOKENS} WHERE token = $token", {"token": token}))

    def capture(self, column: str) -> str:
        return column

    def highest(self, cursor: str, column: Column) -> str:
        if not _is_collated(column):
            return f"max({cursor})"
        return f"max(CONVERT({cursor} USING utf8mb4) COLLATE {self.collation()})"

    def restore(self, parameter: str, column: Column) -> str:
        if column.type == pa.float32():
            raise Invalid(f"{column.name!r} is a float, of which the server compares other values than it shows")
        if not _is_collated(column):
            return restored(parameter, column)
        return f"(CONVERT({parameter} USING utf8mb4) COLLATE {self.collation()})"

    def among(self, get: TableGet, keys: Sequence[Sequence[object]], values: Mapping[str, object]) -> str:
        return among(get, self.typed_columns(get, values), keys)

    def matching(self, get: TableGet, matching: Matching, values: dict[str, object]) -> str:
        return matched(get, matching)

    def unmatched(self, column: Column) -> str:
        return "of which the server compares other values than it shows" if column.type == pa.float32() else ""

    def whole(self, span: Json) -> Json:
        return {"held": None, "span": span, "by": None, "first": None, "last": None}

    def collation(self) -> str:
        """A collation in which texts are equal only where they are the same, blanks at the end included."""
        if not self._collation:
            wanted = ("utf8mb4_0900_bin", "utf8mb4_nopad_bin", "utf8mb4_bin")
            sql = f"SELECT collation_name FROM information_schema.collations WHERE collation_name IN {wanted}"
            there = {str(name) for (name,) in self.rows(sql, {})}
            self._collation = next(name for name in wanted if name in there)
        return self._collation

    def splits(self, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
        return iter(list(splits(self, get, spans)))

    def read(self, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        return read(self, get, split, schema, scope, want)

    def version(self) -> str:
        return str(self.rows("SELECT version()", {})[0][0])


def _is_collated(column: Column) -> bool:
    return is_text(column.type) and isinstance(column, MyColumn) and column.sort in ("text", "enum", "set", "json")


def placed(table: str) -> dict[str, object]:
    """The database and the name of a table, as the catalogue's statements take them."""
    schema, _, name = table.rpartition(".")
    return {"schema": schema or None, "table": name}


def target_sql(table: str) -> str:
    return ".".join(name_of(part) for part in table.split("."))


@contextmanager
def reader(server: Server) -> Iterator[MyReader]:
    """A connection that reads what is there now."""
    connection = connect(server)
    try:
        with translated(server):
            connection.query(snapshots.BEGIN)
        yield MyReader(server, connection)
    finally:
        snapshots.closed(connection)


@contextmanager
def planner(server: Server, run: str, node: str, count: int) -> Iterator[MyReader]:
    """A connection among those by which a run reads one state."""
    held = snapshots.of_run(run, server, node) or snapshots.hold(server, run, count)
    held.planned.add(node)
    with _taken(held) as connection:
        yield MyReader(server, connection, held, node)


@contextmanager
def taker(server: Server, name: str | None) -> Iterator[MyReader]:
    """A connection that reads the state that the plan found; in another process, that of now."""
    held = snapshots.named(name, server) if name else None
    if held is None:
        with reader(server) as found:
            yield found
        return
    with _taken(held) as connection:
        yield MyReader(server, connection, held)


@contextmanager
def _taken(held: Held) -> Iterator[Driver[Any]]:
    connection = held.take()
    try:
        yield connection
    finally:
        held.give_back(connection)


def splits(reader: MyReader, get: TableGet, spans: Sequence[tuple[Json, bool]]) -> Iterator[Split]:
    """The splits of some spans of the cursor; those marked are worth cutting."""
    ranges: tuple[str | None, list[int], int] = (None, [], 0)
    if get.table and reader.held:
        # this also keeps others from altering the table until it is read
        reader.rows(f"SELECT 1 FROM {get.relation().sql} LIMIT 0", {})
        ranges = _ranges(reader, get, get.table)
    by, cuts, size = ranges
    for span, is_bulk in spans:
        payload = {"held": reader.held.name if reader.held else None, "span": span, "by": by}
        bounds = [None, *cuts, None] if is_bulk else [None, None]
        for first, last in pairwise(bounds):
            yield Split({**payload, "first": first, "last": last}, ROOM, size // (len(bounds) - 1))


def _ranges(reader: MyReader, get: TableGet, table: str) -> tuple[str | None, list[int], int]:
    """The column by which a table is cut, where it is cut, and about how many bytes it has."""
    sql = (
        "SELECT coalesce(max(table_rows), 0), coalesce(max(data_length), 0) FROM information_schema.tables "
        f"WHERE table_schema = coalesce($schema, DATABASE()) AND table_name = $table {VISIBLE}"
    )
    rows, size = (int(str(value)) for value in reader.rows(sql, placed(table))[0])
    first = reader.unique(table).get("PRIMARY", [""])[0]
    column = next((column for column in reader.typed_columns(get, {}) if column.name.casefold() == first), None)
    number = min(-(-rows // SPLIT_ROWS), SPLITS_MOST)
    if column is None or column.sort != "int" or number < 2:
        return None, [], size
    name = get.relation().column(column.name)
    least, most = reader.rows(f"SELECT min({name}), max({name}) FROM {get.relation().sql}", {})[0]
    if not isinstance(least, int) or not isinstance(most, int):
        return None, [], size
    step = max(-(-(most - least + 1) // number), 1)
    return column.name, list(range(least + step, most + 1, step)), size


def read(reader: MyReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
    """The records of a split."""
    sql, cells = _statement(reader, get, split, schema, scope, want)
    frames = Frames(cells)
    first = 0
    with translated(reader.server):
        answer = Rows(reader.connection, sql)
    try:
        for block, starts in _said(reader, answer):
            batch, faults, raw = frames(block, starts)
            for begin in range(0, batch.num_rows, want.batch_rows):
                part = batch.slice(begin, want.batch_rows)
                yield _chunk(part, faults, raw, begin, first)
                first += part.num_rows
    finally:
        frames.close()
        if not answer.is_done:
            _broken_off(reader, answer)


def _said(reader: MyReader, answer: Rows) -> Iterator[tuple[bytes, Any]]:
    with translated(reader.server):
        yield from answer


def _broken_off(reader: MyReader, answer: Rows) -> None:
    """Ends an answer that nobody reads to its end, so that its connection can be asked again."""
    import pymysql

    if reader.held is None:
        snapshots.closed(reader.connection)
        return
    try:
        other = connect(reader.server)
        try:
            other.query(f"KILL QUERY {reader.connection.thread_id()}")
        finally:
            snapshots.closed(other)
        for _ in answer:
            pass
    except pymysql.MySQLError as fault:
        if fault.args[0] != 1317:  # that the query was interrupted
            snapshots.closed(reader.connection)


def _statement(
    reader: MyReader, get: TableGet, split: Json, schema: pa.Schema, scope: Scope, want: Want
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
        cast = declared.get(column.name)
        natural = pa.int8() if column.sort == "bool" and cast else column.type
        items.append(column.picked(place.column(column.name)))
        cells.append(Cell(column.name, column.declared, natural, field.type, cast))
    for sign, bound in ((">=", split["first"]), ("<", split["last"])):
        if bound is not None:
            condition = f"{condition} AND {place.column(split['by'])} {sign} {int(bound)}"
    sql = f"SELECT {', '.join(items) or '1'} FROM {place.sql} WHERE {condition}"
    if order := _order(reader, get):
        sql += f" ORDER BY {', '.join(place.column(name) for name in order)}"
    if want.rows is not None:
        sql += f" LIMIT {int(want.rows)}"
    return filled(sql, values), cells


def _order(reader: MyReader, get: TableGet) -> list[str]:
    """What keeps the order of a split the same when it is read again: its primary key, or the key that is declared."""
    primary = reader.unique(get.table).get("PRIMARY", []) if get.table else []
    there = {column.name.casefold(): column.name for column in reader.typed_columns(get, {})} if primary else {}
    return [there[name] for name in primary if name in there] or as_list(get.key)


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
