"""Files in Google Cloud Storage and Azure, by fsspec. What is written has a hidden name until it is copied to its own."""

from __future__ import annotations

import json
import os
import posixpath
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from adapters.file.stores.cloudfaults import explained
from adapters.file.stores.store import Entry, Missing, Note, Source
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json

LANES = 4
COPY_SECONDS = 600.0
"""So long a copy on the server may take: Azure's go on after they are asked for."""
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Settings:
    """How a bucket or container is reached: the words of its file system's class, which may hold secrets."""

    kind: Literal["gs", "az"]
    bucket: str
    words: tuple[tuple[str, str | bool | None], ...]
    timeout_seconds: float = 60.0

    def __repr__(self) -> str:
        return f"Settings({self.kind!r}, {self.bucket!r})"


@dataclass(frozen=True)
class Cloud:
    """A bucket or container, or a folder in one."""

    settings: Settings
    folder: str
    """What stands before every path: empty, or ending in `/`."""

    has_folders = False

    @property
    def address(self) -> str:
        return f"{self.settings.kind}://{self.settings.bucket}/{self.folder}".rstrip("/")

    def look(self, path: str) -> Entry | None:
        with suppress(Missing):
            about = self.ask(path, lambda system: system.info(self._at(path)))
            return _entry(path, about) if about["type"] == "file" else None
        return None

    def is_folder(self, path: str) -> bool:
        return next(self.list(f"{path}/" if path else "", None), None) is not None

    def list(self, prefix: str, depth: int | None) -> Iterator[Entry]:
        base = prefix.rpartition("/")[0]
        deepest = None if depth is None else depth + 1
        try:
            found = self.ask(
                base, lambda system: system.find(self._at(base).rstrip("/"), maxdepth=deepest, detail=True)
            )
        except Missing:
            return
        start = len(self._at(""))
        for name, about in sorted(found.items()):
            if about["type"] == "file" and not name.endswith("/") and name[start:].startswith(prefix):
                yield _entry(name[start:], about)

    def open(self, entry: Entry) -> Source:
        return Opened(self, entry)

    def stage(self, local: Path, path: str, token: str, note: Note) -> Json:
        folder, _, name = path.rpartition("/")
        temporary = posixpath.join(folder, f".{name}.{token}.tmp")
        step = {"path": path, "temporary": temporary}
        note(step)
        self.ask(temporary, lambda system: system.put_file(str(local), self._at(temporary)))
        return step

    def finish(self, step: Json) -> None:
        there, staged = self.look(step["path"]), self.look(step["temporary"])
        if staged is None:
            if there is None:
                raise Missing(f"{self.address}/{step['temporary']}: what was written there is gone")
            return  # copied before, and nobody heard it
        self.ask(step["path"], lambda system: system.cp_file(self._at(step["temporary"]), self._at(step["path"])))
        self._await_copy(step["path"], there, staged.size_bytes)
        self.remove(step["temporary"])

    def _await_copy(self, path: str, old: Entry | None, size_bytes: int) -> None:
        until = time.monotonic() + COPY_SECONDS
        while (entry := self.look(path)) is None or entry == old or entry.size_bytes != size_bytes:
            if time.monotonic() > until:
                raise Unavailable(f"{self.address}/{path}: the copy on the server is not done after {COPY_SECONDS:g} s")
            time.sleep(LOOK_SECONDS)

    def is_finished(self, step: Json) -> bool:
        return self.look(step["temporary"]) is None and self.look(step["path"]) is not None

    def discard(self, step: Json) -> None:
        self.remove(step["temporary"])

    def remove(self, path: str) -> None:
        with suppress(Missing):
            self.ask(path, lambda system: system.rm_file(self._at(path)))

    def test(self) -> str:
        found = self.ask("", lambda system: system.ls(self._at("").rstrip("/"), detail=False))
        count = f"{len(found)} file{'' if len(found) == 1 else 's'} and folders"
        return f"{'Google Cloud Storage' if self.settings.kind == 'gs' else 'Azure'} {self.address} with {count}"

    def ask(self, path: str, what: Callable[[Any], Any]) -> Any:
        """Asks the file system about a path, which reads nothing from memory."""
        with self._explained(path):
            system = file_system(self.settings, os.getpid())
            system.invalidate_cache()
            return what(system)

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        with explained(f"{self.address}/{path}".rstrip("/"), self.settings.kind):
            yield

    def _at(self, path: str) -> str:
        return f"{self.settings.bucket}/{self.folder}{path}"


@dataclass(frozen=True)
class Opened:
    """A file read by ranges. That it is still the same is looked at before and after."""

    store: Cloud
    entry: Entry
    lanes = LANES

    def fetch(self, start: int, stop: int) -> bytes:
        path = self.entry.path
        try:
            data = self.store.ask(path, lambda system: system.cat_file(self.store._at(path), start, stop))
        except Missing as fault:
            raise Missing(f"{self.store.address}/{path}: is gone; it was there when the run was planned") from fault
        if len(data) != stop - start:
            raise Unavailable(f"{self.store.address}/{path}: was replaced while the run was reading it; run again")
        return bytes(data)

    def close(self) -> None:
        """Nothing is held between ranges."""


def _entry(path: str, about: dict[str, Any]) -> Entry:
    moment = about.get("updated") or about.get("last_modified") or about.get("mtime")
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    changed_ns = int(moment.timestamp() * 1_000) * 1_000_000 if moment is not None else 0
    return Entry(path, int(about["size"] or 0), changed_ns, str(about.get("generation") or about.get("etag") or ""))


@lru_cache(maxsize=64)
def file_system(settings: Settings, process: int) -> Any:
    """A file system of fsspec, one for each connection and process; any thread may use it."""
    words: dict[str, Any] = {name: value for name, value in settings.words if value is not None}
    always = {"skip_instance_cache": True, "use_listings_cache": False}
    try:
        if settings.kind == "gs":
            # The plain class: that of the package's front asks another service, by gRPC, what kind of bucket it is.
            from gcsfs.core import GCSFileSystem

            if str(words.get("token", "")).lstrip().startswith("{"):
                words["token"] = json.loads(words["token"])
            return GCSFileSystem(**words, **always, timeout=settings.timeout_seconds)
        from adlfs import AzureBlobFileSystem

        return AzureBlobFileSystem(**words, **always)
    except ImportError as fault:
        name = {"gs": "gcsfs", "az": "adlfs"}[settings.kind]
        raise Invalid(
            f"{settings.kind}://{settings.bucket}: needs the package {name}; install processflow[stores]"
        ) from fault
