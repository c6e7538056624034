"""http.get reads every kind of pages, each record once and in order."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.errors import Invalid
from pipelines.node import Want
from tests.adapters.http.conftest import Desk
from tests.parts.shop_api import Shop, answer

PAGE = {"by": "page", "parameter": "page_no", "size_parameter": "per_page", "size": 10}
KINDS: dict[str, dict[str, Any]] = {
    "page": {"path": "/orders", "records": "items", "paging": PAGE},
    "page with total": {"path": "/orders", "records": "items", "paging": {**PAGE, "size": 3, "total": "meta.total"}},
    "offset": {"path": "/plain", "paging": {"by": "offset", "parameter": "offset", "size_parameter": "limit", "size": 7}},
    "offset without size": {"path": "/plain", "paging": {"by": "offset", "parameter": "offset"}},
    "cursor": {"path": "/cursors", "records": "data", "paging": {"by": "cursor", "parameter": "after", "from": "meta.next"}},
    "cursor of the last": {
        "path": "/cursors",
        "records": "data",
        "paging": {"by": "cursor", "parameter": "after", "from": "data[-1].id", "more": "meta.has_more"},
    },
    "next": {"path": "/nexts", "records": "items", "paging": {"by": "next", "from": "links.next"}},
    "link": {"path": "/links", "paging": {"by": "link"}},
}  # fmt: skip


@pytest.mark.parametrize("config", KINDS.values(), ids=KINDS)
def test_every_record_of_all_pages_comes_once_and_in_order(config: dict[str, Any], desk: Desk, shop: Shop) -> None:
    found = desk.read(**config)

    assert [order["id"] for order in found] == [order["id"] for order in shop.orders]
    assert found[4]["total"] == 6.25


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 20])
@pytest.mark.parametrize("kind", ["page", "page with total", "offset", "cursor", "next", "link"])
def test_the_last_page_may_be_full_short_or_missing(kind: str, count: int, desk: Desk, shop: Shop) -> None:
    shop.orders = shop.orders[:count]

    found = desk.read(**KINDS[kind], columns={"id": "BIGINT"})

    assert [order["id"] for order in found] == list(range(1, count + 1))


def test_pages_of_a_known_total_are_under_way_side_by_side(desk: Desk, shop: Shop) -> None:
    shop.slow_seconds = 0.05

    desk.read(**KINDS["page with total"], columns={"id": "BIGINT"})

    assert shop.most_under_way > 3


def test_an_api_that_gives_smaller_pages_than_asked_for_loses_no_record(desk: Desk, shop: Shop) -> None:
    shop.orders = [{**shop.orders[0], "id": number} for number in range(250)]
    paging = {**PAGE, "size": 1000}

    one_by_one = desk.read(path="/orders", records="items", paging=paging)
    side_by_side = desk.read(path="/orders", records="items", paging={**paging, "total": "meta.total"})

    assert [order["id"] for order in one_by_one] == list(range(250))
    assert [order["id"] for order in side_by_side] == list(range(250))


def test_an_api_that_ignores_the_page_asked_for_is_noticed(desk: Desk) -> None:
    with pytest.raises(Invalid, match="hold the same records"):
        desk.read(
            path="/orders", records="items", paging={"by": "page", "parameter": "seite"}, columns={"id": "BIGINT"}
        )


def test_a_next_address_that_was_read_before_is_noticed(desk: Desk, shop: Shop) -> None:
    body = '{{"items": [{{"id": {}}}], "links": {{"next": "/nexts?start={}"}}}}'
    shop.script("/nexts", *(answer(200, body.format(number, number % 3)) for number in range(9)))

    with pytest.raises(Invalid, match="goes round in a circle"):
        desk.read(**KINDS["next"], columns={"id": "BIGINT"})


def test_nothing_at_the_address_behind_the_last_page_ends_the_pages(desk: Desk, shop: Shop) -> None:
    shop.script("/orders", answer(200, '{"items": [{"id": 1}]}'), answer(404, '{"detail": "Invalid page."}'))

    found = desk.read(path="/orders", records="items", paging=PAGE, columns={"id": "BIGINT"})

    assert found == [{"id": 1}]


def test_a_look_at_some_records_does_not_fetch_all_pages(desk: Desk, shop: Shop) -> None:
    get = desk.get(**{**KINDS["page"], "columns": {"id": "BIGINT"}, "paging": {**PAGE, "size": 1}})

    desk.chunks(get, want=Want(rows=2))

    assert len(shop.asked("/orders")) < 25


def test_parameters_stand_in_the_body_where_the_api_searches_by_post(desk: Desk, shop: Shop) -> None:
    shop.script("/search", answer(200, '{"hits": [{"id": 1}], "end": "c1"}'), answer(200, '{"hits": [{"id": 2}]}'))

    found = desk.read(
        path="/search", method="POST", body={"filter": {"paid": True}}, records="hits", columns={"id": "BIGINT"},
        paging={"by": "cursor", "parameter": "page.after", "from": "end", "place": "body"},
    )  # fmt: skip

    assert found == [{"id": 1}, {"id": 2}]
    assert shop.asked("/search")[1].body == b'{"filter": {"paid": true}, "page": {"after": "c1"}}'
