"""Decisions: order, faults that count, records nobody claims, and names of ports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipelines.node import Outcome
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from transforms.decide import Decide

SCHEMA = pa.schema([("n", pa.int64()), ("text", pa.string())])


def routed(records: list[dict[str, Any]], **config: Any) -> Outcome:
    sandbox = Sandbox()
    step = Decide(**config).open(SCHEMA, Scope(Path()), sandbox)
    outcome = step(pa.RecordBatch.from_pylist(records, schema=SCHEMA))
    sandbox.close()
    return outcome


def numbers(outcome: Outcome) -> dict[str, list[int]]:
    return {port: piece.batch.column("n").to_pylist() for port, piece in outcome.out.items()}


def problems(**config: Any) -> list[tuple[tuple[str | int, ...], str]]:
    told: list[tuple[tuple[str | int, ...], str]] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        told.append((at, what))

    Decide(**config).check({"": SCHEMA}, Scope(Path()), report)
    return told


def test_a_record_that_an_earlier_port_took_does_not_mind_a_later_condition_s_fault() -> None:
    outcome = routed(
        [{"n": 1, "text": "x"}, {"n": 2, "text": "x"}, {"n": 3, "text": "5"}],
        when={"first": "n = 1", "second": "text::INT > 4"},
        otherwise="rest",
    )

    assert numbers(outcome) == {"first": [1], "second": [3], "rest": []}
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [1]
    assert outcome.rejects.messages[0].startswith("second: Could not convert string 'x'")


def test_with_all_a_fault_in_any_condition_rejects_the_record_everywhere() -> None:
    outcome = routed(
        [{"n": 1, "text": "x"}, {"n": 1, "text": "5"}],
        when={"first": "n = 1", "second": "text::INT > 4"},
        all=True,
    )

    assert numbers(outcome) == {"first": [1], "second": [1]}
    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [0]


def test_a_null_condition_is_not_true_and_what_nobody_claims_is_rejected() -> None:
    outcome = routed([{"n": None, "text": "a"}, {"n": 9, "text": "b"}], when={"big": "n > 5"})

    assert numbers(outcome) == {"big": [9]}
    assert outcome.rejects is not None
    assert list(outcome.rejects.codes) == ["no_branch"]
    assert outcome.filtered == 0


def test_faults_and_unclaimed_records_are_rejected_each_with_its_code() -> None:
    outcome = routed([{"n": 1, "text": "x"}, {"n": 2, "text": "1"}], when={"big": "text::INT > 5"})

    assert outcome.rejects is not None
    assert dict(zip(outcome.rejects.rows.to_pylist(), outcome.rejects.codes, strict=True)) == {
        0: "expression",
        1: "no_branch",
    }


@pytest.mark.parametrize(
    ("config", "at"),
    [
        ({"when": {"rejected": "n > 1"}}, ("when", "rejected")),
        ({"when": {"a b": "n > 1"}}, ("when", "a b")),
        ({"when": {"a.b": "n > 1"}}, ("when", "a.b")),
        ({"when": {"a": "n > 1"}, "otherwise": "rejected"}, ("otherwise",)),
        ({"when": {"a": "n > 1"}, "otherwise": "a"}, ("otherwise",)),
        ({"when": {"a": "n > 1", "A": "n > 2"}}, ("when", "A")),
        ({"when": {"a": "n > 1"}, "otherwise": "A"}, ("otherwise",)),
        ({"when": {"a": "n + 1"}}, ("when", "a")),
        ({"when": {"a": "m > 1"}}, ("when", "a")),
    ],
)
def test_what_is_wrong_is_reported_at_its_port(config: dict[str, Any], at: tuple[str, ...]) -> None:
    assert [place for place, _what in problems(**config)] == [at]


def test_a_decision_without_conditions_is_refused() -> None:
    with pytest.raises(ValidationError):
        Decide(when={})
