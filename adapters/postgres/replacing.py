"""Empties a table that is about to be filled anew, so that nobody sees it empty and nothing that hangs on it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.postgres.opening import translated
from adapters.postgres.reading import PostgresReader
from pipelines.errors import Invalid
from pipelines.sql.literals import name_of

if TYPE_CHECKING:
    from adapters.postgres.loading import Target

DOES = {"c": "on delete cascade", "n": "on delete set null", "d": "on delete set default"}
"""What a reference does to the records that refer to a deleted one, by its letter in the catalogue."""
REFERRED = "23503"
"""The SQLSTATE of a record that others refer to."""


@dataclass(frozen=True)
class Referring:
    """A foreign key of another table that refers to this one."""

    name: str
    schema: str
    table: str
    does: str
    """What a deletion does to that table's records, or nothing."""
    is_deferrable: bool

    def __str__(self) -> str:
        return f"{self.table} ({self.name}{f', {self.does}' if self.does else ''})"


def referring(reader: PostgresReader, sql_name: str) -> list[Referring]:
    """The foreign keys of other tables that refer to a table."""
    sql = (
        "SELECT k.conname::text, n.nspname::text, c.relname::text, k.confdeltype::text, k.condeferrable "
        "FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confrelid = to_regclass($name) AND k.conrelid <> k.confrelid ORDER BY 1"
    )
    return [
        Referring(str(name), str(schema), str(table), DOES.get(str(does), ""), bool(is_deferrable))
        for name, schema, table, does, is_deferrable in reader.rows(sql, {"name": sql_name})
    ]


def refusal(found: Sequence[Referring]) -> str:
    """Why a table with these references is not replaced, or nothing."""
    changing = [str(one) for one in found if one.does]
    return f"{', '.join(changing)} would change or lose its records" if changing else ""


def empty(reader: PostgresReader, target: Target) -> None:
    """Deletes every record. Readers see the old ones until the commit, and so do those with an older snapshot, who would
    find a truncated or a new table empty. Other writers wait, so that nothing of theirs slips in between.
    """
    found = referring(reader, target.sql)
    if why := refusal(found):
        raise Invalid(
            f"{reader.server.address}: {target.name!r} cannot be replaced: {why}; use mode 'upsert', and 'delete' for what is gone"
        )
    statements = [f"DELETE FROM {target.sql}"]
    if target.is_table:
        statements.insert(0, f"LOCK TABLE {target.sql} IN SHARE ROW EXCLUSIVE MODE")
    deferred = [f"{name_of(one.schema)}.{name_of(one.name)}" for one in found if one.is_deferrable]
    if deferred:
        statements.insert(0, f"SET CONSTRAINTS {', '.join(deferred)} DEFERRED")
    fixed = [str(one) for one in found if not one.is_deferrable]
    try:
        for statement in statements:
            with translated(reader.server):
                reader.connection.execute(statement.encode())
    except Invalid as fault:
        if not fixed or getattr(fault.__cause__, "sqlstate", "") != REFERRED:
            raise
        raise Invalid(
            f"{fault}; to replace {target.name!r} make the reference of {', '.join(fixed)} deferrable "
            f"(alter table … alter constraint … deferrable), or use mode 'upsert'"
        ) from fault
