"""Holds records to rules, by the names of Great Expectations; those that break one are rejected with every reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from pipelines.errors import Invalid, Problem
from pipelines.model import Model
from pipelines.node import Example, Part, Report, Schemas, Step, Transform
from pipelines.quality.aggregates import check_whole
from pipelines.quality.checks import conditions_of, when_columns
from pipelines.quality.declared import Declared, conversions, converted_schema
from pipelines.quality.expectations import EXPECTATIONS
from pipelines.quality.findings import Finding
from pipelines.quality.foreign import resolved
from pipelines.quality.rules import Rule, read_suite, sift_rules
from pipelines.quality.shapes import judge_shape
from pipelines.quality.validation import Validation
from pipelines.quality.verdicts import findings
from pipelines.scope import Scope
from pipelines.sql.expressions import bind, check_expressions
from pipelines.sql.sandbox import Sandbox, borrowed


class Column(Model):
    """What is asked of one column."""

    type: str | None = Field(default=None, examples=["integer", "decimal(18, 2)", "timestamp"])
    """The DuckDB type it goes on as; a value that cannot be brought to it without loss is rejected."""
    required: bool = False
    """Whether its value must be there."""


def _rule_schema() -> dict[str, Any]:
    """The JSON Schema of one rule: every known name, with its arguments."""
    kinds: dict[str, dict[str, Any]] = {
        "flag": {"type": "boolean"},
        "number": {"type": "number"},
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "count": {"type": "integer", "minimum": 0},
        "text": {"type": "string"},
        "column": {"type": "string", "format": "column"},
        "columns": {"type": "array", "items": {"type": "string", "format": "column"}, "minItems": 2},
        "texts": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "values": {"type": "array"},
        "pairs": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
        "mapping": {"type": "object"},
        "quantiles": {"type": "object", "required": ["quantiles", "value_ranges"]},
    }
    parameter = {"type": "object", "required": ["$PARAMETER"], "properties": {"$PARAMETER": {"type": "string"}}}
    severity = {"enum": ["critical", "warning", "info"]}
    names: dict[str, Any] = {}
    for name, expectation in EXPECTATIONS.items():
        properties = {
            key: {"enum": list(argument.choices)}
            if argument.choices
            else {"anyOf": [kinds[argument.kind], parameter]}
            if argument.kind in kinds
            else {}
            for key, argument in expectation.arguments.items()
        }
        required = [key for key, argument in expectation.arguments.items() if argument.required]
        names[name] = {"type": "object", "properties": {**properties, "severity": severity}, "required": required}
    return {"type": "object", "properties": names}


class Validate(Transform):
    """Holds each record to rules; a record that breaks any leaves by `rejected`, with every rule it broke in words."""

    category: ClassVar[str] = "quality"

    columns: dict[str, str | Column] = Field(
        default_factory=dict,
        examples=[{"order_id": "integer", "email": {"type": "varchar", "required": True}}],
    )
    """Columns by name, each with its DuckDB type, or its type and whether it must be there. Columns not named go on."""
    expectations: list[dict[str, Any]] = Field(
        default_factory=list,
        examples=[[{"expect_column_values_to_not_be_null": {"column": "email"}}]],
        json_schema_extra={"items": _rule_schema()},
    )
    """Rules by the names of Great Expectations, each with its arguments; `row_condition` is DuckDB SQL. A rule with
    `mostly` below 1 or `severity: warning`, and every rule about all records, rejects none but is judged at the end."""
    suite: str | None = Field(default=None, examples=["suites/orders.json"])
    """A Great Expectations suite, a JSON file of the project, whose rules hold beside `expectations`."""

    examples = (
        Example(
            says="A record that breaks several rules is told all of them.",
            config={
                "columns": {"quantity": "integer"},
                "expectations": [
                    {"expect_column_values_to_not_be_null": {"column": "email"}},
                    {"expect_column_values_to_be_between": {"column": "quantity", "min_value": 1}},
                ],
            },
            records=[
                {"email": "a@b.c", "quantity": "2"},
                {"email": None, "quantity": "0"},
                {"email": "d@e.f", "quantity": "two"},
            ],
            gives={
                "out": [{"email": "a@b.c", "quantity": 2}],
                "rejected": [
                    {
                        "email": None,
                        "quantity": "0",
                        "reject_code": "validation",
                        "reject_message": "email: is null, must not be (expect_column_values_to_not_be_null); "
                        "quantity: is 0, must be at least 1 (expect_column_values_to_be_between)",
                    },
                    {
                        "email": "d@e.f",
                        "quantity": "two",
                        "reject_code": "validation",
                        "reject_message": "quantity: is 'two', must be of type integer (columns)",
                    },
                ],
            },
        ),
        Example(
            says="A rule may hold for some records only.",
            config={
                "expectations": [
                    {
                        "expect_column_values_to_match_regex": {
                            "column": "zip",
                            "regex": "^[0-9]{5}$",
                            "row_condition": "country = 'DE'",
                        }
                    }
                ]
            },
            records=[{"country": "DE", "zip": "10115"}, {"country": "NL", "zip": "1012 AB"}],
            gives={"out": [{"country": "DE", "zip": "10115"}, {"country": "NL", "zip": "1012 AB"}]},
        ),
    )

    def rules(self, scope: Scope) -> list[Rule]:
        """The rules of the node and of its suite. Raises `Invalid` with every problem of both."""
        rules, problems = self._sift(scope)
        if problems:
            raise Invalid(problems)
        return rules

    def _sift(self, scope: Scope) -> tuple[list[Rule], list[Problem]]:
        """The sound rules, and the problems of the others."""
        read, problems = sift_rules(self.expectations, ("expectations",), scope.values)
        rules: list[Rule] = []
        try:
            entries = read_suite(scope.path(self.suite)) if self.suite else []
            more, wrong = sift_rules(entries, ("suite",), scope.values)
            read, problems = [*read, *more], [*problems, *wrong]
        except Invalid as invalid:
            problems.extend(invalid.problems)
        for rule in read:
            try:
                rules.append(resolved(rule))
            except Invalid as invalid:
                problems.extend(invalid.problems)
        return rules, problems

    def declared(self) -> dict[str, Declared]:
        """What is asked of columns, in one form."""
        wishes = {name: Column(type=wish) if isinstance(wish, str) else wish for name, wish in self.columns.items()}
        return {name: Declared(wish.type, wish.required, ("columns", name)) for name, wish in wishes.items()}

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        rules, problems = self._sift(scope)
        _tell(report, problems)
        if not (self.expectations or self.suite or self.columns):
            report((), "it has no rules", "add expectations, a suite or columns", warning=True)
        schema = inputs.get("")
        if schema is None:
            return {"out": None}
        try:
            with borrowed(scope) as sandbox:
                schema = converted_schema(schema, conversions(self.declared(), schema, sandbox))
        except Invalid as invalid:
            _tell(report, invalid.problems)
            return {"out": None}
        _check_rules(rules, schema, scope, report)
        return {"out": schema}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return Validation(self.rules(scope), self.declared(), schema, scope, sandbox)

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        try:
            rules = self.rules(Scope(project=Path())) if self.suite is None else None
        except Invalid:
            rules = None  # values of parameters are not known here
        if wanted is None or rules is None or any(rule.place == "schema" or not rule.columns for rule in rules):
            return None
        conditions = when_columns(rules)
        used = frozenset[str]()
        if conditions:
            bound = bind(conditions, schema, {}, sandbox)
            if bound.problems:
                return None
            used = bound.used
        return wanted | used | frozenset(self.columns) | {name for rule in rules for name in rule.columns}

    def verify(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope) -> Iterator[Finding]:
        """One finding for each rule, over all records of the run; `schema` is that of the node's input."""
        with borrowed(scope) as sandbox:
            judged = converted_schema(schema, conversions(self.declared(), schema, sandbox))
        return findings(self.rules(scope), parts, judged, scope)


