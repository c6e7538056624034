"""Projects in a temporary folder, and the command run on them as a person would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from agent.prepare import Request
from agent.runs import run
from pipelines.drive import drive
from repository.project import Project

COMMAND = str(Path(sys.executable).with_name("processflow"))


def project(folder: Path, flow: str, files: dict[str, str] | None = None) -> Project:
    """A project with one flow, called as its first line says, and further files by path."""
    name = flow.split("\n", 1)[0].removeprefix("flow: ")
    for path, text in {f"flows/{name}.yaml": flow, **(files or {})}.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return Project(folder)


def run_here(made: Project, flow: str, **values: object) -> dict[str, Any]:
    """Runs a flow in this process, without an engine."""
    return run(Request(made, flow, values=values), drive)


def processflow(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a folder, to its end."""
    return subprocess.run([COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=100)


def report(folder: Path, *words: str) -> dict[str, Any]:
    """The report that `run --json` prints."""
    done = processflow(folder, "run", *words, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def leftovers(made: Project) -> list[str]:
    """Files that only a run in progress may have: staged ones, spills, half-written ones."""
    hidden = [path for path in made.folder.rglob("*") if path.name.startswith(".processflow-") or path.suffix == ".tmp"]
    staged = made.home / "staging"
    return sorted(str(path) for path in [*hidden, *(staged.iterdir() if staged.exists() else ())])
