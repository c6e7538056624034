"""The example, from a purchase list of the same form as the real one: both flows, a replay, what it changed, the tour."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest

PURCHASES = """ customer_id  date number_of_cds  dollar_value
 00001 19970101  1   11.77
 00002 19970112  1   12.00
 00002 19970112  5   77.00
 00455 19970102  1    0.00
 09355 19970210  4  498.48
 08529 19970228 56  756.47
 08830 19980610 99 1286.01
 00003 19980402  2   20.76
 19215 19980403  1  305.99
 00925 19980404  1    0.00
 00033 19980620 40  160.00
 00033 19980621 12   48.00
 00033 19980622  1   12.50
"""


@pytest.fixture
def example(tmp_path: Path, repository_root: Path) -> Path:
    """A copy of the example, its systems laid out from `PURCHASES`."""
    kept = shutil.ignore_patterns(".data", ".processflow", "__pycache__")
    project = Path(shutil.copytree(repository_root / "examples" / "web-orders", tmp_path / "web-orders", ignore=kept))
    purchases = tmp_path / "purchases.txt"
    purchases.write_text(PURCHASES, encoding="ascii", newline="\r\n")
    prepare(project, purchases)
    return project


def prepare(project: Path, purchases: Path) -> None:
    (project / ".data").mkdir(exist_ok=True)
    subprocess.run([sys.executable, "prepare.py", purchases, ".data/systems"], cwd=project, check=True)


def processflow(project: Path, *words: str) -> Any:
    """What the command answers with `--json`."""
    command = Path(sys.executable).with_name("processflow")
    answer = subprocess.run(
        [command, *words, "--json"], cwd=project, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def rows(project: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        connection.execute(f"SET file_search_path = '{project}'")
        return connection.sql(sql).fetchall()


def erp_orders(project: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(project / ".data" / "systems" / "erp.db")) as erp:
        return erp.execute("SELECT order_no, customer, discs, amount FROM orders ORDER BY order_no").fetchall()


def test_every_order_arrives_where_its_amount_and_discs_send_it(example: Path) -> None:
    report = processflow(example, "run", "web-orders")

    erp = erp_orders(example)
    reviews = rows(example, "SELECT order_no, amount FROM read_csv('.data/reviews/**/*.csv') ORDER BY 1")
    analysts = rows(example, "SELECT order_no FROM read_parquet('.data/orders/**/*.parquet') ORDER BY 1")
    set_aside = rows(example, "SELECT order_no, reject_node FROM read_csv('.data/set-aside/**/*.csv') ORDER BY 1")
    assert (report["status"], report["balanced"]) == ("done_with_rejects", True)
    assert [(order, customer, discs, float(amount)) for order, customer, discs, amount in erp] == [
        ("WEB-000001", "00001", 1, 11.77),
        ("WEB-000003", "00002", 1, 12.0),
        ("WEB-000004", "00002", 5, 77.0),
        ("WEB-000007", "00003", 2, 20.76),
        ("WEB-000011", "00033", 40, 160.0),
        ("WEB-000012", "00033", 12, 48.0),
        ("WEB-000013", "00033", 1, 12.5),
    ]
    assert reviews == [("WEB-000005", 498.48), ("WEB-000008", 305.99)]
    assert len(analysts) == len(erp) + len(reviews)
    assert [node for _, node in set_aside] == ["checked"] * 4


def test_a_second_run_finds_nothing_new_to_deliver(example: Path) -> None:
    processflow(example, "run", "web-orders")

    again = processflow(example, "run", "web-orders")

    assert again["balanced"]
    assert {name: node["delivered"] for name, node in again["nodes"].items() if node.get("delivered")} == {}
    assert again["nodes"]["checked"]["in"] == 0


def erp_customers(project: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(project / ".data" / "systems" / "erp.db")) as erp:
        return erp.execute("SELECT customer, joined, orders, discs, latest FROM customers ORDER BY customer").fetchall()


def test_orders_and_customers_are_joined_and_summed_up_and_a_limit_sets_one_aside(example: Path) -> None:
    processflow(example, "run", "web-orders")

    report = processflow(example, "run", "customers")

    assert (report["status"], report["balanced"], report["nodes"]["checked"]["rejected"]) == (
        "done_with_rejects",
        True,
        1,
    )
    assert erp_customers(example) == [
        ("00001", "1997-01-01", 1, 1, "1997-01-01"),
        ("00002", "1997-01-12", 2, 6, "1997-01-12"),
        ("00003", "1998-04-02", 1, 2, "1998-04-02"),
    ]


def test_the_replay_delivers_just_the_refused_customer_and_the_next_night_differs_in_nothing_else(
    example: Path,
) -> None:
    processflow(example, "run", "web-orders")
    night = processflow(example, "run", "customers")["run"]
    before = erp_customers(example)

    replayed = processflow(example, "replay", night, "--set", "most_discs=1000")
    after = erp_customers(example)
    processflow(example, "run", "customers", "--set", "most_discs=1000")
    (place,) = processflow(example, "runs", "diff", night, "last")["places"]

    assert (replayed["replay_of"], replayed["replayed"], replayed["status"]) == (night, {"checked": 1}, "done")
    assert after == [*before, ("00033", "1998-06-20", 3, 53, "1998-06-22")]
    assert erp_customers(example) == after
    assert [place[name] for name in ("place", "added", "removed", "changed", "same")] == ["kept.out", 1, 0, 0, 3]
    assert [one["key"] for one in place["examples"]] == ["00033"]


def test_the_tour_shows_the_join_the_replay_and_the_difference(example: Path, repository_root: Path) -> None:
    place = Path(shutil.copytree(example, example.parent / "examples" / "web-orders"))
    shutil.copy(repository_root / "examples" / "words.sh", place.parent)
    (example.parent / ".venv").symlink_to(Path(sys.executable).parent.parent)

    tour = subprocess.run(["sh", "tour.sh"], cwd=place, capture_output=True, text=True, check=False)

    assert (tour.returncode, tour.stderr) == (0, "")
    assert re.search(r"^bought +join ", tour.stdout, re.MULTILINE)
    assert "1 record from checked on" in tour.stdout
    assert "kept.out, by business key: 1 added, 0 removed, 0 changed, 3 same" in tour.stdout
    assert "delivered by kept" in tour.stdout


def test_what_the_example_was_given_before_it_had_customers_gets_them(example: Path) -> None:
    (example / ".data" / "systems" / "customers.csv").unlink()

    prepare(example, example.parent / "purchases.txt")

    assert rows(example, "SELECT count(*) FROM read_csv('.data/systems/customers.csv')") == [(10,)]


def test_laying_the_systems_out_again_leaves_them_as_they_are(example: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (example / ".data").rglob("*")}

    prepare(example, example.parent / "purchases.txt")

    assert {path: path.stat().st_mtime_ns for path in (example / ".data").rglob("*")} == before


def test_the_flow_s_own_tests_hold(example: Path) -> None:
    answer = processflow(example, "test")

    assert answer
