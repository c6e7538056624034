"""What the values of a port look like, column by column: nulls, distinct values, range, middle, the most frequent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository.columns import common_columns, literal, quoted, sql_type
from repository.kept import Kept
from repository.opening import opened, read_files
from repository.views import payload_columns

TOP = 5
SHOWN_CHARACTERS = 200
ORDERED = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
    "FLOAT",
    "DOUBLE",
)


@dataclass(frozen=True)
class Column:
    """What was found of a column. Values are text, as DuckDB writes them; `mean` and quartiles are those of numbers."""

    column: str
    type: str
    nulls: int
    distinct: int
    """About how many values there are besides null."""
    least: str | None
    most: str | None
    mean: float | None
    quartiles: list[float] | None
    top: list[dict[str, Any]]
    """The most frequent values, each with how often it is there."""


def profile(root: Path, run: str, place: str) -> tuple[int, list[Column]]:
    """How many records a run has kept at a place (`node.port`), and what their columns look like."""
    parts = Kept(root).parts(run, place)
    columns = common_columns([columns for _, columns in parts])
    paths = [path for some, _ in parts for path in some]
    node, _, port = place.rpartition(".")
    name, where = place, f"node = {literal(node)} AND port = {literal(port)}"
    if port == "rejected":
        name, where = node, f"node = {literal(node)}"
    with opened(paths) as connection:
        selects = [
            f"SELECT {', '.join(payload_columns(name, own, columns))} FROM {read_files(some, run)} WHERE {where}"
            for some, own in parts
        ]
        connection.execute(f"CREATE TEMP TABLE records AS {' UNION ALL '.join(selects)}")
        rows = connection.sql("SELECT count(*) FROM records").fetchall()[0][0]
        return rows, [_column(connection, name, kind) for name, kind in columns]


def _column(connection: Any, name: str, kind: Any) -> Column:
    column, is_number = quoted(name), isinstance(kind, str) and (kind in ORDERED or kind.startswith("DECIMAL"))
    numbers = (
        f"avg({column})::DOUBLE, quantile_cont({column}::DOUBLE, [0.25, 0.5, 0.75])" if is_number else "NULL, NULL"
    )
    has_order = isinstance(kind, str) and kind not in ("JSON", "NULL", "BOOLEAN")
    ends = f"left(min({column})::VARCHAR, {SHOWN_CHARACTERS}), left(max({column})::VARCHAR, {SHOWN_CHARACTERS})"
    found = connection.sql(
        f"SELECT count(*) - count({column}), approx_count_distinct({column}::VARCHAR), "
        f"{ends if has_order else 'NULL, NULL'}, {numbers} FROM records"
    ).fetchall()[0]
    top = connection.sql(
        f"SELECT left({column}::VARCHAR, {SHOWN_CHARACTERS}) AS value, count(*) AS n FROM records "
        f"WHERE {column} IS NOT NULL GROUP BY value ORDER BY n DESC, value LIMIT {TOP}"
    ).fetchall()
    nulls, distinct, least, most, mean, quartiles = found
    return Column(
        name,
        sql_type(kind),
        nulls,
        distinct,
        least,
        most,
        mean,
        quartiles,
        [{"value": value, "records": count} for value, count in top],
    )
