"""Rules over all records of a run, as DuckDB statements over spilled columns.

Each judge gives what was observed and whether the rule is met, over the relation `spilled`; missing values (null, or NaN
in a floating column) are left out, as Great Expectations does. DuckDB works out of core within the run's memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.quality.conditions import bounds, bounds_said, limits, require_columns, shown_values
from pipelines.quality.families import family_of, missing, typed_literal
from pipelines.quality.rules import Rule
from pipelines.sql.literals import literal, name_of

SPILLED = "spilled"
SHOWN = 10
CLOSE = 1e-4
"""How near to the end of its range a quantile counts as inside: Great Expectations' own tolerance."""

Verdict = tuple[Any, bool, str]
"""What was observed, whether the rule is met, and what would have been right."""


class Source:
    """The records that a rule counts, as a relation of DuckDB."""

    def __init__(self, rule: Rule, schema: pa.Schema, when: str | None) -> None:
        self.rule = rule
        self.schema = schema
        self._when = "true" if when is None else f"coalesce({name_of(when)}, false)"

    @property
    def kind(self) -> pa.DataType:
        return self.schema.field(self.rule.arguments["column"]).type

    @property
    def values(self) -> str:
        """The column's values that are there, as `v`."""
        column = self.rule.arguments["column"]
        gap = missing(column, self.schema)
        return f"(SELECT {name_of(column)} AS v FROM {SPILLED} WHERE {self._when} AND NOT {gap})"

    @property
    def records(self) -> str:
        return f"(SELECT * FROM {SPILLED} WHERE {self._when})"

    def literals(self, argument: str = "value_set") -> list[str]:
        values = [value for value in self.rule.arguments[argument] if value is not None]
        return [typed_literal(self.rule, argument, value, self.kind) for value in values]


def check_whole(rule: Rule, schema: pa.Schema) -> None:
    """Raises `Invalid` where a rule names unknown columns, or values that a column can never have."""
    require_columns(rule, schema)
    source = Source(rule, schema, None)
    numeric = rule.name in NUMERIC or rule.name == "expect_column_quantile_values_to_be_between"
    if numeric and family_of(source.kind) not in ("number", "floating"):
        raise rule.invalid("column", f"{rule.subject} is {source.kind}", "the rule is for columns of numbers")
    if rule.name in ORDERED:
        limits(rule, source.kind)
    if "value_set" in rule.arguments:
        source.literals()


def judge(rule: Rule, schema: pa.Schema, when: str | None, connection: duckdb.DuckDBPyConnection) -> Verdict:
    """Judges a rule over the relation `spilled` of the connection."""
    return JUDGES[rule.name](Source(rule, schema, when), connection)


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    return connection.execute(query).fetchall()[0]


