"""What goes through a tap and a commit comes out of the typed view as it was."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from repository.columns import common_columns, common_type, distinct_names, sql_type

MOMENTS = st.datetimes(dt.datetime.fromisoformat("1900-01-01"), dt.datetime.fromisoformat("2200-01-01"))
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)
LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.bool_(), st.booleans()),
    (pa.int8(), st.integers(-128, 127)),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32)),
    (pa.float64(), st.floats()),
    (pa.decimal128(9, 2), st.decimals(-9_999_999, 9_999_999, places=2)),
    (pa.decimal128(38, 10), st.decimals(-(10**27), 10**27, places=10)),
    (pa.string(), TEXTS),
    (pa.large_string(), TEXTS),
    (pa.string_view(), TEXTS),
    (pa.dictionary(pa.int32(), pa.string()), TEXTS),
    (pa.binary(), st.binary(max_size=8)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.date32(), st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1))),
    (pa.time64("us"), st.times()),
    (pa.timestamp("s"), MOMENTS.map(lambda moment: moment.replace(microsecond=0))),
    (pa.timestamp("ms"), MOMENTS.map(lambda moment: moment.replace(microsecond=1000))),
    (pa.timestamp("us"), MOMENTS),
    (pa.timestamp("ns"), MOMENTS),
    (pa.timestamp("us", "UTC"), MOMENTS.map(lambda moment: moment.replace(tzinfo=dt.UTC))),
    (pa.timestamp("ms", "Europe/Berlin"), MOMENTS.map(lambda moment: moment.replace(microsecond=0, tzinfo=dt.UTC))),
    (pa.duration("us"), st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000))),
    (
        pa.month_day_nano_interval(),
        st.tuples(*[st.integers(-500, 500)] * 2, st.integers(-9, 9).map(lambda n: n * 1000)),
    ),
]


@st.composite
def columns(draw: st.DrawFn) -> pa.Array:
    """A column of some rows, of a plain or nested type, with nulls."""
    depth = draw(st.integers(0, 2))
    # DuckDB itself cannot read dictionaries inside of lists, which would be what the view is compared with.
    kind, values = draw(st.sampled_from([leaf for leaf in LEAVES if not depth or not pa.types.is_dictionary(leaf[0])]))
    for _ in range(depth):
        shape = draw(st.sampled_from(["list", "struct", "map", "list_view", *(["array"] if depth == 1 else [])]))
        inner = st.one_of(st.none(), values)
        if shape in ("list", "list_view"):
            kind = pa.list_(kind) if shape == "list" else pa.list_view(kind)
            values = st.lists(inner, max_size=3)
        elif shape == "array":
            kind, values = pa.list_(kind, 2), st.lists(inner, min_size=2, max_size=2)
        elif shape == "struct":
            kind = pa.struct([("a", kind), ("B c", pa.int32())])
            values = st.fixed_dictionaries({"a": inner, "B c": st.one_of(st.none(), st.integers(0, 9))})
        else:
            kind = pa.map_(pa.string(), kind)
            values = st.dictionaries(TEXTS, inner, max_size=2).map(lambda pairs: list(pairs.items()))
    return pa.array(draw(st.lists(st.one_of(st.none(), values), min_size=3, max_size=3)), kind)


@given(st.data())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_columns_of_every_type_come_back_as_they_were(new_lake: Callable[[], Any], data: st.DataObject) -> None:
    given_columns = data.draw(st.lists(columns(), min_size=1, max_size=4))
    batch = pa.RecordBatch.from_arrays(given_columns, names=[f"c {i}" for i in range(len(given_columns))])
    lake = new_lake()

    lake.write("orders", batch)

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("given", pa.Table.from_batches([batch]))
        view = lake.view(connection, "web-orders", "orders")
        taken = connection.sql("SELECT * FROM given")
        kept = connection.sql(f"SELECT * EXCLUDE (run, rid) FROM {view} ORDER BY rid")
        assert [str(kind) for kind in kept.types] == [str(kind) for kind in taken.types]
        assert kept.columns == taken.columns
        text = "SELECT COLUMNS(*)::VARCHAR FROM"
        given_text = connection.execute(f"{text} given").fetchall()
        kept_text = connection.execute(f"{text} (SELECT * EXCLUDE (run, rid) FROM {view} ORDER BY rid)").fetchall()
        assert kept_text == given_text


@pytest.mark.parametrize(
    ("array", "kind", "value"),
    [
        (pa.array([1.5], pa.float16()), "FLOAT", 1.5),
        (pa.array([decimal.Decimal("1.50")], pa.decimal256(20, 2)), "DECIMAL(20,2)", decimal.Decimal("1.50")),
        (pa.array([decimal.Decimal("1.5")], pa.decimal256(60, 1)), "VARCHAR", "1.5"),
        (pa.nulls(1), "INTEGER", None),
        (pa.array([{}], pa.struct([])), "JSON", "{}"),
        (pa.RunEndEncodedArray.from_arrays([1], ["a"]), "VARCHAR", "a"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([7])]), "VARCHAR", "7"),
        (pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1], pa.int8())), "BOOLEAN", True),
        (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}'])), "JSON", '{"a":1}'),
        (pa.array([5_001], pa.duration("ns")), "INTERVAL", dt.timedelta(microseconds=5)),
        (pa.array([[dt.timedelta(seconds=2), None]]), "INTERVAL[]", [dt.timedelta(seconds=2), None]),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_a_type_that_parquet_lacks_is_kept_as_the_nearest(lake: Any, array: pa.Array, kind: str, value: Any) -> None:
    batch = pa.RecordBatch.from_arrays([array], names=["x"])

    lake.write("orders", batch)

    with duckdb.connect() as connection:
        view = lake.view(connection, "web-orders", "orders")
        relation = connection.sql(f"SELECT x FROM {view}")
        assert [str(each) for each in relation.types] == [kind]
        assert relation.fetchall() == [(value,)]


@pytest.mark.parametrize(
    ("kind", "number", "text"),
    [
        (pa.time64("us"), 86_400_000_001, "24:00:00.000001"),
        (pa.time64("ns"), 360_000 * 10**9 + 5, "100:00:00.000000005"),
        (pa.time32("s"), -3_661, "-01:01:01"),
        (pa.timestamp("ms"), 2**63 - 1, "292278994-08-17 07:12:55.807"),
        (pa.timestamp("s"), 2**62, "146138514283-06-19 07:45:04"),
        (pa.timestamp("ms", "UTC"), 2**63 - 1000, "292278994-08-17 07:12:54.808+00"),
        (pa.timestamp("us"), -(2**63), "-9223372036854775808 microseconds from 1970"),
        (pa.timestamp("ns"), 2**63 - 1, "2262-04-11 23:47:16.854775807"),
        (pa.date32(), 2**31 - 1, "5881580-07-11"),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", ["plain", "list", "struct", "map", "dictionary"])
def test_a_time_for_which_duckdb_has_no_room_is_kept_as_text_and_ends_no_query(
    lake: Any, kind: pa.DataType, number: int, text: str, shape: str
) -> None:
    width = pa.int32() if kind.bit_width == 32 else pa.int64()
    plain = pa.array([number, 0, None], width).view(kind)
    array, picked = {
        "plain": (plain, "x"),
        "list": (pa.ListArray.from_arrays([0, 1, 2, 3], plain), "x[1]"),
        "struct": (pa.StructArray.from_arrays([plain], ["a"]), "x.a"),
        "map": (pa.MapArray.from_arrays([0, 1, 2, 3], pa.array(["a"] * 3), plain), "x['a']"),
        "dictionary": (pa.DictionaryArray.from_arrays([0, 1, 2], plain), "x"),
    }[shape]

    lake.write("orders", pa.RecordBatch.from_arrays([array], ["x"]), run="r1")
    found = lake.rows("web-orders", "orders", columns=f"CAST({picked} AS VARCHAR)", rest="ORDER BY rid")
    lake.write("orders", pa.record_batch({"x": plain.slice(1)}), run="r2")

    assert (len(found), found[0], found[2]) == (3, (text,), (None,))
    assert lake.rows("web-orders", "orders", columns="count(*)") == [(5,)]


def test_two_runs_with_other_columns_unite_by_name(lake: Any) -> None:
    lake.write("orders", pa.record_batch({"id": pa.array([1], pa.int32()), "old": ["x"]}), run="r1")
    lake.write("orders", pa.record_batch({"new": [True], "ID": pa.array([2**40])}), run="r2")

    rows = lake.rows("web-orders", "orders", columns="id, old, new, run", rest="ORDER BY run")

    assert rows == [(1, "x", None, "r1"), (2**40, None, True, "r2")]


def test_a_column_that_changed_to_another_kind_is_shown_as_text(lake: Any) -> None:
    lake.write("orders", pa.record_batch({"total": pa.array([1.5])}), run="r1")
    lake.write("orders", pa.record_batch({"total": pa.array([[1, 2]])}), run="r2")
    lake.write("orders", pa.record_batch({"total": pa.array([dt.date(2026, 1, 2)])}), run="r3")

    rows = lake.rows("web-orders", "orders", columns="total", rest="ORDER BY run")

    assert rows == [("1.5",), ("[1, 2]",), ("2026-01-02",)]


def test_a_struct_that_gained_a_field_keeps_both(lake: Any) -> None:
    lake.write("orders", pa.record_batch({"a": pa.array([{"x": 1}])}), run="r1")
    lake.write("orders", pa.record_batch({"a": pa.array([{"y": "q", "x": 2.5}])}), run="r2")

    rows = lake.rows("web-orders", "orders", columns="a.x, a.y", rest="ORDER BY run")

    assert rows == [(1.0, None), (2.5, "q")]


def test_columns_that_differ_only_in_case_stay_apart(lake: Any) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "A", "run"])

    lake.write("orders", batch)

    assert lake.rows("web-orders", "orders", columns='a, "A_1", run, _run') == [(1, 2, 3, "r1")]


def test_a_record_without_columns_is_still_a_record(lake: Any) -> None:
    batch = pa.record_batch({"x": [1, 2]}).select([])
    tap = lake.tap()
    ids = pa.record_batch({"__rid": pa.array([1, 2], pa.int64())})

    tap.records("orders", "out", ids)
    lake.commit(tap)

    assert batch.num_columns == 0
    assert lake.rows("web-orders", "orders") == [("r1", 1), ("r1", 2)]
    assert [row[-1] for row in lake.rows("records")] == ["{}", "{}"]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("INTEGER", "BIGINT", "BIGINT"),
        ("UBIGINT", "BIGINT", "HUGEINT"),
        ("INTEGER", "DECIMAL(9,2)", "DECIMAL(12,2)"),
        ("DECIMAL(38,10)", "BIGINT", "DECIMAL(38,10)"),
        ("DECIMAL(38,10)", "HUGEINT", "DOUBLE"),
        ("FLOAT", "INTEGER", "DOUBLE"),
        ("DATE", "TIMESTAMP", "TIMESTAMP"),
        ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP WITH TIME ZONE"),
        ("BOOLEAN", "INTEGER", "VARCHAR"),
        ("NULL", "BLOB", "BLOB"),
        (["list", "INTEGER"], ["array", "BIGINT", 2], ["list", "BIGINT"]),
        (["struct", [["a", "INTEGER"]]], ["struct", [["b", "INTEGER"]]], "VARCHAR"),
        (["map", "VARCHAR", "INTEGER"], ["map", "VARCHAR", "DOUBLE"], ["map", "VARCHAR", "DOUBLE"]),
    ],
)
def test_the_common_type_holds_both(one: Any, other: Any, both: Any) -> None:
    assert common_type(one, other) == both
    assert common_type(other, one) == both
    with duckdb.connect() as connection:
        for kind in (one, other):
            connection.execute(f"SELECT CAST(CAST(NULL AS {sql_type(kind)}) AS {sql_type(both)})")


def test_common_columns_keep_the_first_order() -> None:
    latest, older = [["b", "INTEGER"], ["a", "VARCHAR"]], [["a", "VARCHAR"], ["c", "DATE"], ["B", "BIGINT"]]

    assert common_columns([latest, older]) == [["b", "BIGINT"], ["a", "VARCHAR"], ["c", "DATE"]]


def test_names_become_distinct_without_taking_anothers() -> None:
    assert distinct_names(["a", "A", "a_1", "a"]) == ["a", "A_1", "a_1_1", "a_2"]
