"""Flattening: names, places, depth, nulls around and inside, lists as JSON, and what clashes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.transforms.test_transforms_equal_duckdb import TYPES, plain, ran, records, tables
from transforms.flatten import Flatten

INNER = pa.struct([("city", pa.string()), ("geo", pa.struct([("lat", pa.float64()), ("tags", pa.list_(pa.string()))]))])
SCHEMA = pa.schema(
    [("id", pa.int64()), ("place", INNER), ("tags", pa.list_(pa.int32())), ("m", pa.map_("string", "int8"))]
)
BONN = {"city": "Bonn", "geo": {"lat": 50.7, "tags": ["a", None]}}


def flat(records: list[dict[str, Any]], schema: pa.Schema = SCHEMA, **config: Any) -> pa.Table:
    found, rejected = ran(Flatten(**config), pa.Table.from_pylist(records, schema=schema), 2)
    assert rejected == []
    return found["out"]


def problems(schema: pa.Schema = SCHEMA, **config: Any) -> list[tuple[tuple[str | int, ...], str, str]]:
    told: list[tuple[tuple[str | int, ...], str, str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what, fix))

    Flatten(**config).check({"": schema}, Scope(Path()), report)
    return told


def test_columns_stand_where_their_struct_stood() -> None:
    table = flat([{"id": 1, "place": BONN, "tags": [1], "m": []}])

    assert table.schema.names == ["id", "place_city", "place_geo_lat", "place_geo_tags", "tags", "m"]
    assert table.select(["place_city", "place_geo_lat"]).to_pylist() == [{"place_city": "Bonn", "place_geo_lat": 50.7}]


def test_a_null_struct_gives_nulls_even_where_something_lies_below_it() -> None:
    hidden = pa.StructArray.from_arrays(
        [pa.array(["below", "seen"])],
        fields=[pa.field("city", pa.string(), nullable=False)],
        mask=pa.array([True, False]),
    )
    table = pa.table({"place": hidden})

    found, _rejected = ran(Flatten(), table, 1)

    assert found["out"].to_pylist() == [{"place_city": None}, {"place_city": "seen"}]
    assert found["out"].schema.field("place_city").nullable


def test_depth_leaves_deeper_structs_as_they_are() -> None:
    table = flat([{"id": 1, "place": BONN}], depth=1)

    assert table["place_geo"].to_pylist() == [BONN["geo"]]


def test_a_prefix_takes_the_place_of_the_column_s_name_and_the_first_separator() -> None:
    table = flat([{"id": 1, "place": BONN}], column="place", prefix="at:", separator=".")

    assert table.schema.names == ["id", "at:city", "at:geo.lat", "at:geo.tags", "tags", "m"]


def test_only_the_lists_of_named_columns_become_json() -> None:
    records = [{"id": 1, "place": BONN, "tags": [1, None], "m": [("k", 1)]}, {"id": 2}]

    inside = flat(records, column="place", lists="json")
    named = flat(records, column=["place", "tags", "m"], lists="json")

    assert inside["place_geo_tags"].to_pylist() == ['["a",null]', None]
    assert inside["tags"].to_pylist() == [[1, None], None]
    assert named["tags"].to_pylist() == ["[1,null]", None]
    assert named["m"].to_pylist() == ['{"k":1}', None]


def test_names_that_differ_only_in_case_are_different_columns() -> None:
    schema = pa.schema([("s", pa.struct([("a", pa.list_(pa.int8())), ("A", pa.list_(pa.int8()))]))])

    table = flat([{"s": {"a": [1], "A": [2]}}], schema, lists="json")

    assert table.to_pylist() == [{"s_a": "[1]", "s_A": "[2]"}]


def test_columns_of_one_name_are_a_problem() -> None:
    schema = pa.schema([("ship_to", pa.string()), ("ship", pa.struct([("to", pa.string()), ("on", pa.date32())]))])

    assert problems(schema) == [
        ((), "gives 2 columns called 'ship_to', of ship_to, ship", "choose another `prefix` or `separator`")
    ]
    assert problems(schema, separator=".") == []


def test_columns_that_cannot_be_taken_apart_are_problems_at_their_place() -> None:
    told = problems(column=["plac", "id", "tags", "place"])

    assert [at for at, _what, _fix in told] == [("column", 0), ("column", 1), ("column", 2)]
    assert told[0][1:] == ("no column 'plac' comes in", "did you mean 'place'?")
    assert told[1][1] == "column 'id' is int64, not a struct"
    assert "split" in told[2][2]


def test_a_list_that_duckdb_does_not_know_is_a_problem_where_it_should_become_json() -> None:
    schema = pa.schema([("s", pa.struct([("halves", pa.list_(pa.float16()))]))])

    told = problems(schema, lists="json")

    assert [at for at, _what, _fix in told] == [("lists",)]
    assert "'s_halves'" in told[0][1]
    assert problems(schema) == []


def test_only_the_columns_behind_what_is_wanted_are_needed() -> None:
    sandbox = Sandbox()

    assert Flatten().needs(frozenset({"place_geo_lat"}), SCHEMA, sandbox) == {"place"}
    assert Flatten().needs(frozenset({"id", "tags"}), SCHEMA, sandbox) == {"id", "tags"}
    assert Flatten().needs(None, SCHEMA, sandbox) is None
    sandbox.close()


@settings(max_examples=20)
@given(table=tables(), size=st.integers(1, 8), names=st.sets(st.sampled_from(list(TYPES)), min_size=1))
def test_a_struct_of_any_types_comes_apart_as_duckdb_takes_it_apart(
    table: pa.Table, size: int, names: set[str]
) -> None:
    chosen = sorted(names)
    whole = table.combine_chunks()
    columns = [whole[name].combine_chunks() for name in chosen]
    columns = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in columns]
    mask = pa.array([row % 3 == 1 for row in range(table.num_rows)], pa.bool_())
    packed = pa.table({"s": pa.StructArray.from_arrays(columns, chosen, mask=mask), "n": whole["n"]})

    found, rejected = ran(Flatten(depth=1), packed, size)

    expected = plain("SELECT " + ", ".join(f's."{name}" AS s_{name}' for name in chosen) + ", n FROM t", packed)
    assert rejected == []
    assert records(found["out"]) == records(expected)
    assert [field.type for field in found["out"].schema][:-1] == [TYPES[name][0] for name in chosen]


@settings(max_examples=20)
@given(
    lists=st.lists(st.none() | st.lists(st.none() | st.text(max_size=4) | st.just('"\\\n'), max_size=3), max_size=6),
    size=st.integers(1, 7),
)
def test_a_list_as_json_reads_back_as_the_list(lists: list[Any], size: int) -> None:
    table = pa.table({"x": pa.array(lists, pa.list_(pa.string()))})

    found, _rejected = ran(Flatten(lists="json"), table, size)

    assert [text and json.loads(text) for text in found["out"]["x"].to_pylist()] == lists
