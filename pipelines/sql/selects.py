"""What wide nodes share when they make their SELECT: columns that must be there, measures spelled out, orders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.node import Report
from pipelines.scope import Scope
from pipelines.sql.literals import literal, name_of
from pipelines.sql.parsed import parse
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.wording import explained, one_line

if TYPE_CHECKING:
    from pipelines.node import Wide


def columns_there(names: Iterable[str], schema: pa.Schema, at: tuple[str, ...], report: Report) -> bool:
    """Whether all these columns are there; reports those that are not."""
    missing = [name for name in names if name not in schema.names]
    for name in missing:
        close = get_close_matches(name, schema.names, 1)
        fix = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(schema.names)}"
        report(at, f"no column {name!r}", fix)
    return not missing


def ways_of(names: Iterable[str], *, turned: bool = False) -> list[tuple[str, str]]:
    """Columns and how each is sorted: `-` before a name, or `turned`, sorts from the largest down; nulls last."""
    return [
        (name.removeprefix("-"), f"{'DESC' if name.startswith('-') != turned else 'ASC'} NULLS LAST") for name in names
    ]


def order_of(names: Iterable[str], *, turned: bool = False) -> str:
    """What stands behind ORDER BY, as `ways_of` says."""
    return ", ".join(f"{name_of(name)} {way}" for name, way in ways_of(names, turned=turned))


def spelled(expressions: Mapping[str, str], schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> dict[str, str]:
    """Expressions with parameters and the run's start put in as constants."""
    found = parse(expressions.values(), sandbox)
    return {name: each.spelled(schema, scope.values, scope.now) for name, each in zip(expressions, found, strict=True)}


def described_or_reported(
    config: Wide,
    schemas: Mapping[str, pa.Schema],
    scope: Scope,
    sandbox: Sandbox,
    report: Report,
    at: tuple[str, ...],
    expressions: Mapping[str, str],
) -> pa.Schema | None:
    """The columns that a wide node gives, or None where its expressions do not bind: each is reported at its place."""
    from pipelines.wide import described

    columns = [name for schema in schemas.values() for name in schema.names]
    is_sound = True
    for (name, _), each in zip(expressions.items(), parse(expressions.values(), sandbox), strict=True):
        wrong = [(each.what, each.fix)] if each.what else list(each.missing(scope.values))
        for what, fix in wrong:
            report((*at, name), what, fix)
            is_sound = False
    if not is_sound:
        return None
    try:
        return described(config, schemas, config.query(schemas, scope, sandbox), sandbox)
    except duckdb.Error as fault:
        what, fix = explained(str(fault), columns)
        report(at, what, fix)
    except Invalid as fault:
        report(at, str(fault))
    return None


def bound_query(text: str, scope: Scope) -> str:
    """A whole SELECT with `$name` put in as constants where DuckDB's scanner finds parameters.

    Raises:
        Invalid: it is not one SELECT, or names a parameter that is not there.
    """
    try:
        statements = duckdb.extract_statements(text)
    except duckdb.Error as fault:
        raise Invalid(one_line(str(fault))) from fault
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise Invalid("is not one SELECT; write a single query, without `;` behind it")
    names = sorted(statements[0].named_parameters, key=len, reverse=True)
    for name in names:
        if name not in scope.values:
            there = ", ".join(scope.values) or "none"
            raise Invalid(f"there is no parameter ${name}; there are: {there}")
    return _with_values(text, {name: literal(scope.values[name]) for name in names})


_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w+)", re.DOTALL)
"""Texts, quoted names and comments, in which nothing is a parameter; and parameters."""


def _with_values(text: str, values: Mapping[str, str]) -> str:
    return _TOKENS.sub(lambda found: values.get(found[1] or "", found[0]), text)


def reported_query(
    config: Wide, text: str, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox, report: Report
) -> pa.Schema | None:
    """The columns that a whole SELECT gives, or None where it does not bind, which is reported."""
    from pipelines.wide import described

    try:
        bound_query(text, scope)
        return described(config, schemas, config.query(schemas, scope, sandbox), sandbox)
    except Invalid as fault:
        report(("query",), str(fault))
    except duckdb.Error as fault:
        what, fix = explained(str(fault), [name for schema in schemas.values() for name in schema.names])
        report(("query",), what, fix)
    return None
