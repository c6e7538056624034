"""Rules as people write them: read from a flow or a Great Expectations suite, checked, defaults filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pipelines.errors import Invalid, Problem
from pipelines.quality.expectations import EXPECTATIONS, REFUSED, Argument, Expectation, Place
from pipelines.sql.literals import literal, name_of

Severity = Literal["critical", "warning", "info"]
At = tuple[str | int, ...]

SEVERITIES = ("critical", "warning", "info")
ENTRY_POINTS = "processflow.expectations"
"""Strangers' expectations: the entry point's name is the expectation's, its object the class."""
IGNORED = frozenset({"meta", "notes", "id", "description", "result_format", "catch_exceptions", "rendered_content"})
"""What a rule of a suite carries beside its arguments; it changes no verdict."""


@dataclass(frozen=True)
class Rule:
    """One expectation of a node, with its arguments checked and its defaults filled in."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    place: Place = "row"
    row_condition: str | None = None
    mostly: float = 1.0
    severity: Severity = "critical"
    at: At = ()
    foreign: bool = False
    """Whether only Great Expectations can judge it."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns whose values it reads, in the order written."""
        if self.place == "schema":
            return ()
        single = [self.arguments[key] for key in ("column", "column_A", "column_B") if self.arguments.get(key)]
        return tuple(dict.fromkeys([*single, *(self.arguments.get("column_list") or ())]))

    @property
    def subject(self) -> str:
        """What it is about, for messages."""
        named = self.columns or tuple(name for name in (self.arguments.get("column"),) if name)
        return ", ".join(named) or "the records"

    @property
    def rejects(self) -> bool:
        """Whether a record that breaks it is set aside; else it is judged over the whole run."""
        return self.place == "row" and self.mostly >= 1 and self.severity == "critical"

    def invalid(self, argument: str, what: str, fix: str = "") -> Invalid:
        """The error for a wrong argument of this rule, at its place in the node's text."""
        return Invalid(Problem("", 0, 0, f"{self.name}: {what}", fix, (*self.at, argument)))


def read_suite(path: Path) -> list[Mapping[str, Any]]:
    """The entries of a Great Expectations suite, a JSON file with a list `expectations`."""
    at = ("suite",)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as fault:
        raise Invalid(
            Problem("", 0, 0, f"there is no file {path.name}", "the path starts at the project", at)
        ) from fault
    except (OSError, UnicodeDecodeError) as fault:
        raise Invalid(Problem("", 0, 0, f"{path.name} cannot be read: {fault}", "", at)) from fault
    try:
        suite = json.loads(text)
    except ValueError as fault:
        raise Invalid(Problem("", 0, 0, f"{path.name} is no JSON: {fault}", "", at)) from fault
    entries = suite.get("expectations") if isinstance(suite, Mapping) else suite
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise Invalid(Problem("", 0, 0, f"{path.name} has no list `expectations`", "save the suite as JSON", at))
    return entries


def read_rules(entries: Sequence[Mapping[str, Any]], at: At, values: Mapping[str, object]) -> list[Rule]:
    """The rules of a list. Raises `Invalid` with every problem of it."""
    rules, problems = sift_rules(entries, at, values)
    if problems:
        raise Invalid(problems)
    return rules


def sift_rules(
    entries: Sequence[Mapping[str, Any]], at: At, values: Mapping[str, object]
) -> tuple[list[Rule], list[Problem]]:
    """The sound rules of a list, each `{name: {arguments}}` or as a suite has it, and the problems of the others.

    A suite's form is `{type: name, kwargs: {arguments}}`. `values` stand for `{"$PARAMETER": name}`.
    """
    rules: list[Rule] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries):
        try:
            rules.append(_rule(entry, (*at, index), values))
        except Invalid as invalid:
            problems.extend(invalid.problems)
    return rules, problems


