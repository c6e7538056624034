"""A run's own files: how they are named, and faults of the disk that they are on, in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import Unavailable


@contextmanager
def spilled(path: Path) -> Iterator[None]:
    """Turns what the system says of a write at `path` into what to do about it."""
    try:
        yield
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise Unavailable(
            f"{path.parent}: a file of the run cannot be written there ({why}); make room on that disk, or let "
            "PROCESSFLOW_HOME name a place on a larger one, then run it again"
        ) from fault


def file_name(node: str) -> str:
    """A node's name as part of a file's. No node's own name has two underscores beside each other."""
    return node.replace("/", "__")


def node_named(file: str) -> str:
    """The node of a name that `file_name` gave."""
    return file.replace("__", "/")
