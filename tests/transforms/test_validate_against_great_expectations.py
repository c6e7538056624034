"""Our rules and Great Expectations' own, on the same random data: the same records, the same verdicts.

The only test module that imports Great Expectations, which takes some seconds.
"""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipelines.node import Part
from pipelines.quality.checks import Checks
from pipelines.quality.foreign import validate_all
from pipelines.quality.rules import Rule, read_rules
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from transforms.validate import Validate

SCHEMA = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("other", pa.string()),
        pa.field("whole", pa.int64()),
        pa.field("second", pa.int64()),
        pa.field("real", pa.float64()),
        pa.field("third", pa.float64()),
        pa.field("at", pa.timestamp("us")),
    ]
)
TEXTS = [
    "",
    "a",
    "ab",
    "AB",
    "é",
    "12",
    "2026-01-31",
    "31.01.2026",
    "31 Jan",
    "{}",
    "[1,]",
    "NaN",
    '{"a": 1}',
    '"x',
    " ",
]
NUMBERS = st.none() | st.integers(-3, 6)
REALS = st.none() | st.sampled_from([math.nan, -1.5, 0.0, 0.5, 1.0, 2.0, 2.5])
MOMENTS = st.none() | st.sampled_from([datetime.fromisoformat(f"2026-01-0{day}") for day in (1, 2, 3)])
RECORD = st.fixed_dictionaries(
    {
        "text": st.none() | st.sampled_from(TEXTS),
        "other": st.none() | st.sampled_from(TEXTS[:4]),
        "whole": NUMBERS,
        "second": NUMBERS,
        "real": REALS,
        "third": REALS,
        "at": MOMENTS,
    }
)
TABLES = st.lists(RECORD, min_size=1, max_size=20).map(
    lambda records: pa.RecordBatch.from_pylist(records, schema=SCHEMA)
)

