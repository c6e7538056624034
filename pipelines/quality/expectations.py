"""The expectations a `validate` node knows: Great Expectations' names, and what each takes.

A rule is judged at one of four places:

* `row`     per record, by a condition in SQL or a predicate; a record that breaks it is rejected
* `count`   over the whole run, from two counts that every worker keeps
* `whole`   over the whole run, from the columns it reads, spilled to files
* `schema`  by the columns' names and types alone

Names and arguments: https://greatexpectations.io/expectations/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Place = Literal["row", "count", "whole", "schema"]


@dataclass(frozen=True)
class Argument:
    """What may stand for one argument of an expectation."""

    kind: str
    required: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Expectation:
    """An expectation that is known here: where it is judged and what it takes."""

    place: Place
    arguments: Mapping[str, Argument]


REQUIRED_COLUMN = Argument("column", required=True)
FLAG = Argument("flag", default=False)
BOUND = Argument("bound")
NUMBER = Argument("number")
COUNT = Argument("count")
VALUES = Argument("values", required=True)
TEXT = Argument("text", required=True)
TEXTS = Argument("texts", required=True)
PARTITION = Argument("mapping", required=True)
ANY = Argument("any")
ESCAPE = Argument("letter")
MATCH_ON = Argument("choice", default="any", choices=("any", "all"))
STRICT = {"strict_min": FLAG, "strict_max": FLAG}
LIMITS = {"min_value": BOUND, "max_value": BOUND, **STRICT}
NUMBERS = {"min_value": NUMBER, "max_value": NUMBER, **STRICT}
COUNTS = {"min_value": COUNT, "max_value": COUNT, **STRICT}
CONDITION = {"row_condition": Argument("condition"), "condition_parser": ANY}
MOSTLY = {"mostly": Argument("share", default=1.0)}
PAIR = ("both_values_are_missing", "either_value_is_missing", "neither")
MANY = ("all_values_are_missing", "any_value_is_missing", "never")


def _column(place: Place, mostly: bool = True, **arguments: Argument) -> Expectation:
    return Expectation(place, {"column": REQUIRED_COLUMN, **arguments, **CONDITION, **(MOSTLY if mostly else {})})


def _pair(place: Place, **arguments: Argument) -> Expectation:
    ignore = Argument("choice", default=PAIR[0], choices=PAIR)
    sides = {"column_A": REQUIRED_COLUMN, "column_B": REQUIRED_COLUMN, "ignore_row_if": ignore}
    return Expectation(place, {**sides, **arguments, **CONDITION, **MOSTLY})


def _many(place: Place, **arguments: Argument) -> Expectation:
    ignore = Argument("choice", default=MANY[0], choices=MANY)
    domain = {"column_list": Argument("columns", required=True), "ignore_row_if": ignore}
    return Expectation(place, {**domain, **arguments, **CONDITION, **MOSTLY})


def _aggregate(**arguments: Argument) -> Expectation:
    return _column("whole", mostly=False, **arguments)


EXPECTATIONS: Mapping[str, Expectation] = {
    "expect_column_values_to_not_be_null": _column("row"),
    "expect_column_values_to_be_null": _column("row"),
    "expect_column_values_to_be_in_set": _column("row", value_set=VALUES),
    "expect_column_values_to_not_be_in_set": _column("row", value_set=VALUES),
    "expect_column_values_to_be_between": _column("row", True, **LIMITS),
    "expect_column_value_lengths_to_be_between": _column("row", True, **COUNTS),
    "expect_column_value_lengths_to_equal": _column("row", value=Argument("count", required=True)),
    "expect_column_values_to_match_regex": _column("row", regex=TEXT),
    "expect_column_values_to_not_match_regex": _column("row", regex=TEXT),
    "expect_column_values_to_match_regex_list": _column("row", regex_list=TEXTS, match_on=MATCH_ON),
    "expect_column_values_to_not_match_regex_list": _column("row", regex_list=TEXTS),
    "expect_column_values_to_match_like_pattern": _column("row", like_pattern=TEXT, escape=ESCAPE),
    "expect_column_values_to_not_match_like_pattern": _column("row", like_pattern=TEXT, escape=ESCAPE),
    "expect_column_values_to_match_like_pattern_list": _column(
        "row", like_pattern_list=TEXTS, match_on=MATCH_ON, escape=ESCAPE
    ),
    "expect_column_values_to_not_match_like_pattern_list": _column("row", like_pattern_list=TEXTS, escape=ESCAPE),
    "expect_column_values_to_be_dateutil_parseable": _column("row"),
    "expect_column_values_to_match_strftime_format": _column("row", strftime_format=TEXT),
    "expect_column_values_to_be_json_parseable": _column("row"),
    "expect_column_values_to_match_json_schema": _column("row", json_schema=PARTITION),
    "expect_column_pair_values_to_be_equal": _pair("row"),
    "expect_column_pair_values_a_to_be_greater_than_b": _pair("row", or_equal=Argument("flag")),
    "expect_column_pair_values_to_be_in_set": _pair("row", value_pairs_set=Argument("pairs", required=True)),
    "expect_multicolumn_sum_to_equal": _many("row", sum_total=Argument("number", required=True)),
    "expect_multicolumn_values_to_be_equal": _many("row"),
    "expect_select_column_values_to_be_unique_within_record": _many("row"),
    "expect_table_row_count_to_be_between": Expectation("count", {**COUNTS, **CONDITION}),
    "expect_table_row_count_to_equal": Expectation("count", {"value": Argument("count", required=True), **CONDITION}),
    "expect_column_proportion_of_non_null_values_to_be_between": _column("count", mostly=False, **NUMBERS),
    "expect_column_values_to_be_unique": _column("whole"),
    "expect_compound_columns_to_be_unique": _many("whole"),
    "expect_multicolumn_values_to_be_unique": _many("whole"),
    "expect_column_max_to_be_between": _aggregate(**LIMITS),
    "expect_column_min_to_be_between": _aggregate(**LIMITS),
    "expect_column_median_to_be_between": _aggregate(**LIMITS),
    "expect_column_mean_to_be_between": _aggregate(**NUMBERS),
    "expect_column_sum_to_be_between": _aggregate(**NUMBERS),
    "expect_column_stdev_to_be_between": _aggregate(**NUMBERS),
    "expect_column_unique_value_count_to_be_between": _aggregate(**COUNTS),
    "expect_column_proportion_of_unique_values_to_be_between": _aggregate(**NUMBERS),
    "expect_column_quantile_values_to_be_between": _aggregate(
        quantile_ranges=Argument("quantiles", required=True), allow_relative_error=ANY
    ),
    "expect_column_distinct_values_to_be_in_set": _aggregate(value_set=VALUES),
    "expect_column_distinct_values_to_contain_set": _aggregate(value_set=VALUES),
    "expect_column_distinct_values_to_equal_set": _aggregate(value_set=VALUES),
    "expect_column_most_common_value_to_be_in_set": _aggregate(value_set=VALUES, ties_okay=Argument("flag")),
    "unexpected_rows_expectation": Expectation("whole", {"unexpected_rows_query": TEXT}),
    "expect_column_kl_divergence_to_be_less_than": _aggregate(
        partition_object=PARTITION,
        threshold=NUMBER,
        internal_weight_holdout=NUMBER,
        tail_weight_holdout=NUMBER,
        bucketize_data=Argument("flag"),
        min_value=BOUND,
        max_value=BOUND,
    ),
    "expect_column_value_z_scores_to_be_less_than": _column(
        "whole", threshold=Argument("number", required=True), double_sided=Argument("flag", default=True)
    ),
    "expect_column_values_to_not_be_outliers": _column(
        "whole", method=Argument("choice", default="iqr", choices=("iqr", "std")), multiplier=NUMBER
    ),
    "expect_column_to_exist": Expectation("schema", {"column": TEXT, "column_index": COUNT}),
    "expect_table_columns_to_match_ordered_list": Expectation("schema", {"column_list": TEXTS}),
    "expect_table_columns_to_match_set": Expectation(
        "schema", {"column_set": TEXTS, "exact_match": Argument("flag", default=True)}
    ),
    "expect_table_column_count_to_equal": Expectation("schema", {"value": Argument("count", required=True)}),
    "expect_table_column_count_to_be_between": Expectation("schema", {"min_value": COUNT, "max_value": COUNT}),
    "expect_column_type_to_be": Expectation("schema", {"column": TEXT, "type_": TEXT}),
    "expect_column_values_to_be_of_type": _column("schema", type_=TEXT),
    "expect_column_values_to_be_in_type_list": _column("schema", type_list=TEXTS),
}

REFUSED: Mapping[str, str] = {
    "expect_column_values_to_be_increasing": "the splits of a source are read side by side, so records have no order",
    "expect_column_values_to_be_decreasing": "the splits of a source are read side by side, so records have no order",
    "expect_query_results_to_match_comparison": "it compares with a data source that only Great Expectations knows",
    "expect_table_row_count_to_equal_other_table": "it compares with a table that only Great Expectations knows",
}
"""Expectations that cannot be judged here, and why."""
