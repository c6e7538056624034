"""Loads batches by COPY, and finds the records that the table refuses.

COPY's fault names the line it stopped at: the records before it are sent again, it is left out, and the rest follows. A
fault without a line (a trigger, a reference, another unique index) is found by halving. Where many are refused, the server
tries the rest one by one (`refusing`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.postgres.cells import Faults, Fields, fields
from adapters.postgres.opening import Server, translated
from adapters.postgres.reading import PostgresReader, target_sql
from adapters.postgres.refusing import DROPPED, ORDER, Trial, are_many, is_refusal, message
from adapters.postgres.types import PgColumn
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work

if TYPE_CHECKING:
    from psycopg import Connection, Error


@dataclass(frozen=True)
class Reference:
    """A foreign key of the table."""

    columns: Sequence[str]
    other: str
    other_columns: Sequence[str]
    name: str
    is_own: bool
    """Whether it refers to the table itself."""


@dataclass(frozen=True)
class Target:
    """The table to write, as the catalogue has it."""

    sql: str
    name: str
    columns: Sequence[PgColumn]
    """Those that are written."""
    other_columns: Sequence[str]
    has_triggers: bool
    """Whether something happens by itself to what is written: triggers, rules, policies."""
    has_policies: bool
    """Whether rows are refused by policies, which COPY does not know."""
    is_table: bool
    references: Sequence[Reference]

    @classmethod
    def of(cls, reader: PostgresReader, table: str, columns: Sequence[PgColumn]) -> Target:
        name = {"name": target_sql(table)}
        schema, own, kind, has_triggers, has_policies = reader.rows(
            "SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relhasrules OR EXISTS (SELECT 1 FROM pg_trigger t "
            "WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'), "
            "CASE WHEN c.relkind IN ('r', 'p') THEN row_security_active(c.oid) ELSE false END "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass($name)",
            name,
        )[0]
        written = {column.name for column in columns}
        there = reader.rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($name) AND attnum > 0 "
            "AND NOT attisdropped",
            name,
        )
        is_table = kind in ("r", "p")
        return cls(
            f"{name_of(str(schema))}.{name_of(str(own))}",
            str(own),
            columns,
            [str(other) for (other,) in there if other not in written],
            bool(has_triggers or has_policies),
            bool(has_policies),
            is_table,
            _references(reader, name),
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is a table in which nothing happens by itself."""
        return self.is_table and not self.has_triggers and not self.references

    def is_staged(self, work: Work) -> bool:
        """Whether records go through a temporary table."""
        return work.mode in ("upsert", "delete") or not self.is_plain


def _references(reader: PostgresReader, name: dict[str, str]) -> list[Reference]:
    sql = (
        "SELECT k.conname::text, (SELECT array_agg(a.attname::text ORDER BY o.place) FROM unnest(k.conkey) "
        "WITH ORDINALITY AS o(number, place) JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = o.number), "
        "(SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = k.confrelid), (SELECT array_agg(a.attname::text ORDER BY o.place) FROM unnest(k.confkey) "
        "WITH ORDINALITY AS o(number, place) JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = o.number), "
        "k.confrelid = k.conrelid FROM pg_constraint k WHERE k.contype = 'f' AND k.conrelid = to_regclass($name)"
    )
    return [
        Reference(list(own), str(other), list(others), str(constraint), bool(is_own))  # type: ignore[call-overload]
        for constraint, own, other, others, is_own in reader.rows(sql, name)
    ]


