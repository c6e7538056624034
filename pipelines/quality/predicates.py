"""Row rules that only Python can judge: JSON, dates in any form, regular expressions beyond RE2.

A predicate looks at each distinct value of a batch once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.quality.rules import Rule


class Predicate(Protocol):
    """Judges every record of a batch."""

    def __call__(self, batch: pa.RecordBatch) -> pa.BooleanArray: ...


@dataclass(frozen=True)
class ValuePredicate:
    """Judges the values of one column of text; null stays null."""

    column: str
    judge: Callable[[str], bool]

    def __call__(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        column = batch.column(self.column)
        if not pa.types.is_dictionary(column.type):
            text = column if _is_text(column.type) else column.cast(pa.string())
            column = text.dictionary_encode()
        # The judge is a Python function of one value: each distinct value is shown to it once.
        verdicts = [value is not None and self.judge(value) for value in column.dictionary.to_pylist()]
        return pc.take(pa.array(verdicts, pa.bool_()), column.indices)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def python_regex(rule: Rule, argument: str, pattern: str, column: str) -> ValuePredicate | None:
    """None where DuckDB's RE2 takes the pattern, else Python's `re` (look-around, back references)."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid:
        try:
            compiled = re.compile(pattern)
        except re.error as fault:
            raise rule.invalid(argument, f"{pattern!r} is no regular expression: {fault}", "mend it") from fault
        return ValuePredicate(column, lambda value: compiled.search(value) is not None)
    return None


def predicate_for(rule: Rule) -> tuple[ValuePredicate, str]:
    """The predicate of a rule and what it demands, in words."""
    make, demand = PREDICATES[rule.name]
    shown = str(rule.arguments.get("strftime_format", ""))
    return ValuePredicate(rule.arguments["column"], make(rule)), demand.format(shown)


def _json(rule: Rule) -> Callable[[str], bool]:
    def judge(value: str) -> bool:
        try:
            json.loads(value)
        except (ValueError, RecursionError):
            return False
        return True

    return judge


def _json_schema(rule: Rule) -> Callable[[str], bool]:
    import jsonschema  # type: ignore[import-untyped]

    schema: Mapping[str, Any] = rule.arguments["json_schema"]
    kind = jsonschema.validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except jsonschema.SchemaError as fault:
        raise rule.invalid("json_schema", f"json_schema is no JSON Schema: {fault.message}", "mend it") from fault
    validator = kind(schema)

    def judge(value: str) -> bool:
        try:
            return bool(validator.is_valid(json.loads(value)))
        except (ValueError, RecursionError):
            return False

    return judge


def _dateutil(rule: Rule) -> Callable[[str], bool]:
    from dateutil import parser  # type: ignore[import-untyped]

    def judge(value: str) -> bool:
        try:
            parser.parse(value)
        except (ValueError, OverflowError):
            return False
        return True

    return judge


def _strftime(rule: Rule) -> Callable[[str], bool]:
    form: str = rule.arguments["strftime_format"]
    try:
        datetime.strptime(datetime(2026, 1, 31, tzinfo=UTC).strftime(form), form)  # noqa: DTZ007
    except ValueError as fault:
        raise rule.invalid("strftime_format", f"{form!r} is no format to read dates by: {fault}", "mend it") from fault

    def judge(value: str) -> bool:
        try:
            datetime.strptime(value, form)  # noqa: DTZ007 - only whether it can be read counts
        except ValueError:
            return False
        return True

    return judge


PREDICATES: Mapping[str, tuple[Callable[[Rule], Callable[[str], bool]], str]] = {
    "expect_column_values_to_be_json_parseable": (_json, "must be JSON"),
    "expect_column_values_to_match_json_schema": (_json_schema, "must be JSON of the given schema"),
    "expect_column_values_to_be_dateutil_parseable": (_dateutil, "must be a date or time"),
    "expect_column_values_to_match_strftime_format": (_strftime, "must be a date written as {0}"),
}
