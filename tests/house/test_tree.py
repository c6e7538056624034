"""What holds for every file of the repository, and for the commands that build it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

MOST_LINES = 400
MACHINE_PATH = re.compile(r"(?<![\w.}])/(work|tmp|root|home|Users)/")
FRAGMENT = re.compile(r"\+[a-z0-9-]+\.(added|changed|fixed|removed)\.md")
WRITTEN = {".py", ".md", ".yaml", ".toml", ".sh", ".mk", ".ini", ".lock", ".txt", ".ts", ".tsx", ""}


@pytest.fixture(scope="module")
def files(repository_root: Path) -> list[Path]:
    """The files that git keeps and that people write."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=repository_root, capture_output=True, text=True, check=True)
    paths = [repository_root / name for name in listed.stdout.split("\0") if name]
    hostile = repository_root / "tests" / "hostile"
    return [path for path in paths if path.is_file() and path.suffix in WRITTEN and hostile not in path.parents]


def test_no_file_of_code_is_longer_than_a_reader_s_patience(files: list[Path]) -> None:
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for path in files if path.suffix in {".py", ".ts"}}

    assert {path.name: lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_file_names_a_path_of_one_machine(files: list[Path]) -> None:
    found = [str(path) for path in files if MACHINE_PATH.search(path.read_text(encoding="utf-8"))]

    assert found == []


def test_what_is_locked_names_no_address(files: list[Path]) -> None:
    locks = [path for path in files if path.suffix == ".lock" or path.name.startswith("requirements")]

    addressed = [path.name for path in locks if "://" in path.read_text(encoding="utf-8")]

    assert locks
    assert addressed == []


def test_every_locked_package_has_a_hash(repository_root: Path) -> None:
    text = (repository_root / "requirements.lock").read_text(encoding="utf-8")

    packages = re.findall(r"^[a-z0-9][^ ]*==[^\\\n]*\\\n    --hash=sha256:", text, re.MULTILINE)

    assert len(packages) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))


def test_bare_make_lists_every_target_with_its_help(repository_root: Path) -> None:
    makefile = (repository_root / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z]+):", makefile, re.MULTILINE)

    said = subprocess.run(
        ["make"], cwd=repository_root, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )

    assert [line.split()[1] for line in said.stdout.splitlines()] == targets
    assert {"install", "run", "test", "check", "bench", "clean"} <= set(targets)
    assert all(len(line.split()) > 3 for line in said.stdout.splitlines())


def test_who_may_not_install_what_tests_need_is_told_what_to_install(repository_root: Path, tmp_path: Path) -> None:
    for name in ("bash", "cat", "cmp", "dirname", "mktemp"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)

    said = subprocess.run(
        [repository_root / ".ci" / "parts"], capture_output=True, text=True, env={"PATH": str(tmp_path)}, check=False
    )

    assert said.returncode == 2
    assert re.search(r"install --no-install-recommends .*default-jre-headless", said.stderr)


def test_continuous_integration_checks_and_tests(repository_root: Path) -> None:
    lines = (repository_root / ".ci" / "run").read_text(encoding="utf-8").splitlines()

    assert "set -euo pipefail" in lines
    assert [line for line in lines if line.startswith("make ")] == ["make check", "make test"]


def test_changelog_fragments_say_something_under_a_known_kind(repository_root: Path) -> None:
    fragments = [path for path in (repository_root / "changelog.d").iterdir() if path.name != "README.md"]

    assert [path.name for path in fragments if not FRAGMENT.fullmatch(path.name)] == []
    assert [path.name for path in fragments if not path.read_text(encoding="utf-8").strip().endswith(".")] == []
