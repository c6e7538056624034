"""Splitting: elements of every kind of list, records without any, what stays beside them, and names that clash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.execute import Executor
from agent.prepare import Request
from agent.runs import Execute, run
from pipelines.drive import drive
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.agent.projects import project
from tests.transforms.test_transforms_equal_duckdb import TYPES, plain, ran, records, tables
from transforms.split import Split

LINE = pa.struct([("sku", pa.string()), ("qty", pa.int32())])
SCHEMA = pa.schema(
    [("id", pa.int64()), ("lines", pa.list_(LINE)), ("tags", pa.list_(pa.string())), ("text", pa.string())]
)
LISTS = {
    "list": pa.list_(pa.int32()),
    "large": pa.large_list(pa.int32()),
    "view": pa.list_view(pa.int32()),
    "large_view": pa.large_list_view(pa.int32()),
}


def node(**config: Any) -> Split:
    return Split.model_validate(config)


def problems(schema: pa.Schema = SCHEMA, **config: Any) -> list[tuple[tuple[str | int, ...], str]]:
    told: list[tuple[tuple[str | int, ...], str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what))

    node(**config).check({"": schema}, Scope(Path()), report)
    return told


def test_each_element_names_the_row_its_list_was_in() -> None:
    sandbox = Sandbox()
    batch = pa.RecordBatch.from_pylist([{"tags": ["a", None]}, {"tags": []}, {}, {"tags": ["b"]}], schema=SCHEMA)

    outcome = node(each="tags", number="no", keep="none").open(SCHEMA, Scope(Path()), sandbox)(batch)

    sandbox.close()
    assert outcome.out["out"].rows is not None
    assert outcome.out["out"].rows.to_pylist() == [0, 0, 3]
    assert outcome.out["out"].batch.to_pylist() == [
        {"no": 1, "tags": "a"},
        {"no": 2, "tags": None},
        {"no": 1, "tags": "b"},
    ]
    assert outcome.filtered == 2


@pytest.mark.parametrize("size", [1, 2, 5])
def test_records_without_elements_can_stay(size: int) -> None:
    records = [{"id": 1, "tags": []}, {"id": 2, "tags": ["a", "b"]}, {"id": 3}]
    table = pa.Table.from_pylist(records, schema=SCHEMA)

    found, _rejected = ran(node(each="tags", empty="keep", keep=["id"], number="no"), table, size)

    assert [tuple(record.values()) for record in found["out"].to_pylist()] == [
        (1, None, None),
        (2, 1, "a"),
        (2, 2, "b"),
        (3, None, None),
    ]


@pytest.mark.parametrize("kind", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("size", [1, 3])
def test_every_kind_of_list_is_one(kind: pa.DataType, size: int) -> None:
    table = pa.table({"x": pa.array([[1, None], None, [], [2]], kind)})

    found, _rejected = ran(node(each="x"), table, size)

    assert found["out"].to_pylist() == [{"x": 1}, {"x": None}, {"x": 2}]


def test_lists_of_a_fixed_size_and_maps_are_lists() -> None:
    table = pa.table(
        {
            "pair": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int32(), 2)),
            "map": pa.array([[("a", 1)], [], [("b", None), ("c", 3)]], pa.map_(pa.string(), pa.int8())),
        }
    )

    pairs, _rejected = ran(node(each="pair", keep="none"), table, 2)
    entries, _rejected = ran(node(each="map", keep="none"), table, 2)

    assert pairs["out"]["pair"].to_pylist() == [1, 2, 3, None]
    assert entries["out"].to_pylist() == [
        {"key": "a", "value": 1},
        {"key": "b", "value": None},
        {"key": "c", "value": 3},
    ]


def test_a_null_struct_among_the_elements_gives_nulls() -> None:
    table = pa.Table.from_pylist([{"lines": [None, {"sku": "A", "qty": 1}]}], schema=SCHEMA)

    found, _rejected = ran(node(each="lines", keep="none"), table, 1)

    assert found["out"].to_pylist() == [{"sku": None, "qty": None}, {"sku": "A", "qty": 1}]


def test_a_record_whose_list_cannot_be_computed_is_rejected_the_others_are_split() -> None:
    records = [{"id": 1, "text": "[1,2]"}, {"id": 2, "text": "["}, {"id": 3, "text": "[]"}, {"id": 4, "text": "[3]"}]
    table = pa.Table.from_pylist(records, schema=SCHEMA)

    found, rejected = ran(node(each="from_json(text, '[\"INTEGER\"]')", **{"as": "n"}, keep=["id"]), table, 4)

    assert rejected == [1]
    assert found["out"].to_pylist() == [{"id": 1, "n": 1}, {"id": 1, "n": 2}, {"id": 4, "n": 3}]


@pytest.mark.parametrize(
    ("config", "at", "what"),
    [
        ({"each": "id"}, ("each",), "expression 'id': gives int64, not a list"),
        ({"each": "lins"}, ("each",), "expression 'lins': no column"),
        ({"each": "string_split(text, ',')"}, ("as",), "the element has no name"),
        ({"each": "lines", "number": "id"}, ("number",), "column 'id' is there already"),
        ({"each": "lines", "number": "sku"}, ("number",), "column 'sku' is there already"),
        ({"each": "lines", "as": "text"}, ("as",), "column 'text' is there already"),
        ({"each": "tags", "keep": ["id", "tagz"]}, ("keep", 1), "no column 'tagz' comes in"),
        ({"each": "tags", "keep": ["tags"]}, ("as",), "column 'tags' is there already"),
        ({}, (), "says neither what to split nor how"),
        ({"each": "tags", "rows": 2}, (), "has both `each` and `rows`"),
        ({"rows": 2, "as": "tag"}, ("as",), "`as` is about elements of a list"),
        ({"rows": 2, "number": "no"}, ("number",), "`number` is about elements of a list"),
        ({"rows": 2, "empty": "keep"}, ("empty",), "`empty` is about elements of a list"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(config: dict[str, Any], at: tuple[str | int, ...], what: str) -> None:
    told = problems(**config)

    assert [place for place, _what in told] == [at]
    assert told[0][1].startswith(what)


def test_a_name_in_another_case_is_still_the_column() -> None:
    table = pa.Table.from_pylist([{"id": 1, "tags": ["a"]}], schema=SCHEMA)

    found, _rejected = ran(node(each="TAGS"), table, 1)

    assert found["out"].schema.names == ["id", "lines", "text", "tags"]


def test_the_list_is_needed_always_the_rest_where_it_is_wanted() -> None:
    sandbox = Sandbox()

    assert node(each="lines").needs(frozenset({"sku", "id"}), SCHEMA, sandbox) == {"lines", "id"}
    assert node(each="lines").needs(frozenset(), SCHEMA, sandbox) == {"lines"}
    assert node(each="tags", keep=["id"]).needs(None, SCHEMA, sandbox) == {"tags", "id"}
    assert node(each="tags").needs(None, SCHEMA, sandbox) is None
    sandbox.close()


@pytest.mark.parametrize("execute", [drive, Executor().run], ids=["drive", "beam"])
@pytest.mark.parametrize("rows", [1, 7, 10, 100])
def test_records_go_on_so_many_at_a_time(tmp_path: Path, rows: int, execute: Execute) -> None:
    flow = f"""flow: sizes
