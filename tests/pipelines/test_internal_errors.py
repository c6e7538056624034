"""Values at which DuckDB fails within itself: their records are rejected, all others go on, for every thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sql import halving
from pipelines.sql.expressions import Evaluated, Evaluator
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.strange import strange_rows
from repository.query import rows as query
from tests.agent.projects import project, run_here
from tests.pipelines.expressing import scope

EARLY = -(2**63) + 6
"""Microseconds since 1970 in the first year that DuckDB has."""
US = pa.timestamp("us")


def no_utf8(*values: bytes) -> pa.StringArray:
    ends = [0]
    for each in values:
        ends.append(ends[-1] + len(each))
    offsets = pa.array(ends, pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), len(values), [None, offsets, pa.py_buffer(b"".join(values))])


FAILING: dict[str, tuple[str, pa.Array]] = {
    "json of an early time": ("to_json(x)", pa.array([0, EARLY, None], US)),
    "json within a list": ("to_json([x])", pa.array([0, EARLY, None], US)),
    "age": ("age(x, TIMESTAMP '2000-01-01')", pa.array([0, EARLY, None], US)),
    "text of seconds": ("x::VARCHAR", pa.array([0, 2**62, None], pa.timestamp("s"))),
    "text of milliseconds": ("x::VARCHAR", pa.array([0, 2**62, None], pa.timestamp("ms"))),
    "text of a time of day": ("x::VARCHAR", pa.array([0, 2**62, None], pa.time64("us"))),
    "text that is no UTF-8": ("upper(x)", no_utf8(b"a", b"\xffa", b"c")),
    "text reversed": ("reverse(x)", no_utf8(b"a", b"\xffa", b"c")),
}


def computed(batch: pa.RecordBatch, sandbox: Sandbox, **expressions: str) -> Evaluated:
    return Evaluator(expressions, batch.schema, scope(), sandbox)(batch)


def early(rows: int, *at: int) -> pa.RecordBatch:
    """Ordinary times with an early one at some rows."""
    times = [EARLY if row in at else row * 1_000_000 for row in range(rows)]
    return pa.record_batch({"x": pa.array(times, US), "n": pa.array(range(rows))})


@pytest.mark.parametrize("case", FAILING.values(), ids=FAILING)
def test_a_value_that_breaks_duckdb_is_the_fault_of_its_record_alone(
    case: tuple[str, pa.Array], sandbox: Sandbox
) -> None:
    text, column = case

    found = computed(pa.record_batch({"x": column}), sandbox, field=text)

    assert [fault.row for fault in found.faults] == [1]
    assert found.columns.column(0).is_valid().to_pylist()[:2] == [True, False]
    assert "Stack Trace" not in found.faults[0].message
    assert "SetFallible" not in found.faults[0].message


def test_other_threads_connections_go_on_after_an_internal_error(sandbox: Sandbox) -> None:
    other = Sandbox()
    evaluator = Evaluator({"y": "n + 1"}, early(2).schema, scope(), other)

    computed(early(3, 1), sandbox, field="age(x, TIMESTAMP '2000-01-01')")

    assert evaluator(early(2)).columns.column("y").to_pylist() == [1, 2]
    other.close()


def test_expressions_beside_one_that_fails_keep_their_values(sandbox: Sandbox) -> None:
    found = computed(early(50, 7, 30), sandbox, bad="age(x, TIMESTAMP '2000-01-01')", good="n * 2", cast="n::TINYINT")

    assert [(fault.row, fault.name) for fault in found.faults] == [(7, "bad"), (30, "bad")]
    assert found.columns.column("good").to_pylist() == [2 * row for row in range(50)]
    assert found.columns.column("bad").null_count == 2


def test_ordinary_records_are_computed_however_many_others_break_duckdb(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(halving, "MOST_INTERNAL", 5)
    at = range(0, 200, 2)

    found = computed(early(200, *at), sandbox, field="age(x, TIMESTAMP '2000-01-01')")

    assert [fault.row for fault in found.faults] == list(at)
    assert found.columns.column(0).null_count == 100
    assert "not tried: it failed within DuckDB 5 times in this batch" in found.faults[-1].message


def test_strange_values_are_found_at_every_depth() -> None:
    lists = pa.array([[0], [0, EARLY], None, [], [None]], pa.list_(US))
    columns: dict[str, Any] = {
        "list": lists,
        "slice": pa.concat_arrays([lists, lists]).slice(5),
        "large": lists.cast(pa.large_list(US)),
        "struct": pa.array([{"a": 0}, {"a": EARLY}, None, {"a": None}, {"a": 5}], pa.struct([("a", US)])),
        "map": pa.array([[], [("k", EARLY)], None, [("k", 1)], [("k", None)]], pa.map_(pa.string(), US)),
        "date": pa.array([0, 2**31 - 1, None, 5, 6], pa.date32()),
        "date64": pa.array([0, 10**7 * 86_400_000, None, 0, 0], pa.int64()).view(pa.date64()),
        "seconds": pa.array([0, 2**62, None, 5, 6], pa.timestamp("s")),
        "nanoseconds": pa.array([2**63 - 2, 0, None, 5, 6], pa.timestamp("ns")),
        "time": pa.array([0, 86_400_000_000, None, 5, 6], pa.time64("us")),
        "text": no_utf8(b"a", b"\xff", b"b", b"", b"c"),
        "fixed": pa.array([[0], [EARLY], None, [1], [2]], pa.list_(US, 1)),
        "view": pa.array([[0], [EARLY], None, [], [2]], pa.list_view(US)),
        "number": pa.array([2**63 - 1, 0, 1, 2, 3]),
    }

    found = {name: strange_rows(pa.record_batch({"x": column})).tolist() for name, column in columns.items()}

    nowhere, second = [False] * 5, [False, True, False, False, False]
    calm = ("nanoseconds", "number")
    assert found == {name: nowhere if name in calm else second for name in columns}


def test_a_run_rejects_such_records_and_delivers_the_others(tmp_path: Path) -> None:
    flow = """flow: ages
nodes:
  start: {type: start}
  read: {type: file.get, from: start, path: times.parquet}
  aged: {type: map, from: read, fields: {n: n, age: "age(make_timestamp(x), TIMESTAMP '2000-01-01')::VARCHAR"}}
  sent: {type: file.post, from: aged, path: ages.jsonl}
"""
    made = project(tmp_path, flow)
    times = early(9, 4)
    columns = {"x": times.column("x").cast(pa.int64()), "n": times.column("n")}
    pq.write_table(pa.table(columns), tmp_path / "times.parquet")

    report = run_here(made, "ages")

    assert report["status"] == "done_with_rejects"
    assert report["balanced"]
    assert (report["nodes"]["sent"]["delivered"], report["nodes"]["aged"]["rejected"]) == (8, 1)
    rejects = query(made.lake, "SELECT message, payload ->> 'n' AS n FROM rejects")
    assert [row["n"] for row in rejects] == ["4"]
    assert rejects[0]["message"] == "age: Date out of range in timestamp conversion"
