"""Judges the rules of a `validate` node over all records of a run, from the parts its threads left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import duckdb
import pyarrow as pa

from pipelines.errors import Failed
from pipelines.node import Part
from pipelines.quality.aggregates import JUDGES, SPILLED, judge, mostly_met
from pipelines.quality.checks import when_columns, when_of
from pipelines.quality.conditions import bounds_said, shown_values
from pipelines.quality.findings import Finding
from pipelines.quality.foreign import validate
from pipelines.quality.rules import Rule
from pipelines.quality.shapes import judge_shape, within
from pipelines.scope import Scope
from pipelines.sql.literals import literal, name_of

SEVERITY: Mapping[str, Literal["error", "warning", "info"]] = {
    "critical": "error",
    "warning": "warning",
    "info": "info",
}


def findings(rules: Sequence[Rule], parts: Sequence[Part], schema: pa.Schema, scope: Scope) -> Iterator[Finding]:
    """One finding for each rule, in their order; `schema` is that of the records as they were judged."""
    whens = when_columns(rules)
    whole = [rule for rule in rules if rule.place == "whole"]
    with _spilled(parts, schema, whens, scope) if whole else _nothing() as connection:
        for number, rule in enumerate(rules):
            if rule.place == "schema":
                met, said = judge_shape(rule, schema)
                yield Finding(_named(rule), met, None, f"{said} ({rule.name})", SEVERITY[rule.severity])
            elif rule.place == "whole":
                yield _whole(rule, schema, when_of(rule, whens), connection, scope)
            else:
                yield _counted(rule, *_total(number, parts))


@contextmanager
def _nothing() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(":memory:")
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _spilled(
    parts: Sequence[Part], schema: pa.Schema, whens: Mapping[str, str], scope: Scope
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that sees the spilled files as the relation `spilled`, and nothing else of the machine."""
    runner = scope.environment.runner
    files = [part.payload["file"] for part in parts if part.payload["file"]]
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": runner.workers,
            "memory_limit": f"{runner.memory_bytes // 2}B",
            "temp_directory": str(scope.staging / "checked"),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        listed = f"[{', '.join(map(literal, files))}]"
        connection.execute(f"SET TimeZone = 'UTC'; SET allowed_paths = {listed if files else '[]'}")
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        if files:
            connection.execute(f"CREATE VIEW {SPILLED} AS FROM read_parquet({listed})")
        else:
            fields = [*schema, *(pa.field(name, pa.bool_()) for name in whens)]
            connection.register(SPILLED, pa.schema(fields).empty_table())
        yield connection
    finally:
        connection.close()


def _total(number: int, parts: Sequence[Part]) -> tuple[int, int, int, list[str]]:
    """Over all threads: records, those that count for a rule, those that break it, and some of these in words."""
    counts = [part.payload["counts"].get(str(number), (0, 0, [])) for part in parts]
    examples = [text for count in counts for text in count[2]]
    rows = sum(part.rows for part in parts)
    return rows, sum(count[0] for count in counts), sum(count[1] for count in counts), examples[:3]


def _named(rule: Rule) -> str:
    return f"{rule.name}({rule.subject})" if rule.subject != "the records" else rule.name


def _counted(rule: Rule, rows: int, considered: int, broken: int, examples: Sequence[str]) -> Finding:
    if rule.rejects:
        said = f"{rule.subject}: {broken:,} of {rows:,} records were rejected ({rule.name})"
        return Finding(_named(rule), True, broken, said, "info")
    if rule.place == "count":
        return _count_finding(rule, considered, broken)
    met = mostly_met(considered, broken, rule.mostly)
    share = f" ({broken / considered:.2%})" if considered else ""
    asked = "" if rule.mostly >= 1 else f", {rule.mostly:g} of them must meet it"
    such = f", such as {'; '.join(examples)}" if examples else ""
    said = f"{rule.subject}: {broken:,} of {considered:,} records{share} break {rule.name}{asked}{such}"
    return Finding(_named(rule), met, broken, said, SEVERITY[rule.severity])


def _count_finding(rule: Rule, considered: int, broken: int) -> Finding:
    """A number of records, or the share of them in which a value is there, between bounds."""
    arguments = rule.arguments
    if rule.name == "expect_table_row_count_to_equal":
        met, demand = considered == arguments["value"], f"must be {arguments['value']}"
    else:
        demand = f"must be {bounds_said(arguments)}"
        observed: float = considered
        if "column" in arguments:
            observed = (considered - broken) / considered if considered else 0
        met = within(observed, arguments)
    if "column" in arguments:
        share = (considered - broken) / considered if considered else 0
        said = f"{rule.subject}: a share of {share:.4g} of its values is there, {demand} ({rule.name})"
        return Finding(_named(rule), met, share, said, SEVERITY[rule.severity])
    where = f" where {rule.row_condition}" if rule.row_condition else ""
    said = f"there are {considered:,} records{where}, {demand} ({rule.name})"
    return Finding(_named(rule), met, considered, said, SEVERITY[rule.severity])


def _whole(
    rule: Rule, schema: pa.Schema, when: str | None, connection: duckdb.DuckDBPyConnection, scope: Scope
) -> Finding:
    if rule.name in JUDGES:
        observed, met, demand = judge(rule, schema, when, connection)
        shown = "null" if observed is None else shown_values(observed) if isinstance(observed, list) else str(observed)
        said = f"{rule.subject}: {shown}, {demand} ({rule.name})"
        return Finding(_named(rule), met, observed, said, SEVERITY[rule.severity])
    columns = ", ".join(map(name_of, rule.columns)) or "*"
    where = "" if when is None else f" WHERE {name_of(when)}"
    query = f"SELECT {columns} FROM {SPILLED}{where}"
    limit_bytes = scope.environment.runner.memory_bytes
    (count,) = connection.execute(f"SELECT count(*) FROM {SPILLED}{where}").fetchall()[0]
    needed = count * max(len(rule.columns), 1) * 64
    if needed > limit_bytes:
        raise Failed(
            f"{rule.name} on {rule.subject} needs about {needed:,} bytes, more than the runner's "
            f"memory_bytes {limit_bytes:,}: Great Expectations holds all {count:,} values in memory"
        )
    verdict = validate(rule, connection.sql(query).to_arrow_table())
    seen = verdict["result"].get("observed_value", verdict["result"].get("unexpected_count"))
    said = f"{rule.subject}: {seen} does not meet {_arguments(rule)} ({rule.name})"
    return Finding(_named(rule), bool(verdict["success"]), seen, said, SEVERITY[rule.severity])


def _arguments(rule: Rule) -> str:
    skipped = ("column", "column_A", "column_B", "column_list")
    given = {key: value for key, value in rule.arguments.items() if key not in skipped and value is not None}
    return ", ".join(f"{key} {value!r:.60}" for key, value in given.items()) or "the expectation"
