"""Replay: the rejected records, from the rejecting node on, through the flow as it is today; each once."""

from __future__ import annotations

import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agent import prepare
from agent.replaying import Replay, replay
from pipelines.drive import drive
from pipelines.errors import Invalid
from repository.catalogue import Catalogue
from repository.project import Project
from repository.query import rows as query
from tests.agent.projects import leftovers, processflow, project, run_here

FLOW = """flow: night
parameters:
  least: {type: "decimal(10,2)", default: 0}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, key: [id], columns: {id: bigint, amount: "decimal(10,2)", tags: varchar}}
  priced: {type: map, from: orders, keep: [id, amount, tags], fields: {total: "amount * 2", ratio: "CAST(tags AS INTEGER)", at: "now()", least: $least}}
  kept: {type: sqlite.post, from: priced, connection: shop, table: orders, mode: append}
  all: {type: file.post, from: priced, path: all.jsonl, mode: replace}
"""
LOCAL = "environment: local\nconnections:\n  shop: {adapter: sqlite, path: shop.db}\n"
ROWS = "id,amount,tags\n1,1.50,3\n2,2.50,x4\n3,much,5\n4,4.50,x6\n5,5.50,7\n"
MENDED = ("CAST(tags AS INTEGER)", "CAST(ltrim(tags, 'x') AS INTEGER)")


def night(folder: Path) -> tuple[Project, str]:
    """A project, and its run: orders 2 and 4 were rejected by `priced`, order 3 by `orders`."""
    made = project(folder, FLOW, {"environments/local.yaml": LOCAL, "orders.csv": ROWS})
    done = run_here(made, "night", least="7.25")
    assert (done["nodes"]["orders"]["rejected"], done["nodes"]["priced"]["rejected"]) == (1, 2)
    return made, done["run"]


