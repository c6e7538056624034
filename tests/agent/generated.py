"""Flows and data made by chance, and what plain DuckDB says that such a flow gives."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

COLUMNS = {"id": "BIGINT", "n": "INTEGER", "amount": "DECIMAL(10,2)", "name": "VARCHAR", "seen": "TIMESTAMP"}
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("n", pa.int32()),
        ("amount", pa.decimal128(10, 2)),
        ("name", pa.string()),
        ("seen", pa.timestamp("us")),
    ]
)
NOT_A_NUMBER = "name IS NOT NULL AND try_cast(name AS INTEGER) IS NULL"
"""For which records `name::integer` cannot be computed."""
DIRTY = "three"
"""What stands in a text file where a number belongs; in `Row.n` it marks such a line."""

FROM, TO = datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2100-01-01")

Row = tuple[int, Any, Decimal | None, str | None, datetime | None]


@dataclass(frozen=True)
class Op:
    """A node's text, and in SQL over its input: the records it sets aside, and what leaves by each port."""

    type: str
    fields: str
    rejected: str = "false"
    ports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Port to (columns, condition), for the records that were not rejected."""


def _map(name: str, text: str, sql: str = "", rejected: str = "false") -> Op:
    columns = f"* REPLACE ({sql or text} AS {name})"
    return Op("map", f"keep: all, fields: {{{name}: {json.dumps(text)}}}", rejected, {"out": (columns, "true")})


def _rules(rules: str, rejected: str) -> Op:
    return Op("validate", f"expectations: [{rules}]", rejected, {"out": ("*", "true")})


NUMBER = "try_cast(name AS INTEGER)"
OPS: tuple[Op, ...] = (
    Op("filter", "where: n > 2", "false", {"out": ("*", "n > 2")}),
    Op("filter", "where: 'name::integer > 1'", NOT_A_NUMBER, {"out": ("*", f"{NUMBER} > 1")}),
    Op("filter", "where: seen is null or amount <> 0", "false", {"out": ("*", "seen IS NULL OR amount <> 0")}),
    _map("n", "coalesce(n, 0) % 7 + 1", "(coalesce(n, 0) % 7 + 1)::INTEGER"),
    _map("n", "name::integer", NUMBER, NOT_A_NUMBER),
    _map("name", "upper(name) || '!'"),
    _map("amount", "round(amount * 0.5, 2)::decimal(10,2)"),
    _map("seen", "seen + interval 1 day"),
    _rules("{expect_column_values_to_not_be_null: {column: name}}", "name IS NULL"),
    _rules(
        "{expect_column_values_to_be_between: {column: amount, min_value: 0, max_value: 50}}",
        "amount IS NOT NULL AND NOT (amount BETWEEN 0 AND 50)",
    ),
    Op(
        "decide",
        "when: {big: amount >= 10, odd: n % 2 = 1}, otherwise: rest",
        "false",
        {
            "big": ("*", "coalesce(amount >= 10, false)"),
            "odd": ("*", "NOT coalesce(amount >= 10, false) AND coalesce(n % 2 = 1, false)"),
            "rest": ("*", "NOT coalesce(amount >= 10, false) AND NOT coalesce(n % 2 = 1, false)"),
        },
    ),
    Op(
        "decide",
        "when: {number: 'name::integer > 0', some: n > 3}",
        f"({NOT_A_NUMBER}) OR NOT (coalesce({NUMBER} > 0, false) OR coalesce(n > 3, false))",
        {
            "number": ("*", f"coalesce({NUMBER} > 0, false)"),
            "some": ("*", f"NOT coalesce({NUMBER} > 0, false) AND coalesce(n > 3, false)"),
        },
    ),
)
SOURCES = ("csv", "jsonl", "parquet", "sqlite")
POSTS = ("file.csv", "file.jsonl", "file.parquet", "parts.csv", "parts.parquet", "sqlite", "duckdb")

NAMES = (
    st.none() | st.sampled_from(["1", "07", " 3 ", "-2", "x", "", "1.5"]) | st.text("ab1\",;\n\r \té'€$", max_size=6)
)
ROWS = st.lists(
    st.tuples(
        st.none() | st.integers(-5, 9) | st.just(DIRTY),
        st.none() | st.decimals(-100, 100, places=2),
        NAMES,
        st.none() | st.datetimes(FROM, TO),
    ),
    max_size=14,
)


@dataclass
class Made:
    """A flow as text, its data, and what is to come of it. Tables of `expected` hold what leaves each port."""

    text: str
    sources: dict[str, tuple[str, list[Row]]]
    expected: duckdb.DuckDBPyConnection
    posts: dict[str, tuple[str, str]]
    """Per post its kind and the expected table."""
    rejected: dict[str, int]
    filtered: dict[str, int]
    has_branches: bool
    """Whether some port feeds two nodes, so that a record may be delivered twice."""


@st.composite
def flows(draw: st.DrawFn) -> Made:
    """Some sources, some nodes on any of the open ports, two open ports merged now and then, and a post on each left."""
    expected = duckdb.connect()
    made = Made("", {}, expected, {}, {}, {}, False)
    lines: list[str] = []
    open_ports: list[tuple[str, str]] = []
    for number in range(draw(st.integers(1, 2))):
        lines.append(_source(draw, made, f"source{number}", 1 + 100 * number))
        open_ports.append((f"source{number}", f"source{number}"))
    for number in range(draw(st.integers(0, 5))):
        name = f"node{number}"
        if len(open_ports) > 1 and draw(st.integers(0, 3)) == 0:
            (one, table), (other, table_2) = open_ports.pop(), open_ports.pop(0)
            lines.append(f"  {name}: {{type: merge, from: [{one}, {other}]}}")
            expected.execute(f"CREATE TABLE {name} AS FROM {table} UNION ALL BY NAME FROM {table_2}")
            made.rejected[name] = made.filtered[name] = 0
            open_ports.append((name, name))
            continue
        place = draw(st.integers(0, len(open_ports) - 1))
        port, table = open_ports[place]
        if draw(st.integers(0, 4)) == 0:
            made.has_branches = True
        else:
            del open_ports[place]
        op = draw(st.sampled_from(OPS))
        lines.append(f"  {name}: {{type: {op.type}, from: {port}, {op.fields}}}")
        open_ports += _applied(made, name, table, op)
    for number, (port, table) in enumerate(open_ports):
        kind, name = draw(st.sampled_from(POSTS)), f"post{number}"
        lines.append(f"  {name}: {{{_post(kind, name, port)}}}")
        made.posts[name] = kind, table
        made.rejected[name] = made.filtered[name] = 0
    settings = f"settings: {{snapshots: {draw(st.sampled_from(['all', 'none', 'auto']))}, batch_rows: {draw(st.integers(1, 20))}}}"
    order = draw(st.permutations(lines))
    made.text = "\n".join(["flow: made", settings, "nodes:", "  start: {type: start}", *order, ""])
    return made


def _source(draw: st.DrawFn, made: Made, name: str, first_id: int) -> str:
    """Draws a source's records, and gives the text of its node."""
    kind, rows = draw(st.sampled_from(SOURCES)), draw(ROWS)
    numbered: list[Row] = [(first_id + index, *row) for index, row in enumerate(rows)]
    if kind in ("parquet", "sqlite"):  # what is typed cannot hold a text where a number belongs
        numbered = [row if row[1] != DIRTY else (row[0], 3, *row[2:]) for row in numbered]
    made.sources[name] = kind, numbered
    made.rejected[name] = sum(row[1] == DIRTY for row in numbered)
    whole = pa.Table.from_pylist([_record(row) for row in numbered if row[1] != DIRTY], SCHEMA)
    made.expected.register("given", whole)
    made.expected.execute(f"CREATE TABLE {name} AS FROM given")
    return f"  {name}: {{{_get(draw, kind, name)}}}"


