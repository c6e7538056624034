"""Row rules as DuckDB conditions, meaning what Great Expectations means by them.

What is missing (null, or NaN in a floating column) is ignored by every rule on one column but the two about nulls. A
text rule on a column that holds no text reads what DuckDB writes for its values. The source of every meaning is
Great Expectations' own pandas engine; like patterns, which that has not, follow its SQL engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pyarrow as pa

from pipelines.quality.families import comparable, family_of, missing, typed_literal
from pipelines.quality.predicates import Predicate, predicate_for, python_regex
from pipelines.quality.rules import Rule, close_to
from pipelines.sql.literals import literal, name_of

SHOWN_LETTERS = 80
"""Longer values are cut in messages."""


@dataclass(frozen=True)
class Condition:
    """A row rule compiled: when it counts, when it is met, and what to say of a record that breaks it."""

    rule: Rule
    considered: str
    """SQL: whether the record counts for this rule. Never null."""
    met: str
    """SQL: whether a record that counts meets the rule. Null is not met."""
    demand: str
    """What must be, in words: `must be at least 1`."""
    predicates: Mapping[str, Predicate]
    """Columns that Python computes before the statement, by name."""

    @property
    def broken(self) -> str:
        return f"(({self.considered}) AND NOT coalesce({self.met}, false))"


def compile_rule(rule: Rule, schema: pa.Schema, number: int, when: str | None = None) -> Condition:
    """The condition of a row rule over records of `schema`; `when` names the boolean column of its row condition.

    Raises:
        Invalid: for unknown columns and arguments that no value of a column could ever meet.
    """
    require_columns(rule, schema)
    draft = RULES[rule.name](rule, schema, f"__predicate_{number}")
    considered = _domain(rule, schema)
    if when is not None:
        considered = f"coalesce({name_of(when)}, false) AND {considered}"
    return Condition(rule, considered, draft.met, draft.demand, draft.predicates)


def require_columns(rule: Rule, schema: pa.Schema) -> None:
    """Raises `Invalid` where a rule names a column that does not come in."""
    named = [(key, rule.arguments.get(key)) for key in ("column", "column_A", "column_B")]
    named += [("column_list", name) for name in rule.arguments.get("column_list") or ()]
    for key, name in named:
        if name is not None and name not in schema.names:
            raise rule.invalid(key, f"no column is called {name!r}", close_to(name, schema.names))


def _domain(rule: Rule, schema: pa.Schema) -> str:
    """SQL: whether a record counts for the rule, its row condition aside."""
    if rule.name in ("expect_column_values_to_not_be_null", "expect_column_values_to_be_null"):
        return "true"
    gaps = [missing(name, schema) for name in rule.columns]
    ignore = rule.arguments.get("ignore_row_if")
    if ignore is None or ignore in ("either_value_is_missing", "any_value_is_missing"):
        return f"NOT ({' OR '.join(gaps)})"
    if ignore in ("both_values_are_missing", "all_values_are_missing"):
        return f"NOT ({' AND '.join(gaps)})"
    return "true"


@dataclass(frozen=True)
class _Draft:
    met: str
    demand: str
    predicates: Mapping[str, Predicate]


def _draft(met: str, demand: str) -> _Draft:
    return _Draft(met, demand, {})


def _null(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    return _draft(missing(rule.arguments["column"], schema), "must be null")


def _not_null(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    return _draft(f"NOT {missing(rule.arguments['column'], schema)}", "must not be")


def _in_set(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    column = rule.arguments["column"]
    values = [value for value in rule.arguments["value_set"] if value is not None]
    kind = schema.field(column).type
    literals = [typed_literal(rule, "value_set", value, kind) for value in values]
    is_in = f"{name_of(column)} IN ({', '.join(literals)})" if literals else "false"
    if rule.name == "expect_column_values_to_not_be_in_set":
        return _draft(f"NOT ({is_in})", f"must be none of {shown_values(values)}")
    return _draft(is_in, f"must be one of {shown_values(values)}")


def shown_values(values: Sequence[Any], most: int = 10) -> str:
    """Values in words, the first few."""
    shown = ", ".join(repr(value) if isinstance(value, str) else str(value) for value in values[:most])
    return f"{shown} and {len(values) - most} more" if len(values) > most else shown or "no value at all"


def bounds(expression: str, low: str | None, high: str | None, arguments: Mapping[str, Any]) -> str:
    """SQL: whether an expression lies within bounds."""
    parts = []
    if low is not None:
        parts.append(f"{expression} {'>' if arguments.get('strict_min') else '>='} {low}")
    if high is not None:
        parts.append(f"{expression} {'<' if arguments.get('strict_max') else '<='} {high}")
    return " AND ".join(parts) or "true"


def bounds_said(arguments: Mapping[str, Any]) -> str:
    """Bounds in words: `at least 1 and below 10`."""
    low, high = arguments.get("min_value"), arguments.get("max_value")
    parts = []
    if low is not None:
        parts.append(f"{'above' if arguments.get('strict_min') else 'at least'} {low}")
    if high is not None:
        parts.append(f"{'below' if arguments.get('strict_max') else 'at most'} {high}")
    return " and ".join(parts) or "anything"


def limits(rule: Rule, kind: pa.DataType) -> tuple[str | None, str | None]:
    """The bounds of a rule as SQL values of a type."""
    low, high = rule.arguments["min_value"], rule.arguments["max_value"]
    return (
        None if low is None else typed_literal(rule, "min_value", low, kind),
        None if high is None else typed_literal(rule, "max_value", high, kind),
    )


def _between(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    column = rule.arguments["column"]
    low, high = limits(rule, schema.field(column).type)
    return _draft(bounds(name_of(column), low, high, rule.arguments), f"must be {bounds_said(rule.arguments)}")


def _text(column: str, schema: pa.Schema) -> str:
    plain = family_of(schema.field(column).type) == "text" and not pa.types.is_dictionary(schema.field(column).type)
    return name_of(column) if plain else f"CAST({name_of(column)} AS VARCHAR)"


def _lengths(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    length = f"length({_text(rule.arguments['column'], schema)})"
    if "value" in rule.arguments:
        return _draft(f"{length} = {rule.arguments['value']}", f"must be {rule.arguments['value']} characters long")
    low, high = rule.arguments["min_value"], rule.arguments["max_value"]
    met = bounds(length, None if low is None else str(low), None if high is None else str(high), rule.arguments)
    return _draft(met, f"must be {bounds_said(rule.arguments)} characters long")


def _regex(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    column, text = rule.arguments["column"], _text(rule.arguments["column"], schema)
    argument = "regex" if "regex" in rule.arguments else "regex_list"
    patterns = [rule.arguments["regex"]] if argument == "regex" else list(rule.arguments["regex_list"])
    joint = " AND " if rule.arguments.get("match_on") == "all" else " OR "
    terms, predicates = [], {}
    for index, pattern in enumerate(patterns):
        predicate = python_regex(rule, argument, pattern, column)
        if predicate is None:
            terms.append(f"regexp_matches({text}, {literal(pattern)})")
        else:
            predicates[f"{name}_{index}"] = predicate
            terms.append(name_of(f"{name}_{index}"))
    return _listed(rule, patterns, terms, joint, "regular expression", predicates)


def _like(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    text = _text(rule.arguments["column"], schema)
    single = rule.arguments.get("like_pattern")
    patterns = [single] if single is not None else list(rule.arguments["like_pattern_list"])
    escape = rule.arguments["escape"]
    end = f" ESCAPE {literal(escape)}" if escape else ""
    joint = " AND " if rule.arguments.get("match_on") == "all" else " OR "
    terms = [f"{text} LIKE {literal(pattern)}{end}" for pattern in patterns]
    return _listed(rule, patterns, terms, joint, "pattern", {})


def _listed(
    rule: Rule,
    patterns: Sequence[str],
    terms: Sequence[str],
    joint: str,
    noun: str,
    predicates: Mapping[str, Predicate],
) -> _Draft:
    """Whether a text matches one, all or none of some patterns, and that in words."""
    found = f"({joint.join(terms)})"
    shown = shown_values(patterns)
    if "_not_match_" in rule.name:
        return _Draft(f"NOT {found}", f"must not match the {noun} {shown}", predicates)
    which = "all of" if joint == " AND " else "one of"
    said = f"the {noun} {shown}" if len(patterns) == 1 else f"{which} the {noun}s {shown}"
    return _Draft(found, f"must match {said}", predicates)


def _predicate(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    column = rule.arguments["column"]
    if family_of(schema.field(column).type) != "text":
        raise rule.invalid("column", f"{column} is {schema.field(column).type}", "the rule is for columns of text")
    predicate, demand = predicate_for(rule)
    return _Draft(name_of(name), demand, {name: predicate})


def _both(rule: Rule, schema: pa.Schema) -> tuple[str, str, str]:
    """The two columns of a pair, and SQL for neither being missing."""
    one, other = rule.arguments["column_A"], rule.arguments["column_B"]
    if not comparable(schema.field(one).type, schema.field(other).type):
        what = f"{one} is {schema.field(one).type} and {other} is {schema.field(other).type}"
        raise rule.invalid("column_B", f"{what}, which cannot be compared", "make them one type first")
    return name_of(one), name_of(other), f"NOT ({missing(one, schema)} OR {missing(other, schema)})"


def _pair_equal(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    one, other, present = _both(rule, schema)
    return _draft(f"{present} AND {one} = {other}", "must be equal")


def _pair_greater(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    one, other, present = _both(rule, schema)
    operator, said = (">=", "at least") if rule.arguments["or_equal"] else (">", "greater than")
    first, second = rule.arguments["column_A"], rule.arguments["column_B"]
    return _draft(f"{present} AND {one} {operator} {other}", f"{first} must be {said} {second}")


def _pair_in_set(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    terms = []
    for pair in rule.arguments["value_pairs_set"]:
        sides = []
        for key, value in zip(("column_A", "column_B"), pair, strict=True):
            column = rule.arguments[key]
            if value is None:
                sides.append(missing(column, schema))
            else:
                literal = typed_literal(rule, "value_pairs_set", value, schema.field(column).type)
                sides.append(f"{name_of(column)} IS NOT DISTINCT FROM {literal}")
        terms.append(f"({' AND '.join(sides)})")
    pairs = shown_values([tuple(pair) for pair in rule.arguments["value_pairs_set"]])
    return _draft(" OR ".join(terms) or "false", f"must be one of {pairs}")


def _sum(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    names = rule.arguments["column_list"]
    families = {family_of(schema.field(column).type) for column in names}
    if not families <= {"number", "floating"}:
        kinds = ", ".join(f"{column} {schema.field(column).type}" for column in names)
        raise rule.invalid("column_list", f"the columns are {kinds}", "only numbers can be added")
    total = literal(rule.arguments["sum_total"])
    terms = [name_of(column) for column in names]
    if "floating" in families:
        terms, total = [f"CAST({term} AS DOUBLE)" for term in terms], f"CAST({total} AS DOUBLE)"
    elif all(pa.types.is_integer(schema.field(column).type) for column in names):
        terms = [f"CAST({term} AS HUGEINT)" for term in terms]
    present = " OR ".join(missing(column, schema) for column in names)
    return _draft(
        f"NOT ({present}) AND {' + '.join(terms)} = {total}", f"their sum must be {rule.arguments['sum_total']}"
    )


def _same(one: str, other: str, schema: pa.Schema) -> str:
    """SQL: whether two columns hold the same, missing being the same as missing."""
    gaps = f"({missing(one, schema)} AND {missing(other, schema)})"
    if not comparable(schema.field(one).type, schema.field(other).type):
        return gaps
    present = f"NOT ({missing(one, schema)} OR {missing(other, schema)})"
    return f"({gaps} OR ({present} AND {name_of(one)} = {name_of(other)}))"


def _many_equal(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    first, *others = rule.arguments["column_list"]
    return _draft(" AND ".join(_same(first, other, schema) for other in others), "must all be equal")


def _many_unique(rule: Rule, schema: pa.Schema, name: str) -> _Draft:
    pairs = [_same(one, other, schema) for one, other in combinations(rule.arguments["column_list"], 2)]
    return _draft(f"NOT ({' OR '.join(pairs)})", "must all differ within the record")


RULES: Mapping[str, Callable[[Rule, pa.Schema, str], _Draft]] = {
    "expect_column_values_to_not_be_null": _not_null,
    "expect_column_values_to_be_null": _null,
    "expect_column_values_to_be_in_set": _in_set,
    "expect_column_values_to_not_be_in_set": _in_set,
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": _lengths,
    "expect_column_value_lengths_to_equal": _lengths,
    "expect_column_values_to_match_regex": _regex,
    "expect_column_values_to_not_match_regex": _regex,
    "expect_column_values_to_match_regex_list": _regex,
    "expect_column_values_to_not_match_regex_list": _regex,
    "expect_column_values_to_match_like_pattern": _like,
    "expect_column_values_to_not_match_like_pattern": _like,
    "expect_column_values_to_match_like_pattern_list": _like,
    "expect_column_values_to_not_match_like_pattern_list": _like,
    "expect_column_values_to_be_dateutil_parseable": _predicate,
    "expect_column_values_to_match_strftime_format": _predicate,
    "expect_column_values_to_be_json_parseable": _predicate,
    "expect_column_values_to_match_json_schema": _predicate,
    "expect_column_pair_values_to_be_equal": _pair_equal,
    "expect_column_pair_values_a_to_be_greater_than_b": _pair_greater,
    "expect_column_pair_values_to_be_in_set": _pair_in_set,
    "expect_multicolumn_sum_to_equal": _sum,
    "expect_multicolumn_values_to_be_equal": _many_equal,
    "expect_select_column_values_to_be_unique_within_record": _many_unique,
}
