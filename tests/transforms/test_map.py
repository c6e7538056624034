"""The mapper: targets, nested values, loops, choices, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipelines.node import Outcome
from pipelines.scope import Scope
from pipelines.sql.expressions import used_columns
from pipelines.sql.sandbox import Sandbox
from transforms.map import Map

ITEM = pa.struct([("sku", pa.string()), ("qty", pa.int64()), ("tags", pa.list_(pa.string()))])
ORDERS = pa.schema([("id", pa.int64()), ("name", pa.string()), ("rate", pa.int64()), ("items", pa.list_(ITEM))])
ORDER = {
    "id": 7,
    "name": "Ada",
    "rate": 2,
    "items": [{"sku": "A", "qty": 2, "tags": ["x", "y"]}, {"sku": "B", "qty": 0, "tags": []}],
}
SCOPE = Scope(Path(), values={"n": 3})


def problems(**config: Any) -> list[tuple[tuple[str | int, ...], str, str]]:
    told: list[tuple[tuple[str | int, ...], str, str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what, fix))

    Map.model_validate(config).check({"": ORDERS}, SCOPE, report)
    return told


def mapped(records: list[dict[str, Any]], schema: pa.Schema = ORDERS, **config: Any) -> Outcome:
    sandbox = Sandbox()
    node = Map.model_validate(config)
    outcome = node.open(schema, SCOPE, sandbox)(pa.RecordBatch.from_pylist(records, schema=schema))
    sandbox.close()
    return outcome


def records(**fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = mapped([ORDER], fields=fields).out["out"].batch.to_pylist()
    return found


@pytest.mark.parametrize(
    ("fields", "at", "what"),
    [
        ({"x": "nme"}, ("x",), 'no column "nme"'),
        ({"a.b": "nme"}, ("a.b",), 'no column "nme"'),
        ({"a": "1", "a.b": "2"}, ("a.b",), "lies inside 'a'"),
        ({"a.b": "1", "a": "2"}, ("a",), "has a value already"),
        ({"a.": "1"}, ("a.",), "is no name"),
        ({"": "1"}, ("",), "is no name"),
        ({"l[].x": "1"}, ("l[].x",), "is no name"),
        ({"l[]": "items"}, ("l[]",), "is a list, but its value is none"),
        ({"l": {"from": "items", "value": "item.sku"}}, ("l",), "has a loop as its value"),
        ({"l[]": {"from": "items"}}, ("l[]",), "either `fields` or a `value`"),
        ({"l[]": {"from": "name", "value": "item"}}, ("l[]", "from"), "gives string, no list"),
        ({"l[]": {"from": "items", "value": "item.skuu"}}, ("l[]", "value"), 'no field "skuu"'),
        ({"l[]": {"from": "items", "where": "item.qty", "value": "1"}}, ("l[]", "where"), "not true or false"),
        ({"l[]": {"from": "items", "fields": {"x": "nme"}}}, ("l[]", "fields", "x"), 'no column "nme"'),
        ({"l[]": {"from": "items", "fields": {"x": "1), (2"}}}, ("l[]", "fields", "x"), "is no expression"),
        (
            {"l[]": {"from": "items", "fields": {"t[]": {"from": "item.tags", "value": "itm || 'x'"}}}},
            ("l[]", "fields", "t[]", "value"),
            'no column "itm"',
        ),
        ({"x": {"when": {"rate": "1"}}}, ("x", "when", "rate"), "gives int64, not true or false"),
        ({"x": {"when": {"rate > 1": "nme"}}}, ("x", "when", "rate > 1"), 'no column "nme"'),
        ({"x": {"when": {"rate > 1": "1"}, "otherwise": "nme"}}, ("x", "otherwise"), 'no column "nme"'),
        ({"x": {"fields": {"y": "nme"}}}, ("x", "fields", "y"), 'no column "nme"'),
        ({"x": {"where": "name", "fields": {"y": "1"}}}, ("x", "where"), "gives string, not true or false"),
        ({"x": "total", "total": "1"}, ("x",), 'no column "total"'),
        ({"total": "id", "TOTAL": "id"}, ("TOTAL",), "'TOTAL' differs from 'total' only in case"),
        ({"a.b": "id", "a.c": "id", "a.B": "id"}, ("a.B",), "'B' differs from 'b' only in case"),
        ({"a.b": "id", "A.c": "id"}, ("A.c",), "'A' differs from 'a' only in case"),
        (
            {"l[]": {"from": "items", "fields": {"x": "item.sku", "X": "item.sku"}}},
            ("l[]", "fields", "X"),
            "'X' differs from 'x' only in case",
        ),
    ],
)
def test_a_wrong_field_is_reported_where_it_stands(fields: dict[str, Any], at: tuple[str, ...], what: str) -> None:
    told = problems(fields=fields)

    assert [place for place, _what, _fix in told] == [("fields", *at)]
    assert what in told[0][1]


def test_every_wrong_field_is_reported_at_once() -> None:
    told = problems(fields={"a": "nme", "b": "id +", "c": {"when": {"nme": "1"}}, "d": "id"})

    assert [place[1] for place, _what, _fix in told] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("config", "at"), [({"keep": ["nme"]}, ("keep", 0)), ({"drop": ["id", "nme"]}, ("drop", 1)), ({}, ())]
)
def test_columns_that_are_not_there_are_reported(config: dict[str, Any], at: tuple[str | int, ...]) -> None:
    assert [place for place, _what, _fix in problems(**config)] == [at]


def test_a_field_that_differs_from_a_kept_column_only_in_case_is_reported() -> None:
    told = problems(fields={"ID": "id + 1"}, keep="all")

    assert [place for place, _what, _fix in told] == [("fields", "ID")]
    assert told[0][1:] == (
        "'ID' differs from the kept column 'id' only in case",
        "call it 'id' to replace that, or leave that out with `drop`",
    )
    assert problems(fields={"ID": "id + 1"}, drop=["id"]) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"x": {"when": {}}},
        {"x": {"fields": {}}},
        {"l[]": {"from": "items", "each": "two words", "value": "1"}},
        {"l[]": {"from": "items", "vlaue": "1"}},
        {"x": ["a", "b"]},
    ],
)
def test_a_value_of_no_known_shape_is_refused_by_the_model(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Map.model_validate({"fields": fields})


def test_constants_need_no_quotes_but_text_does() -> None:
    assert records(a=1, b=2.5, c=True, d=None, e="'x'") == [{"a": 1, "b": 2.5, "c": True, "d": None, "e": "x"}]


def test_nested_targets_build_structs_in_the_order_they_are_written() -> None:
    found = records(**{"to.city": "'Bonn'", "id": "id", "to.who.name": "name", "to.zip": "53111"})

    assert found == [{"to": {"city": "Bonn", "who": {"name": "Ada"}, "zip": 53111}, "id": 7}]


def test_a_loop_sees_its_element_its_number_the_loops_around_it_and_the_record() -> None:
    tags = {"from": "item.tags", "each": "tag", "fields": {"t": "tag || item.sku || id", "n": "tag_number * $n"}}

    found = records(**{"lines[]": {"from": "items", "fields": {"no": "item_number", "tags[]": tags}}})

    assert found[0]["lines"] == [
        {"no": 1, "tags": [{"t": "xA7", "n": 3}, {"t": "yA7", "n": 6}]},
        {"no": 2, "tags": []},
    ]


def test_a_loop_over_nothing_gives_nothing_and_over_null_null() -> None:
    schema = pa.schema([("items", pa.list_(pa.int64()))])
    loop = {"doubled[]": {"from": "items", "value": "item * 2"}}

    outcome = mapped([{"items": []}, {"items": None}, {"items": [None, 2]}], schema, fields=loop)

    assert outcome.out["out"].batch.to_pylist() == [{"doubled": []}, {"doubled": None}, {"doubled": [None, 4]}]


def test_a_choice_takes_the_first_that_is_true_and_may_hold_structs() -> None:
    choice = {"when": {"rate > 1": {"fields": {"kind": "'many'"}}, "rate > 0": {"fields": {"kind": "'one'"}}}}

    assert records(x=choice) == [{"x": {"kind": "many"}}]


def test_a_group_that_does_not_hold_is_null_and_its_faults_do_not_count() -> None:
    schema = pa.schema([("kind", pa.string()), ("number", pa.string())])
    group = {"where": "kind = 'card'", "fields": {"number": "number::BIGINT"}}

    outcome = mapped(
        [{"kind": "card", "number": "12"}, {"kind": "cash", "number": "none"}, {"kind": "card", "number": "??"}],
        schema,
        fields={"card": group},
    )

    assert outcome.out["out"].batch.to_pylist() == [{"card": {"number": 12}}, {"card": None}]
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [2]


def test_a_fault_names_its_field_and_several_stand_in_one_message() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.string())])

    outcome = mapped([{"a": "1", "b": "x"}, {"a": "y", "b": "z"}], schema, fields={"n.a": "a::INT", "n.b": "b::INT"})

    assert outcome.rejects is not None
    assert list(outcome.rejects.codes) == ["expression", "expression"]
    assert outcome.rejects.messages[0].startswith("n.b: Could not convert string 'x'")
    assert "n.a: Could not convert string 'y'" in outcome.rejects.messages[1]
    assert "; n.b: Could not convert string 'z'" in outcome.rejects.messages[1]
    assert outcome.out["out"].batch.num_rows == 0


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({"fields": {"x": "1"}}, ["x"]),
        ({"fields": {"x": "1"}, "keep": "none"}, ["x"]),
        ({"fields": {"x": "1"}, "keep": "all"}, ["id", "name", "rate", "items", "x"]),
        ({"fields": {"x": "1"}, "keep": ["rate", "id"]}, ["id", "rate", "x"]),
        ({"fields": {"x": "1"}, "drop": ["items"]}, ["id", "name", "rate", "x"]),
        ({"fields": {"x": "1"}, "keep": "all", "drop": ["id"]}, ["name", "rate", "items", "x"]),
        ({"fields": {"name": "'Bob'", "x": "1"}, "keep": "all"}, ["id", "name", "rate", "items", "x"]),
    ],
)
def test_what_stays_and_where(config: dict[str, Any], names: list[str]) -> None:
    outcome = mapped([ORDER], **config)

    assert outcome.out["out"].batch.schema.names == names


def test_a_field_that_nobody_wants_is_still_computed_for_its_faults() -> None:
    sandbox = Sandbox()
    node = Map.model_validate({"fields": {"x": "id", "y": "name::INT"}, "keep": ["rate"]})

    assert node.needs(frozenset({"x"}), ORDERS, sandbox) == frozenset({"id", "name"})
    assert node.needs(None, ORDERS, sandbox) == frozenset({"id", "name", "rate"})
    assert Map(keep="all").needs(None, ORDERS, sandbox) is None
    assert used_columns(["id + rate"], ORDERS, sandbox) == {"id", "rate"}
    sandbox.close()


def test_a_column_that_was_not_read_is_no_fault_at_run_time() -> None:
    narrow = pa.schema([("id", pa.int64())])

    outcome = mapped([{"id": 1}], narrow, keep=["id", "name"])

    assert outcome.out["out"].batch.to_pylist() == [{"id": 1}]
