"""Faults of the disk that a run's own files are on, in words."""

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
