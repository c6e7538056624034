"""Where a read of files goes on: which files were read (`once`), and how far by cursor.

A position is `{"files": [marks], "cursor": …}`. A mark is a digest of a file's name, size and time of change, or of its
name and content: 12 characters a file, so that a position stays small with many files.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache

from adapters.file.format import File
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json
from pipelines.tables import positions

BLOCK_BYTES = 1 << 20


def mark(file: File) -> str:
    """What tells this state of a file from any other."""
    text = f"{file.name}\n{file.size_bytes}\n{file.changed_ns}".encode("utf-8", "surrogatepass")
    return base64.b64encode(hashlib.blake2b(text, digest_size=9).digest()).decode()


@lru_cache(maxsize=4_096)
def content_mark(file: File) -> str:
    """What tells this content under this name from any other. Reads the file through."""
    digest = hashlib.blake2b(f"{file.name}\n".encode("utf-8", "surrogatepass"), digest_size=9, person=b"content")
    try:
        with file.open() as stream:
            while block := stream.read(BLOCK_BYTES):
                digest.update(block)
    except FileNotFoundError as fault:
        raise Unavailable(f"{file.name}: is gone; it was there when the run was planned") from fault
    except PermissionError as fault:
        raise Invalid(f"{file.name}: may not be read by this user; change its permissions") from fault
    return base64.b64encode(digest.digest()).decode()


def unread(files: Sequence[File], position: Json) -> list[File]:
    """The files that no finished run has read as they are now."""
    read = set((position or {}).get("files", ()))
    return [file for file in files if mark(file) not in read]


def unread_content(files: Sequence[File], position: Json) -> list[File]:
    """The files whose content no finished run has read under their name."""
    read = set((position or {}).get("files", ()))
    return [file for file in files if content_mark(file) not in read]


def read_all(files: Sequence[File], *, by_hash: bool) -> Json:
    """The position once these files are read, or known to have no new content."""
    marks = {mark(file) for file in files} | ({content_mark(file) for file in files} if by_hash else set())
    return {"files": sorted(marks)} if files else None


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
