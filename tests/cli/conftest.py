"""Projects as `processflow init` makes them, one of which has run its flow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.agent.projects import processflow


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` writes. Tests get copies."""
    folder = tmp_path_factory.mktemp("made") / "shop"
    done = processflow(folder.parent, "init", "shop")
    assert (done.returncode, done.stderr) == (0, "")
    return folder


@pytest.fixture
def project(starter: Path, tmp_path: Path) -> Path:
    """A project to do with as one likes."""
    return Path(shutil.copytree(starter, tmp_path / "shop"))


@pytest.fixture(scope="module")
def ran(starter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose flow has run once; nobody changes it."""
    folder = Path(shutil.copytree(starter, tmp_path_factory.mktemp("ran") / "shop"))
    done = processflow(folder, "run", "welcome", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "report.json").write_text(done.stdout, encoding="utf-8")
    return folder
