"""Runs that do not end well: each with its exit code, a reason, a report of what was done, and nothing half-visible."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent.projects import COMMAND, leftovers, processflow, project

NUMBERS = "id,n\n" + "".join(f"{number},{number % 10}\n" for number in range(2000))
ENVIRONMENT = "environment: local\nrunner: {name: direct, workers: 2}\n"
HEAD = """
import time

from pipelines.node import Outcome, Piece, Transform
"""
BREAK = '''
class Break(Transform):
    """Passes records on until one has the number `at`."""

    at: int
    """The number."""

    def check(self, inputs, scope, report):
        return {"out": inputs.get("")}

    def open(self, schema, scope, sandbox):
        def step(batch):
            if self.at in batch.column("id").to_pylist():
                raise ZeroDivisionError("nobody divides by nothing")
            return Outcome({"out": Piece(batch)})

        return step
'''
DAWDLE = '''
class Dawdle(Transform):
    """Passes batches on, one in `seconds`."""

    seconds: float
    """How long each takes."""

    def check(self, inputs, scope, report):
        return {"out": inputs.get("")}

    def open(self, schema, scope, sandbox):
        def step(batch):
            time.sleep(self.seconds)
            return Outcome({"out": Piece(batch)})

        return step
'''


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with node types of its own, as `pip install` would lay it out."""
    site = tmp_path / "site"
    (site / "stranger-1.0.dist-info").mkdir(parents=True)
    (site / "stranger").mkdir()
    (site / "stranger" / "breaking.py").write_text(HEAD + BREAK, encoding="utf-8")
    (site / "stranger" / "dawdling.py").write_text(HEAD + DAWDLE, encoding="utf-8")
    (site / "stranger-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    points = "[processflow.transforms]\nbreak = stranger.breaking\ndawdle = stranger.dawdling\n"
    (site / "stranger-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def made(folder: Path, nodes: str, settings: str = "") -> Path:
    """A project whose flow `bad` reads 2,000 numbered records and posts what `nodes` make of them."""
    flow = f"flow: bad\nsettings: {{snapshots: none, batch_rows: 100{settings}}}\nnodes:\n  start: {{type: start}}\n"
    flow += (
        "  read: {type: file.get, from: start, path: in.csv, split_bytes: 3000, columns: {id: bigint, n: integer}}\n"
    )
    project(folder / "p", flow + nodes, {"in.csv": NUMBERS, "environments/local.yaml": ENVIRONMENT})
    return folder / "p"


def ended(folder: Path) -> tuple[int, dict[str, Any], str]:
    """The exit code of the run, its report, and what was said on the side."""
    done = processflow(folder, "run", "bad", "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def assert_nothing_is_left(folder: Path) -> None:
    from repository.project import Project

    assert leftovers(Project(folder)) == []
    assert not (folder / "out").exists() or [path for path in (folder / "out").rglob("*") if path.is_file()] == []


def test_a_fault_of_a_node_s_code_is_a_fault_of_ours_and_the_run_tells_how_far_it_came(
    tmp_path: Path, stranger: Path
) -> None:
    folder = made(
        tmp_path,
        "  broken: {type: break, from: read, at: 1234}\n  kept: {type: file.post, from: broken, path: out/kept.csv}\n",
    )

    code, report, _ = ended(folder)

    faults = list((folder / ".processflow" / "faults").iterdir())
    assert code == 70
    assert (report["status"], report["balanced"]) == ("failed", False)
    assert report["error"].startswith("a fault of ours: ZeroDivisionError: nobody divides by nothing; please report it")
    assert [path.stem for path in faults] == [report["run"]]
    assert "Traceback" in faults[0].read_text()
    assert 100 <= report["nodes"]["broken"]["in"] <= 2000
    assert report["nodes"]["kept"]["delivered"] == 0
    assert json.loads(processflow(folder, "runs", "show", "last", "--json").stdout) == report
    assert_nothing_is_left(folder)


def test_more_rejects_than_allowed_fail_the_run_before_anything_is_published(tmp_path: Path) -> None:
    folder = made(
        tmp_path,
        "  fit: {type: validate, from: read, expectations: [{expect_column_values_to_be_between: {column: n, max_value: 7}}],"
        " rejects: {fail_above: 10%}}\n  kept: {type: file.post, from: fit, path: out/kept.csv}\n",
    )

    code, report, _ = ended(folder)

    assert code == 1
    assert report["status"] == "failed"
    assert "node 'fit': 400 of 2,000 records were rejected, more than fail_above: 10% allows" in report["error"]
    assert report["nodes"]["fit"]["rejected"] == 400
    assert_nothing_is_left(folder)


def test_a_failed_run_shows_a_person_its_ledger_its_reasons_and_why_it_stopped(tmp_path: Path) -> None:
    folder = made(
        tmp_path,
        "  fit: {type: validate, from: read, expectations: [{expect_column_values_to_be_between: {column: n, max_value: 7}}],"
        " rejects: {fail_above: 3}}\n  kept: {type: file.post, from: fit, path: out/kept.csv}\n",
    )

    done = processflow(folder, "run", "bad")

    assert done.returncode == 1
    assert done.stdout.splitlines()[0].split() == ["node", "type", "in", "out", "rejected", "delivered", "seconds"]
    assert "\nfailed, " in done.stdout
    assert "delivery:" not in done.stdout
    assert re.search(r"^  fit +\d+  n: is [89], must be at most 7 \(expect_", done.stdout, re.MULTILINE)
    assert "more than fail_above: 3 allows; nothing staged in this phase was published" in done.stderr


def test_a_run_that_takes_too_long_is_cancelled_and_says_so(tmp_path: Path, stranger: Path) -> None:
    folder = made(
        tmp_path,
        "  slow: {type: dawdle, from: read, seconds: 0.2}\n  kept: {type: file.post, from: slow, path: out/kept.csv}\n",
        ", timeout_seconds: 0.5",
    )

    code, report, _ = ended(folder)

    assert code == 1
    assert report["status"] == "cancelled"
    assert report["error"] == "the run took longer than timeout_seconds: 0.5 allows"
    assert_nothing_is_left(folder)


def test_a_source_that_is_gone_is_told_before_anything_runs(tmp_path: Path) -> None:
    folder = made(tmp_path, "  kept: {type: file.post, from: read, path: out/kept.csv}\n")
    (folder / "in.csv").unlink()

    done = processflow(folder, "run", "bad")

    assert done.returncode == 2
    assert done.stderr.startswith('flows/bad.yaml:5: node "read": in.csv: there is no such file')
    assert processflow(folder, "runs").stdout.startswith("no run yet")


def test_a_package_that_cannot_be_imported_is_named_and_stops_only_its_own_types(
    tmp_path: Path, stranger: Path
) -> None:
    folder = made(tmp_path, "  kept: {type: file.post, from: read, path: out/kept.csv}\n")
    (stranger / "stranger" / "breaking.py").write_text("import nowhere_to_be_found\n")
    points = "[processflow.transforms]\nbreak = stranger.breaking\n[processflow.adapters]\nodd = stranger.gone\n"
    (stranger / "stranger-1.0.dist-info" / "entry_points.txt").write_text(points)

    checked = processflow(folder, "check")
    shown = processflow(folder, "nodes", "show", "break")
    listed = processflow(folder, "nodes")

    why = "its module stranger.breaking cannot be imported (No module named 'nowhere_to_be_found')"
    assert (checked.returncode, checked.stdout) == (0, "1 flow: no problems\n")
    assert shown.returncode == 2
    assert shown.stderr == f"node type 'break': {why}; mend or uninstall the package it comes from\n"
    assert listed.returncode == 0
    assert "file.get" in listed.stdout
    assert why in listed.stderr
    assert "adapter 'odd': its module stranger.gone cannot be imported" in listed.stderr


def test_preview_reads_no_more_of_a_large_file_than_its_beginning(tmp_path: Path) -> None:
    folder = made(tmp_path, "  kept: {type: file.post, from: read, path: out/kept.csv}\n")
    flow = folder / "flows" / "bad.yaml"
    flow.write_text(flow.read_text().replace("split_bytes: 3000, ", ""))
    small = bytes_read(folder)
    with (folder / "in.csv").open("a") as file:
        block = "".join(f"{number},{number % 10}\n" for number in range(100_000, 200_000))
        for _ in range(150):
            file.write(block)

    large = bytes_read(folder)

    assert (folder / "in.csv").stat().st_size > 130_000_000
    assert large - small < 40_000_000


def bytes_read(folder: Path) -> int:
    """What a preview reads, as the system counts it, the program itself included."""
    program = (
        "import sys; from cli.main import _answer; sys.argv = ['processflow', 'preview', 'bad', 'kept', '--json']; "
        "code = _answer(); print(code, open('/proc/self/io').read().split()[1], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    code, read = done.stderr.split()[-2:]
    assert (code, len(json.loads(done.stdout))) == ("0", 20)
    return int(read)


@pytest.mark.parametrize(
    "words",
    [["preview", "welcome", "large"], ["test"], ["connections", "list"], ["runs", "show", "last"]],
    ids=" ".join,
)
def test_what_runs_nothing_on_the_engine_does_not_load_it(ran: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND, *words], cwd=ran, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0
    assert "apache_beam" not in done.stderr
    assert "great_expectations" not in done.stderr
