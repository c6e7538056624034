"""http.get behind a node that gives records: it fetches for each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agent.dry import run_tests
from agent.prepare import Request
from pipelines.conformance.nodes import Reported
from pipelines.conformance.transforms import account
from pipelines.errors import Invalid, Unavailable
from pipelines.fetch import Fetch
from pipelines.node import Outcome
from pipelines.sql.sandbox import borrowed
from tests.adapters.http.conftest import Desk
from tests.adapters.http.test_runs import made, rows
from tests.agent.projects import run_here
from tests.parts.shop_api import Shop, answer, hang_up

ONE: dict[str, Any] = {
    "path": "/orders/{order}", "records": "@", "columns": {"id": "BIGINT", "total": "DECIMAL(9,2)"}, "keep": "all",
}  # fmt: skip
FLOW = """flow: fetched
nodes:
  start: {type: start}
  wanted: {type: file.get, from: start, path: wanted.csv}
  orders: {type: http.get, from: wanted, connection: shop, path: "/orders/{order}", records: "@", columns: {id: BIGINT, total: DOUBLE}, keep: [note]}
  kept: {type: file.post, from: orders, path: kept.csv, mode: replace}
tests:
  - name: what is fetched leaves
    given: {wanted: [{order: 1, note: a}, {order: 2, note: b}], orders: [{note: a, id: 7, total: 1.5}]}
    then: {kept: [{note: a, id: 7}]}
"""


def fetched(desk: Desk, batch: pa.RecordBatch, **config: Any) -> Outcome:
    node = Fetch(get=desk.get(**config))
    report = Reported()
    told = node.check({"": batch.schema}, desk.scope, report)["out"]
    assert not report, report
    with borrowed(desk.scope) as sandbox:
        outcome = node.open(batch.schema, desk.scope, sandbox)(batch)
    account(outcome, batch)
    assert outcome.out["out"].batch.schema.equals(told)
    return outcome


def asking(*orders: object) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"order": order} for order in orders], pa.schema([("order", pa.int64())]))


def test_each_record_gets_what_was_fetched_for_it_in_its_order(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/3", hang_up)

    out = fetched(desk, asking(3, 1, 2), **ONE).out["out"].batch

    assert out.column("order").to_pylist() == out.column("id").to_pylist() == [3, 1, 2]
    assert [str(total) for total in out.column("total").to_pylist()] == ["3.75", "1.25", "2.50"]


def test_equal_requests_are_made_once(desk: Desk, shop: Shop) -> None:
    out = fetched(desk, asking(5, 6, 5, 5), **ONE).out["out"].batch

    assert out.column("id").to_pylist() == [5, 6, 5, 5]
    assert len(shop.seen) == 2


def test_requests_are_under_way_side_by_side(desk: Desk, shop: Shop) -> None:
    shop.slow_seconds = 0.05

    fetched(desk, asking(*range(1, 9)), **ONE)

    assert shop.most_under_way > 3


def test_one_record_may_bring_many_over_several_pages(desk: Desk, shop: Shop) -> None:
    batch = pa.RecordBatch.from_pylist([{"size": 10, "name": "ten"}, {"size": 20, "name": "twenty"}])
    config = {
        "path": "/orders", "query": {"per_page": "{size}"}, "records": "items", "columns": {"id": "BIGINT"},
        "keep": ["name"], "paging": {"by": "page", "parameter": "page_no"},
    }  # fmt: skip

    out = fetched(desk, batch, **config).out["out"]

    assert out.batch.to_pylist() == [
        {"name": name, "id": number} for name in ("ten", "twenty") for number in range(1, 26)
    ]
    assert out.rows.to_pylist() == [0] * 25 + [1] * 25  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("missing", "left", "filtered", "codes"),
    [("drop", [1, 2], 1, []), ("null", [1, None, 2], 0, []), ("reject", [1, 2], 0, ["not_found"])],
)
def test_what_is_not_there_is_left_out_null_or_rejected(
    missing: str, left: list[int | None], filtered: int, codes: list[str], desk: Desk
) -> None:
    outcome = fetched(desk, asking(1, 99, 2), **ONE, missing=missing)

    assert outcome.out["out"].batch.column("id").to_pylist() == left
    assert outcome.filtered == filtered
    assert list(outcome.rejects.codes if outcome.rejects else []) == codes


def test_what_cannot_be_fetched_or_read_is_rejected_and_the_others_leave(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/2", answer(403, '{"detail": "not yours"}'))
    shop.script("/orders/3", answer(200, '{"id": "three", "total": 1}'))
    shop.script("/orders/4", *[answer(500)] * 3)

    outcome = fetched(desk, asking(1, 2, 3, 4, None), **ONE)

    assert outcome.out["out"].batch.column("id").to_pylist() == [1]
    assert outcome.rejects is not None
    assert outcome.rejects.codes == ["refused", "type", "unavailable", "path"]
    assert "not yours" in outcome.rejects.messages[0]
    assert 'column "id": "three" is no BIGINT' in outcome.rejects.messages[1].replace("'", '"')


def test_an_api_that_is_away_ends_the_run(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/1", *[hang_up] * 9)

    with pytest.raises(Unavailable, match="hung up"):
        fetched(desk, asking(1), **ONE)


def test_refused_credentials_end_the_run(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/1", answer(401))

    with pytest.raises(Invalid, match="`auth`"):
        fetched(desk, asking(1, 2), **ONE)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"columns": None}, "declare the columns"),
        ({"path": "/orders/{nr}"}, "there are: order"),
        ({"keep": ["ordr"]}, "did you mean 'order'"),
        ({"columns": {"order": "BIGINT"}}, "comes in and is fetched"),
        ({"cursor": {"column": "id"}}, "no last run"),
    ],
)
def test_what_does_not_fit_the_records_that_come_is_told_before_the_run(
    config: dict[str, Any], said: str, desk: Desk
) -> None:
    report = Reported()

    Fetch(get=desk.get(**{**ONE, **config})).check({"": asking(1).schema}, desk.scope, report)

    assert any(said in problem for problem in report), report


def test_a_flow_fetches_for_each_record_of_a_file(shop: Shop, tmp_path: Path) -> None:
    one = made(tmp_path, FLOW, shop, {"wanted.csv": "order,note\n2,b\n99,x\n1,a\n"})

    report = run_here(one, "fetched")

    assert (report["status"], report["balanced"]) == ("done", True)
    assert report["nodes"]["orders"]["filtered"] == 1
    assert [(row["note"], row["id"]) for row in rows(tmp_path / "kept.csv")] == [("b", "2"), ("a", "1")]


def test_a_flow_s_own_test_gives_what_would_be_fetched_and_asks_nobody(shop: Shop, tmp_path: Path) -> None:
    one = made(tmp_path, FLOW, shop, {"wanted.csv": "order,note\n2,b\n"})

    verdicts = list(run_tests(Request(one, "fetched")))

    assert [verdict.differences for verdict in verdicts] == [()]
    assert shop.seen == []