def _rule(entry: Mapping[str, Any], at: At, values: Mapping[str, object]) -> Rule:
    name, kwargs, inner = _parts(entry, at)
    given = {key: _parameter(value, values, (*inner, key)) for key, value in kwargs.items() if key not in IGNORED}
    severity: Any = given.pop("severity", None) or "critical"
    known = EXPECTATIONS.get(name)
    problems: list[Problem] = []
    if severity not in SEVERITIES:
        fix = f"one of {', '.join(SEVERITIES)}"
        problems.append(Problem("", 0, 0, f"{name}: severity is {severity!r}", fix, (*inner, "severity")))
    if known is not None:
        problems.extend(_faults(name, known, given, inner))
        given = {key: given.get(key, argument.default) for key, argument in known.arguments.items()}
    elif not is_foreign(name):
        problems.append(_unknown(name, inner))
    if problems:
        raise Invalid(problems)
    condition, parser = given.pop("row_condition", None), given.pop("condition_parser", None)
    mostly = given.pop("mostly", None)
    rule = Rule(
        name,
        given,
        "row" if known is None else known.place,
        mostly=1.0 if mostly is None else float(mostly),
        severity=severity,
        at=inner,
        foreign=known is None,
    )
    return rule if condition is None else replace(rule, row_condition=condition_sql(rule, condition, parser))


def is_foreign(name: str) -> bool:
    """Whether a stranger's entry point knows an expectation that the table does not."""
    return any(point.name == name for point in metadata.entry_points(group=ENTRY_POINTS))


def _unknown(name: str, at: At) -> Problem:
    if name in REFUSED:
        return Problem("", 0, 0, f"{name} cannot be judged in a flow: {REFUSED[name]}", "leave it out", at)
    return Problem("", 0, 0, f"no expectation is called {name!r}", close_to(name, EXPECTATIONS), at)


def _parts(entry: Mapping[str, Any], at: At) -> tuple[str, dict[str, Any], At]:
    """The name, the arguments and their place of a rule in either form."""
    named = entry.get("type", entry.get("expectation_type"))
    if named is not None:
        kwargs = dict(entry.get("kwargs") or {})
        if "severity" in entry:
            kwargs["severity"] = entry["severity"]
        return str(named), kwargs, (*at, "kwargs")
    if len(entry) != 1:
        what = f"a rule is one name with its arguments, this has {len(entry)} names"
        raise Invalid(Problem("", 0, 0, what, "write each as its own list item", at))
    name, arguments = next(iter(entry.items()))
    if arguments is not None and not isinstance(arguments, Mapping):
        what = f"{name}: its arguments are {arguments!r}"
        raise Invalid(Problem("", 0, 0, what, "write them as `{name: value}`", (*at, name)))
    return name, dict(arguments or {}), (*at, name)


def _parameter(value: Any, values: Mapping[str, object], at: At) -> Any:
    """A value, or what `{"$PARAMETER": name}` stands for."""
    if not (isinstance(value, Mapping) and set(value) == {"$PARAMETER"}):
        return value
    if value["$PARAMETER"] not in values:
        there = ", ".join(sorted(values)) or "none"
        raise Invalid(Problem("", 0, 0, f"no parameter is called {value['$PARAMETER']!r}", f"there are: {there}", at))
    return values[value["$PARAMETER"]]


def _faults(name: str, known: Expectation, given: Mapping[str, Any], at: At) -> Iterator[Problem]:
    for key, value in given.items():
        argument = known.arguments.get(key)
        if argument is None:
            yield Problem("", 0, 0, f"{name}: unknown argument {key!r}", close_to(key, known.arguments), (*at, key))
        elif value is not None and (right := _wanted(argument, value)):
            yield Problem("", 0, 0, f"{name}: {key} is {value!r}", f"it must be {right}", (*at, key))
    meant = {
        match for key in given if key not in known.arguments for match in get_close_matches(key, known.arguments, 1)
    }
    for key, argument in known.arguments.items():
        if argument.required and given.get(key) is None and key not in meant:
            yield Problem("", 0, 0, f"{name}: {key!r} is missing", f"add `{key}: …`", at)
    low, high = given.get("min_value"), given.get("max_value")
    if "strict_min" in known.arguments and low is None and high is None:
        yield Problem("", 0, 0, f"{name}: neither min_value nor max_value is given", "give one of them", at)
    numbers = _is_number(low) and _is_number(high)
    if numbers and low > high:  # type: ignore[operator]
        yield Problem("", 0, 0, f"{name}: min_value {low} is above max_value {high}", "swap them", (*at, "min_value"))