def _tell(report: Report, problems: Iterable[Problem]) -> None:
    """Reports problems at their place; those of a suite at the field that names it."""
    for problem in problems:
        if problem.at[:1] == ("suite",) and len(problem.at) > 1:
            report(("suite",), f"rule {int(problem.at[1]) + 1} of it: {problem.what}", problem.fix)
        else:
            report(problem.at, problem.what, problem.fix)


def _check_rules(rules: Sequence[Rule], schema: pa.Schema, scope: Scope, report: Report) -> None:
    """Reports what is wrong with rules over records of `schema`."""
    whens = when_columns(rules)
    places = {name: _place(rules, condition) for name, condition in whens.items()}
    check_expressions(whens, schema, scope, report, places, conditions=whens)
    for rule in rules:
        try:
            conditions_of([rule], schema, {})
            if rule.place == "whole":
                check_whole(rule, schema)
        except Invalid as invalid:
            _tell(report, invalid.problems)
        if rule.place == "schema":
            met, said = judge_shape(rule, schema)
            if not met:
                _tell_shape(report, rule, said)


def _place(rules: Sequence[Rule], condition: str) -> tuple[str | int, ...]:
    rule = next(rule for rule in rules if rule.row_condition == condition)
    return ("suite",) if rule.at[0] == "suite" else (*rule.at, "row_condition")


def _tell_shape(report: Report, rule: Rule, said: str) -> None:
    at = ("suite",) if rule.at[0] == "suite" else rule.at
    report(at, f"{rule.name}: {said}", "no record could meet it", warning=rule.severity != "critical")
