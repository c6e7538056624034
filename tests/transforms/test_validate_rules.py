"""Which rules a `validate` node knows, and what it says of wrong ones before a run."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.quality.aggregates import JUDGES
from pipelines.quality.expectations import EXPECTATIONS
from pipelines.quality.findings import WholeRules
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from tests.transforms.validating import NOT_NULL, SCHEMA, Told, problems_of, reasons, records_of, run
from transforms.validate import Validate


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
        "from pipelines.sql.sandbox import borrowed; from transforms.validate import Column, Validate;"
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
