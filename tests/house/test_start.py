"""What the command loads: counted, not clocked. Everything that runs no flow starts without Beam."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
flow: small
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, path: orders.csv, columns: {id: bigint, status: varchar}}
  paid: {type: filter, from: orders, where: "status = 'paid'"}
  kept: {type: file.post, from: paid, path: paid/, format: parquet}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "small.yaml").write_text(FLOW, encoding="utf-8")
    (tmp_path / "orders.csv").write_text("id,status\n1,paid\n2,new\n", encoding="utf-8")
    return tmp_path


def loaded_by(project: Path, *words: str) -> tuple[int, set[str]]:
    """The exit code of a command, and the top-level packages that Python's own trace says it imported."""
    command = Path(sys.executable).with_name("processflow")
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", command, *words],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    traced = [line for line in answer.stderr.splitlines() if line.startswith("import time:")]
    return answer.returncode, {line.rsplit("|", 1)[1].strip().split(".")[0] for line in traced}


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["explain", "small"],
        ["query", "SELECT count(*) FROM runs"],
        ["runs"],
        ["nodes"],
        ["nodes", "show", "filter"],
        ["nodes", "schema"],
        ["doctor"],
        ["--help"],
    ],
    ids=" ".join,
)
def test_a_command_that_runs_no_flow_loads_neither_beam_nor_great_expectations(
    command: list[str], project: Path
) -> None:
    code, loaded = loaded_by(project, *command)

    assert code == 0
    assert "pipelines" in loaded
    assert loaded & {"apache_beam", "great_expectations", "pandas", "scipy"} == set()


@pytest.mark.parametrize(
    "command", [["check"], ["nodes"], ["nodes", "show", "filter"], ["nodes", "schema"], ["--help"]], ids=" ".join
)
def test_a_command_that_asks_for_no_run_does_not_load_the_catalogue_s_library(
    command: list[str], project: Path
) -> None:
    code, loaded = loaded_by(project, *command)

    assert code == 0
    assert loaded & {"sqlalchemy", "alembic"} == set()
