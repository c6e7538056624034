"""Groups made before records are spilled are those that DuckDB makes of all records at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.prepare import Request
from agent.runs import run
from pipelines import journal
from pipelines.conformance.wides import records, worked
from pipelines.drive import drive
from pipelines.early import EARLY, groups_of
from pipelines.job import Job
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from repository.query import rows as query
from tests.agent.test_wide import delivered, expected, in_any_order, made, shop
from transforms.aggregate import Aggregate

MEASURES = {
    "n": "count(*)",
    "known": "count(v)",
    "total": "sum(v)",
    "money": "sum(m)",
    "some": "sum(m) FILTER (WHERE v > 1)",
    "least": "min(t)",
    "most": "max(v + 1)",
}
ROWS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(0, 3)),
        st.one_of(st.none(), st.sampled_from([0, 1, 2, -5, 2**62])),
        st.one_of(st.none(), st.decimals(-9999, 9999, places=2)),
        st.one_of(st.none(), st.sampled_from(["", "a", "ä", "a\x00"])),
    ),
    max_size=80,
)


def batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    kinds = {"k": pa.int64(), "v": pa.int64(), "m": pa.decimal128(12, 2), "t": pa.string()}
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return pa.record_batch({name: pa.array(column, kinds[name]) for name, column in zip(kinds, columns, strict=True)})


def test_groups_are_duckdbs_however_many_records_become_one(tmp_path: Path) -> None:
    sandbox = Sandbox()

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(ROWS, st.integers(1, 6), st.sampled_from([["k"], ["k", "t"], []]))
    def holds(rows: list[tuple[Any, ...]], batch_rows: int, by: list[str]) -> None:
        found = records(
            worked(
                Aggregate(by=by, measures=MEASURES),
                {"": batch(rows)},
                Scope(tmp_path, staging=tmp_path),
                sandbox,
                batch_rows,
            )
        )

        with duckdb.connect() as connection:
            connection.register("t", batch(rows))
            texts = ", ".join([*by, *(f"{text} AS {name}" for name, text in MEASURES.items())])
            group = f" GROUP BY {', '.join(by)}" if by else ""
            wanted = connection.sql(f"SELECT {texts} FROM t{group}").to_arrow_table().to_pylist()
        assert sorted(map(repr, found)) == sorted(map(repr, wanted))

    holds()


@pytest.mark.parametrize(
    "measure", ["avg(v)", "sum(f)", "count(DISTINCT v)", "sum(v) + 1", "list(v)", "median(v)", "min(v, 2)", "round(f)"]
)
def test_what_might_come_out_otherwise_is_not_grouped_early(measure: str) -> None:
    kinds = {
        "avg(v)": pa.float64(),
        "sum(f)": pa.float64(),
        "list(v)": pa.list_(pa.int64()),
        "min(v, 2)": pa.list_(pa.int64()),
    }
    given = pa.schema([("k", pa.int64()), ("x", kinds.get(measure, pa.int64()))])

    assert groups_of(["k"], {"x": measure}, given, Sandbox()) is None


def run_and_spill(folder: Path, by: str, snapshots: str = "sample") -> tuple[dict[str, Any], dict[str, int]]:
    """A run's report, and how many rows were spilled as groups and as they came."""
    nodes = f"  wide: {{type: aggregate, from: orders, by: [{by}], measures: {{orders: count(*), total: sum(amount), last: max(id)}}, snapshot: {snapshots}}}\n"
    rows = {"groups": 0, "records": 0}

    def execute(job: Job) -> None:
        drive(job)
        for phase in range(job.plan.phases):
            facts = journal.load_phase(job, phase)
            for spill in facts.spills if facts is not None else ():
                rows["groups" if spill["input"] == EARLY else "records"] += spill["rows"]

    return run(Request(shop(folder, nodes, batch_rows=500, workers=1), "shop"), execute), rows


def sql_of(by: str) -> str:
    return f"SELECT {by}, count(*) AS orders, sum(amount) AS total, max(id) AS last FROM orders GROUP BY {by}"


def test_few_groups_are_spilled_instead_of_many_records(tmp_path: Path) -> None:
    made(tmp_path)

    report, spilled = run_and_spill(tmp_path, "note")

    assert report["balanced"], report["error"]
    assert spilled == {"groups": 150, "records": 0}
    assert report["nodes"]["wide"]["merged"] == 5000
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql_of("note")))


def test_it_is_given_up_where_hardly_any_records_are_alike(tmp_path: Path) -> None:
    made(tmp_path)

    report, spilled = run_and_spill(tmp_path, "id")

    assert report["balanced"], report["error"]
    assert spilled == {"groups": 0, "records": 5000}
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql_of("id")))


def test_groups_and_records_that_were_spilled_for_one_key_are_put_together(tmp_path: Path) -> None:
    made(tmp_path)
    lines = (tmp_path / "orders.csv").read_text().splitlines()
    alike = [f"{number},7,1.00,note 1" for number in range(10_000, 12_500)]
    (tmp_path / "orders.csv").write_text("\n".join([lines[0], *alike, *lines[1:]]) + "\n")

    report, spilled = run_and_spill(tmp_path, "amount")

    assert report["balanced"], report["error"]
    assert spilled["groups"] > 0
    assert spilled["records"] > 0
    assert in_any_order(delivered(tmp_path)) == in_any_order(expected(tmp_path, sql_of("amount")))


@pytest.mark.parametrize("by", ["note", "amount"])
def test_the_records_of_a_group_are_told_all_the_same(tmp_path: Path, by: str) -> None:
    made(tmp_path)

    run_and_spill(tmp_path, by, "all")

    told = query(
        tmp_path / ".processflow" / "lake",
        "SELECT rid, list(parent ORDER BY parent) AS some, any_value(parents) AS n FROM parents WHERE node = 'wide' GROUP BY rid",
    )
    ids = {
        row["id"]: row["rid"] for row in query(tmp_path / ".processflow" / "lake", "SELECT id, rid FROM shop.orders")
    }
    groups = expected(tmp_path, f"SELECT list(id ORDER BY id) AS ids FROM orders GROUP BY {by} HAVING count(*) > 1")
    wanted = {
        ids[group["ids"][0]]: ([ids[number] for number in group["ids"][:10]], len(group["ids"]))
        for group in groups
        if group["ids"][0] in ids
    }
    assert wanted
    assert {row["rid"]: (row["some"], row["n"]) for row in told if row["rid"] in wanted} == wanted
