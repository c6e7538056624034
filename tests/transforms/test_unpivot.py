"""Unpivoting: order, nulls, types in common, columns said by what stays, and what is wrong before anything runs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.transforms.test_transforms_equal_duckdb import TYPES, plain, ran, records, tables
from transforms.unpivot import Unpivot

SCHEMA = pa.schema([("id", pa.int64()), ("a", pa.int32()), ("b", pa.int64()), ("t", pa.string())])


def problems(schema: pa.Schema | None = SCHEMA, **config: Any) -> list[tuple[tuple[str | int, ...], str]]:
    told: list[tuple[tuple[str | int, ...], str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what))

    Unpivot(**config).check({"": schema}, Scope(Path()), report)
    return told


def test_each_record_names_the_input_row_it_came_from() -> None:
    sandbox = Sandbox()
    batch = pa.RecordBatch.from_pylist([{"id": 1, "a": 1, "b": 2}, {"id": 2}, {"id": 3, "b": 4}], schema=SCHEMA)

    outcome = Unpivot(on=["b", "a"]).open(SCHEMA, Scope(Path()), sandbox)(batch)

    sandbox.close()
    assert outcome.out["out"].rows is not None
    assert outcome.out["out"].rows.to_pylist() == [0, 0, 2]
    assert outcome.out["out"].batch.column("name").to_pylist() == ["b", "a", "b"]
    assert outcome.filtered == 1


def test_numbers_meet_in_the_type_that_holds_them_all() -> None:
    table = pa.table(
        {"n": pa.array([1], pa.int16()), "d": pa.array([Decimal("9.50")], pa.decimal128(5, 2)), "x": pa.nulls(1)}
    )

    found, _rejected = ran(Unpivot(keep=[], keep_nulls=True), table, 1)

    assert found["out"]["value"].to_pylist() == [Decimal("1.00"), Decimal("9.50"), None]
    assert pa.types.is_decimal(found["out"].schema.field("value").type)


def test_more_digits_than_a_decimal_can_have_are_a_problem() -> None:
    schema = pa.schema([("n", pa.int64()), ("d", pa.decimal128(38, 30))])

    assert [at for at, _what in problems(schema, on=["n", "d"])] == [("on", 1)]


def test_a_dictionary_gives_its_values() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    table = pa.table({"k": pa.array(["a", None], kind), "l": pa.array(["b", "a"], kind), "t": ["x", "y"]})

    found, _rejected = ran(Unpivot(keep=[]), table, 2)

    assert found["out"]["value"].to_pylist() == ["a", "b", "x", "a", "y"]
    assert found["out"].schema.field("value").type.equals(pa.string())


def test_columns_that_are_neither_kept_nor_turned_are_dropped() -> None:
    table = pa.Table.from_pylist([{"id": 1, "a": 2, "b": 3, "t": "x"}], schema=SCHEMA)

    found, _rejected = ran(Unpivot(on="a", keep="t"), table, 1)

    assert found["out"].to_pylist() == [{"t": "x", "name": "a", "value": 2}]


def test_types_that_nothing_holds_both_of_are_a_problem_at_the_column() -> None:
    told = problems(on=["a", "b", "t"])

    assert told == [(("on", 2), "column 't' is string, those before it are int64: no type holds both exactly")]


@pytest.mark.parametrize(
    ("config", "at", "what"),
    [
        ({}, (), "which columns become records is not said"),
        ({"on": ["a", "x"]}, ("on", 1), "no column 'x' comes in"),
        ({"on": "x", "keep": "a"}, ("on",), "no column 'x' comes in"),
        ({"on": ["a", "a"]}, ("on", 1), "column 'a' is named twice"),
        ({"on": "a", "keep": ["id", "y"]}, ("keep", 1), "no column 'y' comes in"),
        ({"on": "a", "name": "id"}, ("name",), "column 'id' is there already"),
        ({"on": "a", "value": "t"}, ("value",), "column 't' is there already"),
        ({"on": "a", "value": "name"}, ("value",), "name and value both go to column 'name'"),
        ({"keep": ["id", "a", "b", "t"]}, ("keep",), "no column is left to become records"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(config: dict[str, Any], at: tuple[str | int, ...], what: str) -> None:
    assert (at, what) in problems(**config)


def test_what_is_wrong_whatever_comes_in_is_told_without_knowing_it() -> None:
    assert problems(None, on="a", name="x", value="x") == [(("value",), "name and value both go to column 'x'")]


def test_the_columns_turned_are_needed_always_those_kept_where_they_are_wanted() -> None:
    sandbox = Sandbox()

    assert Unpivot(on=["a", "b"]).needs(frozenset({"value"}), SCHEMA, sandbox) == {"a", "b"}
    assert Unpivot(on=["a", "b"]).needs(frozenset({"id", "name"}), SCHEMA, sandbox) == {"a", "b", "id"}
    assert Unpivot(on=["a"], keep="t").needs(None, SCHEMA, sandbox) == {"a", "t"}
    assert Unpivot(on=["a", "b"]).needs(None, SCHEMA, sandbox) is None
    sandbox.close()


@settings(max_examples=20)
@given(
    table=tables(),
    size=st.integers(1, 8),
    names=st.sampled_from(
        [
            ("n", "small"),
            ("text", "digits"),
            ("price", "small"),
            ("day",),
            ("tags",),
            ("place",),
            ("huge",),
            ("real",),
            ("lines",),
            ("bytes",),
            ("entries",),
        ]
    ),
    keep_nulls=st.booleans(),
)
def test_columns_become_the_rows_that_duckdb_makes_of_them(
    table: pa.Table, size: int, names: tuple[str, ...], keep_nulls: bool
) -> None:
    node = Unpivot(on=list(names), keep=["flag", "moment", "kind"], keep_nulls=keep_nulls)

    found, rejected = ran(node, table, size)

    branches = " UNION ALL ".join(
        f"SELECT row_number, {n} AS place, flag, moment, kind, '{name}' AS name, {name} AS value FROM t"
        for n, name in enumerate(names)
    )
    where = "" if keep_nulls else "WHERE value IS NOT NULL"
    query = f"SELECT * EXCLUDE (row_number, place) FROM ({branches}) {where} ORDER BY row_number, place"
    assert rejected == []
    assert records(found["out"]) == records(plain(query, table))


@settings(max_examples=20)
@given(table=tables(), size=st.integers(1, 8), name=st.sampled_from(list(TYPES)))
def test_a_column_of_any_type_by_itself_keeps_its_values(table: pa.Table, size: int, name: str) -> None:
    found, _rejected = ran(Unpivot(on=name, keep_nulls=True), table, size)

    assert records(found["out"].select(["value"])) == records(table.select([name]).rename_columns(["value"]))