class Loader:
    """Copies batches into a table, or into a temporary one that `finish` brings into it."""

    def __init__(self, server: Server, connection: Connection[Any], work: Work, target: Target) -> None:
        self._server = server
        self._connection = connection
        self._work = work
        self._target = target
        self._into = target.sql
        self._is_staged = self._is_indexed = False
        self._trial = Trial(
            server,
            connection,
            must_count=target.has_triggers and work.mode != "delete",
            has_policies=target.has_policies,
        )
        self._names = [name_of(column.name) for column in target.columns]
        self._keys = [
            name_of(column.name)
            for name in work.key
            for column in target.columns
            if column.name.casefold() == name.casefold()
        ]

    def stage(self) -> None:
        """Makes the temporary table: the target's checks, so that COPY names the line that breaks one."""
        self._into = f"pg_temp.{name_of(self._target.name)}"
        self._is_staged = True
        self._run(
            f"CREATE TEMP TABLE {name_of(self._target.name)} (LIKE {self._target.sql} INCLUDING CONSTRAINTS) ON COMMIT DROP"
        )
        drops = [f"DROP COLUMN {name_of(name)}" for name in self._target.other_columns]
        self._run(f"ALTER TABLE {self._into} {', '.join([*drops, f'ADD COLUMN {ORDER} bigint'])}")

    def copy(self, batch: pa.RecordBatch, first: int) -> Faults:
        """Loads a batch, and gives the faults of the records that are not."""
        found = fields(batch, self._target.columns, self._work.written)
        faults = dict(found.faults)
        for name in self._work.key if self._work.mode in ("upsert", "delete") else ():
            missing = pc.indices_nonzero(pc.is_null(batch.column(name))).to_pylist()
            faults.update(dict.fromkeys(missing, ("key_null", f"key column {name!r} is null")))
        if self._is_staged:
            places = pa.array(np.arange(first, first + batch.num_rows), pa.int64())
            found = Fields({**found.columns, ORDER: places}, found.faults)
        rows = None
        count = batch.num_rows
        if faults:
            good = np.setdiff1d(np.arange(batch.num_rows), np.fromiter(faults, np.int64))
            rows, count = pa.array(good, pa.int64()), len(good)
        refused = passed = 0
        waiting = [(0, count)] if count else []
        while waiting:
            begin, end = waiting.pop()
            if are_many(refused, passed) and self._trial.is_possible():
                faults.update(self._tried(found, rows, begin, end))
                continue
            fault = self._copied(found, rows, begin, end)
            if fault is None:
                passed = end
                continue
            place = self._place(fault, found, rows, begin, end)
            if place is None and end - begin > 1:
                middle = (begin + end) // 2
                waiting += [(middle, end), (begin, middle)]
                continue
            place = begin if place is None else place
            refused += 1
            faults[place if rows is None else rows[place].as_py()] = ("refused", message(fault))
            waiting += [part for part in ((place + 1, end), (begin, place)) if part[0] < part[1]]
        return faults

    def _tried(self, found: Fields, rows: pa.Int64Array | None, begin: int, end: int) -> Faults:
        """Has the server try the rows `begin` to `end` one by one."""
        where = pa.array(np.arange(begin, end), pa.int64()) if rows is None else rows.slice(begin, end - begin)
        texts = [column.take(where) for name, column in found.columns.items() if name != ORDER]
        places = found.columns[ORDER].take(where) if self._is_staged else where
        raw = Fields({**{f"c{number}": column for number, column in enumerate(texts)}, ORDER: places}, {})
        self._trial.keep(raw.text(None, 0, len(where)), len(texts))
        own = [ORDER] if self._is_staged else []
        low, high = places[0].as_py(), places[-1].as_py() + 1
        said = self._trial.insert(self._into, self._names, own, low, high)
        rows_of = dict(zip(places.to_pylist(), where.to_pylist(), strict=True)) if said else {}
        return {rows_of[place]: ("refused", words) for place, words in said.items()}

    def _copied(self, found: Fields, rows: pa.Int64Array | None, begin: int, end: int) -> Error | None:
        import psycopg

        names = [*self._names, ORDER] if self._is_staged else self._names
        sql = f"COPY {self._into} ({', '.join(names)}) FROM STDIN (FORMAT csv, HEADER)"
        text = found.text(rows, begin, end)
        with translated(self._server):
            self._connection.execute("SAVEPOINT batch")
            try:
                with self._connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
                    copy.write(text)
            except psycopg.Error as fault:
                if not is_refusal(fault.sqlstate, has_policies=self._target.has_policies):
                    raise
                self._undo("batch")
                return fault
            self._connection.execute("RELEASE SAVEPOINT batch")
        return None

    def _place(self, fault: Error, found: Fields, rows: pa.Int64Array | None, begin: int, end: int) -> int | None:
        """The record that a fault names, as a place between `begin` and `end`."""
        line = line_of(fault, self._target.name)
        if line is None:
            return None
        place = begin + int(np.searchsorted(found.last_lines(rows, begin, end), line))
        return place if place < end else None

    def finish(self, count: int) -> Faults:
        """Brings what is staged into the table; gives the faults of the records, by place, that it refuses."""
        faults: Faults = {}
        for reference in self._target.references if self._work.mode != "delete" else ():
            faults.update(self._without_reference(reference))
        waiting = [(0, count)] if count else []
        is_ordered = False
        refused = passed = 0
        while waiting:
            first, end = waiting.pop()
            if are_many(refused, passed) and self._trial.is_possible():
                faults.update(self._each(first, end))
                continue
            fault, is_again = self._stated(first, end, first > 0 or end < count, is_ordered)
            if is_again:
                is_ordered = True
                waiting.append((first, end))
            elif fault and end - first == 1:
                faults[first] = ("refused", fault)
                refused += 1
            elif fault:
                middle = (first + end) // 2
                waiting += [(middle, end), (first, middle)]
            else:
                passed = end
            if refused == 1 and not self._is_indexed:
                self._is_indexed = True
                self._trial.index(self._into)
        return faults

    def _each(self, first: int, end: int) -> Faults:
        """Has the server try some of the staged records one by one."""
        found = self._trial.each(self._into, "", self._statement(f"{ORDER} = __pf_place", False), first, end)
        return {place: ("refused", words) for place, words in found.items()}

    def _stated(self, first: int, end: int, is_part: bool, is_ordered: bool) -> tuple[str, bool]:
        """Runs the statement for some of the staged records: why it failed, and whether keys came twice."""
        import psycopg

        where = f"{ORDER} >= {first} AND {ORDER} < {end}" if is_part else "true"
        with translated(self._server):
            self._connection.execute("SAVEPOINT part")
            try:
                done = self._connection.execute(self._statement(where, is_ordered).encode()).rowcount
                if self._target.has_triggers and self._work.mode != "delete" and done < self._expected(where):
                    self._undo("part")
                    return DROPPED, False
            except psycopg.errors.CardinalityViolation:
                if is_ordered:
                    raise
                self._undo("part")
                return "", True
            except psycopg.Error as fault:
                if not is_refusal(fault.sqlstate, has_policies=self._target.has_policies):
                    raise
                self._undo("part")
                return message(fault), False
            self._connection.execute("RELEASE SAVEPOINT part")
        return "", False

    def _expected(self, where: str) -> int:
        counted = f"DISTINCT ({', '.join(self._keys)})" if self._work.mode == "upsert" else "*"
        return int(
            self._connection.execute(f"SELECT count({counted}) FROM {self._into} WHERE {where}".encode()).fetchall()[0][
                0
            ]
        )

    def _statement(self, where: str, is_ordered: bool) -> str:
        """What is done with staged records; `is_ordered`: keys come twice, and the last of each wins."""
        target, names, keys = self._target.sql, ", ".join(self._names), self._keys
        if self._work.mode == "delete":
            matches = " AND ".join(f"__s.{key} = __t.{key}" for key in keys)
            return f"DELETE FROM {target} AS __t WHERE EXISTS (SELECT 1 FROM {self._into} AS __s WHERE {where} AND {matches})"
        if self._work.mode != "upsert":
            return f"INSERT INTO {target} ({names}) SELECT {names} FROM {self._into} WHERE {where} ORDER BY {ORDER}"
        listed = ", ".join(keys)
        last = f"DISTINCT ON ({listed}) " if is_ordered else ""
        order = f" ORDER BY {listed}, {ORDER} DESC" if is_ordered else ""
        changed = [name for name in self._names if name not in keys] or keys[:1]
        sets = ", ".join(f"{name} = excluded.{name}" for name in changed)
        return (
            f"INSERT INTO {target} ({names}) SELECT {last}{names} FROM {self._into} WHERE {where}{order} "
            f"ON CONFLICT ({listed}) DO UPDATE SET {sets}"
        )

    def _without_reference(self, reference: Reference) -> Faults:
        """Takes away the staged records that refer to nothing."""
        own = [name_of(name) for name in reference.columns]
        if not set(own) <= set(self._names):
            return {}  # its values are defaults, of which the statement itself tells
        pairs = list(zip(own, map(name_of, reference.other_columns), strict=True))
        present = " AND ".join(f"__s.{name} IS NOT NULL" for name in own)
        matches = " AND ".join(f"__o.{other} = __s.{name}" for name, other in pairs)
        there = f"EXISTS (SELECT 1 FROM {reference.other} AS __o WHERE {matches})"
        if reference.is_own:
            there += f" OR EXISTS (SELECT 1 FROM {self._into} AS __o WHERE {matches})"
        shown = ", ".join(f"__s.{name}::text" for name in own)
        sql = f"DELETE FROM {self._into} AS __s WHERE {present} AND NOT ({there}) RETURNING __s.{ORDER}, concat_ws(', ', {shown})"
        with translated(self._server):
            found = self._connection.execute(sql.encode()).fetchall()
        columns = ", ".join(reference.columns)
        words = f'violates foreign key constraint "{reference.name}": Key ({columns})=('
        return {
            int(place): ("refused", f"{words}{value}) is not present in {reference.other}") for place, value in found
        }

    def _undo(self, savepoint: str) -> None:
        """Takes back what was done since a savepoint, and the savepoint: thousands inside each other slow everything."""
        self._connection.execute(f"ROLLBACK TO SAVEPOINT {savepoint}; RELEASE SAVEPOINT {savepoint}".encode())

    def _run(self, sql: str) -> None:
        with translated(self._server):
            self._connection.execute(sql.encode())


def line_of(fault: Error, table: str) -> int | None:
    """The line of COPY's input that a fault's context names, in whatever language the server speaks."""
    for context in (fault.diag.context or "").splitlines():
        found = re.match(rf"COPY {re.escape(table)}, \D*(\d+)", context)
        if found:
            return int(found[1])
    return None
