"""What a user may not do that a node needs, found before anything runs, with the statement that grants it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.postgres.loading import Target
from adapters.postgres.reading import PostgresReader, target_sql
from adapters.postgres.types import PgColumn
from pipelines.sql.literals import name_of
from pipelines.tables.post import Work
from pipelines.tables.spool import TOKENS

Barrier = tuple[str, str]
"""What is in the way, and what to do about it."""
_VERBS = {"select": "read", "insert": "insert into", "update": "update", "delete": "delete from"}
_NEEDED = {"append": ["insert"], "replace": ["insert", "delete"], "upsert": ["insert", "update"], "delete": ["delete"]}


class Rights:
    """What the user of a connection may do."""

    def __init__(self, reader: PostgresReader) -> None:
        self._reader = reader
        self._user = str(reader.rows("SELECT current_user::text", {})[0][0])

    def reading(self, table: str, names: Sequence[str]) -> Iterator[Barrier]:
        """Why columns of a table cannot be read."""
        if self._lacking(table, ["select"], names):
            yield self._missing(["select"], f"table {table!r}", target_sql(table))

    def writing(self, work: Work) -> Iterator[Barrier]:
        """Why records cannot be delivered to a table."""
        schema, is_standby, is_closed = self._reader.rows(
            "SELECT current_schema()::text, pg_is_in_recovery(), (SELECT reset_val = 'on' FROM pg_settings "
            "WHERE name = 'default_transaction_read_only')",
            {},
        )[0]
        if is_standby:
            fix = "name the primary; a `url` may name both, with `target_session_attrs=read-write`"
            yield "the server is a standby, which takes no writes", fix
        elif is_closed:
            fix = f"alter role {name_of(self._user)} set default_transaction_read_only = off, or another user"
            yield "the database takes no writes of this user: default_transaction_read_only is on", fix
        elif schema is None:
            fix = f"name one in the connection's `search_path`, or grant usage on it to {name_of(self._user)}"
            yield f"user {self._user!r} may look into no schema of the search path, or none is there", fix
        else:
            yield from self._tokens(str(schema))
            yield from self._target(work, str(schema))

    def _tokens(self, schema: str) -> Iterator[Barrier]:
        if not self._reader.kind(TOKENS):
            yield from self._making(schema, f"the table {TOKENS}, which tells what has been published")
        elif lacking := self._lacking(TOKENS, ["select", "insert"]):
            yield self._missing(lacking, f"table {TOKENS!r}", TOKENS)

    def _target(self, work: Work, schema: str) -> Iterator[Barrier]:
        found = self._reader.table(work.table)
        if found is not None:
            written = {name.casefold() for name in work.written}
            columns = [column for column in found.columns if column.name.casefold() in written]
            target = Target.of(self._reader, work.table, [column for column in columns if isinstance(column, PgColumn)])
            yield from self._loading(work, target)
        elif work.create:
            yield from self._making(work.table.rpartition(".")[0] or schema, f"table {work.table!r}")

    def _loading(self, work: Work, target: Target) -> Iterator[Barrier]:
        names = [column.name for column in target.columns]
        is_staged = target.is_staged(work)
        lacking = self._lacking(work.table, ["select"]) if is_staged else []  # the temporary table is made like it
        lacking += self._lacking(work.table, _NEEDED[work.mode], names)
        if lacking:
            yield self._missing(lacking, f"table {work.table!r}", target_sql(work.table))
        if is_staged:
            yield from self._staging(work)
        if work.mode != "delete":
            yield from self._looking_up(work, target)
            yield from self._numbering(work, names)

    def _staging(self, work: Work) -> Iterator[Barrier]:
        sql = "SELECT current_database()::text WHERE NOT has_database_privilege(current_database(), 'temporary')"
        why = f"mode {work.mode!r}" if work.mode in ("upsert", "delete") else "a table with triggers or references"
        for (database,) in self._reader.rows(sql, {}):
            fix = f"grant temporary on database {name_of(str(database))} to {name_of(self._user)}"
            yield f"user {self._user!r} may make no temporary table, which {why} needs", fix

    def _looking_up(self, work: Work, target: Target) -> Iterator[Barrier]:
        for other in dict.fromkeys(reference.other for reference in target.references if not reference.is_own):
            if not self._reader.rows("SELECT has_table_privilege($name::text, 'select')", {"name": other})[0][0]:
                what = f"user {self._user!r} may not read {other}, to which {work.table!r} refers"
                yield what, f"grant select on {other} to {name_of(self._user)}"

    def _numbering(self, work: Work, names: Sequence[str]) -> Iterator[Barrier]:
        sql = (
            "SELECT DISTINCT s.oid::regclass::text FROM pg_attrdef f JOIN pg_depend d "
            "ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass "
            "JOIN pg_class s ON s.oid = d.refobjid "
            "JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum WHERE f.adrelid = to_regclass($name) "
            "AND NOT a.attname = ANY ($written::text[]) "
            "AND CASE WHEN s.relkind = 'S' THEN NOT has_sequence_privilege(s.oid, 'usage') END"
        )
        for (sequence,) in self._reader.rows(sql, {"name": target_sql(work.table), "written": list(names)}):
            what = f"user {self._user!r} may not use {sequence}, which numbers the records of {work.table!r}"
            yield what, f"grant usage on sequence {sequence} to {name_of(self._user)}"

    def _making(self, schema: str, what: str) -> Iterator[Barrier]:
        sql = "SELECT 1 FROM pg_namespace n WHERE n.nspname = $schema AND NOT has_schema_privilege(n.oid, 'create')"
        if self._reader.rows(sql, {"schema": schema}):
            fix = f"grant create on schema {name_of(schema)} to {name_of(self._user)}"
            yield f"user {self._user!r} may not make {what}", fix

    def _lacking(self, table: str, rights: Sequence[str], names: Sequence[str] = ()) -> list[str]:
        """The rights that the user has neither for a table nor for all of the columns named."""
        sql = (
            "SELECT r FROM unnest($rights::text[]) WITH ORDINALITY AS u(r, n) "
            "WHERE NOT has_table_privilege(to_regclass($name), r) AND NOT CASE WHEN r = 'delete' THEN false ELSE "
            "(SELECT coalesce(bool_and(has_column_privilege(to_regclass($name), c, r)), false) "
            "FROM unnest($names::text[]) AS c) END ORDER BY n"
        )
        values = {"rights": list(rights), "name": target_sql(table), "names": list(names)}
        return [str(right) for (right,) in self._reader.rows(sql, values)]

    def _missing(self, rights: Sequence[str], words: str, sql: str) -> Barrier:
        does = " or ".join(_VERBS[right] for right in rights)
        fix = f"grant {', '.join(rights)} on {sql} to {name_of(self._user)}"
        return f"user {self._user!r} may not {does} {words}", fix
