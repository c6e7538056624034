"""The page on branches that wait shows what happens: its project is laid out, and each example is run, in the page's order."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent.prepare import Request, prepare
from agent.runs import Host
from repository.project import Project
from tests.agent.kills import killed_at
from tests.agent.projects import run_here
from tests.house.test_after_page import RUN, answer, examples, steady


@pytest.fixture
def page(repository_root: Path) -> str:
    return (repository_root / "docs" / "waiting.md").read_text(encoding="utf-8")


@pytest.fixture
def made(page: str, tmp_path: Path) -> Project:
    """The page's project."""
    for path, text in re.findall(r"`([\w/]+\.\w+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    return Project(tmp_path)


def sent(folder: Path) -> list[int]:
    if not (folder / "erp.db").exists():
        return []
    with closing(sqlite3.connect(folder / "erp.db")) as erp:
        there = erp.execute("SELECT count(*) FROM sqlite_master WHERE name = 'orders'").fetchone()[0]
        return [number for (number,) in erp.execute("SELECT order_no FROM orders ORDER BY 1")] if there else []


def test_every_example_of_the_page_answers_as_it_is_shown(
    page: str, made: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)
    monkeypatch.setenv("COLUMNS", "120")
    real: dict[str, str] = {}
    left = []

    for command, shown in examples(page):
        said = answer(RUN.sub(lambda found: real[found[0]], command), capfd, monkeypatch)
        real.update(zip(RUN.findall(shown), RUN.findall(said), strict=False))
        left.append(sent(made.folder))

        assert steady(said) == steady(RUN.sub(lambda found: real.get(found[0], found[0]), shown)), command
    assert left == [[], *[[7, 8]] * 5, [7, 8, 10]]


def test_a_branch_that_halts_sends_nothing_where_the_process_dies_and_resumes_when_the_run_is_taken_up(
    made: Project,
) -> None:
    assert killed_at(made.folder, "day", "pipelines.journal:save_published", "after", 1)
    before = sent(made.folder)
    host = Host(made)

    done = host.resume("last")

    host.close()
    assert (before, sent(made.folder)) == ([], [7, 8])
    assert (done["status"], done["balanced"], done["nodes"]["halted"]["in"]) == ("done", True, 2)


def test_a_get_that_waits_reads_what_the_other_chain_has_written(page: str, made: Project) -> None:
    run_here(made, "day")  # so that the table is there
    flow = made.folder / "flows" / "day.yaml"
    (get,) = re.findall(r"^(made: \{.*\})$", page, re.MULTILINE)
    flow.write_text(flow.read_text("utf-8") + f"  {get}\n  end: {{type: end, from: made}}\n")
    with (made.folder / "orders.csv").open("a") as file:
        file.write("11,2,3\n")

    done = run_here(made, "day")

    stations = prepare(Request(made, "day")).plan.stations
    assert stations["made"].phase > stations["sent"].phase
    assert (done["status"], done["nodes"]["end"]["in"]) == ("done", 3)
