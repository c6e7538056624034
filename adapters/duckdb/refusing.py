"""Finds the staged records that a DuckDB table would refuse, by asking each of its constraints as a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from adapters.duckdb.reading import DuckdbReader, place_of, target_sql
from pipelines.errors import Invalid
from pipelines.sql.literals import name_of, quoted
from pipelines.tables.post import Work
from pipelines.tables.relation import Table

ORDER = "__order"
"""The staged records' place in the order of the source."""
FITTED = "__fitted"
"""The staged records as the table's types."""
REFUSED = "__refused"
"""Place, code and message of those that are not loaded."""


class Constraint(NamedTuple):
    """A row of `duckdb_constraints()`."""

    kind: str
    text: str
    expression: str | None
    columns: list[str]
    other_table: str | None
    other_columns: list[str]


def find_refused(reader: DuckdbReader, work: Work, table: Table) -> None:
    """Notes in `REFUSED` every staged record that breaks a constraint, each with the first it breaks."""
    if work.mode in ("upsert", "delete"):
        for name in work.key:
            _note(reader, "key_null", quoted(f"key column {name!r} is null"), f"{name_of(name)} IS NULL")
    if work.mode == "delete":
        return
    given = {name.casefold() for name in work.written}
    constraints = _constraints(reader, work.table)
    for constraint in constraints:
        if constraint.kind == "NOT NULL" and constraint.columns[0].casefold() in given:
            words = quoted(f"NOT NULL constraint failed: {work.table}.{constraint.columns[0]}")
            _note(reader, "refused", words, f"{name_of(constraint.columns[0])} IS NULL")
        if constraint.kind == "CHECK":
            _check(reader, work, table, constraint)
    for constraint in constraints:
        if constraint.kind == "FOREIGN KEY" and {name.casefold() for name in constraint.columns} <= given:
            _reference(reader, work, constraint)
    for expressions, words in [*_unique(constraints), *_unique_indexes(reader, work.table)]:
        _duplicates(reader, work, expressions, words)


def _note(reader: DuckdbReader, code: str, words: str, condition: str) -> None:
    reader.rows(
        f"INSERT INTO {REFUSED} SELECT {ORDER}, {quoted(code)}, {words} FROM {FITTED} AS __s "
        f"WHERE ({condition}) AND {ORDER} NOT IN (SELECT place FROM {REFUSED})",
        {},
    )


def _constraints(reader: DuckdbReader, table: str) -> list[Constraint]:
    schema, name = place_of(table)
    sql = (
        "SELECT constraint_type, constraint_text, expression, constraint_column_names, referenced_table, "
        "referenced_column_names FROM duckdb_constraints() "
        "WHERE lower(schema_name) = $schema AND lower(table_name) = $name ORDER BY constraint_index"
    )
    return [Constraint(*row) for row in reader.rows(sql, {"schema": schema, "name": name})]  # type: ignore[arg-type]


def _check(reader: DuckdbReader, work: Work, table: Table, constraint: Constraint) -> None:
    """A condition that is false is refused; one that cannot be computed too, which its box being NULL tells."""
    given = {name.casefold() for name in work.written}
    missing = [column for column in table.columns if column.name.casefold() not in given]
    if {column.name.casefold() for column in missing} & {name.casefold() for name in constraint.columns}:
        return  # it depends on a default or on what is in the table: the table itself tells, when it is loaded
    box = f"TRY([({constraint.expression})])"
    words = quoted(f"CHECK constraint failed on table {work.table} with expression {constraint.text}")
    try:
        _note(reader, "refused", words, f"{box} IS NULL OR {box}[1] = false")
    except Invalid as fault:
        if "TRY" not in str(fault):  # a condition that is not the same each time cannot be tried
            raise


