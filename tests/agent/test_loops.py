"""Records that go round: out when they are done, set aside when they never are, each accounted for in every round."""

from __future__ import annotations

import csv
import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dry import preview
from agent.execute import Executor
from agent.prepare import Request, prepare
from agent.replaying import Replay, replay
from agent.runs import Host, run
from pipelines.drive import drive
from pipelines.errors import Cancelled, Invalid
from pipelines.job import Stop, Watch
from repository.project import Project
from repository.query import rows as query
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, project, run_here

HEAD = """flow: round
parameters: {least: {type: integer, default: 1}}
nodes:
  start: {type: start}
  given: {type: file.get, from: start, path: n.csv, split_bytes: 200, columns: {id: BIGINT, n: BIGINT}}
"""
COLLATZ = (
    HEAD
    + """  loop:
    type: loop
    from: given
    inputs: {steps: "0"}
    until: n <= $least
    at_most: %s
    nodes:
      parity: {type: decide, from: start, when: {even: n %% 2 = 0}, otherwise: odd}
      halved: {type: map, from: parity.even, keep: all, fields: {n: n // 2}}
      grown: {type: map, from: parity.odd, keep: all, fields: {n: n * 3 + 1}}
      counted: {type: map, from: [halved, grown], keep: all, fields: {steps: steps + 1}}
      end: {type: end, from: counted}
  out: {type: file.post, from: loop, path: out.jsonl}
  late: {type: file.post, from: loop.rejected, path: late.jsonl}
"""
)
REFERENCE = """
WITH RECURSIVE rounds AS (
  SELECT id, n, 0 AS steps, false AS done FROM given
  UNION ALL
  SELECT id, CASE WHEN n % 2 = 0 THEN n // 2 ELSE n * 3 + 1 END AS next, steps + 1, next <= 1
  FROM rounds WHERE NOT done AND steps < {at_most}
)
SELECT id, n, steps, done FROM rounds WHERE done OR steps = {at_most} ORDER BY id
"""


