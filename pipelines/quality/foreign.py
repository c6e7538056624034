"""Expectations that only Great Expectations can judge: handed to it, on pandas, imported at their first use."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from types import ModuleType
from typing import Any

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.quality.rules import ENTRY_POINTS, Rule


@cache
def _library() -> ModuleType:
    """Great Expectations; its own import warns of modules that are going away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations.expectations.core
        import great_expectations.validator.validator

    return great_expectations


@cache
def _class(name: str) -> Any:
    """The class of an expectation: Great Expectations' own or a stranger's."""
    library = _library()
    for point in metadata.entry_points(group=ENTRY_POINTS):
        if point.name == name:
            point.load()
    registry = library.expectations.registry
    try:
        return registry.get_expectation_impl(name)
    except library.exceptions.ExpectationNotFoundError as fault:
        raise Invalid(f"Great Expectations has no expectation {name!r}") from fault


def resolved(rule: Rule) -> Rule:
    """A foreign rule with the place where it is judged: per record where its class says which records it means."""
    if not rule.foreign:
        return rule
    kinds = _library().expectations.expectation
    judges = _class(rule.name)
    rows = (kinds.ColumnMapExpectation, kinds.ColumnPairMapExpectation, kinds.MulticolumnMapExpectation)
    try:
        judges(**_kwargs(rule))
    except (ValueError, TypeError) as fault:
        raise rule.invalid("", f"its arguments are refused: {_first_words(fault)}", "see its documentation") from fault
    return replace(rule, place="row" if issubclass(judges, rows) else "whole")


def _first_words(fault: Exception) -> str:
    return " ".join(str(fault).split())[:300]


def _kwargs(rule: Rule) -> dict[str, Any]:
    given = {key: value for key, value in rule.arguments.items() if value is not None}
    return given | ({"mostly": rule.mostly} if rule.mostly < 1 else {})


def validate(rule: Rule, table: pa.Table, detail: str = "BASIC") -> Mapping[str, Any]:
    """Great Expectations' verdict over the records: `success` and `result`; with `COMPLETE` every unexpected row."""
    return validate_all([rule], table, detail)[0]


def validate_all(rules: Sequence[Rule], table: pa.Table, detail: str = "BASIC") -> list[Mapping[str, Any]]:
    """The verdicts on several rules, in their order."""
    library = _library()
    make = library.expectations.expectation_configuration.ExpectationConfiguration
    for rule in rules:
        _class(rule.name)
    # Great Expectations gives equal rules one verdict and keeps no order: each is told apart by its number.
    configurations = [
        make(type=rule.name, kwargs=_kwargs(rule), meta={"number": number}) for number, rule in enumerate(rules)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = library.execution_engine.PandasExecutionEngine(batch_data_dict={"records": table.to_pandas()})
        validator = library.validator.validator.Validator(execution_engine=engine)
        validator.metrics_calculator.show_progress_bars = False
        form = {"result_format": detail, "include_unexpected_rows": False}
        found = validator.graph_validate(configurations, runtime_configuration={"result_format": form})
    verdicts = {verdict.expectation_config.meta["number"]: verdict for verdict in found}
    return [_verdict(rule, verdicts[number]) for number, rule in enumerate(rules)]


def _verdict(rule: Rule, verdict: Any) -> Mapping[str, Any]:
    raised = verdict.exception_info or {}
    for fault in [raised] if "raised_exception" in raised else list(raised.values()):
        if fault.get("raised_exception"):
            what = f"{rule.name}: Great Expectations could not judge {rule.subject}: {fault['exception_message']}"
            raise Invalid(f"{what}; mend its arguments or the column's type")
    return {"success": bool(verdict.success), "result": dict(verdict.result)}


@dataclass(frozen=True)
class ForeignPredicate:
    """Judges records by an expectation that names the records it means."""

    rule: Rule

    def __call__(self, batch: pa.RecordBatch) -> pa.BooleanArray:
        columns = [name for name in self.rule.columns if name in batch.schema.names] or batch.schema.names
        table = pa.Table.from_batches([batch]).select(columns)
        result = validate(self.rule, table, "COMPLETE")["result"]
        broken = set(result.get("unexpected_index_list") or ())
        return pa.array([row not in broken for row in range(batch.num_rows)], pa.bool_())
