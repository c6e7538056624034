"""What DuckDB's own parser says of an expression: what it uses, where, and whether it is one scalar expression."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.sql.literals import literal, name_of
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.wording import one_line

REMEMBERED = 4096
HEAD = "SELECT "

CLOCK: Mapping[str, Callable[[datetime], object]] = {
    **dict.fromkeys(("now", "get_current_timestamp", "transaction_timestamp", "current_timestamp"), lambda now: now),
    **dict.fromkeys(("localtimestamp", "current_localtimestamp"), lambda now: now.replace(tzinfo=None)),
    **dict.fromkeys(("today", "current_date"), datetime.date),
    **dict.fromkeys(("current_time", "get_current_time"), datetime.timetz),
    **dict.fromkeys(("localtime", "current_localtime"), datetime.time),
}
"""What tells the time in DuckDB; in a flow each tells the run's start, in UTC."""

REFUSED = {
    "SUBQUERY": ("is a query in itself", "an expression sees one record; for a query over records use the node `sql`"),
    "WINDOW": ("uses a window function", "an expression sees one record; for a query over records use the node `sql`"),
    "STAR": ("uses * or COLUMNS", "name the columns, or keep them with `keep`"),
    "POSITIONAL_REFERENCE": ("refers to a column by number", "name the column"),
    "DEFAULT": ("uses DEFAULT", "write the value"),
}

A_STATEMENT = ("is a statement, not an expression", "write only what gives the value")


