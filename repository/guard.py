"""What a query may say: one SELECT over the lake's views, and no function that reaches anything else."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import Invalid

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "repeat", "repeat_row", "json_each", "json_tree"})
"""The table functions that compute from their arguments alone."""
LISTED_NAMES = 20
"""How many names a message lists beside the likeliest one."""
SQL_WORDS = ("at", "in")
"""Columns of our views that a query must quote."""

Name = tuple[str, ...]
"""A table as the query names it: its parts."""


@dataclass(frozen=True)
class Asked:
    """What a query asks for."""

    tables: tuple[Name, ...]
    perhaps: tuple[Name, ...]
    """Names that a WITH of the query gives: inside of that WITH they may still mean a table."""
    wants_list: bool
    """Whether it asks which tables there are (`SHOW TABLES`)."""


def asked(connection: Any, sql: str) -> Asked:
    """The tables a query names. `Invalid` where it is anything but one SELECT that stays inside the lake."""
    _only_one_select(connection, sql)
    answer = connection.execute("SELECT json_serialize_sql(?::VARCHAR, skip_default := true)", [sql]).fetchone()
    try:
        tree = json.loads(answer[0])
    except RecursionError as fault:
        raise Invalid("the query is nested too deeply; write it with fewer levels") from fault
    if tree.get("error"):
        raise Invalid(
            f"the query cannot be read: {tree.get('error_message', 'unknown reason')}; write it as one SELECT"
        )
    nodes = list(_dicts(tree))
    own = {entry["key"].lower() for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())}
    tables: dict[Name, None] = {}
    wants_list = False
    for node in nodes:
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            _allowed_function(node)
        elif kind == "SHOW_REF" and "query" not in node:
            wants_list = _shows_tables(node)
        elif kind == "BASE_TABLE":
            tables[tuple(node.get("qualified_name", {}).get("path") or (node["table_name"],))] = None
    is_own = {name: len(name) == 1 and name[0].lower() in own for name in tables}
    needed, perhaps = ([name for name in tables if is_own[name] is side] for side in (False, True))
    return Asked(tuple(needed), tuple(perhaps), wants_list)


def unknown_table(name: Name, there: Sequence[str]) -> Invalid:
    """The problem that no view has the name."""
    said = ".".join(part if re.fullmatch(r"[a-z_]\w*", part) else f'"{part}"' for part in name)
    return Invalid(f"there is no table {said}; {listed(said, there)}")


def listed(name: str, there: Sequence[str]) -> str:
    """What is there instead of `name`: the likeliest, then all or the first."""
    by_name = {one.lower(): one for one in there}
    by_end = {one.rsplit(".", 1)[-1].strip('"').lower(): one for one in there}
    end = name.rsplit(".", 1)[-1].strip('"').lower()
    near = difflib.get_close_matches(name.lower(), by_name, 1, 0.6)
    ends = difflib.get_close_matches(end, by_end, 1, 0.7)
    likely = by_end.get(end) or (by_name[near[0]] if near else by_end[ends[0]] if ends else None)
    hint = f"did you mean {likely}? " if likely else ""
    rest = f" and {len(there) - LISTED_NAMES} more" if len(there) > LISTED_NAMES else ""
    return f"{hint}there are: {', '.join(there[:LISTED_NAMES]) or 'none'}{rest}"


def _only_one_select(connection: Any, sql: str) -> None:
    try:
        statements = connection.extract_statements(sql)
    except Exception as fault:
        raise Invalid(plain_message(str(fault)) + _quoting(sql)) from fault
    if len(statements) != 1:
        raise Invalid(f"a query is one SELECT, this has {len(statements)} statements; run them one by one")
    kind = statements[0].type.name
    if kind != "SELECT":
        what = "PIVOT statement" if kind == "MULTI" else f"{kind} statement"
        fix = "write it with GROUP BY and FILTER" if kind == "MULTI" else "queries only read: write a SELECT"
        raise Invalid(f"a query is one SELECT, this is a {what}; {fix}")


def plain_message(text: str) -> str:
    """DuckDB's message as one line, with the place where it names one."""
    first, _, rest = text.partition("\n")
    what = first.split("Error: ", 1)[-1].rstrip("!")
    place = re.search(r"LINE (\d+): ", rest)
    near = re.match(r"Did you mean (\S+?)\??$", rest, re.MULTILINE)
    what = f"line {place[1]}: {what}" if place else what
    return f"{what}; did you mean {near[1]}?" if near else what


def _quoting(sql: str) -> str:
    """What to do where the fault may be a column of ours whose name is a word of SQL."""
    bare = [word for word in SQL_WORDS if re.search(rf'(?<![".\w]){word}(?![".\w])', sql, re.IGNORECASE)]
    return "; as columns, write " + ", ".join(f'"{word}"' for word in bare) if bare else ""


def _allowed_function(node: dict[str, Any]) -> None:
    function = node.get("function", {})
    name = function.get("function_name", "")
    if name.lower() not in TABLE_FUNCTIONS:
        there = ", ".join(sorted(TABLE_FUNCTIONS))
        raise Invalid(f"the table function {name!r} is not allowed in a query; allowed are: {there}")


def _shows_tables(node: dict[str, Any]) -> bool:
    if str(node.get("table_name", "")).strip('"') not in {"tables", "__show_tables_expanded"}:
        raise Invalid("a query may DESCRIBE a table or SHOW TABLES, not show settings; write a SELECT")
    return True


def _dicts(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of the tree, however deep."""
    left = [tree]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            yield value
            left.extend(reversed(value.values()))
        elif isinstance(value, list):
            left.extend(reversed(value))
