"""Positions: shown, forgotten, and set back for a backfill."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from agent.positions import reset, set_back, shown
from agent.prepare import Request
from pipelines.errors import Invalid, Unavailable
from repository.catalogue import Catalogue
from repository.project import Project
from tests.agent.projects import processflow, project, run_here

FLOW = """flow: feed
nodes:
  start: {type: start}
  orders: {type: sqlite.get, from: start, connection: shop, table: orders, %s cursor: changed}
  kept: {type: file.post, from: orders, path: out/, format: jsonl}
"""
FILES = """flow: feed
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, cursor: changed, columns: {id: bigint, changed: bigint}}
  kept: {type: file.post, from: orders, path: out/, format: jsonl}
"""
LOCAL = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"


def shop(folder: Path, key: str = "key: [id],") -> Project:
    """A project whose source has the changes 1 to 6, two records each, all read by one run."""
    made = project(folder, FLOW % key, {"environments/local.yaml": LOCAL})
    with sqlite3.connect(folder / "shop.db") as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, changed INTEGER)")
        database.executemany("INSERT INTO orders VALUES (?, ?)", [(n, 1 + n // 2) for n in range(12)])
    run_here(made, "feed")
    return made


def read_again(made: Project) -> int:
    return int(run_here(made, "feed")["nodes"]["orders"]["in"])


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue(Project(tmp_path).catalogue_url)


@pytest.mark.parametrize("key", ["key: [id],", ""], ids=["key", "no key"])
def test_a_source_set_back_reads_from_the_value_on_and_then_goes_on_as_before(
    key: str, tmp_path: Path, catalogue: Catalogue
) -> None:
    made = shop(tmp_path, key)

    line = set_back(Request(made, "feed"), catalogue, "orders", "5")

    assert line["reads"] == "from 5 on"
    assert [read_again(made), read_again(made)] == [4, 0]


@pytest.mark.parametrize("key", ["key: [id],", ""], ids=["key", "no key"])
def test_a_backfill_by_range_reads_the_range_once_and_returns_to_where_it_was(
    key: str, tmp_path: Path, catalogue: Catalogue
) -> None:
    made = shop(tmp_path, key)
    before = catalogue.positions("feed", "local")

    line = set_back(Request(made, "feed"), catalogue, "orders", "2", "3")

    assert line["reads"] == "from 2 to 3, then behind 6"
    assert read_again(made) == 4
    assert catalogue.positions("feed", "local") == before
    assert read_again(made) == 0


def test_a_backfill_set_twice_returns_to_where_the_source_was_before_the_first(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    made = shop(tmp_path)
    before = catalogue.positions("feed", "local")
    set_back(Request(made, "feed"), catalogue, "orders", "1", "2")

    set_back(Request(made, "feed"), catalogue, "orders", "20", "30")

    assert read_again(made) == 0
    assert catalogue.positions("feed", "local") == before


def test_files_with_a_cursor_are_set_back_too(tmp_path: Path, catalogue: Catalogue) -> None:
    rows = "".join(f"{n},{1 + n // 2}\n" for n in range(12))
    made = project(tmp_path, FILES, {"orders.csv": f"id,changed\n{rows}"})
    run_here(made, "feed")
    before = catalogue.positions("feed", "local")

    set_back(Request(made, "feed"), catalogue, "orders", "2", "3")
    ranged = read_again(made)
    after = catalogue.positions("feed", "local")
    set_back(Request(made, "feed"), catalogue, "orders", "6")

    assert (ranged, after, read_again(made), read_again(made)) == (4, before, 2, 0)


def test_a_source_that_is_reset_reads_everything(tmp_path: Path, catalogue: Catalogue) -> None:
    made = shop(tmp_path)

    assert reset(Request(made, "feed"), catalogue) == 1
    assert shown(Request(made, "feed"), catalogue)[0]["reads"] == "at the beginning"
    assert read_again(made) == 12


def test_positions_cannot_be_moved_while_the_flow_runs(tmp_path: Path, catalogue: Catalogue) -> None:
    from datetime import UTC, datetime

    made = shop(tmp_path)
    catalogue.begin_run("busy", "feed", "1", "local", datetime.now(UTC))

    with pytest.raises(Unavailable, match="already running"):
        set_back(Request(made, "feed"), catalogue, "orders", "1")
    with pytest.raises(Unavailable, match="already running"):
        reset(Request(made, "feed"), catalogue)


@pytest.mark.parametrize(
    ("node", "first", "says"),
    [
        ("kept", "1", "no get 'kept'; there are: orders"),
        ("orders", "soon", "cursor 'changed' holds numbers, and 'soon' is none"),
    ],
)
def test_what_cannot_be_set_is_told(node: str, first: str, says: str, tmp_path: Path, catalogue: Catalogue) -> None:
    made = shop(tmp_path)

    with pytest.raises(Invalid, match=says):
        set_back(Request(made, "feed"), catalogue, node, first)


def test_the_command_shows_sets_and_forgets(tmp_path: Path) -> None:
    shop(tmp_path)

    shows = processflow(tmp_path, "positions", "show", "feed", "--json")
    sets = processflow(tmp_path, "positions", "set", "feed", "orders", "--from", "3", "--to", "4")
    forgets = processflow(tmp_path, "positions", "reset", "feed", "orders")
    wrong = processflow(tmp_path, "positions", "reset", "feed", "gone")

    assert [(line["node"], line["reads"]) for line in json.loads(shows.stdout)] == [("orders", "behind 6")]
    assert sets.stdout == "orders: the next run reads from 3 to 4, then behind 6\n"
    assert forgets.stdout == "1 position forgotten: the next run reads from the beginning\n"
    assert (wrong.returncode, wrong.stderr) == (2, "flow 'feed' has no get 'gone'; there are: orders\n")
