"""What a `validate` node says of a whole run."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.environment import Environment, Runner
from pipelines.errors import Failed, Invalid
from pipelines.scope import Scope
from tests.transforms.validating import NOT_NULL, SCHEMA, findings, records_of, run
from transforms.validate import Validate


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


def test_a_rule_that_holds_all_values_says_so_before_it_takes_the_memory(tmp_path: Path) -> None:
    runner = Runner(memory_bytes=1 << 26)
    scope = Scope(project=tmp_path, staging=tmp_path, environment=Environment(runner=runner))
    rule = {"expect_column_value_z_scores_to_be_less_than": {"column": "n", "threshold": 3}}
    batch = pa.record_batch({"n": pa.array(range(1_100_000))})

    with pytest.raises(Failed, match="more than the runner's memory_bytes"):
        findings(Validate(expectations=[rule]), [batch], scope)
