"""What `doctor` looks at: Python, packages, room on the disk, clock, the project's folder."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

NEEDED = (
    "apache-beam",
    "pyarrow",
    "duckdb",
    "pydantic",
    "SQLAlchemy",
    "alembic",
    "typer",
    "rich",
    "PyYAML",
    "tenacity",
    "great-expectations",
)
LEAST_FREE_BYTES = 1 << 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `fix` is the command or deed that mends it, or what was found."""

    what: str
    is_well: bool
    fix: str = ""


def findings() -> Iterator[Finding]:
    """Everything looked at, in order."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python",
        sys.version_info >= (3, 11),
        version if sys.version_info >= (3, 11) else "install Python 3.11 or newer",
    )
    yield from map(_package, NEEDED)
    yield _room(Path.cwd())
    yield _writable(Path.cwd())


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, f"pip install {name}")


def _room(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    told = f"{free / (1 << 30):.1f} GiB free"
    return Finding(
        "disk", free >= LEAST_FREE_BYTES, told if free >= LEAST_FREE_BYTES else f"{told}, make room for spills"
    )


def _writable(folder: Path) -> Finding:
    well = os.access(folder, os.W_OK)
    return Finding(f"folder {folder}", well, "" if well else "give this user the right to write here")
