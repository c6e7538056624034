"""Problems are told once, with their place."""

from __future__ import annotations

from pathlib import Path

from agent.checking import problems_of
from tests.agent.projects import project

FLOW = """flow: counted
parameters:
  n: {type: integer, default: abc}
nodes:
  start: {type: start}
  numbers: {type: file.get, from: start, path: n.csv, columns: {n: integer}}
  kept: {type: file.post, from: numbers, path: out.csv}
"""


def test_a_default_that_is_no_value_of_its_type_is_told_once_at_its_line(tmp_path: Path) -> None:
    made = project(tmp_path, FLOW, {"n.csv": "n\n1\n"})

    found = problems_of(made, "counted", "local", {})

    assert [(problem.line, problem.what) for problem in found] == [(3, "parameter \"n\": 'abc' is no integer")]
