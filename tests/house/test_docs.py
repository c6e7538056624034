"""The docs say what is so: pages made from models are those of today, links lead somewhere, flows shown are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.pages import pages
from cli.starter import FILES
from pipelines.flowfile import load

LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


def written(root: Path) -> list[Path]:
    """The Markdown pages that people read."""
    return [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *(root / "benchmarks").glob("*.md")]


def test_the_generated_pages_are_those_of_today_s_models(repository_root: Path) -> None:
    there = {path: path.read_text(encoding="utf-8") for path in (repository_root / "docs" / "nodes").glob("*.md")}

    assert there == {repository_root / path: text for path, text in pages().items()}, "`make docs` writes them anew"


def test_every_link_leads_to_a_file(repository_root: Path) -> None:
    dead = [
        f"{page.relative_to(repository_root)}: {target}"
        for page in written(repository_root)
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert dead == []


def test_the_quickstart_shows_the_flow_that_init_writes(repository_root: Path) -> None:
    quickstart = (repository_root / "docs" / "quickstart.md").read_text(encoding="utf-8")
    flow, tests = FILES["flows/welcome.yaml"].split("tests:\n")

    assert flow.partition("\n")[2] in quickstart
    assert tests in quickstart


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_target_of_make_that_a_page_names_is_there(page: str, repository_root: Path) -> None:
    text = (repository_root / page).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (repository_root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))

    assert named
    assert named <= targets


def test_the_example_s_flow_can_be_read(repository_root: Path) -> None:
    flow = load(repository_root / "examples" / "web-orders" / "flows" / "web-orders.yaml")

    assert flow.name == "web-orders"
    assert len(flow.tests) >= 5
