"""http.post delivers records one by one or in lists, and says of each what became of it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from adapters.http import Post
from pipelines.errors import Interrupted, Invalid, Unavailable
from tests.adapters.http.conftest import Desk
from tests.parts.shop_api import Shop, answer, hang_up, taken_then_lost

ORDERS = [{"order_no": f"W{number}", "total": number * 1.5} for number in range(1, 6)]
BULK: dict[str, Any] = {
    "path": "/orders/bulk", "key": "order_no", "body": "many", "envelope": {"orders": "$records"},
    "results": {"from": "results", "key": "order_no", "status": "status", "message": "error"},
    "response": {"erp_id": "id"},
}  # fmt: skip


def test_each_record_is_a_request_and_its_answer_comes_back_as_columns(desk: Desk, shop: Shop) -> None:
    outcome = desk.put(ORDERS, path="/orders", key="order_no", response={"erp_id": "id", "place": "header:Location"})

    out = outcome.out["out"].batch.to_pylist()
    assert [json.loads(each.body) for each in shop.asked("/orders")] == ORDERS
    assert {row["order_no"]: row["erp_id"] for row in out} == {no: order["id"] for no, order in shop.taken.items()}
    assert [row["place"] for row in out] == [f"/orders/{row['erp_id']}" for row in out]
    assert outcome.receipts is not None
    assert outcome.receipts.keys is not None
    assert outcome.receipts.keys.to_pylist() == [order["order_no"] for order in ORDERS]
    assert outcome.receipts.ids is not None
    assert outcome.receipts.ids.to_pylist() == [row["erp_id"] for row in out]


def test_what_the_api_refuses_is_rejected_with_its_message_and_the_others_arrive(desk: Desk, shop: Shop) -> None:
    rows = [ORDERS[0], {"order_no": "bad", "total": -1.0}, ORDERS[1]]

    outcome = desk.put(rows, path="/orders", key="order_no")

    assert sorted(shop.taken) == ["W1", "W2"]
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [1]
    assert outcome.rejects.codes == ["refused"]
    assert outcome.rejects.messages[0].endswith("answered 422 Unprocessable Entity: total must not be negative")
    assert outcome.out["out"].rows is not None
    assert outcome.out["out"].rows.to_pylist() == [0, 2]


def test_values_are_sent_with_all_their_digits_and_zones(desk: Desk, shop: Shop) -> None:
    schema = pa.schema(
        [("order_no", pa.string()), ("total", pa.decimal128(38, 10)), ("at", pa.timestamp("us", "Europe/Berlin")),
         ("day", pa.date32()), ("lines", pa.list_(pa.struct([("sku", pa.string()), ("n", pa.int64())])))]
    )  # fmt: skip
    row = {
        "order_no": 'é"\n\U0001f600', "total": Decimal("1234567890123456789012345678.0123456789"),
        "at": 1_767_225_600_000_000, "day": 20_454, "lines": [{"sku": "A", "n": 2**62}],
    }  # fmt: skip
    batch = pa.RecordBatch.from_pylist([row], schema=schema)

    desk.put(batch, path="/orders")

    body = shop.asked("/orders")[0].body
    assert b'"total":1234567890123456789012345678.0123456789' in body
    assert json.loads(body) == {
        "order_no": 'é"\n\U0001f600', "total": 1234567890123456789012345678.0123456789, "at": "2026-01-01T01:00:00.000000+01:00",
        "day": "2026-01-01", "lines": [{"sku": "A", "n": 2**62}],
    }  # fmt: skip


def test_a_value_that_json_has_no_form_of_is_a_reject(desk: Desk, shop: Shop) -> None:
    outcome = desk.put([ORDERS[0], {"order_no": "nan", "total": float("nan")}], path="/orders")

    assert sorted(shop.taken) == ["W1"]
    assert outcome.rejects is not None
    assert outcome.rejects.codes == ["no_text"]


def test_an_address_is_made_of_the_record_each_value_one_step_of_it(desk: Desk, shop: Shop) -> None:
    rows = [{"order_no": "a/b?c", "total": 1.0}, {"order_no": None, "total": 2.0}, {"order_no": "..", "total": 3.0}]

    outcome = desk.put(rows, path="/orders/{order_no}", mode="upsert")

    assert [each.path for each in shop.seen] == ["/orders/a%2Fb%3Fc"]
    assert shop.seen[0].method == "PUT"
    assert outcome.rejects is not None
    assert outcome.rejects.codes == ["path", "path"]


def test_a_delete_sends_no_body(desk: Desk, shop: Shop) -> None:
    desk.put(ORDERS[:1], path="/orders", key="order_no")

    desk.put(ORDERS[:1], path="/orders/{order_no}", mode="delete")

    assert shop.taken == {}
    assert (shop.seen[-1].method, shop.seen[-1].body) == ("DELETE", b"")


def test_lists_have_at_most_their_size_and_an_envelope(desk: Desk, shop: Shop) -> None:
    desk.put(
        ORDERS, path="/orders/bulk", body="many", size=2, envelope={"orders": "$records", "count": "$count", "by": "pf"}
    )

    bodies = [json.loads(each.body) for each in shop.asked("/orders/bulk")]
    assert sorted(bodies, key=str) == sorted(
        ({"orders": ORDERS[start : start + 2], "count": len(ORDERS[start : start + 2]), "by": "pf"} for start in (0, 2, 4)),
        key=str,
    )  # fmt: skip


def test_an_answer_to_many_tells_of_each(desk: Desk, shop: Shop) -> None:
    rows = [*ORDERS[:2], {"order_no": "bad", "total": -1.0}, *ORDERS[2:]]

    outcome = desk.put(rows, **BULK)

    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [2]
    assert outcome.rejects.messages[0].endswith("answered 422 Unprocessable Entity: negative")
    out = outcome.out["out"].batch.to_pylist()
    assert {row["order_no"]: row["erp_id"] for row in out} == {no: order["id"] for no, order in shop.taken.items()}


def test_records_of_a_list_that_were_unavailable_are_sent_again_and_no_others(desk: Desk, shop: Shop) -> None:
    said = {"results": [{"order_no": "W1", "status": 201, "id": "x"}, {"order_no": "W2", "status": 503}]}
    shop.script("/orders/bulk", answer(207, json.dumps(said)))

    outcome = desk.put(ORDERS[:2], **BULK)

    assert [json.loads(each.body)["orders"] for each in shop.asked("/orders/bulk")] == [ORDERS[:2], ORDERS[1:2]]
    assert outcome.out["out"].batch.column("erp_id").to_pylist() == ["x", "E1"]


def test_a_record_of_which_the_answer_says_nothing_is_a_reject(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/bulk", answer(207, '{"results": [{"order_no": "W1", "status": 201}]}'))

    outcome = desk.put(ORDERS[:2], **BULK)

    assert outcome.rejects is not None
    assert "says nothing of this record" in outcome.rejects.messages[0]


def test_a_list_refused_whole_is_halved_until_just_the_refused_are_left(desk: Desk, shop: Shop) -> None:
    rows = [*ORDERS[:3], {"order_no": "bad", "total": -1.0}, *ORDERS[3:]]

    outcome = desk.put(rows, path="/lists", body="many", key="order_no")

    assert sorted(shop.taken) == [order["order_no"] for order in ORDERS]
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [3]


def test_the_same_content_has_the_same_idempotency_key_and_a_change_another(desk: Desk, shop: Shop) -> None:
    config = {"path": "/orders", "key": "order_no", "idempotency_header": "Idempotency-Key"}

    for order in (ORDERS[0], ORDERS[0], {**ORDERS[0], "total": 9.0}):
        desk.put([order], **config)

    first, again, changed = [each.headers["idempotency-key"] for each in shop.asked("/orders")]
    assert first == again != changed
    assert first.startswith("W1-")
    assert shop.posts == 2


def test_a_record_taken_before_the_connection_was_lost_is_not_taken_twice_with_an_idempotency_key(
    desk: Desk, shop: Shop
) -> None:
    shop.script("/orders", taken_then_lost(shop))

    outcome = desk.put(ORDERS[:1], path="/orders/{order_no}", mode="upsert", key="order_no")

    assert len(shop.taken) == 1
    assert outcome.out["out"].batch.num_rows == 1


def test_a_record_that_goes_on_failing_while_others_arrive_is_rejected(desk: Desk, shop: Shop) -> None:
    shop.script("/orders/W2", *[answer(500, '{"detail": "boom"}')] * 3)

    outcome = desk.put(ORDERS, path="/orders/{order_no}", mode="upsert")

    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [1]
    assert outcome.rejects.codes == ["unavailable"]
    assert "boom" in outcome.rejects.messages[0]


def test_where_nothing_is_answered_any_more_the_run_ends_and_tells_what_was_delivered(
    shop: Shop, tmp_path: Any
) -> None:
    desk = Desk(tmp_path, shop.url, limit={"concurrent": 1})
    shop.script("/orders", *[answer(201, '{"id": "a"}')] * 2, *[hang_up] * 99)

    with pytest.raises(Interrupted) as raised:
        desk.put(ORDERS, path="/orders", key="order_no", response={"erp_id": "id"})

    assert isinstance(raised.value.why, Unavailable)
    assert raised.value.outcome.out["out"].batch.to_pylist() == [{**order, "erp_id": "a"} for order in ORDERS[:2]]
    assert len(shop.asked("/orders")) == 2 + 3 * 3


def test_refused_credentials_end_the_run_instead_of_rejecting_every_record(desk: Desk, shop: Shop) -> None:
    shop.script("/orders", *[answer(401, '{"detail": "who are you?"}')] * 5)

    with pytest.raises(Interrupted) as raised:
        desk.put(ORDERS, path="/orders")

    assert isinstance(raised.value.why, Invalid)
    assert "who are you?" in str(raised.value.why)


def test_an_answer_may_refuse_by_its_body(desk: Desk, shop: Shop) -> None:
    shop.script("/orders", answer(200, '{"ok": false, "error": "stock is empty"}'))

    outcome = desk.put(ORDERS[:1], path="/orders", outcomes={"refused_when": "ok == `false`"})

    assert outcome.rejects is not None
    assert outcome.rejects.messages[0].endswith("stock is empty")


def test_a_status_can_be_told_to_be_delivered(desk: Desk, shop: Shop) -> None:
    shop.script("/orders", answer(409, '{"id": "there already"}'))

    outcome = desk.put(ORDERS[:1], path="/orders", outcomes={"delivered": ["2xx", 409]}, response={"erp_id": "id"})

    assert outcome.out["out"].batch.column("erp_id").to_pylist() == ["there already"]


def test_records_of_one_key_are_sent_one_after_the_other_where_order_counts(desk: Desk, shop: Shop) -> None:
    shop.slow_seconds = 0.002
    rows = [{"order_no": f"W{number % 3}", "total": float(number)} for number in range(30)]

    desk.put(rows, path="/orders", key="order_no", in_order=True)

    for key in ("W0", "W1", "W2"):
        sent = [json.loads(each.body) for each in shop.seen]
        assert [each["total"] for each in sent if each["order_no"] == key] == sorted(
            row["total"] for row in rows if row["order_no"] == key
        )


def test_a_strange_answer_does_not_undo_a_delivery(desk: Desk, shop: Shop) -> None:
    shop.script("/orders", answer(200, "<html>thanks</html>", content_type="text/html"))

    outcome = desk.put(ORDERS[:1], path="/orders", response={"erp_id": "id"})

    assert outcome.out["out"].batch.column("erp_id").to_pylist() == [None]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"idempotency_header": "K"}, "needs `key`"),
        ({"mode": "upsert", "path": "/orders"}, "needs `key`"),
        ({"results": {"from": "x"}}, "body: many"),
        ({"response": {"a": "b["}}, "is no JMESPath"),
    ],
)
def test_what_does_not_hang_together_is_told(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Post.model_validate_json(json.dumps({"connection": "shop", **config}))


@pytest.mark.parametrize(
    ("config", "label"),
    [
        ({}, "at least once"),
        ({"method": "PUT"}, "at least once"),
        ({"mode": "upsert", "key": "a"}, "effectively once"),
        ({"mode": "delete", "path": "/{a}"}, "effectively once"),
        ({"key": "a", "idempotency_header": "K"}, "effectively once"),
    ],
)
def test_the_label_says_what_a_repeated_request_does(config: dict[str, Any], label: str) -> None:
    post = Post.model_validate_json(json.dumps({"connection": "shop", **config}))

    assert post.delivery()[0] == label