def _applied(made: Made, name: str, table: str, op: Op) -> list[tuple[str, str]]:
    """Makes the tables of a node's ports, counts what it rejects and filters, and names its open ports."""
    expected = made.expected
    made.rejected[name] = _count(expected, f"FROM {table} WHERE {op.rejected}")
    left, found = _count(expected, f"FROM {table}") - made.rejected[name], []
    for port, (columns, condition) in op.ports.items():
        to = name if port == "out" else f"{name}_{port}"
        expected.execute(
            f"CREATE TABLE {to} AS SELECT {columns} FROM {table} WHERE ({op.rejected}) IS NOT TRUE AND ({condition})"
        )
        left -= _count(expected, f"FROM {to}")
        found.append((name if port == "out" else f"{name}.{port}", to))
    made.filtered[name] = left
    return found


def _count(connection: duckdb.DuckDBPyConnection, rest: str) -> int:
    return int(connection.sql(f"SELECT count(*) {rest}").fetchall()[0][0])


def _get(draw: st.DrawFn, kind: str, name: str) -> str:
    columns = ", ".join(f"{column}: {json.dumps(kind_of)}" for column, kind_of in COLUMNS.items())
    if kind == "sqlite":
        cursor = draw(st.sampled_from(["cursor: id", "cursor: id, key: id"]))
        return f"type: sqlite.get, from: start, connection: lite, table: {name}, {cursor}, columns: {{{columns}}}"
    split = f", split_bytes: {draw(st.sampled_from([1, 60, 1000]))}" if kind != "parquet" else ""
    return f"type: file.get, from: start, path: {name}.{kind}, once: true{split}, columns: {{{columns}}}"


