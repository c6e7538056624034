"""The project that a command works in: the nearest folder upwards that has `flows/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import Invalid, Problem
from repository.project import Project


def here() -> Project:
    """The project around the current folder.

    Raises:
        Invalid: there is none.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "flows").is_dir():
            return Project(folder)
    raise Invalid(f"{Path.cwd()} is in no project: no folder upwards has flows/; processflow init DIR makes one")


def flow_names(project: Project) -> list[str]:
    """The project's flows, in the order of their names.

    Raises:
        Invalid: there are none.
    """
    names = sorted(path.stem for path in (project.folder / "flows").glob("*.y*ml") if path.is_file())
    if not names:
        raise Invalid(f"{project.folder / 'flows'} has no flow; write one to flows/NAME.yaml")
    return names


def settings(pairs: Sequence[str]) -> dict[str, str]:
    """The values of `--set NAME=VALUE`."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise Invalid([Problem("", 0, 0, f"--set {pair}: no value", "write --set NAME=VALUE") for pair in wrong])
    return dict(pair.split("=", 1) for pair in pairs)