def _ordered(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    """The greatest, least or middle value between bounds of the column's own type."""
    return _bounded(source, connection, ORDERED[source.rule.name], limits(source.rule, source.kind))


def _numeric(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    """A number about the column between bounds."""
    rule = source.rule
    low, high = rule.arguments["min_value"], rule.arguments["max_value"]
    aggregate = {**NUMERIC, **COUNTED}[rule.name]
    return _bounded(
        source,
        connection,
        aggregate,
        (None if low is None else literal(low), None if high is None else literal(high)),
    )


def _bounded(
    source: Source, connection: duckdb.DuckDBPyConnection, aggregate: str, ends: tuple[str | None, str | None]
) -> Verdict:
    met = bounds("a", *ends, source.rule.arguments)
    found = _row(connection, f"SELECT a, coalesce({met}, false) FROM (SELECT {aggregate} AS a FROM {source.values})")
    number = isinstance(found[0], float) and math.isnan(found[0])
    return (
        found[0],
        bool(found[1]) and found[0] is not None and not number,
        f"must be {bounds_said(source.rule.arguments)}",
    )


def mostly_met(considered: int, broken: int, mostly: float) -> bool:
    """Whether enough of the records that count meet a rule; none at all is enough."""
    return considered == 0 or (considered - broken) / considered >= mostly


def _unique(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    query = f"SELECT count(*) AS n, v FROM {source.values} GROUP BY v"
    return _repeated(source, connection, query)


def _unique_together(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    names = source.rule.arguments["column_list"]
    gaps = [missing(name, source.schema) for name in names]
    ignore = source.rule.arguments["ignore_row_if"]
    joint = {"all_values_are_missing": " AND ", "any_value_is_missing": " OR "}.get(ignore)
    kept = f"NOT ({joint.join(gaps)})" if joint else "true"
    keys = [f"CASE WHEN {gap} THEN NULL ELSE {name_of(name)} END" for name, gap in zip(names, gaps, strict=True)]
    query = f"SELECT count(*) AS n, row({', '.join(keys)}) AS v FROM {source.records} WHERE {kept} GROUP BY ALL"
    return _repeated(source, connection, query)


def _repeated(source: Source, connection: duckdb.DuckDBPyConnection, query: str) -> Verdict:
    """How many records hold what another one holds too."""
    total, broken = _row(
        connection, f"SELECT coalesce(sum(n), 0)::BIGINT, coalesce(sum(n) FILTER (n > 1), 0)::BIGINT FROM ({query})"
    )
    most = f"SELECT v::VARCHAR FROM ({query}) WHERE n > 1 ORDER BY n DESC, v LIMIT 3"
    examples = connection.execute(most).fetchall() if broken else []
    shown = f", such as {', '.join(str(value) for (value,) in examples)}" if examples else ""
    met = mostly_met(total, broken, source.rule.mostly)
    share = "" if source.rule.mostly >= 1 else f" in at least {source.rule.mostly:.4%}"
    return f"{broken:,} of {total:,} are repeated{shown}", met, f"must be unique{share}"


def _distinct_in(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    """Which values are outside of the set, which of the set are not there."""
    rule, literals = source.rule, source.literals()
    listed = f"(SELECT unnest([{', '.join(literals)}]) AS v)" if literals else f"(FROM {source.values} WHERE false)"
    strange: list[Any] = []
    absent: list[Any] = []
    if rule.name != "expect_column_distinct_values_to_contain_set":
        strange = connection.execute(
            f"SELECT v FROM (SELECT DISTINCT v FROM {source.values}) AS d ANTI JOIN {listed} AS s USING (v) "
            f"ORDER BY v LIMIT {SHOWN + 1}"
        ).fetchall()
    if rule.name != "expect_column_distinct_values_to_be_in_set":
        absent = connection.execute(
            f"SELECT v FROM {listed} AS s ANTI JOIN (SELECT DISTINCT v FROM {source.values}) AS d USING (v) "
            f"LIMIT {SHOWN + 1}"
        ).fetchall()
    said = [f"has {shown_values([value for (value,) in strange], SHOWN)}"] if strange else []
    said += [f"lacks {shown_values([value for (value,) in absent], SHOWN)}"] if absent else []
    verb = {"be_in": "be among", "contain": "include", "equal": "be just"}[
        next(key for key in ("be_in", "contain", "equal") if f"to_{key}" in rule.name)
    ]
    demand = f"its values must {verb} {shown_values(rule.arguments['value_set'])}"
    return " and ".join(said) or "just these", not strange and not absent, demand


def _most_common(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    counted = f"(SELECT v, count(*) AS n FROM {source.values} GROUP BY v)"
    top = f"SELECT v FROM {counted} WHERE n = (SELECT max(n) FROM {counted})"
    listed = ", ".join(source.literals())
    inside = f"count(*) FILTER (v IN ({listed}))" if listed else "0"
    ties, hits = _row(connection, f"SELECT count(*), {inside} FROM ({top})")
    shown = [value for (value,) in connection.execute(f"{top} ORDER BY v LIMIT {SHOWN}").fetchall()]
    met = hits > 0 if source.rule.arguments["ties_okay"] else ties == 1 and hits == 1
    return shown, met, f"its most common value must be one of {shown_values(source.rule.arguments['value_set'])}"


def _quantiles(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    wanted: Mapping[str, Sequence[Any]] = source.rule.arguments["quantile_ranges"]
    (count,) = _row(connection, f"SELECT count(*) FROM {source.values}")
    # round() goes to the even neighbour at a half, as numpy's method "nearest" does.
    places = [round(quantile * (count - 1)) for quantile in wanted["quantiles"]] if count else []
    ranked = f"(SELECT v::DOUBLE AS v, row_number() OVER (ORDER BY v) - 1 AS i FROM {source.values})"
    listed = ", ".join(str(place) for place in places)
    found = dict(connection.execute(f"SELECT i, v FROM {ranked} WHERE i IN ({listed})").fetchall()) if places else {}
    observed = [found[place] for place in places]
    met = len(observed) == len(wanted["quantiles"]) and all(
        _inside(value, *ends) for value, ends in zip(observed, wanted["value_ranges"], strict=True)
    )
    return observed, met, f"its quantiles {wanted['quantiles']} must lie in {wanted['value_ranges']}"


def _inside(value: float, low: float | None, high: float | None) -> bool:
    least, most = -math.inf if low is None else low, math.inf if high is None else high
    near = any(math.isfinite(end) and abs(value - end) <= 1e-8 + CLOSE * abs(end) for end in (least, most))
    return near or least <= value <= most


def _unexpected_rows(source: Source, connection: duckdb.DuckDBPyConnection) -> Verdict:
    """A query of the user's own that must give no rows; `{batch}` in it is the records."""
    query = source.rule.arguments["unexpected_rows_query"].replace("{batch}", SPILLED).strip().rstrip(";")
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise source.rule.invalid(
                "unexpected_rows_query", "it is not one SELECT", "write one SELECT … FROM {batch}"
            )
        (count,) = _row(connection, f"SELECT count(*) FROM ({query})")
    except duckdb.Error as fault:
        what = f"the query cannot be computed: {str(fault).splitlines()[0]}"
        raise Invalid(f"{source.rule.name}: {what}; mend unexpected_rows_query") from fault
    return f"{count:,} rows", count == 0, "must give no rows"


ORDERED: Mapping[str, str] = {
    "expect_column_max_to_be_between": "max(v)",
    "expect_column_min_to_be_between": "min(v)",
    "expect_column_median_to_be_between": "median(v)",
}
NUMERIC: Mapping[str, str] = {
    "expect_column_mean_to_be_between": "avg(v::DOUBLE)",
    "expect_column_sum_to_be_between": "coalesce(sum(v), 0)",
    "expect_column_stdev_to_be_between": "stddev_samp(v::DOUBLE)",
}
COUNTED: Mapping[str, str] = {
    "expect_column_unique_value_count_to_be_between": "count(DISTINCT v)",
    "expect_column_proportion_of_unique_values_to_be_between": "coalesce(count(DISTINCT v) / nullif(count(v), 0), 0)",
}
JUDGES: Mapping[str, Callable[[Source, duckdb.DuckDBPyConnection], Verdict]] = {
    **dict.fromkeys(ORDERED, _ordered),
    **dict.fromkeys(NUMERIC, _numeric),
    **dict.fromkeys(COUNTED, _numeric),
    "expect_column_values_to_be_unique": _unique,
    "expect_compound_columns_to_be_unique": _unique_together,
    "expect_multicolumn_values_to_be_unique": _unique_together,
    "expect_column_distinct_values_to_be_in_set": _distinct_in,
    "expect_column_distinct_values_to_contain_set": _distinct_in,
    "expect_column_distinct_values_to_equal_set": _distinct_in,
    "expect_column_most_common_value_to_be_in_set": _most_common,
    "expect_column_quantile_values_to_be_between": _quantiles,
    "unexpected_rows_expectation": _unexpected_rows,
}
"""The others (divergences, tests of distributions, z-scores) are Great Expectations' own to judge."""
