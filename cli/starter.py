"""What `init` writes: a project small enough to read in a minute, that runs at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import Invalid

FILES = {
    "flows/welcome.yaml": """\
flow: welcome
description: Takes orders from a CSV file, sets bad ones aside, and writes the large ones to JSON lines.
parameters:
  least: {type: "decimal(18,2)", default: 100, description: The smallest total that counts as large.}
nodes:
  start:   {type: start}
  orders:  {type: file.get, from: start, path: data/orders.csv, columns: {order_id: integer, email: string, quantity: integer, unit_price: "decimal(18,2)"}}
  checked: {type: validate, from: orders, expectations: [{expect_column_values_to_not_be_null: {column: email}}]}
  shaped:  {type: map, from: checked, fields: {order_no: "'WEB-' || order_id", email: lower(email), total: quantity * unit_price}}
  large:   {type: filter, from: shaped, where: total >= $least}
  written: {type: file.post, from: large, path: out/large-orders.jsonl, mode: replace}
tests:
  - name: a small order is not written
    given:
      orders:
        - {order_id: 1, email: Ann@example.org, quantity: 1, unit_price: 5.00}
        - {order_id: 2, email: bob@example.org, quantity: 10, unit_price: 50.00}
    then:
      written: [{order_no: WEB-2, email: bob@example.org, total: 500.00}]
""",
    "environments/local.yaml": """\
environment: local
runner: {name: direct, workers: 2}
connections: {}
variables: {}
""",
    "data/orders.csv": """\
order_id,email,quantity,unit_price
1001,Ann@example.org,2,19.90
1002,bob@example.org,10,24.50
1003,,1,500.00
1004,dora@example.org,three,12.00
1005,Emil@example.org,4,99.99
""",
    ".gitignore": ".processflow/\nout/\n",
}


def write(folder: Path) -> Iterator[Path]:
    """Writes the starter project and gives the paths.

    Raises:
        Invalid: the folder has something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Invalid(f"{folder} is not empty; processflow init wants a new or empty folder")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        yield path
