"""Tests recorded from runs: they pass, they are small, and what is masked is masked everywhere alike."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.dry import run_tests
from agent.masking import Mask
from agent.prepare import Request
from agent.recording import Recording, record
from pipelines.errors import Invalid
from pipelines.flowfile import load
from tests.agent.projects import processflow, project, run_here

FLOW = """# what the night does
flow: night
parameters:
  least: {type: "decimal(10,2)", default: 0}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, email: varchar, day: date, amount: "decimal(10,2)"}}   # as they come
  good: {type: filter, from: orders, where: amount >= $least}
  shaped: {type: map, from: good, keep: [id, day], fields: {email: "lower(email)", n: "CAST(split_part(email, '-', 2) AS INTEGER)", chance: "random()"}}
  large: {type: decide, from: shaped, when: {review: id > 1000}, otherwise: direct}
  kept: {type: file.post, from: large.direct, path: kept/, format: jsonl}
  seen: {type: file.post, from: large.review, path: seen/, format: jsonl}
"""
JOINED = """flow: joined
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, customer: varchar}}
  people: {type: file.get, from: start, path: people.csv, columns: {name: varchar, city: varchar}}
  both: {type: join, from: {left: orders, right: people}, on: {customer: name}}
  kept: {type: file.post, from: both, path: kept/, format: jsonl}
"""


def rows(count: int) -> str:
    lines = [f"{n},Ann-{n if n % 50 else 'x'},2026-01-0{1 + n % 9},{n}.50" for n in range(1, count)]
    return "\n".join(["id,email,day,amount", *lines, ""])


def test_a_recorded_test_passes_and_shows_every_way_through_the_flow(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW.replace("# what the night does\n", ""), {"orders.csv": rows(1100)})
    run = run_here(made, "night", least="10")["run"]

    found = record(Recording(made, run, records=8))

    verdicts = list(run_tests(Request(made, "night")))
    assert [(verdict.name, verdict.differences) for verdict in verdicts] == [(found.name, ())]
    assert found.given["orders"] <= 8
    assert min(found.then[place] for place in ("kept", "seen", "shaped.rejected")) >= 1
    assert sum(found.then.values()) < found.given["orders"]  # one at least is filtered
    assert any("chance" in note for note in found.notes)


def test_the_rest_of_the_file_stays_as_it_was(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW.partition("\n")[2], {"orders.csv": rows(30)})
    path = tmp_path / "flows" / "night.yaml"
    path.write_text(FLOW, "utf-8")
    run = run_here(made, "night")["run"]

    record(Recording(made, run, name="the first"))
    once = path.read_text("utf-8")
    record(Recording(made, run, name="the second", records=3))

    assert once.startswith(FLOW)
    assert path.read_text("utf-8").startswith(once.rstrip("\n"))
    assert [test.name for test in load(path).tests] == ["the first", "the second"]


def test_masked_values_stand_nowhere_in_the_test_and_joins_still_hold(tmp_path: Path) -> None:
    orders = "id,customer\n" + "".join(f"{n},person-{n % 7}\n" for n in range(40))
    people = "name,city\n" + "".join(f"person-{n},city {n}\n" for n in range(7))
    made = project(tmp_path, JOINED, {"orders.csv": orders, "people.csv": people})
    run = run_here(made, "joined")["run"]

    found = record(Recording(made, run, records=5, mask=["customer", "name"]))

    text = (tmp_path / "flows" / "joined.yaml").read_text("utf-8")
    assert "person-" not in text.partition("tests:")[2]
    assert found.then["kept"] == found.given["orders"] == 5


def test_a_mask_that_hides_nothing_and_a_name_that_is_taken_are_told(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW.partition("\n")[2], {"orders.csv": rows(30)})
    run = run_here(made, "night")["run"]
    record(Recording(made, run, name="twice"))
    before = (tmp_path / "flows" / "night.yaml").read_text("utf-8")

    with pytest.raises(Invalid, match="--mask phone: no record that was captured has such a column"):
        record(Recording(made, run, mask=["phone"]))
    with pytest.raises(Invalid, match="the flow has a test 'twice'"):
        record(Recording(made, run, name="twice"))

    assert (tmp_path / "flows" / "night.yaml").read_text("utf-8") == before


def test_a_run_that_kept_nothing_cannot_be_recorded(tmp_path: Path) -> None:
    flow = FLOW.partition("\n")[2].replace("nodes:", "settings: {snapshots: none}\nnodes:", 1)
    made = project(tmp_path, flow, {"orders.csv": rows(30)})
    run = run_here(made, "night")["run"]

    with pytest.raises(Invalid, match="has kept no record of 'orders'"):
        record(Recording(made, run))


VALUES = st.one_of(st.text(max_size=8), st.integers(), st.decimals(allow_nan=False, allow_infinity=False, places=2))


@settings(max_examples=50, deadline=None)
@given(st.lists(VALUES, max_size=30, unique_by=str))
def test_a_mask_is_the_same_for_the_same_value_and_another_for_every_other(values: list[object]) -> None:
    mask = Mask(["a", "b"], b"salt")

    masks = [mask.record({"a": value})["a"] for value in values]

    assert masks == [mask.record({"b": value})["b"] for value in values]
    assert len({str(one) for one in masks}) == len(values)
    assert [type(one) for one in masks] == [type(value) for value in values]


def test_a_mask_keeps_the_shape_and_nulls_and_moves_days_by_the_same_span() -> None:
    mask = Mask(["email", "day", "paid"], b"salt")

    one = mask.record({"email": "Ann-17@example.org", "day": date(2026, 1, 1), "paid": Decimal("19.90"), "id": 1})
    other = mask.record({"email": None, "day": date(2026, 1, 3), "paid": None, "id": 2})

    assert [mark.isalpha() for mark in one["email"]] == [mark.isalpha() for mark in "Ann-17@example.org"]
    assert (other["day"] - one["day"]).days == 2
    assert (other["email"], other["paid"], one["id"]) == (None, None, 1)
    assert str(one["paid"])[2] == "."


def test_the_command_records_and_the_flow_s_tests_pass(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW.partition("\n")[2], {"orders.csv": rows(30)})
    run_here(made, "night")

    recorded = processflow(tmp_path, "test", "record", "last", "--mask", "email", "--records", "4")
    tested = processflow(tmp_path, "test", "night")
    everything = processflow(tmp_path, "test")

    assert (recorded.returncode, recorded.stderr) == (0, "")
    assert "Ann-" not in (tmp_path / "flows" / "night.yaml").read_text("utf-8").partition("tests:")[2]
    assert tested.stdout.endswith("1 passed, 0 failed\n")
    assert everything.stdout.endswith("1 passed, 0 failed\n")