def close_to(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name."""
    there = list(known)
    close = get_close_matches(name, there, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(there)}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool | Decimal | date | datetime)


def _is_texts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(item, str) for item in value)


def _wanted(argument: Argument, value: Any) -> str:
    """What would be right where a value does not fit an argument; empty where it fits."""
    right, fits = KINDS[argument.kind]
    if argument.kind == "choice":
        return "" if value in argument.choices else f"one of {', '.join(argument.choices)}"
    return "" if fits(value) else right


def _is_quantiles(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"quantiles", "value_ranges"}:
        return False
    quantiles, ranges = value["quantiles"], value["value_ranges"]
    return (
        isinstance(quantiles, Sequence)
        and isinstance(ranges, Sequence)
        and len(quantiles) == len(ranges)
        and all(_is_number(quantile) and 0 <= quantile <= 1 for quantile in quantiles)
        and all(isinstance(pair, Sequence) and len(pair) == 2 for pair in ranges)
        and all(bound is None or _is_number(bound) for pair in ranges for bound in pair)
    )


KINDS: Mapping[str, tuple[str, Any]] = {
    "any": ("", lambda value: True),
    "bound": ("a number, a text or a date", lambda value: _is_scalar(value) and not isinstance(value, bool)),
    "choice": ("", lambda value: True),
    "column": ("a column's name", lambda value: isinstance(value, str)),
    "columns": ("a list of at least two columns' names", lambda value: _is_texts(value) and len(value) > 1),
    "condition": ("a condition in SQL", lambda value: isinstance(value, str | Mapping)),
    "count": ("a whole number, 0 or more", lambda value: _is_number(value) and value >= 0 and value == int(value)),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "letter": ("one character", lambda value: isinstance(value, str) and len(value) == 1),
    "mapping": ("a mapping", lambda value: isinstance(value, Mapping)),
    "number": ("a number", _is_number),
    "pairs": (
        "a list of pairs",
        lambda value: (
            isinstance(value, Sequence)
            and all(isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_scalar, pair)) for pair in value)
        ),
    ),
    "quantiles": ("{quantiles: [0.5, …], value_ranges: [[low, high], …]}, one range each", _is_quantiles),
    "share": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "text": ("a text", lambda value: isinstance(value, str)),
    "texts": ("a list of texts", lambda value: _is_texts(value) and len(value) > 0),
    "values": (
        "a list of values",
        lambda value: isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_scalar, value)),
    ),
}
"""Per kind of argument: what would be right, and whether a value is."""


LEGACY = re.compile(
    r"""\s*col\("([^"]+)"\)\s*(?:(\.not[Nn]ull\(\))|(==|!=|<=|>=|<|>)\s*(date\()?("[^"]*"|'[^']*'|[-+0-9.eE]+)\)?)\s*"""
)
OPERATORS = {"==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "IN": "IN", "NOT_IN": "NOT IN"}


def condition_sql(rule: Rule, condition: str | Mapping[str, Any], parser: object) -> str:
    """A row condition as DuckDB SQL: as written, or from one of the forms a suite keeps."""
    if isinstance(condition, Mapping):
        return _condition_of(rule, condition)
    if parser in ("great_expectations", "great_expectations__experimental__"):
        found = LEGACY.fullmatch(condition)
        if found:
            column, not_null, operator, _, value = found.groups()
            if not_null:
                return f"{name_of(column)} IS NOT NULL"
            compared = literal(value[1:-1]) if value[0] in "\"'" else value
            return f"{name_of(column)} {OPERATORS[operator]} {compared}"
        raise rule.invalid("row_condition", f"row_condition is {condition!r}", "write it as a condition in SQL")
    if parser is not None:
        raise rule.invalid("condition_parser", f"condition_parser is {parser!r}", "leave it out: a condition is SQL")
    return condition


def _condition_of(rule: Rule, condition: Mapping[str, Any]) -> str:
    """The SQL of a condition as Great Expectations 1 saves it."""
    kind = condition.get("type")
    if kind in ("and", "or"):
        return "(" + f" {kind.upper()} ".join(_condition_of(rule, part) for part in condition["conditions"]) + ")"
    column = condition.get("column") or {}
    name = name_of(column.get("name", "") if isinstance(column, Mapping) else str(column))
    if kind == "nullity":
        return f"{name} IS {'' if condition.get('is_null') else 'NOT '}NULL"
    if kind == "comparison" and condition.get("operator") in OPERATORS:
        operator, value = OPERATORS[condition["operator"]], condition.get("parameter")
        if isinstance(value, list):
            return f"{name} {operator} ({', '.join(map(literal, value))})"
        return f"{name} {operator} {literal(value)}"
    if kind == "pass_through" or "pass_through_filter" in condition:
        return str(condition["pass_through_filter"])
    raise rule.invalid("row_condition", f"row_condition is {condition!r}", "write it as a condition in SQL")