def _post(kind: str, name: str, port: str) -> str:
    what, _, suffix = kind.partition(".")
    if what == "file":
        return f"type: file.post, from: {port}, path: out/{name}.{suffix}"
    if what == "parts":
        return f"type: file.post, from: {port}, path: out/{name}/, format: {suffix}"
    return f"type: {what}.post, from: {port}, connection: {'lite' if what == 'sqlite' else 'duck'}, table: {name}"


def _record(row: Row) -> dict[str, Any]:
    return dict(zip(COLUMNS, row, strict=True))


def environment(workers: int) -> str:
    """The environment that made flows run in."""
    return (
        f"environment: local\nrunner: {{name: direct, workers: {workers}}}\nconnections:\n"
        "  lite: {adapter: sqlite, path: lite.db}\n  duck: {adapter: duckdb, path: duck.db}\n"
    )


def lay_out(made: Made, folder: Path) -> None:
    """Writes the sources' files and tables."""
    with closing(sqlite3.connect(folder / "lite.db")) as lite, lite:
        lite.execute("CREATE TABLE whatever (id INTEGER)")
        for name, (kind, rows) in made.sources.items():
            if kind == "sqlite":
                lite.execute(
                    f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, n INTEGER, amount NUMERIC, name TEXT, seen TEXT)"
                )
                values = [
                    (i, n, None if a is None else float(a), s, at and at.isoformat(" ")) for i, n, a, s, at in rows
                ]
                lite.executemany(f"INSERT INTO {name} VALUES (?, ?, ?, ?, ?)", values)
            elif kind == "parquet":
                table = pa.Table.from_pylist([_record(row) for row in rows], SCHEMA)
                pq.write_table(table, folder / f"{name}.parquet", row_group_size=3)
            else:
                text = _csv(rows) if kind == "csv" else _jsonl(rows)
                (folder / f"{name}.{kind}").write_bytes(text.encode())


def _csv(rows: Sequence[Row]) -> str:
    lines = [",".join(COLUMNS), *(",".join(map(_cell, row)) for row in rows)]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"' if value != DIRTY else value
    return "" if value is None else str(value)


def _jsonl(rows: Sequence[Row]) -> str:
    records = [{name: _plain(value) for name, value in _record(row).items()} for row in rows]
    return "".join(json.dumps(record) + "\n" for record in records)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, datetime) else value


def delivered(kind: str, name: str, folder: Path) -> list[tuple[Any, ...]]:
    """What a post has left at its target, as records in order."""
    what, _, suffix = kind.partition(".")
    if what == "sqlite":
        with closing(sqlite3.connect(folder / "lite.db")) as lite:
            there = lite.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [name]).fetchone()
            return sorted_rows(lite.execute(f"SELECT {', '.join(COLUMNS)} FROM {name}").fetchall() if there else [])
    if what == "duckdb":
        if not (folder / "duck.db").exists():
            return []
        with duckdb.connect(folder / "duck.db", read_only=True) as duck:
            there = duck.sql(f"SELECT 1 FROM duckdb_tables() WHERE table_name = '{name}'").fetchall()
            return sorted_rows(duck.sql(f"SELECT {', '.join(COLUMNS)} FROM {name}").fetchall() if there else [])
    paths = [folder / f"out/{name}.{suffix}"] if what == "file" else sorted((folder / "out" / name).glob(f"*.{suffix}"))
    files = [str(path) for path in paths if path.exists()]
    if not files:
        return []
    read = {
        "csv": f"read_csv({files}, header = true, columns = {COLUMNS}, allow_quoted_nulls = false, auto_detect = false, quote = '\"', escape = '\"', delim = ',', parallel = false, new_line = '\\n')",
        "jsonl": f"read_json({files}, format = 'newline_delimited', columns = {COLUMNS})",
        "parquet": f"read_parquet({files})",
    }[suffix]
    with duckdb.connect() as reader:
        return sorted_rows(reader.sql(f"SELECT {', '.join(COLUMNS)} FROM {read}").fetchall())


def sorted_rows(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Records as comparable values, in an order of their own."""
    found = [(id_, n, _amount(amount), name, _moment(seen)) for id_, n, amount, name, seen in rows]
    return sorted(found, key=repr)


def _amount(value: object) -> str | None:
    return None if value is None else str(Decimal(str(value)).quantize(Decimal("0.01")) + 0)


def _moment(value: Any) -> str | None:
    """A time as text, whether a target has it as a time or as text."""
    return None if value is None else datetime.fromisoformat(str(value)).isoformat(" ")
