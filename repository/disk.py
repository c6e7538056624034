"""Faults of the disk that the data logs are on, in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import Unavailable


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turns what the system says of a write at `path` into what to do about it."""
    try:
        yield
    except OSError as fault:
        why = fault.strerror or str(fault)
        raise Unavailable(
            f"data logs: {fault.filename or path} cannot be written ({why}); make room or mend its permissions, "
            "then try again"
        ) from fault


def synced(path: Path) -> None:
    """Waits until a file is on the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
