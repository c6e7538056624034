"""What a system that holds files gives to `file.get` and `file.post`.

Paths are inside the connection's folder, with `/` between names and none in front. What is written shows in two steps:
`stage` brings it there unseen, `finish` shows it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.errors import Unavailable
from pipelines.node import Json


class Missing(Unavailable):
    """There is no such file, or what was staged of it is no longer there."""


Note = Callable[[Json], None]
"""Writes down, before it is done, what somebody else must undo if this process dies."""


@dataclass(frozen=True)
class Entry:
    """A file in a store, as it is now."""

    path: str
    size_bytes: int
    changed_ns: int
    version: str
    """What tells its content from any other of this name: an ETag, a generation; empty where the store has none."""


class Source(Protocol):
    """An open file of a store."""

    @property
    def lanes(self) -> int:
        """How many pieces of it may be fetched at once."""

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes of a range, all of them and of the one version that was opened. `Unavailable`: it has changed."""

    def close(self) -> None: ...


class Store(Protocol):
    """A folder or bucket of one system. Hashable; any method may be called by several threads."""

    @property
    def address(self) -> str:
        """Where it is, without secrets: `s3://bucket/folder`."""

    @property
    def has_folders(self) -> bool:
        """Whether folders are there by themselves, also empty ones; else they are parts of names."""

    def look(self, path: str) -> Entry | None:
        """The file of this path; None where there is none."""

    def is_folder(self, path: str) -> bool:
        """Whether there is a folder of this path."""

    def list(self, prefix: str, depth: int | None) -> Iterator[Entry]:
        """The files whose path begins with `prefix`, and which lie at most `depth` folders below its last `/`."""

    def open(self, entry: Entry) -> Source:
        """A file made ready to be read, as `entry` says it is."""

    def stage(self, local: Path, path: str, token: str, note: Note) -> Json:
        """Brings a file there without showing it; gives what `finish` and `discard` need, as plain JSON.

        Each thing that would stay behind is noted before it is made; `discard` takes the notes too.
        """

    def finish(self, step: Json) -> None:
        """Shows what was staged, at once, in place of what was there. Called again it does no harm."""

    def is_finished(self, step: Json) -> bool:
        """Whether it shows."""

    def discard(self, step: Json) -> None:
        """Removes what was staged, or noted. Harmless where there is nothing."""

    def remove(self, path: str) -> None:
        """Removes a file. Harmless where there is none."""

    def test(self) -> str:
        """Reaches it, and says in a sentence what was found."""
