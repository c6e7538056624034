"""What a `validate` node lets through, what it rejects and why, and what it says of a whole run."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.aggregates import JUDGES
from pipelines.environment import Environment, Runner
from pipelines.errors import Failed, Invalid
from pipelines.expectations import EXPECTATIONS
from pipelines.node import Example, Outcome
from pipelines.quality import Finding, WholeRules
from pipelines.sandbox import borrowed
from pipelines.scope import Scope
from transforms.validate import Column, Validate

NOT_NULL = {"expect_column_values_to_not_be_null": {"column": "email"}}


@dataclass
class Told:
    """The problems that a check reports."""

    problems: list[tuple[tuple[str | int, ...], str, str, bool]] = field(default_factory=list)

    def __call__(self, at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        self.problems.append((at, what, fix, warning))


def records_of(*records: Mapping[str, Any], schema: pa.Schema | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(records), schema=schema)


def run(node: Validate, batch: pa.RecordBatch, scope: Scope | None = None) -> Outcome:
    scope = scope or Scope(project=Path())
    with borrowed(scope) as sandbox:
        return node.open(batch.schema, scope, sandbox)(batch)


def reasons(node: Validate, batch: pa.RecordBatch, scope: Scope | None = None) -> dict[int, str]:
    """Per rejected row what was said of it."""
    rejects = run(node, batch, scope).rejects
    return {} if rejects is None else dict(zip(rejects.rows.to_pylist(), rejects.messages, strict=True))


def passed_rows(outcome: Outcome, rows: int) -> list[int]:
    piece = outcome.out["out"]
    return list(range(rows)) if piece.rows is None else piece.rows.to_pylist()


def findings(node: Validate, batches: Sequence[pa.RecordBatch], scope: Scope) -> list[Finding]:
    """What is found over batches that as many threads have judged."""
    parts = []
    with borrowed(scope) as sandbox:
        for batch in batches:
            step: Any = node.open(batch.schema, scope, sandbox)
            step(batch)
            parts.extend(step.close())
    return list(node.verify(parts, batches[0].schema, scope))


def problems_of(node: Validate, schema: pa.Schema | None, scope: Scope | None = None) -> list[tuple[Any, ...]]:
    told = Told()
    node.check({"": schema}, scope or Scope(project=Path()), told)
    return told.problems


@pytest.mark.parametrize("example", Validate.examples, ids=lambda example: example.says)
def test_each_example_gives_what_it_says(example: Example) -> None:
    batch = records_of(*example.records)

    outcome = run(Validate(**example.config), batch)

    assert outcome.out["out"].batch.to_pylist() == example.gives["out"]
    told = [record["reject_message"] for record in example.gives.get("rejected", ())]
    assert (list(outcome.rejects.messages) if outcome.rejects else []) == told


def test_a_record_that_breaks_nothing_goes_on_as_it_came() -> None:
    batch = records_of({"email": "a@b.c", "n": Decimal("1.10")}, {"email": "", "n": None})

    outcome = run(Validate(expectations=[NOT_NULL]), batch)

    assert outcome.rejects is None
    assert outcome.out["out"].batch.equals(batch)


def test_a_message_names_every_rule_that_was_broken_with_the_value() -> None:
    node = Validate(
        expectations=[
            {
                "expect_column_values_to_be_between": {
                    "column": "qty",
                    "min_value": 1,
                    "max_value": 9,
                    "strict_max": True,
                }
            },
            {"expect_column_values_to_be_in_set": {"column": "status", "value_set": ["new", "paid"]}},
            {"expect_column_pair_values_to_be_equal": {"column_A": "qty", "column_B": "sent"}},
        ]
    )

    said = reasons(node, records_of({"qty": 9, "status": "o'k", "sent": 8}, {"qty": 2, "status": None, "sent": 2}))

    assert said == {
        0: "qty: is 9, must be at least 1 and below 9 (expect_column_values_to_be_between); "
        "status: is 'o'k', must be one of 'new', 'paid' (expect_column_values_to_be_in_set); "
        "qty, sent: are 9, 8, must be equal (expect_column_pair_values_to_be_equal)"
    }


def test_a_long_value_is_cut_in_the_message() -> None:
    node = Validate(expectations=[{"expect_column_value_lengths_to_equal": {"column": "text", "value": 3}}])

    said = reasons(node, records_of({"text": "x" * 10_000}))

    assert said[0].startswith("text: is 'xxx")
    assert "…'" in said[0]
    assert len(said[0]) < 200


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("integer", ["1", " 12 ", "-3", "+4", "5.0"], ["1.5", "x", "", "1_000", "0x1f", "1e3", "99999999999"]),
        ("decimal(6, 2)", ["1", "1.50", "-.5", "1.100"], ["1.234", "12345.6", "1e2", "--1"]),
        ("double", ["1", "1e3", "-0.5"], ["x", "1,5"]),
        ("date", ["2026-01-31"], ["2026-02-30", "2026-01-31 10:00:00", "x"]),
        ("timestamp", ["2026-01-31 10:00:00", "2026-01-31"], ["10 o'clock"]),
        ("boolean", ["true", "false"], ["maybe"]),
        ("varchar(3)", ["", "abc", "äöü"], ["abcd"]),
        ("uuid", ["6f1c2ba0-0b1e-4b0a-9f3e-2f6f1f4b7a11"], ["6f1c2ba0"]),
        ("json", ["{}", "[1]"], ["{"]),
        ("enum('a', 'b')", ["a", "b"], ["c"]),
        ("integer[]", ["[1, 2]"], ["1, 2"]),
    ],
)
def test_a_text_that_would_lose_something_is_not_of_a_type(kind: str, good: list[str], bad: list[str]) -> None:
    batch = pa.record_batch({"x": pa.array([*good, None, *bad], pa.string())})

    outcome = run(Validate(columns={"x": kind}), batch)

    assert passed_rows(outcome, batch.num_rows) == list(range(len(good) + 1))
    assert outcome.rejects is not None
    assert outcome.rejects.messages[0] == f"x: is '{bad[0]}', must be of type {kind} (columns)"


def test_numbers_of_another_type_go_on_only_where_nothing_is_lost() -> None:
    batch = pa.record_batch({"x": pa.array([1.0, 1.5, float("nan"), 3e20, None], pa.float64())})

    outcome = run(Validate(columns={"x": "bigint"}), batch)

    assert outcome.out["out"].batch.column("x").equals(pa.array([1, None], pa.int64()))
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [1, 2, 3]


def test_a_required_column_must_have_a_value() -> None:
    node = Validate(columns={"email": Column(type="string", required=True)})

    said = reasons(node, records_of({"email": None}, {"email": ""}))

    assert said == {0: "email: is null, must be given (columns)"}


def test_a_value_of_the_wrong_type_breaks_no_further_rule_of_its_column() -> None:
    node = Validate(
        columns={"n": Column(type="integer", required=True)},
        expectations=[
            {"expect_column_values_to_not_be_null": {"column": "n"}},
            {"expect_column_values_to_be_between": {"column": "n", "min_value": 2}},
        ],
    )

    said = reasons(node, records_of({"n": "one"}, {"n": "1"}))

    assert said[0] == "n: is 'one', must be of type integer (columns)"
    assert said[1] == "n: is 1, must be at least 2 (expect_column_values_to_be_between)"


def test_rules_see_columns_of_their_declared_type() -> None:
    node = Validate(
        columns={"at": "date"},
        expectations=[{"expect_column_values_to_be_between": {"column": "at", "min_value": "2026-01-10"}}],
    )

    outcome = run(node, records_of({"at": "2026-01-09"}, {"at": "2026-01-10"}))

    assert outcome.out["out"].batch.to_pylist() == [{"at": date(2026, 1, 10)}]


def test_a_row_condition_is_an_expression_with_parameters() -> None:
    rule = {"column": "zip", "value": 5, "row_condition": "country = $home"}
    node = Validate(expectations=[{"expect_column_value_lengths_to_equal": rule}])
    batch = records_of({"country": "DE", "zip": "1"}, {"country": "NL", "zip": "1"}, {"country": None, "zip": "1"})

    said = reasons(node, batch, Scope(project=Path(), values={"home": "DE"}))

    assert list(said) == [0]


def test_a_record_whose_row_condition_cannot_be_computed_is_rejected_with_the_fault() -> None:
    rule = {"column": "b", "row_condition": "a::integer > 1"}
    node = Validate(expectations=[{"expect_column_values_to_not_be_null": rule}])

    outcome = run(node, records_of({"a": "2", "b": None}, {"a": "x", "b": 1}, {"a": "0", "b": None}))

    assert outcome.rejects is not None
    assert dict(zip(outcome.rejects.rows.to_pylist(), outcome.rejects.codes, strict=True)) == {
        0: "validation",
        1: "expression",
    }
    assert outcome.out["out"].batch.to_pylist() == [{"a": "0", "b": None}]


def test_nan_is_missing_as_null_is() -> None:
    batch = pa.record_batch({"x": pa.array([float("nan"), None, 5.0])})
    node = Validate(
        expectations=[
            {"expect_column_values_to_not_be_null": {"column": "x"}},
            {"expect_column_values_to_be_between": {"column": "x", "max_value": 3}},
        ]
    )

    said = reasons(node, batch)

    assert said[0] == "x: is nan, must not be (expect_column_values_to_not_be_null)"
    assert said[1] == "x: is null, must not be (expect_column_values_to_not_be_null)"
    assert said[2] == "x: is 5.0, must be at most 3 (expect_column_values_to_be_between)"


def test_a_decimal_is_compared_exactly() -> None:
    batch = pa.record_batch({"x": pa.array([Decimal("0.10"), Decimal("0.30")], pa.decimal128(9, 2))})
    node = Validate(expectations=[{"expect_column_values_to_be_in_set": {"column": "x", "value_set": [0.1, "0.3"]}}])

    assert reasons(node, batch) == {}


def test_texts_are_compared_as_texts_between_bounds() -> None:
    node = Validate(expectations=[{"expect_column_values_to_be_between": {"column": "x", "min_value": "b"}}])

    assert list(reasons(node, records_of({"x": "a"}, {"x": "c"}))) == [0]


@given(texts=st.lists(st.none() | st.text("a%_b\\", max_size=4), min_size=1, max_size=20))
def test_like_patterns_mean_what_duckdb_means(texts: list[str | None]) -> None:
    batch = pa.record_batch({"x": pa.array(texts, pa.string())})
    node = Validate(
        expectations=[
            {"expect_column_values_to_match_like_pattern": {"column": "x", "like_pattern": "a\\_%", "escape": "\\"}},
            {
                "expect_column_values_to_not_match_like_pattern_list": {
                    "column": "x",
                    "like_pattern_list": ["%b", "a_a"],
                }
            },
        ]
    )

    outcome = run(node, batch)

    with duckdb.connect() as connection:
        connection.register("records", batch)
        good = "x IS NULL OR (x LIKE 'a\\_%' ESCAPE '\\' AND NOT (x LIKE '%b' OR x LIKE 'a_a'))"
        rows = f"SELECT i FROM (SELECT x, row_number() OVER () - 1 AS i FROM records) WHERE {good} ORDER BY i"
        assert passed_rows(outcome, len(texts)) == [row for (row,) in connection.execute(rows).fetchall()]


@given(numbers=st.lists(st.none() | st.integers(-5, 5), max_size=60), size=st.integers(1, 7))
def test_every_record_goes_on_or_is_rejected_once_however_batches_are_cut(numbers: list[int | None], size: int) -> None:
    node = Validate(
        expectations=[
            {"expect_column_values_to_not_be_null": {"column": "n"}},
            {"expect_column_values_to_be_between": {"column": "n", "min_value": 0}},
        ]
    )
    batch = pa.record_batch({"n": pa.array(numbers, pa.int64())})
    scope = Scope(project=Path())

    with borrowed(scope) as sandbox:
        step = node.open(batch.schema, scope, sandbox)
        outcomes = [(start, step(batch.slice(start, size))) for start in range(0, len(numbers), size)]

    out = [start + row for start, outcome in outcomes for row in passed_rows(outcome, min(size, len(numbers) - start))]
    bad = [start + row for start, outcome in outcomes if outcome.rejects for row in outcome.rejects.rows.to_pylist()]
    assert out == [row for row, number in enumerate(numbers) if number is not None and number >= 0]
    assert sorted(out + bad) == list(range(len(numbers)))


def test_a_batch_without_records_gives_none() -> None:
    batch = records_of({"email": "x"}).slice(0, 0)

    outcome = run(Validate(expectations=[NOT_NULL], columns={"email": "integer"}), batch)

    assert outcome.out["out"].batch.num_rows == 0
    assert outcome.rejects is None


def test_columns_of_any_type_go_through(tmp_path: Path) -> None:
    batch = records_of(
        {"a": {"b": [1, 2]}, "at": datetime.fromisoformat("2026-01-31T10:00:00+00:00"), "raw": b"\x00\xff", "n": 1},
        {"a": None, "at": None, "raw": None, "n": None},
    )
    rules = [{"expect_column_values_to_not_be_null": {"column": name}} for name in batch.schema.names]

    outcome = run(Validate(expectations=rules), batch)

    assert outcome.out["out"].batch.equals(batch.slice(0, 1))
    assert outcome.rejects is not None
    assert outcome.rejects.messages[0].count("must not be") == 4


def test_a_rule_with_mostly_rejects_nothing_and_is_judged_over_the_run(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    rule = {"expect_column_values_to_not_be_null": {"column": "email", "mostly": 0.5}}
    node = Validate(expectations=[rule])
    batches = [records_of({"email": "x"}, {"email": None}), records_of({"email": None}, schema=SCHEMA)]

    enough, too_few = findings(node, batches[:1], scope)[0], findings(node, batches, scope)[0]

    assert run(node, batches[1]).rejects is None
    assert enough.passed
    assert too_few.stops
    assert too_few.message == (
        "email: 2 of 3 records (66.67%) break expect_column_values_to_not_be_null, 0.5 of them must meet it, "
        "such as email: is null, must not be (expect_column_values_to_not_be_null); "
        "email: is null, must not be (expect_column_values_to_not_be_null)"
    )


SCHEMA = pa.schema([pa.field("email", pa.string())])


def test_a_warning_rejects_nothing_and_does_not_stop_the_run(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    node = Validate(expectations=[{"expect_column_values_to_not_be_null": {"column": "email", "severity": "warning"}}])
    batch = records_of({"email": None}, schema=SCHEMA)

    (finding,) = findings(node, [batch], scope)

    assert run(node, batch).rejects is None
    assert (finding.passed, finding.severity, finding.stops) == (False, "warning", False)


def test_rejecting_rules_tell_how_many_they_rejected(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)

    (finding,) = findings(Validate(expectations=[NOT_NULL]), [records_of({"email": None}, {"email": "x"})], scope)

    assert not finding.stops
    assert finding.observed == 1


def test_what_is_repeated_is_found_across_threads(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    node = Validate(expectations=[{"expect_column_values_to_be_unique": {"column": "id"}}])
    one, other = records_of({"id": 1}, {"id": 2}), records_of({"id": 3}, {"id": 1})

    (apart,), (together,) = findings(node, [one], scope), findings(node, [one, other], scope)

    assert apart.passed
    assert together.stops
    assert together.message == "id: 2 of 4 are repeated, such as 1, must be unique (expect_column_values_to_be_unique)"


def test_a_run_without_records_is_judged_too(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    node = Validate(
        expectations=[
            {"expect_table_row_count_to_be_between": {"min_value": 1}},
            {"expect_column_max_to_be_between": {"column": "n", "max_value": 1}},
            {"expect_column_values_to_be_unique": {"column": "n"}},
        ]
    )

    found = list(node.verify([], pa.schema([pa.field("n", pa.int64())]), scope))

    assert [finding.passed for finding in found] == [False, False, True]


def test_a_rule_over_the_run_counts_only_records_of_its_condition(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    node = Validate(
        expectations=[
            {"expect_table_row_count_to_equal": {"value": 2, "row_condition": "kind = 'a'"}},
            {"expect_column_max_to_be_between": {"column": "n", "max_value": 2, "row_condition": "kind = 'a'"}},
        ]
    )
    batch = records_of({"kind": "a", "n": 1}, {"kind": "b", "n": 9}, {"kind": "a", "n": 2})

    assert [finding.passed for finding in findings(node, [batch], scope)] == [True, True]


def test_a_query_that_must_give_no_rows_sees_the_records_and_nothing_else(tmp_path: Path) -> None:
    scope = Scope(project=tmp_path, staging=tmp_path)
    (tmp_path / "secret.csv").write_text("a\n1\n")
    batch = records_of({"a": 1, "b": 2}, {"a": 3, "b": 2})

    def node(query: str) -> Validate:
        return Validate(expectations=[{"unexpected_rows_expectation": {"unexpected_rows_query": query}}])

    (finding,) = findings(node("SELECT * FROM {batch} WHERE a > b"), [batch], scope)

    assert finding.message == "the records: 1 rows, must give no rows (unexpected_rows_expectation)"
    for query in (f"SELECT * FROM '{tmp_path}/secret.csv'", "DROP VIEW {batch}", "SELECT 1; SELECT 2"):
        with pytest.raises(Invalid):
            findings(node(query), [batch], scope)


def test_rules_about_columns_are_told_before_the_run() -> None:
    node = Validate(
        expectations=[
            {"expect_column_to_exist": {"column": "phone"}},
            {"expect_table_column_count_to_equal": {"value": 1}},
            {"expect_column_values_to_be_of_type": {"column": "email", "type_": "bigint", "severity": "warning"}},
            {"expect_column_values_to_be_in_type_list": {"column": "email", "type_list": ["int64", "str"]}},
        ]
    )

    told = problems_of(node, SCHEMA)

    assert [(at, warning) for at, _, _, warning in told] == [
        (("expectations", 0, "expect_column_to_exist"), False),
        (("expectations", 2, "expect_column_values_to_be_of_type"), True),
    ]


@pytest.mark.parametrize(
    ("rule", "at", "what", "fix"),
    [
        (
            {"expect_column_values_to_not_be_nul": {"column": "email"}},
            (),
            "no expectation is called 'expect_column_values_to_not_be_nul'",
            "did you mean 'expect_column_values_to_not_be_null'?",
        ),
        ({"expect_column_values_to_be_null": {"column": "mail"}}, ("column",), "no column is called 'mail'", "'email'"),
        ({"expect_column_values_to_be_null": {"colum": "email"}}, ("colum",), "unknown argument 'colum'", "'column'"),
        ({"expect_column_values_to_be_null": {}}, (), "'column' is missing", "column"),
        (
            {"expect_column_values_to_be_null": {"column": "email", "mostly": 2}},
            ("mostly",),
            "mostly is 2",
            "from 0 to 1",
        ),
        ({"expect_column_values_to_be_between": {"column": "n"}}, (), "neither min_value nor max_value", "one of them"),
        (
            {"expect_column_values_to_be_between": {"column": "n", "min_value": 3, "max_value": 2}},
            ("min_value",),
            "min_value 3 is above max_value 2",
            "swap",
        ),
        (
            {"expect_column_values_to_be_between": {"column": "n", "min_value": "x"}},
            ("min_value",),
            "min_value has 'x', but n is int64",
            "a number",
        ),
        (
            {"expect_column_values_to_be_in_set": {"column": "email", "value_set": [1]}},
            ("value_set",),
            "value_set has 1, but email is string",
            "in quotes",
        ),
        ({"expect_column_values_to_match_regex": {"column": "email", "regex": "("}}, ("regex",), "no regular", "mend"),
        (
            {"expect_column_values_to_be_json_parseable": {"column": "n"}},
            ("column",),
            "n is int64",
            "columns of text",
        ),
        (
            {"expect_column_pair_values_to_be_equal": {"column_A": "email", "column_B": "n"}},
            ("column_B",),
            "cannot be compared",
            "one type",
        ),
        (
            {"expect_column_values_to_be_null": {"column": "n", "row_condition": "m > 1"}},
            ("row_condition",),
            "m",
            "n",
        ),
        (
            {"expect_column_values_to_be_null": {"column": "n", "row_condition": "n + 1"}},
            ("row_condition",),
            "not true or false",
            "compare",
        ),
        (
            {"expect_column_mean_to_be_between": {"column": "email", "max_value": 1}},
            ("column",),
            "is string",
            "numbers",
        ),
        ({"expect_column_values_to_be_increasing": {"column": "n"}}, (), "cannot be judged in a flow", "leave it out"),
        ({"expect_column_values_to_be_null": {"column": "n", "severity": "bad"}}, ("severity",), "'bad'", "critical"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_wrong_rule_is_a_problem_at_its_place(rule: dict[str, Any], at: tuple[str, ...], what: str, fix: str) -> None:
    schema = pa.schema([pa.field("email", pa.string()), pa.field("n", pa.int64())])

    told = problems_of(Validate(expectations=[rule]), schema)

    assert len(told) == 1
    assert told[0][0] == ("expectations", 0, next(iter(rule)), *at)
    assert what in told[0][1]
    assert fix in told[0][2]


def test_every_problem_of_a_list_is_told() -> None:
    rules: list[dict[str, Any]] = [
        {"expect_nothing": {}},
        NOT_NULL,
        {"expect_column_values_to_be_null": {"column": 1}},
        {"a": {}, "b": {}},
    ]

    told = problems_of(Validate(expectations=[*rules, {"expect_column_values_to_be_null": {"column": "mail"}}]), SCHEMA)

    assert [at[1] for at, *_ in told] == [0, 2, 3, 4]


def test_wrong_columns_are_problems_at_their_place() -> None:
    node = Validate(columns={"emial": "varchar", "n": "intger", "m": "integer); drop table x; --"})
    schema = pa.schema([pa.field("email", pa.string()), pa.field("n", pa.int64()), pa.field("m", pa.int64())])

    told = problems_of(node, schema)

    assert [at for at, *_ in told] == [("columns", "emial"), ("columns", "n"), ("columns", "m")]
    assert told[0][2] == "did you mean 'email'?"


def test_check_gives_the_columns_with_their_declared_types() -> None:
    node = Validate(columns={"n": "decimal(9, 2)"})
    schema = pa.schema([pa.field("n", pa.string()), pa.field("email", pa.string())])

    gives = node.check({"": schema}, Scope(project=Path()), Told())

    assert gives["out"] == pa.schema([pa.field("n", pa.decimal128(9, 2)), pa.field("email", pa.string())])
    assert run(node, records_of({"n": "1.5", "email": None}, schema=schema)).out["out"].batch.schema == gives["out"]


def test_a_node_without_rules_is_only_warned_of() -> None:
    assert [warning for *_, warning in problems_of(Validate(), SCHEMA)] == [True]


def test_a_suite_of_great_expectations_is_read_as_it_was_saved(tmp_path: Path) -> None:
    suite = {
        "name": "orders",
        "id": "d9b5ff5c-3a62-4f0f-8e5c-2d8d5a9e1c55",
        "meta": {"great_expectations_version": "1.24.1"},
        "notes": None,
        "expectations": [
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {
                    "column": "email",
                    "row_condition": {
                        "type": "and",
                        "conditions": [
                            {"type": "comparison", "column": {"name": "n"}, "operator": ">", "parameter": 1},
                            {"type": "nullity", "column": {"name": "n"}, "is_null": False},
                        ],
                    },
                },
                "meta": {"owner": "sales"},
                "id": "1",
                "severity": "critical",
            },
            {
                "expectation_type": "expect_column_values_to_be_in_set",
                "kwargs": {
                    "column": "email",
                    "value_set": {"$PARAMETER": "known"},
                    "row_condition": 'col("n") == 0',
                    "condition_parser": "great_expectations__experimental__",
                },
            },
        ],
    }
    (tmp_path / "orders.json").write_text(json.dumps(suite))
    scope = Scope(project=tmp_path, values={"known": ["a"]})
    batch = records_of({"n": 2, "email": None}, {"n": 1, "email": None}, {"n": 0, "email": "b"}, {"n": 0, "email": "a"})

    said = reasons(Validate(suite="orders.json"), batch, scope)

    assert list(said) == [0, 2]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "there is no file suite.json"),
        ("{", "suite.json is no JSON"),
        ('{"expectations": 1}', "suite.json has no list `expectations`"),
        ('{"expectations": [{"type": "expect_x", "kwargs": {}}]}', "rule 1 of it: no expectation is called 'expect_x'"),
    ],
)
def test_a_wrong_suite_is_a_problem_at_its_field(tmp_path: Path, text: str | None, what: str) -> None:
    if text is not None:
        (tmp_path / "suite.json").write_text(text)

    told = problems_of(Validate(suite="suite.json"), SCHEMA, Scope(project=tmp_path))

    assert [at for at, *_ in told] == [("suite",)]
    assert told[0][1].startswith(what)


def test_a_rule_that_holds_all_values_says_so_before_it_takes_the_memory(tmp_path: Path) -> None:
    runner = Runner(memory_bytes=1 << 26)
    scope = Scope(project=tmp_path, staging=tmp_path, environment=Environment(runner=runner))
    rule = {"expect_column_value_z_scores_to_be_less_than": {"column": "n", "threshold": 3}}
    batch = pa.record_batch({"n": pa.array(range(1_100_000))})

    with pytest.raises(Failed, match="more than the runner's memory_bytes"):
        findings(Validate(expectations=[rule]), [batch], scope)


def test_only_the_columns_of_rules_are_needed_beside_those_wanted() -> None:
    schema = pa.schema([pa.field(name, pa.int64()) for name in "abcde"])
    plain = Validate(
        columns={"a": "integer"},
        expectations=[{"expect_column_values_to_be_null": {"column": "b", "row_condition": "c > 1"}}],
    )
    about_columns = Validate(expectations=[{"expect_table_column_count_to_equal": {"value": 5}}])

    with borrowed(Scope(project=Path())) as sandbox:
        assert plain.needs(frozenset("d"), schema, sandbox) == frozenset("abcd")
        assert plain.needs(None, schema, sandbox) is None
        assert about_columns.needs(frozenset("d"), schema, sandbox) is None


def test_a_node_has_rules_over_the_whole_run_and_travels_by_pickle() -> None:
    node = Validate(expectations=[NOT_NULL])

    assert isinstance(node, WholeRules)
    assert pickle.loads(pickle.dumps(node)) == node


def test_great_expectations_is_not_imported_for_rules_that_are_compiled() -> None:
    code = (
        "import sys; from pathlib import Path; import pyarrow as pa; from pipelines.scope import Scope;"
        "from pipelines.sandbox import borrowed; from transforms.validate import Column, Validate;"
        "s = Scope(project=Path()); n = Validate(expectations=[{'expect_column_values_to_be_null': {'column': 'a'}}]);"
        "b = pa.RecordBatch.from_pylist([{'a': 1}]);\n"
        "with borrowed(s) as box: n.check({'': b.schema}, s, print); n.open(b.schema, s, box)(b)\n"
        "print('great_expectations' in sys.modules)"
    )
    import subprocess

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def rules_table() -> str:
    """What the page on validation lists between its marks."""
    about = {"row": "each record", "count": "the run", "whole": "the run", "schema": "the columns"}
    common = {"column", "column_A", "column_B", "row_condition", "condition_parser", "mostly", "ignore_row_if"}
    lines = ["| rule | is about | takes |", "|---|---|---|"]
    for name, expectation in sorted(EXPECTATIONS.items()):
        by = ", by *Great Expectations*" if expectation.place == "whole" and name not in JUDGES else ""
        takes = ", ".join(f"`{key}`" for key in expectation.arguments if key not in common)
        lines.append(f"| `{name}` | {about[expectation.place]}{by} | {takes} |")
    return "\n".join(lines)


def test_the_page_on_validation_lists_every_rule(repository_root: Path) -> None:
    page = (repository_root / "docs" / "validation.md").read_text("utf-8")

    listed = page.partition("<!-- rules -->\n")[2].partition("\n<!-- end of rules -->")[0]

    assert listed == rules_table()


def test_the_schema_of_a_flow_file_knows_every_rule() -> None:
    items = Validate.model_json_schema()["properties"]["expectations"]["items"]

    assert items["properties"]["expect_column_values_to_not_be_null"]["required"] == ["column"]
