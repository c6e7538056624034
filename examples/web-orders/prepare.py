"""Lays out a small shop from real purchases: monthly exports, the shop's database, its list of customers, an empty ERP.

The purchases are those of CDNOW, an early web shop: 69,659 orders of 23,570 customers from January 1997 to June 1998,
with the gaps they really have (80 orders were noted with no amount). Orders are numbered by date. Months up to March
1998 become CSV files, as a shop would export them; the later ones are still in the shop's own database, where amounts are
cents and times are text. Customers have joined on the day of their first order. What is there already is left as it is,
so that a second run meets the same shop.
"""

from __future__ import annotations

import csv
import shutil
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

FIRST_DATE_IN_DATABASE = "19980401"
CUSTOMERS = "customers.csv"

SHOP = """
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer INTEGER NOT NULL,
    ordered_at TEXT NOT NULL,
    discs INTEGER NOT NULL,
    amount_cents INTEGER NOT NULL
)
"""

ERP = """
CREATE TABLE orders (
    order_no TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    ordered_on DATE NOT NULL,
    discs INTEGER NOT NULL CHECK (discs > 0),
    amount DECIMAL(10,2) NOT NULL CHECK (amount > 0)
)
"""


class Order(NamedTuple):
    """One purchase as the source has it, numbered by date."""

    number: int
    customer: str
    date: str
    discs: str
    amount: str


def purchases(source: Path) -> list[Order]:
    """The orders of CDNOW's master list (columns parted by blanks, one heading), in the order of their dates."""
    rows = (line.split() for line in source.read_text(encoding="ascii").splitlines()[1:])
    by_date = sorted((row for row in rows if row), key=lambda row: row[1])
    return [Order(number, *row) for number, row in enumerate(by_date, start=1)]


def export_months(orders: list[Order], folder: Path) -> None:
    """Writes a CSV file per month."""
    folder.mkdir(parents=True)
    for month, of_month in groupby(orders, key=lambda order: order.date[:6]):
        with (folder / f"orders-{month[:4]}-{month[4:]}.csv").open("w", encoding="utf-8", newline="") as file:
            written = csv.writer(file)
            written.writerow(["order", "customer", "date", "discs", "amount"])
            written.writerows(of_month)


def list_customers(orders: list[Order], path: Path) -> None:
    """Writes the customers with the day on which each joined."""
    joined = {order.customer: order.date for order in reversed(orders)}
    with path.open("w", encoding="utf-8", newline="") as file:
        written = csv.writer(file)
        written.writerow(["customer", "joined"])
        written.writerows((customer, f"{day[:4]}-{day[4:6]}-{day[6:]}") for customer, day in sorted(joined.items()))


def fill_shop(orders: list[Order], path: Path) -> None:
    """Makes the shop's database."""
    with closing(sqlite3.connect(path)) as shop, shop:
        shop.execute(SHOP)
        shop.executemany(
            "INSERT INTO orders VALUES (?, ?, ?, ?, ?)",
            (
                (
                    order.number,
                    int(order.customer),
                    f"{order.date[:4]}-{order.date[4:6]}-{order.date[6:]} 00:00:00",
                    int(order.discs),
                    int(Decimal(order.amount) * 100),
                )
                for order in orders
            ),
        )


def main(source: Path, systems: Path) -> None:
    """Makes the systems in a folder of another name, and names it `systems` when all is there."""
    if systems.exists():
        if not (systems / CUSTOMERS).exists():
            list_customers(purchases(source), systems / CUSTOMERS)
        return
    making = systems.with_name(f"{systems.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    orders = purchases(source)
    closed = [order for order in orders if order.date < FIRST_DATE_IN_DATABASE]
    export_months(closed, making / "exports")
    fill_shop(orders[len(closed) :], making / "shop.db")
    list_customers(orders, making / CUSTOMERS)
    with closing(sqlite3.connect(making / "erp.db")) as erp:
        erp.execute(ERP)
    making.rename(systems)
    print(f"{len(closed):,} orders in monthly exports, {len(orders) - len(closed):,} in the shop's database")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
