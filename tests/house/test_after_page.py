"""The page on what can be done after a run shows what the commands say: each example is run, in the page's order."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cli import main
from cli.starter import write

RUN = re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b")
CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"(?<=TIME)( +)\d+\.\d{2}\b"), " SECONDS"),
    (re.compile(r"\b\d+\.\d{2} s\b"), "SECONDS"),
    (re.compile(r"\b0\.\d{3}\b"), "SECONDS"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "VERSION"),
    (re.compile(r"\d+\.\d MiB"), "SIZE"),
    (re.compile(r"[ ─]+"), " "),
)


def examples(page: str) -> list[tuple[str, str]]:
    """Each command of a page that a `$` begins, and what the page says that it answers."""
    blocks = re.findall(r"^```\n(\$ .*?)^```$", page, re.MULTILINE | re.DOTALL)
    found = []
    for block in blocks:
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            found.append((command, answer))
    return found


def answer(command: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the command says, run in this process; other programs run by themselves."""
    words = shlex.split(command)
    if words[0] != "processflow":
        subprocess.run(words, check=True)
    else:
        monkeypatch.setattr("sys.argv", words)
        main._answer()
    said = capfd.readouterr()
    return said.out + said.err


def steady(text: str) -> list[str]:
    """The lines of a text without what is another each time."""
    for pattern, word in CHANGING:
        text = pattern.sub(word, text)
    return [line.strip() for line in text.strip().splitlines()]


def test_every_example_of_the_page_answers_as_it_is_shown(
    tmp_path: Path, repository_root: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (repository_root / "docs" / "after-a-run.md").read_text(encoding="utf-8")
    assert list(write(tmp_path / "shop"))
    monkeypatch.chdir(tmp_path / "shop")
    monkeypatch.setenv("COLUMNS", "120")
    real: dict[str, str] = {}

    for command, shown in examples(page):
        said = answer(RUN.sub(lambda found: real[found[0]], command), capfd, monkeypatch)
        real.update(zip(RUN.findall(shown), RUN.findall(said), strict=False))

        assert steady(said) == steady(RUN.sub(lambda found: real.get(found[0], found[0]), shown)), command


def test_the_page_has_an_example_of_every_command(repository_root: Path) -> None:
    page = (repository_root / "docs" / "after-a-run.md").read_text(encoding="utf-8")

    shown = " ".join(command for command, _ in examples(page))

    wanted = ("replay", "trace", "runs diff", "backtest", "test record", "profile", "positions set", "retention")
    assert [name for name in wanted if f"processflow {name}" not in shown] == []