@dataclass(frozen=True)
class Mention:
    """A name that an expression mentions, and the bytes of its text where it stands."""

    path: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Parsed:
    """An expression taken apart by DuckDB's parser."""

    text: str
    what: str = ""
    """What is wrong with it as a single scalar expression; empty: nothing."""
    fix: str = ""
    names: tuple[Mention, ...] = ()
    """Columns with their path, and the parameters of lambdas, which look the same."""
    parameters: tuple[Mention, ...] = ()
    clocks: tuple[Mention, ...] = ()
    ages: tuple[Mention, ...] = ()
    """Calls of `age` with one argument, which is the time until today."""
    is_name: bool = False
    """Whether it is a column's name and nothing else."""

    def columns(self, schema: pa.Schema) -> frozenset[str]:
        """The columns of `schema` that it uses (perhaps more: a lambda's parameter of the same name)."""
        found = (column_called(mention.path[0], schema) for mention in self.names)
        return frozenset(name for name in found if name is not None)

    def column(self, schema: pa.Schema) -> str | None:
        """The column it is, where it is a column and nothing else."""
        return column_called(self.names[0].path[0], schema) if self.is_name else None

    def spelled(self, schema: pa.Schema, values: Mapping[str, object], now: datetime) -> str:
        """Its text with parameters and clock as typed constants."""
        now = now.astimezone(UTC)
        changes = [(each.start, each.end, literal(values[each.path[0]])) for each in self.parameters]
        changes += [(each.start, each.end, literal(CLOCK[each.path[0]](now))) for each in self.clocks]
        for each in self.names:
            name = each.path[0].lower()
            if len(each.path) == 1 and name in CLOCK and column_called(name, schema) is None:
                changes.append((each.start, each.end, literal(CLOCK[name](now))))
        for each in self.ages:
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
            changes.append((each.end, each.end, f"{literal(midnight)}, "))
        return _changed(self.text, changes)

    def missing(self, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """What is wrong and what would be right for each `$name` that nothing is known of."""
        for name in dict.fromkeys(mention.path[0] for mention in self.parameters):
            if name not in values:
                close = get_close_matches(name, values, 1)
                there = ", ".join(f"${known}" for known in sorted(values)) or "none"
                fix = f'did you mean "${close[0]}"?' if close else f"there are: {there}"
                yield f'no parameter or variable "${name}"', fix


def column_called(name: str, schema: pa.Schema) -> str | None:
    """The column that DuckDB means by a name: exactly so, else whatever its case."""
    if schema.get_field_index(name) >= 0:
        return name
    folded = name.lower()
    return next((column for column in schema.names if column.lower() == folded), None)


def parse(texts: Iterable[str], sandbox: Sandbox) -> list[Parsed]:
    """Each text taken apart; what is no single scalar expression says what is wrong with it."""
    texts = list(texts)
    known = sandbox.remembered
    new = [text for text in dict.fromkeys(texts) if ("parsed", text) not in known]
    if len(known) + len(new) > REMEMBERED:
        known.clear()
        new = list(dict.fromkeys(texts))
    if new:
        # once as it stands, which shows a list or a clause, once in parentheses, as it will be used
        queries = [f"{HEAD}{text}" for text in new] + [f"{HEAD}({text}\n)" for text in new]
        trees = sandbox.fetch("SELECT json_serialize_sql(query) FROM unnest($1) AS q(query)", [queries])
        for number, text in enumerate(new):
            known["parsed", text] = _parsed(text, *(json.loads(str(trees[i][0])) for i in (number, number + len(new))))
    return [found for text in texts if isinstance(found := known["parsed", text], Parsed)]


def _parsed(text: str, plain: dict[str, Any], enclosed: dict[str, Any]) -> Parsed:
    if not text.strip():
        return Parsed(text, "is empty", "write an expression, such as a column's name")
    if plain["error"]:
        return _unread(text, plain["error_message"])
    node = plain["statements"][0]["node"]
    clauses = ("modifiers", "where_clause", "group_expressions", "having", "sample", "qualify")
    if (
        len(plain["statements"]) > 1
        or node["type"] != "SELECT_NODE"
        or node["from_table"]["type"] != "EMPTY"
        or any(node[clause] for clause in clauses)
    ):
        return Parsed(text, *A_STATEMENT)
    items = node["select_list"]
    if len(items) > 1:
        return Parsed(text, f"gives {len(items)} values", "write one expression")
    if items[0]["alias"]:
        return Parsed(text, f"names its result {items[0]['alias']!r}", "leave that out, the field has a name")
    if enclosed["error"]:
        return _unread(text, enclosed["error_message"])
    return _taken_apart(text, items[0])


def _unread(text: str, error: str) -> Parsed:
    if error.startswith("Only SELECT statements"):
        return Parsed(text, *A_STATEMENT)
    what = f"is no expression of DuckDB's SQL: {one_line(error)}"
    return Parsed(text, what, 'a column called like a word of SQL stands in double quotes, such as "order"')


def _taken_apart(text: str, tree: dict[str, Any]) -> Parsed:
    found: dict[str, list[Mention]] = {"names": [], "parameters": [], "clocks": [], "ages": []}
    for node in _nodes(tree):
        if node["class"] in REFUSED:
            return Parsed(text, *REFUSED[node["class"]])
        if node["class"] == "FUNCTION" and node["function_name"].lower() in ("unnest", "unlist"):
            return Parsed(text, "makes several records of one", "for a record per element use the node `split`")
        if node["class"] == "PARAMETER" and node["identifier"].isdigit():
            return Parsed(text, "uses a parameter by number", "name it, such as $since")
        _note(text, node, found)
    is_name = tree["class"] == "COLUMN_REF" and len(tree["column_names"]) == 1
    once = {kind: tuple(dict.fromkeys(each)) for kind, each in found.items()}
    return Parsed(text, "", "", once["names"], once["parameters"], once["clocks"], once["ages"], is_name)


def _note(text: str, node: dict[str, Any], found: dict[str, list[Mention]]) -> None:
    start = node["query_location"] - len(HEAD)
    end = start + node["query_location_length"]
    if node["class"] == "COLUMN_REF":
        found["names"].append(Mention(tuple(node["column_names"]), start, end))
    elif node["class"] == "PARAMETER":
        found["parameters"].append(Mention((node["identifier"],), start, end))
    elif node["class"] == "FUNCTION":
        name, path = node["function_name"].lower(), node["qualified_name"]["path"]
        if len(path) > 1:  # the column of a call such as items.len()
            found["names"].append(Mention(tuple(path[:-1]), start, start))
        if name in CLOCK and not node["arguments"]:
            found["clocks"].append(Mention((name,), start, end))
        opened = re.match(rb"age\s*\(", text.encode()[max(start, 0) :], re.IGNORECASE)
        if name == "age" and len(node["arguments"]) == 1 and opened and len(path) == 1:
            found["ages"].append(Mention((name,), start, start + opened.end()))


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _changed(text: str, changes: list[tuple[int, int, str]]) -> str:
    raw = text.encode()
    for start, end, new in sorted(set(changes), reverse=True):
        if not 0 <= start <= end <= len(raw):
            raise Invalid(f"{text!r}: DuckDB does not say where its parameters stand; write it more plainly")
        raw = raw[:start] + new.encode() + raw[end:]
    return raw.decode()


def enclosed(text: str, name: str) -> str:
    """The expression as an item of a SELECT list, called `name`; a comment at its end does no harm."""
    return f"({text}\n) AS {name_of(name)}"
