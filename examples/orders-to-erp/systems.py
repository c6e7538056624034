"""Lays out the shop and the ERP: two databases, behind which `servers.py` puts their APIs.

`python systems.py make SHOP_DATABASE` takes the latest orders of the other example's shop; what is there already is left as it is.
`python systems.py later` is the next day in the shop: new orders, and some that have changed.

The orders are real purchases of CDNOW. Their source knows how many discs an order had and what they cost together, so the single
lines share that sum; the customers' names and addresses are made up.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

FOLDER = Path(".data", "systems")
NEWEST = 600
NAMES = ("Ada", "Boris", "Carla", "Deniz", "Emil", "Frieda", "Goran", "Hanna", "Igor", "Jana")

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, updated_at TEXT NOT NULL);
CREATE TABLE lines (order_id INTEGER NOT NULL, article TEXT NOT NULL, quantity INTEGER NOT NULL, price_cents INTEGER NOT NULL);
CREATE TABLE erp_numbers (order_id INTEGER PRIMARY KEY, erp_number TEXT NOT NULL);
CREATE INDEX lines_of ON lines (order_id);
"""
ERP = "CREATE TABLE orders (number INTEGER PRIMARY KEY, order_no TEXT UNIQUE NOT NULL, content TEXT NOT NULL)"


def make(source: Path) -> None:
    """Makes the shop's database and the ERP's, where they are not there yet."""
    if (FOLDER / "erp.db").exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "shop.db").unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as other:
        newest = f"SELECT id, customer, ordered_at, discs, amount_cents FROM orders WHERE amount_cents > 0 ORDER BY id DESC LIMIT {NEWEST}"
        orders = other.execute(newest).fetchall()
    with closing(sqlite3.connect(FOLDER / "shop.db")) as shop, shop:
        shop.executescript(SHOP)
        for number, customer, ordered_at, discs, cents in orders:
            _take(shop, number, customer, ordered_at, discs, cents)
        _forget_one(shop)
    with closing(sqlite3.connect(FOLDER / "erp.db")) as erp, erp:
        erp.execute(ERP)


def later() -> None:
    """The next day: three customers order again, and two orders of the day before get another line."""
    with closing(sqlite3.connect(FOLDER / "shop.db")) as shop, shop:
        (day,) = shop.execute("SELECT max(updated_at) FROM orders").fetchone()
        day = str(datetime.fromisoformat(day) + timedelta(days=1))
        latest = shop.execute("SELECT id, customer FROM orders ORDER BY id DESC LIMIT 3").fetchall()
        for number, customer in latest:
            _take(shop, number + len(latest), customer, day, 1, 1499)
        for number, _ in latest[:2]:
            shop.execute("INSERT INTO lines VALUES (?, 'GIFT-WRAP', 1, 195)", (number,))
            shop.execute("UPDATE orders SET updated_at = ? WHERE id = ?", (day, number))


def _take(shop: sqlite3.Connection, number: int, customer: int, at: str, discs: int, cents: int) -> None:
    """Notes an order: a line for its first disc, and one for all others."""
    name = NAMES[customer % len(NAMES)]
    shop.execute(
        "INSERT OR IGNORE INTO customers VALUES (?, ?, ?)",
        (customer, f"{name} {customer}", f"{name.lower()}{customer}@example.org"),
    )
    shop.execute("INSERT INTO orders VALUES (?, ?, ?)", (number, customer, at))
    each = cents // discs
    lines = [(number, f"CD-{number % 97:02}", 1, cents - each * (discs - 1))]
    if discs > 1:
        lines.append((number, f"CD-{number % 89:02}X", discs - 1, each))
    shop.executemany("INSERT INTO lines VALUES (?, ?, ?, ?)", lines)


def _forget_one(shop: sqlite3.Connection) -> None:
    """A customer whose data has gone: such things happen."""
    shop.execute("DELETE FROM customers WHERE id = (SELECT customer FROM orders ORDER BY id LIMIT 1)")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", source]:
            make(Path(source))
        case ["later"]:
            later()
        case _:
            sys.exit(__doc__)
