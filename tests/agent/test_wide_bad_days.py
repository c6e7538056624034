"""Bad days of wide nodes: a key that has nearly all records, a join that explodes, a full disk, a kill in the middle."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from agent.runs import Host
from repository.project import Project
from tests.agent.projects import COMMAND, leftovers, project, run_here

FLOW = """flow: night
settings: {{batch_rows: 4096}}
nodes:
  start: {{type: start}}
  orders: {{type: file.get, from: start, path: orders.parquet, once: true}}
  customers: {{type: file.get, from: start, path: customers.parquet}}
  joined: {{type: join, from: {{left: orders, right: customers}}, on: customer, how: left{limit}}}
  once: {{type: dedupe, from: joined, key: [customer, note]}}
  sums: {{type: aggregate, from: joined, by: [customer], measures: {{n: count(*), total: sum(id)}}}}
  kept: {{type: file.post, from: once, path: kept.parquet, mode: replace}}
  summed: {{type: file.post, from: sums, path: sums.parquet, mode: replace}}
"""
LOCAL = "environment: local\nrunner: {{name: direct, workers: 2, memory_bytes: 134217728, made_records: {limit}}}\n"


def night(folder: Path, rows: int, *, limit: str = "", made_records: int = 10**9, twice: bool = False) -> Project:
    """Orders of which nine of ten are of customer 7, and customers, with `twice` as many as there are orders of theirs."""
    orders = f"SELECT i AS id, CASE WHEN i % 10 > 0 THEN 7 ELSE i % 500 END AS customer, 'note ' || i % 900 AS note FROM range({rows}) t(i)"
    customers = "SELECT i AS customer, 'customer ' || i AS name FROM range(500) t(i)"
    duckdb.execute(f"COPY ({orders}) TO '{folder / 'orders.parquet'}'")
    duckdb.execute(
        f"COPY ({f'SELECT customer, note AS name FROM ({orders})' if twice else customers}) TO '{folder / 'customers.parquet'}'"
    )
    return project(folder, FLOW.format(limit=limit), {"environments/local.yaml": LOCAL.format(limit=made_records)})


def found(path: Path) -> list[tuple[Any, ...]]:
    return duckdb.execute(f"SELECT * FROM '{path}' ORDER BY ALL").fetchall()


def assert_right(folder: Path) -> None:
    orders = f"'{folder / 'orders.parquet'}'"
    sums = f"SELECT customer, count(*), sum(id) FROM {orders} GROUP BY 1 ORDER BY ALL"
    once = f"SELECT DISTINCT customer, note FROM {orders} ORDER BY ALL"
    assert found(folder / "sums.parquet") == duckdb.execute(sums).fetchall()
    kept = f"SELECT customer, note FROM '{folder / 'kept.parquet'}' ORDER BY ALL"
    assert duckdb.execute(kept).fetchall() == duckdb.execute(once).fetchall()


def test_a_key_that_has_nine_of_ten_records_is_worked_within_the_memory_that_is_allowed(tmp_path: Path) -> None:
    made = night(tmp_path, 400_000)

    report = run_here(made, "night")

    assert (report["status"], report["balanced"]) == ("done", True), report["error"]
    assert_right(tmp_path)


@pytest.mark.parametrize("where", ["node", "environment"])
def test_a_join_that_would_explode_fails_before_it_does_and_names_the_key(tmp_path: Path, where: str) -> None:
    limits: dict[str, Any] = {"limit": ", limit: 1000000"} if where == "node" else {"made_records": 1_000_000}
    made = night(tmp_path, 40_000, twice=True, **limits)

    report = run_here(made, "night")

    assert report["status"] == "failed"
    assert "node 'joined': it would make 1,29" in report["error"]
    assert "1,000,000 are allowed; customer = 7 is there 36,00" in report["error"]
    assert "raise `limit` at the node" in report["error"]
    assert report["nodes"]["joined"]["out"].get("out", 0) <= 1_000_000
    assert not (tmp_path / "kept.parquet").exists()
    assert leftovers(made) == []


def test_a_join_with_many_records_on_one_side_only_is_no_explosion(tmp_path: Path) -> None:
    made = night(tmp_path, 20_000, made_records=20_000)

    assert run_here(made, "night")["status"] == "done"


def test_a_disk_that_fills_while_records_are_spilled_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    made = night(tmp_path, 60_000)
    limited = f"ulimit -f 300; exec {COMMAND} run night"

    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, timeout=100)

    assert done.returncode in (1, 3), done.stderr
    assert "Traceback" not in done.stderr
    assert "a fault of ours" not in done.stderr
    assert any(word in done.stderr for word in ("make room", "too large", "File too large")), done.stderr
    assert not (tmp_path / "kept.parquet").exists()
    assert not (tmp_path / "sums.parquet").exists()
    assert leftovers(made) == []
    assert run_here(made, "night")["status"] == "done"
    assert_right(tmp_path)


@pytest.mark.parametrize("moment", ["wide/*.arrow", "journal/phase-0", "journal/phase-1"])
def test_a_run_killed_while_it_spills_or_works_partitions_is_resumed_to_the_same(tmp_path: Path, moment: str) -> None:
    made = night(tmp_path, 150_000)
    child = subprocess.Popen([COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while child.poll() is None and not list((made.home / "staging").glob(f"*/{moment}")):
        time.sleep(0.0005)
    child.kill()
    child.wait()

    host = Host(made)
    host.close() if child.returncode == 0 else host.resume("last")

    assert_right(tmp_path)
    assert leftovers(made) == []
    assert run_here(made, "night")["nodes"]["orders"]["in"] == 0


ORDERED = """flow: night
settings: {batch_rows: 1000}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.parquet, once: true}
  ordered: {type: sort, from: orders, by: [customer, -note]}
  counted: {type: aggregate, from: orders, by: [note], measures: {n: count(*), least: min(id)}}
  kept: {type: file.post, from: ordered, path: kept.csv, mode: replace}
  sums: {type: file.post, from: counted, path: sums.parquet, mode: replace}
"""


@pytest.mark.parametrize("moment", ["wide/*.arrow", "journal/phase-0", "parts/*"])
def test_a_sort_killed_while_it_spills_or_works_ranges_is_resumed_to_the_same_order(
    tmp_path: Path, moment: str
) -> None:
    night(tmp_path, 100_000)
    made = project(tmp_path, ORDERED, {})
    child = subprocess.Popen([COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while child.poll() is None and not list((made.home / "staging").glob(f"*/{moment}")):
        time.sleep(0.0005)
    child.kill()
    child.wait()

    host = Host(made)
    host.close() if child.returncode == 0 else host.resume("last")

    orders = f"'{tmp_path / 'orders.parquet'}'"
    wanted = duckdb.execute(f"SELECT id FROM {orders} ORDER BY customer, note DESC, id").fetchall()
    lines = (tmp_path / "kept.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [str(number) for (number,) in wanted]
    sums = f"SELECT note, count(*), min(id) FROM {orders} GROUP BY 1 ORDER BY ALL"
    assert found(tmp_path / "sums.parquet") == duckdb.execute(sums).fetchall()
    assert leftovers(made) == []
