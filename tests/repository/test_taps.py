"""What taps write down of what passes them, and what that costs."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.node import Receipts, Rejects
from pipelines.records import ROW_ID, ids_of
from repository import port, tap
from repository.lake import commit
from repository.sample import SAMPLE_ROWS, sampled
from tests.repository.lakes import files, numbers


def test_a_small_run_writes_one_file_a_table_and_nothing_while_it_runs(lake: Any) -> None:
    one = lake.tap()
    for node in ("orders", "checked", "shaped"):
        one.records(node, "out", numbers(0, 10))
    one.rejects("checked", numbers(3, 2), Rejects(pa.array([0, 1]), ["bad", "bad"], ["no", "no"]), 1)
    one.deliveries("erp", pa.array([1, 2], pa.int64()), Receipts(), 1)
    one.transaction("erp", "opened", file="out.csv")
    pieces = one.close()
    before = lake.root.exists() or lake.staging.exists()

    commit(lake.root, {"run": "r1", "flow": "web-orders", "started": "2026-11-23T10:00:00+00:00"}, pieces)

    place = "flow=web-orders/date=2026-11-23/r1.parquet"
    tables = ("deliveries", "records", "rejects", "transactions")
    assert not before
    assert files(lake) == ["_commits/.lock", "_commits/r1.json", *(f"{table}/{place}" for table in tables)][1:]
    assert all(isinstance(value, (str, int, float, bytes)) for piece in pieces for value in piece.values())


def test_auto_keeps_all_of_little_and_a_sample_of_much(lake: Any) -> None:
    little, much = [lake.tap(), lake.tap()], [lake.tap(), lake.tap()]
    for place, one in enumerate(little):
        one.records("few", "out", numbers(place * 4_000, 4_000))
    for place, one in enumerate(much):
        one.records("many", "out", numbers(place * 6_000, 6_000))

    lake.commit(*little, *much)

    assert lake.rows("records", columns="node, count(*)", rest="GROUP BY node ORDER BY node") == [
        ("few", 8_000),
        ("many", SAMPLE_ROWS),
    ]


def test_every_port_samples_the_same_records_however_the_run_was_split(lake: Any) -> None:
    whole = lake.tap(snapshots={"a.out": "sample", "b.out": "sample"})
    whole.records("a", "out", numbers(0, 50_000))
    halves = [lake.tap(snapshots={"b.out": "sample"}) for _ in range(2)]
    for place in range(0, 50_000, 5_000):
        halves[place // 5_000 % 2].records("b", "out", numbers(place, 5_000))

    lake.commit(whole, *halves)

    a, b = (lake.rows("records", columns="rid", rest=f"WHERE node = '{node}' ORDER BY rid") for node in "ab")
    expected = sorted(ids_of(one).to_pylist() for one in sampled([numbers(0, 50_000)]))
    assert a == b == [(rid,) for rid in expected[0]]


def test_the_policies_none_and_all_are_kept(lake: Any) -> None:
    one = lake.tap(snapshots={"quiet.out": "none", "loud.out": "all"})
    one.records("quiet", "out", numbers(0, 10))
    one.records("loud", "out", numbers(0, 25_000))

    lake.commit(one)

    assert lake.rows("records", columns="node, count(*), sum(rid)", rest="GROUP BY ALL") == [
        ("loud", 25_000, sum(range(25_000)))
    ]


def test_what_is_kept_whole_goes_to_files_before_it_fills_memory(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port, "SPILL_BYTES", 100_000)
    one = lake.tap(snapshots={"loud.out": "all"})
    held = []

    for first in range(0, 60_000, 5_000):
        one.records("loud", "out", numbers(first, 5_000))
        one.rejects("loud", numbers(first, 5_000), Rejects(None, ["bad"] * 5_000, ["no"] * 5_000), 2)
        held.append(max(each.bytes for each in one._ports.values()))
    lake.commit(one)

    assert max(held) < 500_000
    assert lake.rows("web-orders", "loud", columns="count(*), sum(n)") == [(60_000, sum(range(60_000)))]
    assert lake.rows("rejects", columns="count(*), min(attempt)") == [(60_000, 2)]
    assert not list(lake.staging.rglob("*.parquet"))


def test_many_ports_together_stay_within_the_taps_memory(lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "TAP_BYTES", 4_000_000)
    one = lake.tap()
    held = []

    for node in range(30):
        for first in range(0, 9_000, 3_000):
            one.records(f"n{node}", "out", numbers(first, 3_000, "x" * 20))
            held.append(sum(each.bytes for each in one._ports.values()))
    lake.commit(one)

    counts = {count for (count,) in lake.rows("records", columns="count(*)", rest="GROUP BY node")}
    assert max(held) < 5_000_000
    assert counts == {SAMPLE_ROWS, 9_000}


def test_a_kept_slice_does_not_hold_its_parents_memory(lake: Any) -> None:
    parent = numbers(0, 200_000, "long text of some length")
    one = lake.tap()

    one.records("orders", "out", parent.slice(10, 5))

    (kept,) = one._ports["records", "orders", "out"]._whole
    assert kept.get_total_buffer_size() < 10_000


def test_a_delivered_batch_is_one_row_that_the_view_unfolds(lake: Any) -> None:
    one = lake.tap()
    one.deliveries(
        "erp", pa.array([5, 7], pa.int64()), Receipts(pa.array(["a", None]), pa.array(["1", "2"]), "201", 3.5), 1
    )
    one.deliveries("file", pa.array(range(1000), pa.int64()), Receipts(), 2)

    lake.commit(one)

    stored = pq.read_table(next(lake.root.glob("deliveries/**/*.parquet")))
    assert stored.num_rows == 2
    columns = "node, rid, key, id, status, attempt, milliseconds"
    assert lake.rows("deliveries", columns=columns, rest="WHERE node = 'erp' ORDER BY rid") == [
        ("erp", 5, "a", "1", "201", 1, 3.5),
        ("erp", 7, None, "2", "201", 1, 3.5),
    ]
    assert lake.rows(
        "deliveries", columns="count(*), count(DISTINCT rid)", rest="WHERE key IS NULL AND id IS NULL"
    ) == [(1000, 1000)]


def test_receipts_of_many_records_are_small_files_and_little_memory(lake: Any) -> None:
    one = lake.tap()

    for first in range(0, 3_000_000, 60_000):
        one.deliveries("file", pa.array(range(first * 97, (first + 60_000) * 97, 97), pa.int64()), Receipts(), 1)
    held = one._receipt_rows
    lake.commit(one)

    size = sum(path.stat().st_size for path in lake.root.glob("deliveries/**/*.parquet"))
    assert held < tap.DELIVERED_ROWS
    assert size < 300_000
    assert lake.rows("deliveries", columns="count(*), max(rid)") == [(3_000_000, 2_999_999 * 97)]


def test_transactions_are_numbered_in_the_order_they_happened_over_all_taps(
    lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tap, "EVENTS", 3)
    one, other = lake.tap(), lake.tap()
    for number in range(4):
        one.transaction("a", "call", number=number)
        other.transaction("b", "call", number=number)

    lake.commit(one, other)

    rows = lake.rows("transactions", columns="seq, node, what, details ->> 'number'", rest="ORDER BY seq")
    assert rows == [(place + 1, "ab"[place % 2], "call", str(place // 2)) for place in range(8)]


def test_rejects_keep_their_typed_payload_reason_and_key(lake: Any) -> None:
    one = lake.tap(keys={"erp": ["n", "text"]})
    one.rejects("erp", numbers(3, 2), Rejects(None, ["missing", "late"], ["no email", "too late"]), 1)
    one.rejects(
        "orders",
        pa.record_batch({"line": ["a,b"], ROW_ID: pa.array([9], pa.int64())}),
        Rejects(None, ["csv"], ["?"]),
        1,
    )

    lake.commit(one)

    assert lake.rows("rejects", columns="node, rid, key, code, message, payload", rest="ORDER BY rid") == [
        ("erp", 3, "3|x", "missing", "no email", '{"n":3,"text":"x"}'),
        ("erp", 4, "4|x", "late", "too late", '{"n":4,"text":"x"}'),
        ("orders", 9, None, "csv", "?", '{"line":"a,b"}'),
    ]
    assert lake.rows("web-orders", "erp.rejected", rest="LIMIT 1") == [(3, "x", "erp", "missing", "no email", "r1", 3)]


def test_rejects_of_a_node_with_two_shapes_are_all_there(lake: Any) -> None:
    one = lake.tap()
    one.rejects("orders", numbers(1, 1), Rejects(None, ["type"], ["?"]), 1)
    one.rejects(
        "orders", pa.record_batch({"line": ["x"], ROW_ID: pa.array([2], pa.int64())}), Rejects(None, ["csv"], ["?"]), 1
    )

    lake.commit(one)

    assert lake.rows("web-orders", "orders.rejected", columns="n, line", rest="ORDER BY rid") == [
        (1, None),
        (None, "x"),
    ]
    assert lake.rows("rejects", columns="count(*)") == [(2,)]


def test_masked_and_excluded_columns_reach_no_log(lake: Any) -> None:
    one = lake.tap(mask=("TEXT",), exclude=("secret",), keys={"orders": ["text"]}, snapshots={"all.out": "all"})
    batch = pa.record_batch({"n": [1, 2], "text": ["visa", None], "secret": ["s3", "s4"], ROW_ID: pa.array([1, 2])})
    for node in ("orders", "all"):
        one.records(node, "out", batch)
    one.rejects("orders", batch, Rejects(None, ["a", "b"], ["visa is no number", "s4 is short"]), 1)
    line = pa.record_batch({"line": ["1,visa,s3"], ROW_ID: pa.array([3])})
    one.rejects("orders", line, Rejects(None, ["csv"], ["1,visa,s3 has 3 values"]), 1)
    one.deliveries("orders", pa.array([1, 2]), Receipts(pa.array(["visa", None])), 1)

    lake.commit(one)

    assert lake.rows("web-orders", "orders") == [(1, "***", "r1", 1), (2, None, "r1", 2)]
    assert lake.rows("rejects", columns="key, message, payload", rest="ORDER BY rid") == [
        ("***", "*** is no number", '{"n":1,"text":"***"}'),
        (None, "*** is short", '{"n":2,"text":null}'),
        (None, "*** has 3 values", '{"line":"***"}'),
    ]
    everything = b"".join(path.read_bytes() for path in lake.root.rglob("*") if path.is_file())
    assert b"visa" not in everything
    assert b"s3" not in everything