def change(folder: Path, *changes: tuple[str, str]) -> None:
    path = folder / "flows" / "night.yaml"
    text = path.read_text("utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text, "utf-8")


def shop(folder: Path) -> list[tuple[int, int]]:
    with sqlite3.connect(folder / "shop.db") as database:
        return database.execute("SELECT id, ratio FROM orders ORDER BY id").fetchall()


def test_the_rejected_records_alone_are_delivered_once_the_rule_is_mended(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)

    done = replay(Replay(made, run, node="priced"), drive)

    assert (done["status"], done["balanced"], done["trigger"], done["replay_of"]) == ("done", True, "replay", run)
    assert done["replayed"] == {"priced": 2}
    assert done["nodes"]["priced"] | {"seconds": 0} == {
        "type": "map", "status": "done", "in": 2, "created": 0, "out": {"out": 2}, "filtered": 0, "rejected": 0,
        "merged": 0, "delivered": 0, "seconds": 0,
    }  # fmt: skip
    assert shop(tmp_path) == [(1, 3), (2, 4), (4, 6), (5, 7)]
    assert "orders" not in done["nodes"]
    assert leftovers(made) == []


def test_a_replay_sees_the_now_the_parameters_and_the_types_of_the_run(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)

    replay(Replay(made, run), drive)

    found = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    assert len({row["at"] for row in found}) == 1
    assert {row["least"] for row in found} == {7.25}
    assert {(row["id"], Decimal(str(row["total"]))) for row in found if row["id"] == 4} == {(4, Decimal("9.00"))}


def test_a_target_that_a_run_replaces_is_added_to(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)

    done = replay(Replay(made, run, node="priced"), drive)

    found = [json.loads(line)["id"] for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    assert sorted(found) == [1, 2, 4, 5]
    assert "all adds the records to what is there, although its mode is replace" in done["notes"]


def test_lines_that_could_not_be_read_are_read_as_the_get_reads_today(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(
        tmp_path,
        ('amount: "decimal(10,2)"', "amount: varchar"),
        ("keep: [id, amount, tags]", "keep: [id, tags]"),
        ('"amount * 2"', '"coalesce(TRY_CAST(amount AS DECIMAL(10,2)), 0) * 2"'),
    )

    done = replay(Replay(made, run, node="orders"), drive)

    assert (done["status"], done["nodes"]["orders"]["in"], done["nodes"]["kept"]["delivered"]) == ("done", 1, 1)
    assert shop(tmp_path) == [(1, 3), (3, 5), (5, 7)]


def test_a_line_that_still_is_no_record_is_rejected_again(tmp_path: Path) -> None:
    made, run = night(tmp_path)

    done = replay(Replay(made, run, node="orders"), drive)

    assert (done["status"], done["balanced"], done["nodes"]["orders"]["rejected"]) == ("done_with_rejects", True, 1)
    assert query(made.lake, f"SELECT message, payload FROM rejects WHERE run = '{done['run']}'") == [
        {"message": "column 'amount': 'much' is no DECIMAL(10,2)", "payload": {"line": "3,much,5"}}
    ]


def test_a_record_is_replayed_once_and_again_only_when_that_is_said(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)
    first = replay(Replay(made, run, where="tags = 'x4'"), drive)

    second = replay(Replay(made, run, node="priced"), drive)
    with pytest.raises(Invalid, match=r"were replayed by [^ ]+, [^ ]+; --again"):
        replay(Replay(made, run, node="priced"), drive)
    third = replay(Replay(made, run, node="priced", again=True), drive)

    assert [done["replayed"] for done in (first, second, third)] == [{"priced": 1}, {"priced": 1}, {"priced": 2}]
    assert "kept appends: what an earlier replay delivered is there twice" in third["notes"]
    assert query(made.lake, 'SELECT "of", count(*) AS n FROM replays GROUP BY ALL') == [{"of": run, "n": 4}]


def test_what_a_replay_rejects_again_is_taken_up_by_the_next_replay_of_the_run(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    again = replay(Replay(made, run, node="priced"), drive)
    change(tmp_path, MENDED)

    done = replay(Replay(made, run, node="priced"), drive)

    assert again["nodes"]["priced"]["rejected"] == 2
    assert done["replayed"] == {"priced": 2}
    assert query(made.lake, f"SELECT DISTINCT \"of\" FROM replays WHERE run = '{done['run']}'") == [
        {"of": again["run"]}
    ]
    assert shop(tmp_path) == [(1, 3), (2, 4), (4, 6), (5, 7)]


def test_what_was_rejected_several_times_is_replayed_again_only_once(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    replay(Replay(made, run, node="priced"), drive)
    replay(Replay(made, run, node="priced"), drive)
    change(tmp_path, MENDED)

    done = replay(Replay(made, run, node="priced", again=True), drive)

    assert done["replayed"] == {"priced": 2}
    assert shop(tmp_path) == [(1, 3), (2, 4), (4, 6), (5, 7)]


def test_replays_of_the_same_second_are_found_whatever_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, run = night(tmp_path)
    endings = iter(["eeee", "dddd", "cccc"])
    monkeypatch.setattr(prepare, "run_id", lambda now: f"{now:%Y%m%d}-235959-{next(endings)}")
    replay(Replay(made, run, node="priced"), drive)
    replay(Replay(made, run, node="priced"), drive)
    change(tmp_path, MENDED)

    done = replay(Replay(made, run, node="priced"), drive)

    assert done["replayed"] == {"priced": 2}


def test_both_runs_tell_of_each_other(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)
    done = replay(Replay(made, run, node="priced"), drive)

    before, after = (processflow(tmp_path, "runs", "show", name).stdout for name in (run, done["run"]))
    listed = processflow(tmp_path, "runs").stdout.splitlines()

    assert f"replayed by {done['run']}" in before
    assert f"replay of {run}: 2 records from priced on" in after
    assert json.loads(processflow(tmp_path, "runs", "show", run, "--json").stdout)["replayed_by"] == [done["run"]]
    assert [line.endswith(run) for line in listed] == [False, True, False]
    assert query(made.lake, "SELECT run, replay_of FROM runs WHERE replay_of IS NOT NULL") == [
        {"run": done["run"], "replay_of": run}
    ]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("amount >", "--where amount >: the condition cannot be read: syntax error at its end"),
        ("nope = 1", '--where nope = 1: there is no column "nope"'),
    ],
)
def test_a_condition_that_cannot_be_computed_is_told_without_our_own_columns(
    tmp_path: Path, where: str, said: str
) -> None:
    made, run = night(tmp_path)

    with pytest.raises(Invalid) as fault:
        replay(Replay(made, run, where=where), drive)

    assert str(fault.value).startswith(said)
    assert "__" not in str(fault.value)


def test_a_replay_that_fails_counts_for_nothing(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, ("nodes:", "settings: {rejects: {fail_above: 1}}\nnodes:"))

    failed = replay(Replay(made, run, node="priced"), drive)
    change(tmp_path, MENDED)
    done = replay(Replay(made, run, node="priced"), drive)

    assert (failed["status"], done["status"], done["replayed"]) == ("failed", "done", {"priced": 2})


def test_a_replay_keeps_the_row_ids_so_that_a_record_s_way_can_be_followed(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)

    done = replay(Replay(made, run, node="priced"), drive)

    sql = (
        f"SELECT count(*) AS n FROM night.orders o JOIN deliveries d USING (rid) "
        f"WHERE o.run = '{run}' AND d.run = '{done['run']}' AND d.node = 'all'"
    )
    assert query(made.lake, sql) == [{"n": 2}]


def test_positions_stay_where_they_are(tmp_path: Path) -> None:
    made, run = night(tmp_path)
    change(tmp_path, MENDED)
    catalogue = Catalogue(made.catalogue_url)
    before = catalogue.position_lines()

    replay(Replay(made, run), drive)

    assert catalogue.position_lines() == before


@pytest.mark.parametrize(
    ("changes", "asked", "says"),
    [
        ([("priced:", "costed:"), ("from: priced", "from: costed")], {"node": "priced"}, "the flow has no such node today"),
        ([("tags: varchar", "tags: varchar, more: varchar"), ('at: "now()"', "at: \"CASE WHEN more = 'x' THEN now() END\""), ("path: orders.csv", "path: new.csv")], {"node": "priced"}, "they have no column 'more'"),
        ([], {"node": "kept"}, "node 'kept' rejected no record in run .*; there are rejects of: "),
        ([], {"where": "no_such = 1"}, 'there is no column "no_such"'),
        ([], {"where": "1 = 1) OR (SELECT true FROM read_csv('/etc/passwd')"}, "read_csv"),
        ([], {"where": "tags = 'none'", "node": "priced"}, "no reject of run .* has tags = 'none'"),
    ],
)  # fmt: skip
def test_what_cannot_be_replayed_is_told_and_nothing_runs(
    changes: list[tuple[str, str]], asked: dict[str, str], says: str, tmp_path: Path
) -> None:
    made, run = night(tmp_path)
    (tmp_path / "new.csv").write_text("id,amount,tags,more\n1,1,1,1\n", "utf-8")
    change(tmp_path, *changes)

    with pytest.raises(Invalid, match=says):
        replay(Replay(made, run, **asked), drive)  # type: ignore[arg-type]

    assert len(Catalogue(made.catalogue_url).runs()) == 1


def test_the_command_replays_and_tells_what_it_did(tmp_path: Path) -> None:
    _, run = night(tmp_path)
    change(tmp_path, MENDED)

    done = processflow(tmp_path, "replay", "last", "--node", "priced", "--where", "tags = 'x4'")
    nothing = processflow(tmp_path, "replay", run, "--where", "tags = 'x4'")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"replay of {run}: 1 record from priced on\n")
    assert nothing.returncode == 2


def test_rejects_with_times_that_duckdb_has_no_room_for_are_shown_and_stay(tmp_path: Path) -> None:
    clock = pa.array([0, 86_400_000_001, 3_600_000_000], pa.int64()).view(pa.time64("us"))
    moment = pa.array([0, 0, 2**63 - 1], pa.int64()).view(pa.timestamp("ms"))
    pq.write_table(pa.table({"n": [1, 2, 3], "clock": clock, "at": moment}), tmp_path / "in.parquet")
    made = project(
        tmp_path,
        """flow: times
nodes:
  start: {type: start}
  read: {type: file.get, from: start, path: in.parquet}
  kept: {type: file.post, from: read, path: kept.csv, mode: append}
""",
    )

    run = run_here(made, "times")["run"]
    found = query(made.lake, "SELECT message, payload.n AS n FROM rejects ORDER BY n")

    assert found == [
        {"message": "column 'clock': a time 86,400,000,001 microseconds from midnight lies outside of the years 1 to 9999 or "
                    "of a day; make it null with a map", "n": 2},
        {"message": "column 'at': a time 9,223,372,036,854,775,807 milliseconds from 1970 lies outside of the years 1 to 9999 "
                    "or of a day; make it null with a map", "n": 3},
    ]  # fmt: skip
    assert query(made.lake, "SELECT payload.clock, payload.at FROM rejects WHERE payload.n = 3") == [
        {"clock": "01:00:00", "at": "292278994-08-17 07:12:55.807"}
    ]
    with pytest.raises(Invalid, match="fits the flow as it is today"):
        replay(Replay(made, run), drive)