PAIR_IGNORES = ["both_values_are_missing", "either_value_is_missing", "neither"]
MANY_IGNORES = ["all_values_are_missing", "any_value_is_missing", "never"]
ROW_RULES: list[dict[str, Any]] = [
    *({f"expect_column_values_to_{verb}be_null": {"column": column}} for verb in ("", "not_") for column in ("text", "real")),
    {"expect_column_values_to_be_in_set": {"column": "text", "value_set": ["a", "12", ""]}},
    {"expect_column_values_to_not_be_in_set": {"column": "whole", "value_set": [1, 2.0, 2.5]}},
    {"expect_column_values_to_be_in_set": {"column": "real", "value_set": [1, 0.5]}},
    {"expect_column_values_to_not_be_in_set": {"column": "at", "value_set": ["2026-01-02"]}},
    {"expect_column_values_to_be_between": {"column": "whole", "min_value": 0, "max_value": 3, "strict_max": True}},
    {"expect_column_values_to_be_between": {"column": "real", "min_value": 0, "strict_min": True}},
    {"expect_column_values_to_be_between": {"column": "at", "max_value": "2026-01-02T00:00:00"}},
    {"expect_column_value_lengths_to_be_between": {"column": "text", "min_value": 1, "max_value": 2}},
    {"expect_column_value_lengths_to_equal": {"column": "text", "value": 2}},
    {"expect_column_values_to_match_regex": {"column": "text", "regex": "^[a-z]+$"}},
    {"expect_column_values_to_match_regex": {"column": "text", "regex": "a(?!b)"}},
    {"expect_column_values_to_not_match_regex": {"column": "text", "regex": "[0-9]"}},
    {"expect_column_values_to_match_regex_list": {"column": "text", "regex_list": ["a", "b"], "match_on": "all"}},
    {"expect_column_values_to_match_regex_list": {"column": "text", "regex_list": ["a", "2"]}},
    {"expect_column_values_to_not_match_regex_list": {"column": "text", "regex_list": ["a", "2"]}},
    {"expect_column_values_to_be_dateutil_parseable": {"column": "text"}},
    {"expect_column_values_to_match_strftime_format": {"column": "text", "strftime_format": "%Y-%m-%d"}},
    {"expect_column_values_to_be_json_parseable": {"column": "text"}},
    *({"expect_column_pair_values_to_be_equal": {"column_A": "whole", "column_B": "second", "ignore_row_if": ignore}} for ignore in PAIR_IGNORES),
    *({"expect_column_pair_values_to_be_equal": {"column_A": "text", "column_B": "other", "ignore_row_if": ignore}} for ignore in PAIR_IGNORES),
    *(
        {"expect_column_pair_values_a_to_be_greater_than_b": {"column_A": "whole", "column_B": "real", "or_equal": equal, "ignore_row_if": "neither"}}
        for equal in (True, False)
    ),
    {"expect_column_pair_values_to_be_in_set": {"column_A": "whole", "column_B": "text", "value_pairs_set": [[1, "a"], [2, None], [None, "ab"]], "ignore_row_if": "neither"}},
    *({"expect_multicolumn_sum_to_equal": {"column_list": ["whole", "second"], "sum_total": 3, "ignore_row_if": ignore}} for ignore in MANY_IGNORES),
    {"expect_multicolumn_sum_to_equal": {"column_list": ["whole", "real"], "sum_total": 2.5, "ignore_row_if": "never"}},
    *({"expect_multicolumn_values_to_be_equal": {"column_list": ["whole", "second", "real"], "ignore_row_if": ignore}} for ignore in MANY_IGNORES),
    *(
        {"expect_select_column_values_to_be_unique_within_record": {"column_list": ["whole", "second", "text"], "ignore_row_if": ignore}}
        for ignore in MANY_IGNORES
    ),
]  # fmt: skip
WHOLE_RULES: list[dict[str, Any]] = [
    {"expect_table_row_count_to_be_between": {"min_value": 3, "max_value": 8}},
    {"expect_table_row_count_to_equal": {"value": 5}},
    {"expect_column_proportion_of_non_null_values_to_be_between": {"column": "real", "min_value": 0.5}},
    {"expect_column_values_to_be_unique": {"column": "whole"}},
    {"expect_column_values_to_be_unique": {"column": "real", "mostly": 0.5}},
    {"expect_column_values_to_not_be_null": {"column": "text", "mostly": 0.75}},
    {"expect_column_values_to_be_between": {"column": "whole", "min_value": 0, "mostly": 0.6}},
    *({"expect_compound_columns_to_be_unique": {"column_list": ["whole", "text"], "ignore_row_if": ignore}} for ignore in MANY_IGNORES),
    {"expect_column_max_to_be_between": {"column": "whole", "max_value": 5}},
    {"expect_column_max_to_be_between": {"column": "at", "max_value": "2026-01-02T00:00:00"}},
    {"expect_column_min_to_be_between": {"column": "real", "min_value": 0, "strict_min": True}},
    {"expect_column_mean_to_be_between": {"column": "whole", "min_value": 0.5, "max_value": 2}},
    {"expect_column_median_to_be_between": {"column": "whole", "min_value": 1, "max_value": 3}},
    {"expect_column_sum_to_be_between": {"column": "real", "min_value": 0, "max_value": 3}},
    {"expect_column_stdev_to_be_between": {"column": "real", "max_value": 1.2}},
    {"expect_column_unique_value_count_to_be_between": {"column": "text", "min_value": 2, "max_value": 4}},
    {"expect_column_proportion_of_unique_values_to_be_between": {"column": "whole", "min_value": 0.7}},
    {"expect_column_distinct_values_to_be_in_set": {"column": "whole", "value_set": [0, 1, 2, 3, 4, 5, 6]}},
    {"expect_column_distinct_values_to_contain_set": {"column": "whole", "value_set": [1, 2]}},
    {"expect_column_distinct_values_to_equal_set": {"column": "other", "value_set": ["", "a"]}},
    *({"expect_column_most_common_value_to_be_in_set": {"column": "whole", "value_set": [1, 2], "ties_okay": ties}} for ties in (True, False)),
    {"expect_column_quantile_values_to_be_between": {"column": "whole", "quantile_ranges": {"quantiles": [0.1, 0.5, 0.9], "value_ranges": [[-2, 2], [0, 3], [1, None]]}}},
    {"expect_column_value_z_scores_to_be_less_than": {"column": "whole", "threshold": 1.5, "double_sided": True}},
    {"expect_column_values_to_not_be_outliers": {"column": "whole", "method": "iqr", "multiplier": 1.0}},
]  # fmt: skip
HOUSE = settings(
    max_examples=4,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def broken_here(rules: list[Rule], batch: pa.RecordBatch) -> list[list[int]]:
    """Per rule the rows that break it."""
    scope = Scope(project=Path())
    with borrowed(scope) as sandbox:
        judged = Checks(rules, batch.schema, scope, sandbox)(batch)
    return [pc.indices_nonzero(judged.broken[number]).to_pylist() for number in range(len(rules))]


def broken_there(rules: list[Rule], batch: pa.RecordBatch) -> list[list[int]]:
    verdicts = validate_all(rules, pa.Table.from_batches([batch]), "COMPLETE")
    return [sorted(verdict["result"].get("unexpected_index_list") or []) for verdict in verdicts]


def parts_of(node: Validate, batch: pa.RecordBatch, scope: Scope, cut: int) -> list[Part]:
    """What two threads leave that share the records between them."""
    parts: list[Part] = []
    with borrowed(scope) as sandbox:
        for piece in (batch.slice(0, cut), batch.slice(cut)):
            step: Any = node.open(batch.schema, scope, sandbox)
            step(piece)
            parts.extend(step.close())
    return parts


@HOUSE
@given(batch=TABLES)
def test_a_record_breaks_a_rule_here_just_where_it_does_there(batch: pa.RecordBatch) -> None:
    rules = read_rules(ROW_RULES, (), {})

    ours = broken_here(rules, batch)

    for rule, here, there in zip(rules, ours, broken_there(rules, batch), strict=True):
        assert here == there, (rule, batch.to_pylist())


@HOUSE
@given(batch=TABLES, cut=st.integers(0, 20))
def test_a_run_meets_a_rule_here_just_where_the_table_does_there(
    tmp_path: Path, batch: pa.RecordBatch, cut: int
) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    node = Validate(expectations=WHOLE_RULES)
    parts = parts_of(node, batch, scope, min(cut, batch.num_rows))

    findings = list(node.verify(parts, batch.schema, scope))

    for finding, there in zip(findings, validate_all(node.rules(scope), pa.Table.from_batches([batch])), strict=True):
        assert finding.passed == there["success"], (finding, there, batch.to_pylist())


def test_json_schema_means_what_it_means_there() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    rules = read_rules(
        [{"expect_column_values_to_match_json_schema": {"column": "text", "json_schema": schema}}], (), {}
    )
    texts = pa.RecordBatch.from_pylist([{"text": '{"a": 1}'}, {"text": '{"a": "1"}'}, {"text": "[]"}, {"text": None}])

    assert broken_here(rules, texts) == broken_there(rules, texts) == [[1, 2]]


def test_a_test_of_a_distribution_is_handed_over(tmp_path: Path) -> None:
    partition = {"values": ["a", "b"], "weights": [0.5, 0.5]}
    rule = {
        "expect_column_kl_divergence_to_be_less_than": {
            "column": "kind",
            "partition_object": partition,
            "threshold": 0.1,
        }
    }
    node = Validate(expectations=[rule])
    scope = Scope(project=tmp_path, staging=tmp_path)
    even = pa.RecordBatch.from_pylist([{"kind": kind} for kind in "abab"])
    odd = pa.RecordBatch.from_pylist([{"kind": kind} for kind in "aaaaab"])

    (met,), (broken,) = (
        list(node.verify(parts_of(node, batch, scope, 2), batch.schema, scope)) for batch in (even, odd)
    )

    assert met.passed
    assert broken.stops
    assert "expect_column_kl_divergence_to_be_less_than" in broken.message


STRANGER = """
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import ColumnMapExpectation
from great_expectations.expectations.metrics import ColumnMapMetricProvider, column_condition_partial


class Even(ColumnMapMetricProvider):
    condition_metric_name = "column_values.stranger_even"

    @column_condition_partial(engine=PandasExecutionEngine)
    def _pandas(cls, column, **kwargs):
        return column % 2 == 0


class ExpectColumnValuesToBeEven(ColumnMapExpectation):
    map_metric = "column_values.stranger_even"
    success_keys = ("mostly",)
"""


def test_a_strangers_expectation_rejects_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger_even.py").write_text(STRANGER)
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    entry = "expect_column_values_to_be_even = stranger_even:ExpectColumnValuesToBeEven"
    (info / "entry_points.txt").write_text(f"[processflow.expectations]\n{entry}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    node = Validate(expectations=[{"expect_column_values_to_be_even": {"column": "n"}}])
    scope = Scope(project=tmp_path, staging=tmp_path)
    batch = pa.RecordBatch.from_pylist([{"n": 1}, {"n": 2}, {"n": None}])

    with borrowed(scope) as sandbox:
        outcome = node.open(batch.schema, scope, sandbox)(batch)

    assert outcome.out["out"].batch.to_pylist() == [{"n": 2}, {"n": None}]
    assert outcome.rejects is not None
    assert outcome.rejects.messages == ["n: is 1, must meet the expectation (expect_column_values_to_be_even)"]