settings: {{batch_rows: 20}}
nodes:
  start: {{type: start}}
  n: {{type: file.get, from: start, path: n.csv}}
  few: {{type: split, from: n, rows: {rows}}}
  sized: {{type: python, from: few, keep: all, columns: {{size: BIGINT}}, trusted: true, code: "def run(b): return {{'size': [len(b)] * len(b)}}"}}
  sent: {{type: file.post, from: sized, path: sent.parquet}}
"""
    made = project(tmp_path, flow, {"n.csv": "n\n" + "".join(f"{n}\n" for n in range(45))})

    report = run(Request(made, "sizes"), execute)

    sent = pq.read_table(tmp_path / "sent.parquet")
    expected = [size for came in (15, 15, 15) for size in sizes(came, rows)]
    assert report["status"] == "done"
    assert report["nodes"]["few"]["out"] == {"out": 45}
    assert sorted(sent["n"].to_pylist()) == list(range(45))
    assert sorted(sent["size"].to_pylist()) == sorted(size for size in expected for _ in range(size))


def sizes(came: int, rows: int) -> list[int]:
    """The batches that so many records are cut into."""
    return [min(rows, came - start) for start in range(0, came, rows)]


def test_records_in_batches_are_the_records_that_came() -> None:
    sandbox = Sandbox()
    batch = pa.RecordBatch.from_pylist([{"id": 1, "tags": ["a"]}, {"id": 2}], schema=SCHEMA)

    outcome = node(rows=1).open(SCHEMA, Scope(Path()), sandbox)(batch)

    sandbox.close()
    assert outcome.out["out"].batch is batch
    assert node(rows=1).needs(frozenset({"id"}), SCHEMA, sandbox) == {"id"}
    assert node(rows=1).needs(None, SCHEMA, sandbox) is None
    assert problems(rows=1) == []


@settings(max_examples=20)
@given(
    table=tables(),
    lengths=st.lists(st.none() | st.integers(0, 3), min_size=7, max_size=7),
    size=st.integers(1, 8),
    name=st.sampled_from(sorted(TYPES)),
    empty=st.sampled_from(["drop", "keep"]),
)
def test_lists_of_any_type_come_apart_as_duckdb_unnests_them(
    table: pa.Table, lengths: list[int | None], size: int, name: str, empty: str
) -> None:
    kind = TYPES[name][0]  # DuckDB cannot read a batch of empty lists over a dictionary
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    is_fine = kind == pa.timestamp("ns")  # Python has no nanoseconds
    values, lists = (table[name].cast(pa.int64()) if is_fine else table[name]).to_pylist(), []
    for row, length in enumerate(lengths[: table.num_rows]):  # a list for each record, of values of others
        lists.append(None if length is None else (values * 3)[row : row + length])
    made = pa.array(lists, pa.list_(pa.int64() if is_fine else kind))
    given_table = table.append_column("list", made.cast(pa.list_(kind)) if is_fine else made)

    found, rejected = ran(
        node(each="list", **{"as": "x"}, keep=["n", "text"], number="no", empty=empty), given_table, size
    )

    elements = "SELECT n, text, row_number, unnest(range(1, len(list) + 1)) AS no, unnest(list) AS x FROM t"
    none = "SELECT n, text, row_number, NULL, NULL FROM t WHERE len(list) IS NULL OR len(list) = 0"
    union = f"{elements} UNION ALL {none}" if empty == "keep" else elements
    query = f"SELECT n, text, no, x FROM ({union}) ORDER BY row_number, no"
    assert rejected == []
    assert records(found["out"]) == records(plain(query, given_table))
    assert found["out"].schema.field("x").type.equals(kind)
