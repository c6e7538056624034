"""The views of the lake as SQL, made from the manifests alone: no file is opened to learn its columns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository.columns import Columns, common_columns, literal, quoted, sql_type
from repository.manifest import File, Manifest
from repository.tables import REPORTED, TABLES

CAST_TYPES = frozenset({"INTERVAL", "TIMESTAMP_S", "TIMESTAMP_MS", "JSON", "NULL"})
"""Types that Parquet keeps as another one."""


@dataclass(frozen=True)
class View:
    """A view: its schema (empty: none), its name, its SELECT, and the files it reads."""

    schema: str
    name: str
    select: str
    files: tuple[str, ...]

    @property
    def create(self) -> str:
        place = f"{quoted(self.schema)}.{quoted(self.name)}" if self.schema else quoted(self.name)
        return f"CREATE OR REPLACE VIEW {place} AS {self.select}"


class Views:
    """The views over a root, each made when it is asked for."""

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self._root = root
        self._manifest = manifest

    def names(self) -> list[str]:
        """Every view as a query writes it."""
        return [*TABLES, *(f"{_plain(flow)}.{_plain(node)}" for flow, node in self._typed_names())]

    def find(self, name: Sequence[str]) -> View | None:
        """The view of a name's parts, which match as SQL's do: without regard to case."""
        if len(name) == 1:
            table = name[0].lower()
            return self._table(table) if table in TABLES else None
        if len(name) != 2:
            return None
        names = list(self._typed_names())
        wanted = (name[0], name[1])
        if wanted not in names:
            lower = (name[0].lower(), name[1].lower())
            close = [one for one in names if (one[0].lower(), one[1].lower()) == lower]
            if not close:
                return None
            wanted = close[0]
        return self._typed(*wanted)

    def make(self, connection: Any, views: Sequence[View]) -> None:
        """Makes views in a database, with the schemas and the tables of ours that they need."""
        for view in views:
            if view.name in REPORTED and not view.schema:
                rows = [row for commit in self._manifest.commits for row in commit.rows.get(view.name, ())]
                connection.execute(_recent_table(view.name), [json.dumps(rows)])
            if view.schema:
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(view.schema)}")
            connection.execute(view.create)

    def _typed_names(self) -> Iterator[tuple[str, str]]:
        seen: dict[tuple[str, str], None] = {}
        for commit in self._manifest.commits:
            for file in commit.files:
                for name in file.payloads:
                    if file.table == "records":
                        seen[commit.flow, name.removesuffix(".out")] = None
                    elif file.table == "rejects":
                        seen[commit.flow, f"{name}.rejected"] = None
        return iter(seen)

    def _table(self, table: str) -> View:
        files = list(self._manifest.files(table))
        if table in REPORTED:
            return self._reported(table)
        if not files:
            return View("", table, _empty(TABLES[table]), ())
        if table == "deliveries":
            select = _deliveries(self._read(files))
        elif table == "parents":
            columns = 'run, flow, version, node, rid, unnest(parents) AS parent, "count" AS parents'
            select = f"SELECT {columns} FROM {self._read(files)}"
        elif table == "replays":
            select = f'SELECT run, flow, version, node, unnest(rids) AS rid, "of" FROM {self._read(files)}'
        elif table == "transactions":
            select = _transactions(self._read(files))
        else:
            groups = _grouped(files, lambda file: json.dumps(file.payloads))
            select = " UNION ALL ".join(_payloads(table, group, self._read(group)) for group in groups)
        return View("", table, select, self._paths(files))

    def _reported(self, table: str) -> View:
        """Rows of manifests stand in a table of ours; those of merged ones in Parquet."""
        columns = ", ".join(f"{quoted(name)}::{kind} AS {quoted(name)}" for name, kind in TABLES[table].items())
        select = f"SELECT * FROM {quoted('recent ' + table)}"
        merged = [str(self._root / name) for name in self._manifest.merged[table]]
        if merged:
            read = f"SELECT * FROM read_parquet({_list(merged)}, union_by_name = true)"
            rows = f"{_empty(TABLES[table])} UNION ALL BY NAME {read}"  # what older files lack is null
            select = f"SELECT {columns} FROM ({rows}) UNION ALL {select}"
        return View("", table, select, tuple(merged))

    def _typed(self, flow: str, view: str) -> View:
        table, payload = "records", view
        if view.endswith(".rejected"):
            table, payload = "rejects", view.removesuffix(".rejected")
        node, _, port = payload.partition(".")
        name = payload if table == "rejects" or port else f"{node}.out"
        files = [file for file in self._manifest.files(table, flow) if name in file.payloads]
        groups = _grouped(files, lambda file: json.dumps(file.payloads[name]))
        columns = common_columns([group[0].payloads[name] for group in groups])
        where = f"node = {literal(node if table == 'records' else payload)}"
        if table == "records":
            where += f" AND port = {literal(port or 'out')}"
        selects = [
            f"SELECT {typed_columns(name, group[0].payloads[name], columns, table)} FROM {self._read(group)} WHERE {where}"
            for group in groups
        ]
        return View(flow, view, " UNION ALL ".join(selects), self._paths(files))

    def _read(self, files: Sequence[File]) -> str:
        return f"read_parquet({_list(self._paths(files))}, hive_partitioning = false)"

    def _paths(self, files: Sequence[File]) -> tuple[str, ...]:
        return tuple(str(self._root / file.path) for file in files)


def _recent_table(table: str) -> str:
    """SQL that makes the table of rows that stand in manifests, from one JSON text."""
    shape = json.dumps([TABLES[table]])
    return f"CREATE OR REPLACE TABLE {quoted('recent ' + table)} AS SELECT unnest(from_json(?, {literal(shape)}), max_depth := 2)"


def _plain(name: str) -> str:
    return name if name.replace("_", "a").isalnum() and name.islower() and not name[0].isdigit() else quoted(name)


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(literal(text) for text in texts) + "]"


def _empty(columns: Mapping[str, str]) -> str:
    nulls = ", ".join(f"NULL::{kind} AS {quoted(name)}" for name, kind in columns.items())
    return f"SELECT {nulls} WHERE false"


def _grouped(files: Sequence[File], key: object) -> list[list[File]]:
    """The files that are read together, as they have the same columns."""
    groups: dict[str, list[File]] = {}
    for file in files:
        groups.setdefault(key(file), []).append(file)  # type: ignore[operator]
    return list(groups.values())


def _deliveries(source: str) -> str:
    return (
        "SELECT run, flow, version, node, unnest(rids) AS rid, unnest(keys) AS key, unnest(ids) AS id, "
        f'status, attempt, milliseconds, "at" FROM {source}'
    )


def _transactions(source: str) -> str:
    return (
        'SELECT run, flow, version, row_number() OVER (PARTITION BY run ORDER BY "at", part, number) AS seq, '
        f'"at", node, what, details::JSON AS details FROM {source}'
    )


def _payloads(table: str, files: Sequence[File], source: str) -> str:
    head = ", ".join(quoted(name) for name in TABLES[table] if name != "payload")
    return f"SELECT {head}, {payload_text(files[0].payloads)} AS payload FROM {source}"


def payload_text(payloads: Mapping[str, Columns]) -> str:
    """SQL that gives the payload of a row as JSON, whichever of a file's it has."""
    texts = [f"to_json({_whole(name, columns)})" for name, columns in payloads.items()]
    return f"coalesce({', '.join(texts)})" if len(texts) > 1 else texts[0]