def _reference(reader: DuckdbReader, work: Work, constraint: Constraint) -> None:
    schema, _, _ = work.table.rpartition(".")
    other = target_sql(f"{schema}.{constraint.other_table}" if schema else str(constraint.other_table))
    own = [f"__s.{name_of(name)}" for name in constraint.columns]
    theirs = [f"__o.{name_of(name)}" for name in constraint.other_columns]
    matches = " AND ".join(f"{left} = {right}" for left, right in zip(own, theirs, strict=True))
    present = " AND ".join(f"{column} IS NOT NULL" for column in own)
    there = f"EXISTS (SELECT 1 FROM {other} AS __o WHERE {matches})"
    if other == target_sql(work.table):
        there += f" OR EXISTS (SELECT 1 FROM {FITTED} AS __o WHERE {matches})"
    names = ", ".join(constraint.other_columns)
    words = (
        quoted(f"Violates foreign key constraint: {constraint.other_table} has no ") + f" || {quoted(names + ' = ')}"
    )
    shown = " || ', ' || ".join(f"CAST({column} AS VARCHAR)" for column in own)
    _note(reader, "refused", f"{words} || {shown}", f"{present} AND NOT ({there})")


def _unique(constraints: Sequence[Constraint]) -> list[tuple[list[str], str]]:
    words = {"PRIMARY KEY": "violates primary key constraint", "UNIQUE": "violates unique constraint"}
    return [
        ([name_of(name) for name in constraint.columns], words[constraint.kind])
        for constraint in constraints
        if constraint.kind in words
    ]


def _unique_indexes(reader: DuckdbReader, table: str) -> list[tuple[list[str], str]]:
    schema, name = place_of(table)
    sql = (
        "SELECT index_name, unnest(CAST(expressions AS VARCHAR[])) FROM duckdb_indexes() WHERE is_unique "
        "AND NOT is_primary AND lower(schema_name) = $schema AND lower(table_name) = $name"
    )
    found: dict[str, list[str]] = {}
    for index, expression in reader.rows(sql, {"schema": schema, "name": name}):
        found.setdefault(str(index), []).append(str(expression))
    return [(expressions, f"violates unique index {index}") for index, expressions in found.items()]


def _duplicates(reader: DuckdbReader, work: Work, expressions: Sequence[str], words: str) -> None:
    """A second record of one key is refused, and one whose key the table has; an upsert's own key is no duplicate."""
    key = [name_of(name) for name in work.key]
    if work.mode == "upsert" and {name.casefold() for name in key} == {name.casefold() for name in expressions}:
        return
    given = {name_of(name).casefold() for name in work.written}
    if not {name.casefold() for name in expressions} <= given and all(name.startswith('"') for name in expressions):
        return  # its values are defaults, which the table itself tells of
    listed = ", ".join(expressions)
    present = " AND ".join(f"({item}) IS NOT NULL" for item in expressions)
    shown = " || ', ' || ".join(f"CAST(({item}) AS VARCHAR)" for item in expressions)
    message = f"{quoted(f'Duplicate key ({listed}): ')} || {shown} || {quoted(f' {words}')}"
    good = f"{present} AND {ORDER} NOT IN (SELECT place FROM {REFUSED})"
    rank = f"row_number() OVER (PARTITION BY {listed} ORDER BY {ORDER})"
    if work.mode == "upsert":
        last = f"SELECT * FROM {FITTED} QUALIFY row_number() OVER (PARTITION BY {', '.join(key)} ORDER BY {ORDER} DESC) = 1"
        again = f"SELECT {ORDER}, {rank} AS place FROM ({last}) WHERE {good}"
    else:
        again = f"SELECT {ORDER}, {rank} AS place FROM {FITTED} WHERE {good}"
    _note(reader, "refused", message, f"{ORDER} IN (SELECT {ORDER} FROM ({again}) WHERE place > 1)")
    if work.mode == "replace":
        return
    others = f"SELECT {listed} FROM {target_sql(work.table)} AS __t"
    if work.mode == "append":
        _note(reader, "refused", message, f"{present} AND ({listed}) IN ({others})")
        return
    same = " AND ".join(f"__k.k{number} = ({item})" for number, item in enumerate(expressions))
    picked = ", ".join(f"({item}) AS k{number}" for number, item in enumerate(expressions))
    keys = ", ".join(f"{name} AS own{number}" for number, name in enumerate(key))
    differs = " OR ".join(f"__k.own{number} <> __s.{name}" for number, name in enumerate(key))
    table = f"(SELECT {picked}, {keys} FROM {target_sql(work.table)})"
    _note(reader, "refused", message, f"EXISTS (SELECT 1 FROM {table} AS __k WHERE {same} AND ({differs}))")
