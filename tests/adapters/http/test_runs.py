"""Flows with HTTP in them, run by the engine from beginning to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipelines.errors import Unavailable
from repository import query as lake
from repository.project import Project
from tests.agent.projects import project, run_here
from tests.parts.shop_api import Shop, answer, hang_up, made_order

CHANGES = """flow: changes
nodes:
  start: {type: start}
  orders: {type: http.get, from: start, connection: shop, path: /changes, cursor: {column: updated_at, parameter: since}, key: [id]}
  kept: {type: file.post, from: orders, path: kept.csv, mode: append}
"""
SENT = """flow: sent
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv}
  erp: {type: http.post, from: orders, connection: shop, path: /orders, key: order_no, response: {erp_id: id}}
  ids: {type: file.post, from: erp, path: ids.csv, mode: replace}
  wrong: {type: file.post, from: erp.rejected, path: wrong.csv, mode: replace}
"""


def made(folder: Path, flow: str, shop: Shop, files: dict[str, str] | None = None, **settings: Any) -> Project:
    connection = {"adapter": "http", "url": shop.url, "retry": {"attempts": 2, "first_seconds": 0.001}, **settings}
    text = json.dumps({"environment": "local", "connections": {"shop": connection}})
    return project(folder, flow, {"environments/local.yaml": text, **(files or {})})


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_second_run_reads_what_is_new_and_what_came_later_at_the_last_time(shop: Shop, tmp_path: Path) -> None:
    one = made(tmp_path, CHANGES, shop)
    run_here(one, "changes")
    last = shop.orders[-1]
    shop.orders += [{**last, "id": 26}, made_order(27)]

    report = run_here(one, "changes")

    assert report["balanced"]
    assert report["nodes"]["orders"]["out"] == {"out": 2}
    assert [int(row["id"]) for row in rows(tmp_path / "kept.csv")] == list(range(1, 28))
    assert shop.asked("/changes")[-1].query == "since=2026-01-02T01%3A00%3A00Z"


def test_records_arrive_and_the_target_s_ids_go_on_to_the_next_node(shop: Shop, tmp_path: Path) -> None:
    text = "order_no,total\n" + "".join(f"W{number},{number}.5\n" for number in range(1, 8)) + "bad,-1\n"
    one = made(tmp_path, SENT, shop, {"orders.csv": text})

    report = run_here(one, "sent")

    assert (report["status"], report["balanced"]) == ("done_with_rejects", True)
    assert report["nodes"]["erp"]["delivered"] == 7
    assert {row["order_no"]: row["erp_id"] for row in rows(tmp_path / "ids.csv")} == {
        no: order["id"] for no, order in shop.taken.items()
    }
    assert [row["reject_code"] for row in rows(tmp_path / "wrong.csv")] == ["refused"]


def test_receipts_of_what_was_delivered_before_the_api_went_away_are_kept(shop: Shop, tmp_path: Path) -> None:
    text = "order_no,total\n" + "".join(f"W{number},{number}.5\n" for number in range(1, 8))
    one = made(tmp_path, SENT, shop, {"orders.csv": text}, limit={"concurrent": 1})
    shop.script("/orders", *[answer(201, '{"id": "a"}')] * 3, *[hang_up] * 99)

    report = run_here(one, "sent")

    assert report["status"] == "failed"
    assert "hung up without an answer" in json.dumps(report)
    found = lake.rows(one.lake, "SELECT key, id FROM deliveries ORDER BY key")
    assert found == [{"key": f"W{number}", "id": "a"} for number in (1, 2, 3)]
    assert not (tmp_path / "ids.csv").exists()


def test_an_api_that_is_away_is_unavailable_before_anything_runs(tmp_path: Path) -> None:
    one = made(tmp_path, CHANGES, Shop("http://127.0.0.1:1"))

    with pytest.raises(Unavailable, match="cannot be reached"):
        run_here(one, "changes")


def test_no_secret_reaches_a_report_a_message_or_a_data_log(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "canary-7f3a9c/+="
    monkeypatch.setenv("TOKEN", canary)
    shop.script(
        "/orders",
        answer(422, json.dumps({"error": f"your token {canary} may not do this"})),
        answer(500, f"Bearer {canary}", content_type="text/plain"),
        answer(500, f"Bearer {canary}", content_type="text/plain"),
    )
    one = made(
        tmp_path, SENT, shop, {"orders.csv": "order_no,total\nW1,1.5\nW2,2.5\nW3,3.5\n"},
        auth={"api_key": {"query": "key", "value": {"secret": "TOKEN"}}}, limit={"concurrent": 1},
    )  # fmt: skip

    report = run_here(one, "sent")

    assert report["nodes"]["erp"]["rejected"] == 2
    assert "key=canary" in shop.seen[0].query
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert canary not in json.dumps(report)
    assert [path for path in written if canary.encode() in path.read_bytes()] == []
    tables = [path for path in written if path.suffix == ".parquet"]
    assert canary not in str([duckdb.sql(f"FROM '{path}'").fetchall() for path in tables])
