"""What a `validate` node lets through, and what it rejects and why."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.node import Example
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from tests.transforms.validating import NOT_NULL, passed_rows, reasons, records_of, run
from transforms.validate import Column, Validate


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