def rounds(folder: Path, flow: str, numbers: list[int]) -> Project:
    made = project(folder, flow)
    with (folder / "n.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["id", "n"], *enumerate(numbers)])
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    return sorted(found, key=lambda row: (row["id"], row["n"]))


@settings(max_examples=12, deadline=None)
@given(numbers=st.lists(st.integers(1, 40), min_size=1, max_size=60), at_most=st.integers(1, 30))
def test_what_comes_of_a_loop_is_what_a_recursive_select_gives(numbers: list[int], at_most: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = rounds(Path(folder), COLLATZ % at_most, numbers)

        done = run_here(made, "round")

        out, late = lines(Path(folder) / "out.jsonl"), lines(Path(folder) / "late.jsonl")
    with duckdb.connect() as plain:
        plain.execute("CREATE TABLE given (id BIGINT, n BIGINT)")
        plain.executemany("INSERT INTO given VALUES (?, ?)", list(enumerate(numbers)))
        expected = plain.execute(REFERENCE.format(at_most=at_most)).fetchall()
    assert (done["balanced"], done["error"]) == (True, None)
    assert [(row["id"], row["n"], row["steps"]) for row in out] == [row[:3] for row in expected if row[3]]
    assert [(row["id"], row["n"], row["steps"]) for row in late] == [row[:3] for row in expected if not row[3]]
    assert {row["reject_code"] for row in late} <= {"rounds"}


def test_an_engine_and_a_cluster_give_the_same(tmp_path: Path) -> None:
    found = []
    for number, execute in enumerate((drive, Executor().run, Executor().run_spread)):
        folder = tmp_path / str(number)
        folder.mkdir()
        done = run(Request(rounds(folder, COLLATZ % 12, list(range(1, 200))), "round"), execute)
        assert (done["balanced"], done["error"]) == (True, None)
        found.append((lines(folder / "out.jsonl"), lines(folder / "late.jsonl")))

    assert found[0] == found[1] == found[2]


def test_every_round_is_counted_and_balances(tmp_path: Path) -> None:
    done = run_here(rounds(tmp_path, COLLATZ % 100, [4, 1, 8]), "round")

    nodes = done["nodes"]
    assert list(nodes)[1:4] == ["loop/start", "loop/parity", "loop/halved"]
    assert nodes["loop/end"]["out"] == {"again": 5, "out": 3}  # 4: 2, 1 round; 1: 4, 2, 1; 8: 4, 2, 1
    assert nodes["loop/start"]["in"] == nodes["loop/start"]["out"]["inside"] == 8
    assert nodes["loop/grown"]["in"] == 1


def test_without_a_condition_each_record_goes_round_so_many_times(tmp_path: Path) -> None:
    flow = (
        HEAD
        + """  loop: {type: loop, from: given, at_most: 7, nodes: {next: {type: map, from: start, keep: all, fields: {n: n * 2}}, end: {type: end, from: next}}}
  out: {type: file.post, from: loop, path: out.jsonl}
"""
    )
    done = run_here(rounds(tmp_path, flow, [1, 3, 0]), "round")

    assert (done["status"], [row["n"] for row in lines(tmp_path / "out.jsonl")]) == ("done", [128, 384, 0])


TREE = (
    HEAD
    + """  loop:
    type: loop
    from: given
    nodes:
      parts: {type: map, from: start, keep: all, fields: {children: "list_filter([n * 2, n * 2 + 1], lambda x: x <= 100)"}}
      each: {type: split, from: parts, each: children, as: child}
      found: {type: end, from: each}
      next: {type: map, from: each, fields: {id: id, n: child}}
      again: {type: end, from: next}
  out: {type: file.post, from: loop.found, path: out.jsonl}
"""
)


def test_a_loop_with_an_end_called_again_runs_until_there_are_no_more_data(tmp_path: Path) -> None:
    done = run_here(rounds(tmp_path, TREE, [1, 6, 90]), "round")

    with duckdb.connect() as plain:
        expected = plain.execute("""
            WITH RECURSIVE tree AS (
              SELECT * FROM (VALUES (0, 1), (1, 6), (2, 90)) given(id, n)
              UNION ALL SELECT id, unnest([n * 2, n * 2 + 1]) FROM tree WHERE n <= 100)
            SELECT id, n AS child FROM tree WHERE n <= 100 AND (id, n) NOT IN ((0, 1), (1, 6), (2, 90)) ORDER BY ALL""").fetchall()
    assert (done["status"], done["balanced"]) == ("done", True)
    assert sorted((row["id"], row["child"]) for row in lines(tmp_path / "out.jsonl")) == expected
    assert done["nodes"]["loop/again"]["out"] == {"again": len(expected)}


def test_a_loop_in_a_loop_in_a_flow_knows_the_rounds_of_each(tmp_path: Path) -> None:
    used = """flow: twice
parameters: {by: {type: integer, default: 1}}
nodes:
  start: {type: start, columns: {n: BIGINT}}
  outer:
    type: loop
    from: start
    at_most: 3
    nodes:
      inner: {type: loop, from: start, at_most: 4, nodes: {more: {type: map, from: start, keep: all, fields: {n: n + $by}}, end: {type: end, from: more}}}
      ten: {type: map, from: inner, keep: all, fields: {n: n * 10}}
      end: {type: end, from: ten}
  end: {type: end, from: outer}
"""
    flow = (
        HEAD
        + "  sub: {type: flow, from: given, flow: twice, parameters: {by: 2}}\n  out: {type: file.post, from: sub, path: out.jsonl}\n"
    )
    made = rounds(tmp_path, flow, [0, 1])
    (tmp_path / "flows" / "twice.yaml").write_text(used)

    done = run_here(made, "round")

    expected = [((n + 8) * 10 + 8) * 10 for n in (0, 1)]
    assert [row["n"] for row in lines(tmp_path / "out.jsonl")] == [(value + 8) * 10 for value in expected]
    assert (done["balanced"], done["nodes"]["sub/outer/inner/more"]["in"]) == (True, 2 * 3 * 4)


def test_a_loop_may_go_round_more_often_than_the_stack_is_deep(tmp_path: Path) -> None:
    flow = (
        HEAD
        + """  loop: {type: loop, from: given, until: n >= 600, nodes: {more: {type: map, from: start, keep: all, fields: {n: n + 1}}, end: {type: end, from: more}}}
  out: {type: file.post, from: loop, path: out.jsonl}
"""
    )
    done = run_here(rounds(tmp_path, flow, [0, 590]), "round")

    assert (done["status"], [row["n"] for row in lines(tmp_path / "out.jsonl")]) == ("done", [600, 600])


class Ticking:
    """A clock that goes on by a second whenever somebody looks at it."""

    def __init__(self, stop: Stop) -> None:
        self.time = 0.0

    def now(self) -> float:
        self.time += 1
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


ENDLESS = (
    HEAD
    + """  loop: {type: loop, from: given, until: n < 0, at_most: 1000000, nodes: {same: {type: map, from: start, keep: all, fields: {n: n}}, end: {type: end, from: same}}}
  out: {type: file.post, from: loop, path: out.jsonl}
"""
)


def test_a_record_that_takes_too_long_is_set_aside(tmp_path: Path) -> None:
    made = rounds(tmp_path, ENDLESS.replace("at_most: 1000000", "timeout_seconds: 20"), [1, 2])
    watch = Watch()
    watch.clock = Ticking(watch.stop)

    done = run(Request(made, "round"), drive, watch)

    assert (done["status"], done["nodes"]["loop/end"]["rejected"]) == ("done_with_rejects", 2)
    (told,) = query(made.lake, "SELECT DISTINCT code, message[:52] AS message FROM rejects")
    assert told == {"code": "timeout", "message": "it was to be done within 20 seconds and is not, in r"}


def test_an_endless_loop_ends_when_somebody_cancels(tmp_path: Path) -> None:
    made = rounds(tmp_path, ENDLESS, [1])
    watch, done = Watch(), {}

    def work() -> None:
        done.update(run(Request(made, "round"), drive, watch))

    thread = threading.Thread(target=work)
    thread.start()
    while watch.meter.rows("loop/end", "again") < 3 and thread.is_alive():
        thread.join(0.01)
    watch.stop.ask(Cancelled("cancelled"))
    thread.join()

    assert done["status"] == "cancelled"
    assert leftovers(made) == []


def test_a_run_killed_in_the_middle_of_a_loop_is_taken_up_again(tmp_path: Path) -> None:
    made = rounds(tmp_path, COLLATZ % 200, list(range(1, 27)) * 4)
    assert killed_at(tmp_path, "round", "pipelines.rounds:Rounds.turn", "after", 30)
    host = Host(made)

    done = host.resume("last")

    host.close()
    assert (done["status"], done["balanced"]) == ("done", True)
    assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == list(range(104))
    assert leftovers(made) == []


def test_what_was_not_done_goes_on_from_where_it_was_when_it_is_replayed(tmp_path: Path) -> None:
    made = rounds(tmp_path, COLLATZ % 2, [8])
    first = run_here(made, "round")
    (tmp_path / "flows" / "round.yaml").write_text(COLLATZ % 10)

    again = replay(Replay(made, first["run"]), drive)

    assert (first["status"], again["status"], again["balanced"]) == ("done_with_rejects", "done", True)
    assert [(row["n"], row["steps"]) for row in lines(tmp_path / "out.jsonl")] == [(1, 3)]


def test_a_preview_shows_what_leaves_a_loop(tmp_path: Path) -> None:
    made = rounds(tmp_path, COLLATZ % 100, [4])

    assert preview(Request(made, "round"), "loop").to_pylist() == [{"id": 0, "n": 1, "steps": 2}]


@pytest.mark.parametrize(
    ("loop", "says"),
    [
        ("{until: n > 1}", 'flows/round.yaml:6: node "loop": no nodes are given to go through; write `flow`'),
        ("{flow: x, nodes: {}}", 'flows/round.yaml:6: node "loop": both `flow` and `nodes` are given; write'),
        (
            "{nodes: {same: {type: filter, from: start, where: n > 1}, end: {type: end, from: same}}}",
            'flows/round.yaml:6: node "loop": nothing says when a record is done; write `until`, a condition, or',
        ),
        (
            "{at_most: 2, nodes: {same: {type: filter, from: start, where: n > 1}}}",
            'flows/round.yaml:6: node "loop": no records come back: none of its nodes is of type end',
        ),
        (
            "{at_most: 2, nodes: {a: {type: end, from: start}, b: {type: end, from: start}}}",
            'flows/round.yaml:6: node "loop": it has the ends a, b: the one from which records go round again must be',
        ),
        (
            "{at_most: 2, nodes: {less: {type: map, from: start, fields: {n: n}}, end: {type: end, from: less}}}",
            "flows/round.yaml:6: node \"loop\": column 'id' goes in and does not come back",
        ),
        (
            "{at_most: 2, nodes: {half: {type: map, from: start, keep: all, fields: {n: n / 2}}, end: {type: end, from: half}}}",
            "flows/round.yaml:6: node \"loop\": column 'n' goes in as int64 and comes back as double; cast it in the",
        ),
        (
            "{at_most: 2, nodes: {all: {type: sort, from: start, by: [n]}, end: {type: end, from: all}}}",
            'flows/round.yaml:6: node "loop/all": a sort needs all records together, and those in a loop are never all',
        ),
        (
            "{at_most: 2, nodes: {put: {type: file.post, from: start, path: x.csv}, end: {type: end, from: put}}}",
            'flows/round.yaml:6: node "loop/put": a file.post delivers when all records have come',
        ),
        (
            "{at_most: 2, nodes: {end: {type: end, from: strat}}}",
            'flows/round.yaml:6: node "end": takes from "strat", which is no node of this flow; did you mean "start"?',
        ),
        (
            "{until: n > m, nodes: {end: {type: end, from: start}}}",
            "flows/round.yaml:6: node \"loop\": expression 'n > m': ",
        ),
    ],
)
def test_what_is_wrong_with_a_loop_is_told_with_its_line(loop: str, says: str, tmp_path: Path) -> None:
    flow = HEAD + f"  loop: {{type: loop, from: given, {loop[1:]}\n  end: {{type: end, from: loop}}\n"
    made = rounds(tmp_path, flow, [1])

    with pytest.raises(Invalid) as told:
        prepare(Request(made, "round"))

    assert str(told.value).replace(f"{made.folder}/", "").startswith(says)
