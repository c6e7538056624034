"""The page on what a run knows of the last one: its flows and commands are run in the page's order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.house.test_after_page import answer, steady

BLOCK = re.compile(r"^```(?:yaml)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DAY = re.compile(r"since \d{4}-\d\d-\d\d")
NAME = re.compile(r"# ([\w./-]+)\n")


def test_every_example_of_the_page_answers_as_it_is_shown(
    tmp_path: Path, repository_root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository_root / "docs" / "state.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    commands = 0

    for block in BLOCK.findall(page):
        named = NAME.match(block)
        if named is not None:
            path = tmp_path / named[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(block[named.end() :], encoding="utf-8")
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:] if block.startswith("$ ") else ():
            command, _, shown = part.partition("\n")
            said = answer(command, capfd, monkeypatch)
            assert _steady(said) == _steady(shown), command
            commands += 1

    assert commands >= 5


def _steady(text: str) -> list[str]:
    runs = re.sub(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b", "RUN", DAY.sub("since DAY", text))
    return steady(re.sub(r"(?m) +0\.\d{3}$", " SECONDS", runs))
