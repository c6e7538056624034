"""APIs that nobody here wrote, read and written through http.get and http.post."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.http.conftest import Desk
from tests.parts.apis import datasette, json_server

ROWS = 250


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Datasette with a table of orders."""
    statements = [
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, total REAL, changed TEXT)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) INSERT INTO orders "
        "SELECT i, 'C' || (i % 7), i * 1.25, printf('2026-01-%02dT08:00:00Z', 1 + i / 10) FROM n",
    ]
    with datasette(tmp_path_factory.mktemp("datasette"), statements) as url:
        yield url


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """json-server with a list of orders, and one to write to."""
    orders = [{"id": number, "total": number * 1.25} for number in range(1, ROWS + 1)]
    with json_server(tmp_path_factory.mktemp("json-server"), {"orders": orders, "taken": []}) as url:
        yield url


TABLE: dict[str, Any] = {"path": "/shop/orders.json", "query": {"_shape": "objects", "_size": 40}, "records": "rows"}


@pytest.mark.parametrize(
    "paging",
    [{"by": "next", "from": "next_url"}, {"by": "cursor", "parameter": "_next", "from": "next"}],
    ids=["next address", "cursor token"],
)
def test_datasette_s_pages_are_read_to_the_last(paging: dict[str, Any], tables: str, tmp_path: Path) -> None:
    found = Desk(tmp_path, tables).read(**TABLE, paging=paging)

    assert [row["id"] for row in found] == list(range(1, ROWS + 1))
    assert found[0] == {"id": 1, "customer": "C1", "total": 1.25, "changed": found[0]["changed"]}


def test_datasette_is_asked_for_what_is_new(tables: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, tables)
    get = desk.get(
        **TABLE, paging={"by": "next", "from": "next_url"}, key=["id"],
        cursor={"column": "changed", "parameter": "changed__gte"}, columns={"id": "BIGINT", "changed": "VARCHAR"},
    )  # fmt: skip
    position = {"cursor": {"at": "2026-01-25T08:00:00Z", "number": False, "keys": [[240], [241]]}}

    found = [row["id"] for chunk in desk.chunks(get, position) for row in chunk.batch.to_pylist()]

    assert found == list(range(242, ROWS + 1))


def test_datasette_gives_csv_too(tables: str, tmp_path: Path) -> None:
    found = Desk(tmp_path, tables).read(path="/shop/orders.csv", query={"_size": "max"}, format="csv")

    assert [(row["id"], row["total"]) for row in found] == [(number, number * 1.25) for number in range(1, ROWS + 1)]


@pytest.mark.parametrize(
    "paging",
    [
        {"by": "link"},
        {"by": "page", "parameter": "_page", "size_parameter": "_limit", "size": 40},
        {"by": "page", "parameter": "_page", "size_parameter": "_limit", "size": 40, "total": "header:X-Total-Count"},
        {"by": "offset", "parameter": "_start", "size_parameter": "_limit", "size": 40},
    ],
    ids=["Link header", "page", "total in a header", "offset"],
)
def test_json_server_s_pages_are_read_to_the_last(paging: dict[str, Any], lists: str, tmp_path: Path) -> None:
    query = {"_page": 1, "_limit": 40} if paging["by"] == "link" else {}

    found = Desk(tmp_path, lists).read(path="/orders", query=query, paging=paging)

    assert found == [{"id": number, "total": number * 1.25} for number in range(1, ROWS + 1)]


def test_json_server_takes_records_and_its_ids_come_back(lists: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, lists)
    orders = [{"order_no": f"W{number}", "total": number * 1.5} for number in range(20)]

    outcome = desk.put(orders, path="/taken", key="order_no", response={"there": "id"})
    changed = desk.put(
        [{"id": row["there"], "total": 0.5} for row in outcome.out["out"].batch.slice(0, 3).to_pylist()],
        path="/taken/{id}", mode="upsert", method="PATCH", columns=["total"],
    )  # fmt: skip
    gone = desk.put([{"id": "no such"}], path="/taken/{id}", mode="delete")

    kept = {row["order_no"]: row for row in desk.read(path="/taken")}
    ids = dict(
        zip((order["order_no"] for order in orders), outcome.out["out"].batch.column("there").to_pylist(), strict=True)
    )
    assert {number: str(row["id"]) for number, row in kept.items()} == ids
    assert sorted(row["total"] for row in kept.values())[:4] == [0.5, 0.5, 0.5, 4.5]
    assert changed.out["out"].batch.num_rows == 3
    assert gone.rejects is not None
    assert json.dumps(gone.rejects.codes) == '["refused"]'
