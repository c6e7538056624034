"""Where a read of files goes on: which files were read (`once`), and how far by cursor.

A position is `{"files": [marks], "cursor": …}`. A mark is a digest of a file's name, size and time of change: 12
characters a file, so that a position stays small with many files.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from adapters.file.format import File
from pipelines.node import Json
from pipelines.tables import positions


def mark(file: File) -> str:
    """What tells this state of a file from any other."""
    text = f"{file.name}\n{file.size_bytes}\n{file.changed_ns}".encode("utf-8", "surrogatepass")
    return base64.b64encode(hashlib.blake2b(text, digest_size=9).digest()).decode()


def unread(files: Sequence[File], position: Json) -> list[File]:
    """The files that no finished run has read as they are now."""
    read = set((position or {}).get("files", ()))
    return [file for file in files if mark(file) not in read]


def read_all(files: Sequence[File]) -> Json:
    """The position once these files are read."""
    return {"files": sorted(mark(file) for file in files)} if files else None


def later(one: Json, other: Json) -> Json:
    """The position that has both behind it."""
    if one is None or other is None:
        return one if other is None else other
    found: dict[str, Json] = {}
    files = {*one.get("files", ()), *other.get("files", ())}
    if files:
        found["files"] = sorted(files)
    cursor = positions.later(one.get("cursor"), other.get("cursor"))
    if cursor is not None:
        found["cursor"] = cursor
    return found
