"""Runs that are killed, cancelled, overtaken, or out of room: nothing is lost, nothing is there twice."""

from __future__ import annotations

import csv
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from repository.catalogue import Catalogue
from repository.project import Project
from repository.query import rows as query
from tests.agent.projects import COMMAND, leftovers, processflow, project, report, run_here

ORDERS = 60_000
FLOW = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, customer: varchar, amount: "decimal(10,2)"}, once: true}
  good: {type: filter, from: orders, where: amount >= 1}
  large: {type: decide, from: good, when: {large: amount >= 500}, otherwise: small}
  shop: {type: sqlite.post, from: large.small, connection: shop, table: orders, mode: append, key: [id]}
  kept: {type: file.post, from: large.large, path: kept/, format: csv}
  all: {type: file.post, from: good, path: all.jsonl}
"""
LOCAL = """environment: local
connections:
  shop: {adapter: sqlite, path: shop.db}
"""


def night(folder: Path) -> Project:
    """A project whose run takes a second or two: every 1000th order is no order."""
    made = project(folder, FLOW, {"environments/local.yaml": LOCAL})
    with (folder / "orders.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "customer", "amount"])
        for number in range(ORDERS):
            amount = "much" if number % 1000 == 999 else f"{number % 997}.50"
            writer.writerow([number, f"customer {number % 77}", amount])
    return made


def expected() -> set[int]:
    return {number for number in range(ORDERS) if number % 1000 != 999 and number % 997 >= 1}


def delivered(folder: Path) -> dict[str, Counter[int]]:
    """How often each order is in each target."""
    found: dict[str, Counter[int]] = {"shop": Counter(), "kept": Counter(), "all": Counter()}
    if (folder / "shop.db").exists():
        with sqlite3.connect(folder / "shop.db") as shop:
            if shop.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone():
                found["shop"].update(number for (number,) in shop.execute("SELECT id FROM orders"))
    for part in sorted((folder / "kept").glob("*.csv")):
        with part.open(newline="") as file:
            found["kept"].update(int(row["id"]) for row in csv.DictReader(file))
    if (folder / "all.jsonl").exists():
        lines = (folder / "all.jsonl").read_text().splitlines()
        found["all"].update(int(line.split('"id":')[1].split(",")[0]) for line in lines)
    return found


def assert_whole(folder: Path) -> None:
    """Each order is once where it belongs, whatever happened before."""
    found = delivered(folder)
    wanted = expected()
    assert max((*found["shop"].values(), *found["kept"].values(), *found["all"].values()), default=0) == 1
    assert set(found["all"]) == wanted
    assert set(found["shop"]) | set(found["kept"]) == wanted
    assert not set(found["shop"]) & set(found["kept"])


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_at_any_moment_loses_nothing_and_doubles_nothing(tmp_path: Path, seed: int) -> None:
    made = night(tmp_path)
    chance = random.Random(seed)

    for _ in range(3):
        child = subprocess.Popen(
            [COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        staging = made.home / "staging"
        while child.poll() is None and not (staging.exists() and any(staging.iterdir())):
            time.sleep(0.001)
        time.sleep(chance.random() * 0.5)
        child.send_signal(signal.SIGKILL)
        child.wait()
    last = report(tmp_path, "night")

    assert last["balanced"]
    assert_whole(tmp_path)
    assert leftovers(made) == []
    assert [line["status"] for line in Catalogue(made.catalogue_url).runs(status="running")] == []


def test_a_run_killed_in_the_middle_of_its_publications_is_finished_by_the_next_command(tmp_path: Path) -> None:
    made = night(tmp_path)
    child = subprocess.Popen(
        [COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journals = made.home / "staging"
    while child.poll() is None and not list(journals.glob("*/journal/phase-0")):
        time.sleep(0.0005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()

    second = report(tmp_path, "night")

    assert second["nodes"]["orders"]["in"] == 0
    assert_whole(tmp_path)
    assert leftovers(made) == []
    states = query(made.lake, "SELECT status, balanced FROM runs ORDER BY started")
    assert [state["balanced"] for state in states] == [True, True]


def test_ctrl_c_ends_a_run_at_once_with_a_word_and_leaves_nothing_behind(tmp_path: Path) -> None:
    made = night(tmp_path)
    child = subprocess.Popen(
        [COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    staging = made.home / "staging"
    while child.poll() is None and not (staging.exists() and any(staging.iterdir())):
        time.sleep(0.001)
    child.send_signal(signal.SIGINT)
    said, faults = child.communicate(timeout=60)

    assert child.returncode == 1
    assert "cancelled" in said
    assert "Traceback" not in faults
    assert sum(map(len, delivered(tmp_path).values())) == 0
    assert leftovers(made) == []
    assert report(tmp_path, "night")["balanced"]
    assert_whole(tmp_path)


def test_a_flow_runs_once_at_a_time(tmp_path: Path) -> None:
    made = night(tmp_path)
    first = subprocess.Popen([COMMAND, "run", "night"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not Catalogue(made.catalogue_url).runs(status="running") and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it holds still, so that the other finds it running

    second = processflow(tmp_path, "run", "night")
    first.send_signal(signal.SIGCONT)
    first.wait(60)

    assert second.returncode == 3
    assert "already running" in second.stderr
    assert_whole(tmp_path)


def test_a_second_run_finds_nothing_new(tmp_path: Path) -> None:
    made = night(tmp_path)
    run_here(made, "night")

    second = run_here(made, "night")

    assert {name: node["in"] for name, node in second["nodes"].items() if node["in"]} == {}
    assert_whole(tmp_path)


def test_a_target_that_is_in_use_is_waited_for(tmp_path: Path) -> None:
    made = night(tmp_path)
    other = sqlite3.connect(tmp_path / "shop.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    child = subprocess.Popen([COMMAND, "run", "night", "--json"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    while child.poll() is None and not list((made.home / "staging").glob("*/journal/phase-0")):
        time.sleep(0.01)
    other.execute("COMMIT")
    other.close()
    child.communicate(timeout=90)

    assert child.returncode == 0
    assert_whole(tmp_path)


def test_a_full_disk_is_told_with_its_place_and_nothing_is_half_there(tmp_path: Path) -> None:
    made = night(tmp_path)
    limited = f"ulimit -f 400; exec {COMMAND} run night"

    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, timeout=100)

    assert done.returncode in (1, 3)
    assert "Traceback" not in done.stderr
    assert any(word in done.stderr for word in ("disk", "large", "room", "space", "File too large"))
    assert set(delivered(tmp_path)["all"]) in (set(), expected())
    assert report(tmp_path, "night")["balanced"]
    assert_whole(tmp_path)
    assert leftovers(made) == []
