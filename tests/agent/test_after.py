"""Nodes that come after others: they see what those have delivered, and wait for nobody else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.execute import Executor
from agent.prepare import Request
from agent.runs import Execute, run
from pipelines.drive import drive
from pipelines.errors import Invalid
from repository.query import rows as query
from tests.agent.projects import project, run_here

FLOW = """flow: reload
nodes:
  start: {type: start}
  fresh: {type: file.get, from: start, path: fresh.csv, columns: {id: bigint, n: integer}, once: true}
  stored: {type: sqlite.post, from: fresh, connection: shop, table: orders, mode: upsert, key: id}
  whole: {type: sqlite.get, from: start, connection: shop, table: orders, key: id, cursor: id, after: stored}
  sums: {type: map, from: whole, keep: [id], fields: {twice: n * 2}}
  told: {type: file.post, from: sums, path: told.csv}
"""
ENVIRONMENT = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"


@pytest.mark.parametrize("execute", [drive, Executor().run], ids=["drive", "beam"])
def test_a_get_after_a_post_reads_what_that_delivered_and_its_position_moves(tmp_path: Path, execute: Execute) -> None:
    made = project(tmp_path, FLOW, {"environments/local.yaml": ENVIRONMENT, "fresh.csv": "id,n\n2,20\n3,30\n"})
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER)")
        shop.execute("INSERT INTO orders VALUES (1, 10)")

    first = run(Request(made, "reload"), execute)
    (tmp_path / "fresh.csv").write_text("id,n\n4,40\n")
    second = run(Request(made, "reload"), execute)

    assert first["balanced"]
    assert first["nodes"]["whole"]["in"] == 3
    assert (second["nodes"]["fresh"]["in"], second["nodes"]["whole"]["in"]) == (1, 1)
    assert (tmp_path / "told.csv").read_text().split() == ["id,twice", "1,20", "2,40", "3,60", "4,80"]


def test_a_get_is_no_place_for_records_to_go(tmp_path: Path) -> None:
    flow = FLOW.replace("from: start, connection: shop, table: orders", "from: fresh, connection: shop, table: orders")
    made = project(tmp_path, flow, {"environments/local.yaml": ENVIRONMENT, "fresh.csv": "id,n\n"})

    with pytest.raises(Invalid) as found:
        run_here(made, "reload")

    assert 'node "whole": takes from "fresh", but a sqlite.get takes no records; write `from: start`' in str(
        found.value
    )


def test_what_a_get_says_of_what_it_will_read_is_in_the_transaction_log(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"environments/local.yaml": ENVIRONMENT, "fresh.csv": "id,n\n2,20\n"})
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, n INTEGER)")

    run_here(made, "reload")
    run_here(made, "reload")

    notes = query(made.lake, "SELECT node, details->>'note' AS note FROM transactions WHERE what = 'planned'")
    assert [note["note"] for note in notes if note["node"] == "fresh"]
