"""Makes what was staged visible at a path by renames, and finishes that after a crash.

Everything is built under hidden names beside the target, so that renames stay on one file system; then a mark with what
is left to do is put into the run's folder, and only then is anything renamed:

* a file: one rename over the old one, at no moment is either missing;
* a folder, replaced (also by `upsert` and `delete`): the new folder is built whole and the two change places in one
  step (`renameat2`, Linux), elsewhere in two renames, between which the folder is missing for some microseconds;
* a folder, appended to: the parts are renamed in one after the other; each is whole when it shows. Their names carry
  the publication's token, so that doing it again does nothing twice.

Before the mark, beginning again builds anew; after it, beginning again finishes. Parts are never used up.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapters.file.publish_build import Builder, Built
from adapters.file.writers import told
from pipelines.errors import Unavailable
from pipelines.node import Outcome

_HERE = -100
_EXCHANGE = 2


@dataclass
class FilePublication:
    """All parts of a `file.post` on their way to becoming visible."""

    builder: Builder
    mark: Path
    """What has been decided, in the run's folder: there once everything is built."""

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Nothing is pending: `put` has told of every record."""
        return iter(())

    def commit(self) -> None:
        """Builds, marks, renames; after a crash goes on where it was."""
        root = self.builder.target.root
        with told(root):
            built = read_mark(self.mark)
            if built is None:
                built = self.builder.build()
                _write_mark(self.mark, built)
            for step in built.steps:
                _finish(step, self.builder.token)
            if built.scratch is not None:
                shutil.rmtree(built.scratch, ignore_errors=True)

    def abandon(self) -> None:
        """Removes what was built. What already shows in part is finished: leaving half of it would be neither."""
        built = read_mark(self.mark)
        if built is None:
            self.builder.remove()
            return
        if any(_is_done(step, self.builder.token) for step in built.steps):
            self.commit()
            return
        self.mark.unlink()
        self.builder.remove(built)


def is_done(mark: Path, token: str) -> bool:
    """Whether everything that a mark decided shows, and nothing is left to tidy."""
    built = read_mark(mark)
    if built is None:
        return False
    tidy = built.scratch is None or not Path(built.scratch).exists()
    return tidy and all(_is_done(step, token) and not _sign(step[1], token).exists() for step in built.steps)


def read_mark(mark: Path) -> Built | None:
    """What was decided, if it was."""
    try:
        content: dict[str, Any] = json.loads(mark.read_text())
    except FileNotFoundError:
        return None
    return Built([(old, new) for old, new in content["steps"]], content["scratch"])


def _write_mark(mark: Path, built: Built) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    temporary = mark.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump({"steps": built.steps, "scratch": built.scratch}, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(mark)


def _sign(path: str, token: str) -> Path:
    """What tells a folder that was built for this publication from the one it replaces."""
    return Path(path) / f".{token}"


def _is_done(step: tuple[str, str], token: str) -> bool:
    built, final = step
    return not Path(built).exists() or _sign(final, token).exists()


def _finish(step: tuple[str, str], token: str) -> None:
    built, final = Path(step[0]), Path(step[1])
    if _sign(step[0], token).exists():
        _exchange(built, final, token)
    elif built.is_file():
        built.replace(final)
        # Where both names were links of one file, renaming leaves both.
        built.unlink(missing_ok=True)
    if _sign(step[1], token).exists():
        shutil.rmtree(built, ignore_errors=True)
        shutil.rmtree(_aside(final, token), ignore_errors=True)
        _sign(step[1], token).unlink()
    _sync_folder(final.parent)


def _aside(final: Path, token: str) -> Path:
    return final.with_name(f".{final.name}.{token}.old")


def _exchange(built: Path, final: Path, token: str) -> None:
    """Puts the built folder in the place of the other."""
    if not final.exists():
        built.rename(final)
        return
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None and rename(_HERE, os.fsencode(built), _HERE, os.fsencode(final), _EXCHANGE) == 0:
        return
    code = ctypes.get_errno() if rename is not None else errno.ENOSYS
    if code not in (errno.ENOSYS, errno.EINVAL):
        raise Unavailable(f"{final}: cannot be replaced: {os.strerror(code).lower()}; give a folder inside of it")
    final.rename(_aside(final, token))
    built.rename(final)


def _sync_folder(folder: Path) -> None:
    """Makes renames survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        # Some file systems have no such call for folders.
        return
    finally:
        os.close(handle)