def _whole(name: str, columns: Columns) -> str:
    """A payload as it was, for JSON: cast only where Parquet keeps another type."""
    if not columns:
        return f"CASE WHEN {quoted(name)} IS NOT NULL THEN MAP {{}} END"
    if not any(_is_cast(kind) for _, kind in columns):
        return quoted(name)
    return f"CAST({quoted(name)} AS {sql_type(['struct', columns])})"


def _is_cast(kind: object) -> bool:
    if isinstance(kind, list):
        return kind[0] == "array" or any(_is_cast(inner) for inner in kind[1:])
    return kind in CAST_TYPES


def payload_columns(name: str, present: Columns, wanted: Columns) -> list[str]:
    """The payload's columns as they were, null where this payload lacks one."""
    known = {column.lower(): column for column, _ in present}
    parts = []
    for column, kind in wanted:
        own = known.get(column.lower())
        value = f"struct_extract({quoted(name)}, {literal(own)})" if own else "NULL"
        parts.append(f"CAST({value} AS {sql_type(kind)}) AS {quoted(column)}")
    return parts


def typed_columns(name: str, present: Columns, wanted: Columns, table: str) -> str:
    """The payload's columns, then the run and the row id."""
    parts = payload_columns(name, present, wanted)
    taken = {column.lower() for column, _ in wanted}
    extra = {"reject_node": "node", "reject_code": "code", "reject_message": "message"} if table == "rejects" else {}
    for shown, source in {**extra, "run": "run", "rid": "rid"}.items():
        parts.append(f"{quoted(source)} AS {quoted(f'_{shown}' if shown in taken else shown)}")
    return ", ".join(parts)
