"""What a person may get wrong: each ends with 2, in a sentence that says what would be right, never in a traceback."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.agent.projects import processflow

BAD = """flow: bad
nodes:
  start: {type: start}
  gone: {type: file.get, from: start, path: missing.csv}
  orders: {type: file.get, from: start, path: data/orders.csv}
  few: {type: filter, from: orders, where: totl > 3}
  kept: {type: sqlite.post, from: orders, connection: shop, table: x}
  odd: {type: fitler, from: orders}
"""
BAD_PROBLEMS = [
    'flows/bad.yaml:4: node "gone": missing.csv: there is no such file',
    'flows/bad.yaml:6: node "few": expression \'totl > 3\': no column "totl"; there are: ',
    "flows/bad.yaml:7: node \"kept\": no connection is called 'shop' in environment local; there are: none",
    'flows/bad.yaml:8: node "odd": no node type is called "fitler"; did you mean "filter"?',
]


@pytest.fixture(scope="module")
def odd(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose flow files are of every wrong kind; commands change nothing in it."""
    folder = tmp_path_factory.mktemp("odd")
    for path in starter.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(starter)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(starter)).write_bytes(path.read_bytes())
    flows = folder / "flows"
    (flows / "bad.yaml").write_text(BAD, encoding="utf-8")
    (flows / "broken.yaml").write_text("flow: broken\nnodes: {a: [", encoding="utf-8")
    (flows / "empty.yaml").write_text("", encoding="utf-8")
    (flows / "binary.yaml").write_bytes(bytes(range(128, 256)) * 20)
    (flows / "list.yaml").write_text("- 1\n- 2\n", encoding="utf-8")
    (flows / "folder.yaml").mkdir()
    return folder


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "welcom"], r"no flow is called 'welcom' in .*flows; there are: .*welcome"),
        (["run", "bad"], re.escape(BAD_PROBLEMS[0])),
        (["run", "broken"], r"flows/broken\.yaml:2: not YAML: .*"),
        (["run", "empty"], r"flows/empty\.yaml:1: the file is empty; begin with"),
        (["run", "binary"], r"flows/binary\.yaml:1: byte 0x80 is not UTF-8; save the file as UTF-8"),
        (["run", "list"], r"flows/list\.yaml:1: .*"),
        (["run", "folder"], r".*folder\.yaml is a folder; a flow is a file"),
        (["run", "data"], r"no flow is called 'data'"),
        (["run", "welcome", "--set", "least"], r"--set least: no value; write --set NAME=VALUE"),
        (["run", "welcome", "--set", "leest=3"], r"flow 'welcome' has no parameter 'leest'; did you mean 'least'\?"),
        (["run", "welcome", "--set", "least=lots"], r"parameter 'least': 'lots' is no decimal\(18,2\)"),
        (["run", "welcome", "--runner", "flink"], r"runner 'flink' is not at hand in environment local; use direct"),
        (["run", "welcome", "--environment", "moon"], r'.*no environment is called "moon"; there are: local'),
        (["preview", "welcome", "larg"], r"flow 'welcome' has no node 'larg' .*; there are: orders, checked"),
        (["preview", "welcome", "large.big"], r"node 'large' has no port 'big'; there are: out, rejected"),
        (["preview", "welcome", "large", "--rows", "0"], r"Usage: (.|\n)*greater than or equal to 1"),
        (["explain", "broken"], r"flows/broken\.yaml:2: not YAML"),
        (["query", "select * from order"], r".*"),
        (["query", "select * from rejets"], r"there is no table rejets; did you mean rejects\?"),
        (["query", "drop table runs"], r"a query is one SELECT, this is a DROP statement"),
        (["query", "select 1", "--format", "xml"], r"Usage: (.|\n)*'xml' is not one of 'table', 'csv'"),
        (["query", "select 1", "--output", "no/where.csv"], r"no/where\.csv: cannot be written"),
        (["runs", "show", "last"], r"there is no run yet; start one with `processflow run FLOW`"),
        (["runs", "show", "2020"], r"there is no run '2020'; the latest are: none"),
        (["nodes", "show", "fitler"], r"no node type is called 'fitler'; did you mean 'filter'\?"),
        (["connections", "list", "--environment", "moon"], r'.*no environment is called "moon"'),
        (["--project", "no/where", "check"], r"--project no/where: no such folder"),
        (["fly"], r"Usage: (.|\n)*No such command 'fly'"),
        (["run"], r"Usage: (.|\n)*Missing argument 'FLOW'"),
        ([], r"Usage: (.|\n)*Commands:"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_was_given_wrong_is_told_in_a_sentence(odd: Path, words: list[str], says: str) -> None:
    done = processflow(odd, *words)

    assert done.returncode == 2, done.stdout + done.stderr
    assert re.match(says, done.stderr), done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "explain", "check"])
def test_all_problems_of_a_flow_are_told_at_once_by_whatever_needs_it(odd: Path, command: str) -> None:
    done = processflow(odd, command, "bad")

    told = (done.stdout if command == "check" else done.stderr).splitlines()
    assert done.returncode == 2
    for problem, line in zip(BAD_PROBLEMS, told, strict=False):
        assert line.startswith(problem)
    assert len(told) == len(BAD_PROBLEMS) + (command == "check")


def test_check_of_all_flows_tells_of_each_and_stops_at_none(odd: Path) -> None:
    done = processflow(odd, "check")

    assert done.returncode == 2
    assert {line.split(":")[0] for line in done.stdout.splitlines()[:-1]} == {
        f"flows/{name}.yaml" for name in ("bad", "broken", "empty", "binary", "list")
    }
    assert done.stdout.splitlines()[-1].startswith("6 flows: ")


def test_outside_of_a_project_the_way_to_one_is_told(tmp_path: Path) -> None:
    done = processflow(tmp_path, "check")

    assert done.returncode == 2
    assert done.stderr == f"{tmp_path} is in no project: no folder upwards has flows/; processflow init DIR makes one\n"


def test_a_project_without_flows_says_where_to_write_one(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()

    done = processflow(tmp_path, "check")

    assert done.returncode == 2
    assert done.stderr.endswith("has no flow; write one to flows/NAME.yaml\n")
