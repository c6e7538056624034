"""A shop's flow that uses another as a node, and what comes of it."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from repository.project import Project
from tests.agent.projects import project

PRICES = """flow: prices
parameters:
  reduction: {type: "decimal(4, 2)", default: 0}
nodes:
  start: {type: start, columns: {item: VARCHAR, quantity: INTEGER}}
  priced: {type: lookup, from: start, table: tables/prices.csv, on: item, take: [price], missing: reject}
  total: {type: map, from: priced, keep: all, fields: {total: "round(quantity * price * (1 - $reduction), 2)"}}
  end: {type: end, from: total, columns: {total: DOUBLE}}
tests:
  - name: a price is taken times the quantity
    given: {start: [{item: pen, quantity: 3}, {item: cap, quantity: 1}]}
    then: {end: [{item: pen, total: 4.5}], priced.rejected: [{item: cap}]}
"""
SHOP = """flow: shop
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, split_bytes: 4000, columns: {id: BIGINT, item: VARCHAR, quantity: INTEGER}}
  web: {type: flow, from: orders, flow: prices, parameters: {reduction: 0.1}}
  out: {type: sqlite.post, from: web, connection: shop, table: orders, mode: append, key: [id]}
  bad: {type: file.post, from: web.rejected, path: bad.csv}
tests:
  - name: web orders are a tenth cheaper
    given: {orders: [{id: 1, item: pen, quantity: 2}, {id: 2, item: cap, quantity: 2}]}
    then: {web: [{id: 1, total: 2.7}], web.rejected: [{id: 2, reject_node: web/priced}], web/priced: [{id: 1, price: 1.5}], out: [{total: 2.7}]}
"""
LOCAL = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"
FILES = {
    "flows/prices.yaml": PRICES,
    "tables/prices.csv": "item,price\npen,1.50\nink,4.00\n",
    "environments/local.yaml": LOCAL,
}
ITEMS = ["pen", "ink", "cap"]
ROWS = 3_000


def shop(folder: Path, flow: str = SHOP, rows: int = 6, files: dict[str, str] | None = None) -> Project:
    made = project(folder, flow, {**FILES, **(files or {})})
    with (folder / "orders.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "item", "quantity"])
        writer.writerows([n, ITEMS[n % 3], n % 5 + 1] for n in range(rows))
    return made


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def delivered(folder: Path) -> Counter[int]:
    with closing(sqlite3.connect(folder / "shop.db")) as database:
        return Counter(number for (number,) in database.execute("SELECT id FROM orders"))


EXPECTED = Counter(n for n in range(ROWS) if n % 3 != 2)


READS = """flow: stock
parameters: {least: {type: integer, default: 0}}
nodes:
  start: {type: start}
  items: {type: sqlite.get, from: start, connection: shop, table: stock, cursor: id, where: "id >= $least"}
  kept: {type: sqlite.post, from: items, connection: shop, table: copied, mode: append}
"""
