"""Runs that stop when something was published already: late, finished later, or with a word about what comes twice."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent.cancelling import cancel
from agent.prepare import Request, prepare
from agent.runs import Host
from pipelines import settle
from pipelines.errors import Unavailable
from pipelines.job import Job
from pipelines.plan import Station
from repository.catalogue import Catalogue
from repository.project import Project
from repository.query import rows as query
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, processflow, project, run_here

LOCAL = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db, lock_seconds: 0.1}\n"
HEAD = """flow: night
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: in/, once: true, columns: {id: bigint, amount: varchar}}
  shop: {type: sqlite.post, from: orders, connection: shop, table: orders, mode: append, key: [id]}
"""
APART = """  sums: {type: aggregate, from: orders, measures: {n: count(*), total: sum(CAST(amount AS INTEGER))}}
  kept: {type: file.post, from: sums, path: sums.jsonl}
"""
AFTER = """  again: {type: map, from: shop, fields: {amount: CAST(amount AS INTEGER)}, rejects: {fail_above: 0}}
  kept: {type: file.post, from: again, path: kept.jsonl}
"""
FILE = "  kept: {type: file.post, from: shop, path: kept/, format: jsonl, retry: {attempts: 1}}\n"


def night(folder: Path, rest: str, rows: str = "1,5\n2,7\n") -> Project:
    return project(folder, HEAD + rest, {"environments/local.yaml": LOCAL, "in/a.csv": f"id,amount\n{rows}"})


def orders(folder: Path) -> list[int]:
    if not (folder / "shop.db").exists():
        return []
    with sqlite3.connect(folder / "shop.db") as shop:
        if not shop.execute("SELECT 1 FROM sqlite_master WHERE name = 'orders'").fetchone():
            return []
        return [number for (number,) in shop.execute("SELECT id FROM orders ORDER BY id")]


def kept(folder: Path) -> list[int]:
    texts = [path.read_text("utf-8") for path in (folder / "kept").glob("*.jsonl")]
    return sorted(json.loads(line)["id"] for text in texts for line in text.splitlines())


def stopping(monkeypatch: pytest.MonkeyPatch, fault: Exception, node: str = "kept") -> None:
    """Raises a fault once where a post is about to publish."""
    real = settle._publish_once
    left = [fault]

    def publish(job: Job, station: Station, *rest: Any) -> settle.Facts:
        if station.name == node and left:
            job.watch.stop.ask(left[0])
            raise left.pop()
        return real(job, station, *rest)

    monkeypatch.setattr(settle, "_publish_once", publish)


def test_what_fails_in_a_later_phase_leaves_the_posts_of_an_earlier_one_untouched(tmp_path: Path) -> None:
    made = night(tmp_path, APART, "1,5\n2,much\n")

    first = run_here(made, "night")
    (tmp_path / "in" / "a.csv").write_text("id,amount\n1,5\n2,7\n", "utf-8")
    second = run_here(made, "night")

    assert first["status"] == "failed"
    assert first["nodes"]["shop"]["delivered"] == 0
    assert (second["status"], orders(tmp_path)) == ("done", [1, 2])


def test_a_post_that_others_wait_for_says_that_it_may_deliver_again(tmp_path: Path) -> None:
    made = night(tmp_path, AFTER)

    labels = prepare(Request(made, "night")).checked.delivery.posts

    assert labels["shop"][0] == "at least once"
    assert labels["shop"][1].startswith("again waits for it")
    assert labels["kept"][0] == "effectively once"


def test_posts_that_nobody_waits_for_keep_their_label(tmp_path: Path) -> None:
    labels = prepare(Request(night(tmp_path, APART), "night")).checked.delivery.posts

    assert {label for label, _ in labels.values()} == {"effectively once"}


def test_a_run_that_fails_for_good_behind_a_post_tells_what_comes_once_more(tmp_path: Path) -> None:
    made = night(tmp_path, AFTER, "1,5\n2,much\n")

    first = run_here(made, "night")
    second = run_here(made, "night")

    assert first["status"] == second["status"] == "failed"
    assert (
        "shop (2 records) had published before; a run that reads the same again delivers the records of shop"
        in first["error"]
    )
    assert orders(tmp_path) == [1, 1, 2, 2]
    assert leftovers(made) == []


def test_a_run_whose_second_target_is_away_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(tmp_path, FILE)
    stopping(monkeypatch, Unavailable("kept: the disk is full"))

    first = run_here(made, "night")
    (tmp_path / "in" / "b.csv").write_text("id,amount\n3,9\n", "utf-8")
    second = run_here(made, "night")

    assert (first["status"], first.get("unfinished")) == ("failed", True), first["error"]
    assert f"`processflow runs resume {first['run']}`" in first["error"]
    assert (second["status"], second["nodes"]["orders"]["in"]) == ("done", 1)
    assert orders(tmp_path) == kept(tmp_path) == [1, 2, 3]
    assert query(made.lake, "SELECT status FROM runs") == [{"status": "done"}, {"status": "done"}]
    assert query(made.lake, "SELECT count(*) AS n FROM deliveries WHERE node = 'shop'") == [{"n": 3}]
    assert leftovers(made) == []


def test_a_run_that_was_cancelled_between_two_posts_goes_on_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.errors import Cancelled

    made = night(tmp_path, FILE)
    stopping(monkeypatch, Cancelled("cancelled from the keyboard"))
    first = run_here(made, "night")

    done = Host(made).resume(first["run"])

    assert (first["status"], done["status"]) == ("cancelled", "done")
    assert orders(tmp_path) == kept(tmp_path) == [1, 2]


def test_a_run_that_is_to_be_finished_can_be_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = night(tmp_path, FILE)
    stopping(monkeypatch, Unavailable("kept: the disk is full"))
    run = run_here(made, "night")["run"]

    given_up = cancel(made, run)

    assert given_up["status"] == "cancelled"
    assert "shop (2 records) had published before" in given_up["error"]
    assert leftovers(made) == []
    assert Catalogue(made.catalogue_url).runs(status="running") == []


@pytest.mark.parametrize("how", ["its target is away", "its process was killed"])
def test_a_run_that_is_to_be_finished_is_called_unfinished_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    made = night(tmp_path, FILE)
    if how == "its target is away":
        stopping(monkeypatch, Unavailable("kept: the disk is full"))
        run_here(made, "night")
    else:
        assert killed_at(tmp_path, "night", "pipelines.journal:save_published", "after", 1)
    run = Catalogue(made.catalogue_url).runs()[0]["run"]

    table = processflow(tmp_path, "runs").stdout
    shown = processflow(tmp_path, "runs", "show", "last").stdout
    listed = [
        json.loads(processflow(tmp_path, "runs", "--json", "--status", status).stdout)
        for status in ("unfinished", "running")
    ]
    document = json.loads(processflow(tmp_path, "runs", "show", "last", "--json").stdout)

    assert "  night  unfinished  " in table
    assert "\nunfinished" in shown
    assert f"`processflow runs resume {run}` goes on now, `processflow runs cancel {run}` gives it up" in shown
    assert [[line["run"] for line in lines] for lines in listed] == [[run], []]
    assert (document["status"], document["unfinished"]) == ("running", True)


def test_while_its_target_is_still_away_a_run_that_is_to_be_finished_goes_before_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(tmp_path, FILE)
    stopping(monkeypatch, Unavailable("kept: the disk is full"))
    run = run_here(made, "night")["run"]
    monkeypatch.undo()
    stopping(monkeypatch, Unavailable("kept: the disk is still full"))

    with pytest.raises(Unavailable, match=f"run {run} is to be finished first: kept: the disk is still full"):
        run_here(made, "night")

    assert run_here(made, "night")["status"] == "done"
    assert orders(tmp_path) == kept(tmp_path) == [1, 2]


def test_records_that_a_target_refuses_count_against_fail_above_before_they_are_committed(tmp_path: Path) -> None:
    made = night(tmp_path, "settings: {rejects: {fail_above: 40%}}\n", "1,5\n1,7\n")
    with sqlite3.connect(tmp_path / "shop.db") as shop:
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, amount TEXT)")

    report = run_here(made, "night")

    assert report["status"] == "failed"
    assert "1 of 2 records were rejected" in report["error"]
    assert orders(tmp_path) == []
