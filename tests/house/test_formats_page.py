"""The page on formats shows flows that run, and what they answer and write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adapters.file.finding import FORMATS
from adapters.file.get import READERS
from cli.starter import write
from tests.house.test_after_page import RUN, answer, examples, steady

FILE = re.compile(r"^`([^`\n]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_example_of_the_page_answers_as_it_is_shown(
    tmp_path: Path, repository_root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository_root / "docs" / "formats.md").read_text(encoding="utf-8")
    assert list(write(tmp_path / "shop"))
    monkeypatch.chdir(tmp_path / "shop")
    monkeypatch.setenv("COLUMNS", "120")
    for name, text in FILE.findall(page):
        Path(name).write_text(text, encoding="utf-8")

    for command, shown in examples(page):
        said = answer(command, capfd, monkeypatch)

        assert steady(RUN.sub("RUN", said)) == steady(RUN.sub("RUN", shown)), command


def test_the_page_names_every_format_and_suffix(repository_root: Path) -> None:
    page = (repository_root / "docs" / "formats.md").read_text(encoding="utf-8")

    told = page.partition("| format |")[2].partition("\n\n")[0]

    assert {suffix for suffix in FORMATS if f"`{suffix}`" not in told} <= {".pq"}
    assert told.count("\n| ") == len(READERS)
