"""Gives each tap a virtual environment of its own, made at first use: its requirements never meet ours or another tap's."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(".processflow", "taps")
READY = "ready"
"""The file that says that all is installed; an installation that broke off is begun anew."""
INSTALL_SECONDS = 600
SHOWN_CHARACTERS = 600


def installed(project: Path, tap: str, packages: Sequence[str], python: str | None) -> Path:
    """The tap's command, installed where it was not yet.

    Raises:
        Unavailable: the packages cannot be had now, or do not fit together.
        Invalid: they bring no such command.
    """
    interpreter = python or sys.executable
    made_of = "\n".join([interpreter, f"{sys.version_info[:2]}", *packages])
    folder = (project / FOLDER).absolute() / f"{tap}-{hashlib.sha256(made_of.encode()).hexdigest()[:12]}"
    command = folder / ("Scripts" if sys.platform == "win32" else "bin") / tap
    if not (folder / READY).exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_suffix(".lock")):
            if not (folder / READY).exists():
                _install(project, folder, interpreter, packages)
    if not command.exists():
        there = sorted(path.name for path in command.parent.glob("tap-*"))
        raise Invalid(
            f"{', '.join(packages)} has no command {tap!r}; "
            + (f"it has: {', '.join(there)}" if there else "name the package that has it under `packages`")
        )
    return command


def _install(project: Path, folder: Path, interpreter: str, packages: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}") or shutil.which("uv")
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    if uv:
        _run(project, [uv, "venv", "--quiet", "--python", interpreter, str(folder)], packages)
        _run(project, [uv, "pip", "install", "--quiet", "--python", python, *packages], packages)
    else:
        _run(project, [interpreter, "-m", "venv", str(folder)], packages)
        _run(project, [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages], packages)
    (folder / READY).touch()


def _run(project: Path, command: Sequence[str], packages: Sequence[str]) -> None:
    what = f"{', '.join(packages)} cannot be installed"
    try:
        done = subprocess.run(
            command,
            cwd=project,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise Unavailable(f"{what} within {INSTALL_SECONDS} seconds") from fault
    except OSError as fault:
        raise Invalid(f"{what}: {command[0]} cannot be started ({fault.strerror})") from fault
    if done.returncode:
        raise Unavailable(f"{what}: {(done.stderr or done.stdout).strip()[-SHOWN_CHARACTERS:]}")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lets one process at a time install a tap."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
