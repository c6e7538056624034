"""Makes what was staged visible in a store: built on this machine, brought there unseen, then shown file by file.

What the new files are made of (the old one that is appended to, those whose records an upsert replaces) is fetched
first. Everything is built in the run's folder and brought to the store; then a mark with what is left to do is put
into the run's folder, and only then does anything show:

* a file: at once in place of the old one; if that has changed since it was fetched, nothing is shown and all begins anew;
* a folder: file after file, each whole, and then the old files that are replaced are removed. A folder cannot change as a
  whole there: for the moment between, readers may see old and new files.

Before the mark, beginning again removes what was brought and builds anew; after it, beginning again finishes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa

from adapters.file.parquet import opened, plain_type
from adapters.file.publish_build import DATA_SUFFIXES, Builder
from adapters.file.searching import file_of
from adapters.file.stores.store import Entry, Missing, Store
from adapters.file.target import Target
from adapters.file.writers import Form, told
from adapters.file.writers_fixed import FixedForm
from adapters.file.writers_parquet import ParquetForm
from adapters.file.writers_text import Csv, Jsonl
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Json, Outcome

COPY_BYTES = 4 << 20
HEAD_BYTES = 1 << 20
"""So much of a CSV file is looked at for its header."""
FILES_AT_ONCE = 4


@dataclass
class StorePublication:
    """All parts of a `file.post` on their way to becoming visible in a store."""

    store: Store
    builder: Builder
    mark: Path
    """What has been decided, in the run's folder: there once everything is in the store."""
    left: Path
    """Where notes are of what earlier runs could not remove from the store."""

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        """Brings everything to the store, so that what it refuses is known before anything shows."""
        self._prepared()
        return iter(())

    def commit(self) -> None:
        """Shows everything; after a crash goes on where it was."""
        decided = self._prepared()
        if not self._begun(decided):
            self._check_olds(decided)
        try:
            self._show(decided)
        except Missing:
            if self._begun(decided):
                raise
            self.mark.unlink()  # the store has thrown away what waited there for too long
            self._show(self._prepared())
        shutil.rmtree(self.builder.target.mirror, ignore_errors=True)

    def abandon(self) -> None:
        """Removes what was brought. What already shows in part is finished: leaving half of it would be neither."""
        decided = read(self.mark)
        try:
            if decided is not None and self._begun(decided):
                self.commit()
                return
            self.mark.unlink(missing_ok=True)
            discard(self.store, notes_of(self.mark))
        except Unavailable:
            # The store is away. What is in it is noted: who comes next goes on from there.
            return
        shutil.rmtree(self.builder.target.mirror, ignore_errors=True)

    def _show(self, decided: Json) -> None:
        for step in decided["steps"]:
            self.store.finish(step)
        for path in decided["remove"]:
            self.store.remove(path)

    def _begun(self, decided: Json) -> bool:
        return any(self.store.is_finished(step) for step in decided["steps"])

    def _check_olds(self, decided: Json) -> None:
        """What the new files were made of is still what is there."""
        for path, about in decided["olds"].items():
            if self.store.look(path) != (None if about is None else Entry(path, *about)):
                self.abandon()
                raise Unavailable(f"{self.store.address}/{path}: was changed by somebody else meanwhile; run again")

    def _prepared(self) -> Json:
        """What is left to do once everything is in the store."""
        decided = read(self.mark)
        if decided is not None:
            return decided
        discard(self.store, notes_of(self.mark))
        tidy(self.store, self.left)
        with told(self.builder.target.mirror):
            shutil.rmtree(self.builder.target.mirror, ignore_errors=True)
            olds = Olds(self.store, self.builder)
            olds.fetch()
            made = self._built()
            decided = {
                "steps": self._staged(made),
                "remove": sorted(olds.replaced - {path for _, path in made}),
                "olds": olds.seen,
            }
            _write(self.mark, decided)
        return decided

    def _built(self) -> list[tuple[Path, str]]:
        """Every file as it will be in the store, with its path there."""
        found: list[tuple[Path, str]] = []
        for built, final in self.builder.build().steps:
            source, target = Path(built), Path(final).relative_to(self.builder.target.mirror)
            if source.is_file():
                found.append((source, target.as_posix()))
                continue
            files = sorted(path for path in source.rglob("*") if path.is_file() and not path.name.startswith("."))
            found += [(path, (target / path.relative_to(source)).as_posix()) for path in files]
        return found

    def _staged(self, made: Sequence[tuple[Path, str]]) -> list[Json]:
        notes, lock = notes_of(self.mark), Lock()
        notes.parent.mkdir(parents=True, exist_ok=True)

        def note(what: Json) -> None:
            with lock, notes.open("a") as file:
                file.write(json.dumps(what) + "\n")
                file.flush()
                os.fsync(file.fileno())

        changed = [(source, path) for source, path in made if not _is_same(source, self.builder.target.mirror / path)]
        with ThreadPoolExecutor(FILES_AT_ONCE, thread_name_prefix="file-stage") as threads:
            under_way = [
                threads.submit(self.store.stage, source, path, self.builder.token, note) for source, path in changed
            ]
            try:
                return [each.result() for each in under_way]
            finally:
                for each in under_way:
                    each.cancel()


class Olds:
    """The files that are there already, as far as the new ones are made of them or replace them."""

    def __init__(self, store: Store, builder: Builder) -> None:
        self.seen: dict[str, list[Any] | None] = {}
        """What was fetched, by path; None: nothing was there."""
        self.replaced: set[str] = set()
        """What goes unless a new file takes its name."""
        self._store = store
        self._builder = builder
        self._mirror = builder.target.mirror
        self._root = builder.target.inside

    def fetch(self) -> None:
        builder = self._builder
        if not builder.target.is_folder:
            for place in self._places():
                if builder.mode != "replace":
                    self._fetch_one("/".join(filter(None, (self._root, place))))
            return
        builder.target.root.mkdir(parents=True, exist_ok=True)
        if builder.mode == "replace":
            self.replaced = {entry.path for entry in self._store.list(_folder(self._root), None)}
            self.replaced = {path for path in self.replaced if not _is_hidden(path.removeprefix(self._root))}
            self._refuse_strangers()
        elif builder.mode in ("upsert", "delete"):
            for place in self._places():
                self._fetch_folder(_folder("/".join(filter(None, (self._root, place)))))

    def _places(self) -> list[str]:
        if not self._builder.target.columns:
            return [""]
        return sorted({part.payload["to"] for part in self._builder.parts})

    def _fetch_one(self, path: str) -> None:
        entry = self._store.look(path)
        self.seen[path] = None
        if entry is not None:
            self._fetch(entry)

    def _fetch_folder(self, folder: str) -> None:
        for entry in list(self._store.list(folder, 0)):
            if entry.path.endswith(self._builder.form.suffix) and not _is_hidden(entry.path.removeprefix(folder)):
                self.replaced.add(entry.path)
                self._fetch(entry)

    def _fetch(self, entry: Entry) -> None:
        fetched(self._store, entry, self._mirror / entry.path)
        self.seen[entry.path] = [entry.size_bytes, entry.changed_ns, entry.version]

    def _refuse_strangers(self) -> None:
        """What replaces a folder must not take somebody's files along."""
        for path in sorted(self.replaced):
            if not path.removesuffix(".gz").removesuffix(".zst").endswith(DATA_SUFFIXES):
                raise Invalid(
                    f"{self._store.address}/{self._root}: holds {path}, which is no data file and would be lost; "
                    f"choose a folder of its own, or take that file away"
                )


def columns_in(store: Store, target: Target, form: Form) -> Mapping[str, pa.DataType | None] | None:
    """The columns of what is there already in a store: of the file, or of a folder's first."""
    path = target.inside
    entry = store.look(path) if path and not target.is_folder else None
    if target.is_folder:
        every = (
            each
            for each in store.list(_folder(path), None)
            if each.path.endswith(form.suffix) and not _is_hidden(each.path.removeprefix(path))
        )
        entry = min(every, key=lambda each: each.path, default=None)
    if entry is None or isinstance(form, Jsonl):
        return None
    if isinstance(form, ParquetForm):
        with opened(file_of(store, entry)) as parquet:
            return {field.name: plain_type(field.type) for field in parquet.schema_arrow}
    with tempfile.TemporaryDirectory(prefix="processflow-there-") as folder:
        copy = Path(folder) / Path(entry.path).name
        if isinstance(form, (Csv, FixedForm)) and form.compression is None:
            with file_of(store, entry).open(HEAD_BYTES) as source:
                head = source.read(HEAD_BYTES) or b""
            copy.write_bytes(head if len(head) < HEAD_BYTES else head[: head.rfind(b"\n") + 1])
        else:
            fetched(store, entry, copy)
        return form.columns(copy)


def fetched(store: Store, entry: Entry, path: Path) -> None:
    """Brings a file of a store to a path of this machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with file_of(store, entry).open() as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)


def discard(store: Store, notes: Path) -> None:
    """Removes from a store what was noted to be there and never showed."""
    try:
        lines = notes.read_text().splitlines()
    except FileNotFoundError:
        return
    last = {json.dumps([step.get("path"), step.get("since")]): step for step in map(json.loads, filter(None, lines))}
    for step in last.values():
        store.discard(step)
    notes.unlink()


def is_done(store: Store, mark: Path) -> bool:
    """Whether everything that a mark decided shows."""
    decided = read(mark)
    if decided is None:
        return False
    is_tidy = all(store.look(path) is None for path in decided["remove"])
    return is_tidy and all(store.is_finished(step) for step in decided["steps"])


def tidy(store: Store, left: Path) -> None:
    """Removes from a store what earlier runs could not."""
    for notes in sorted(left.glob("*")):
        discard(store, notes)


def read(mark: Path) -> Json:
    """What was decided, if it was."""
    try:
        return json.loads(mark.read_text())
    except FileNotFoundError:
        return None


def notes_of(mark: Path) -> Path:
    """Where is written down what would stay in the store if nobody came back."""
    return mark.with_suffix(".notes")


def _write(mark: Path, decided: Json) -> None:
    mark.parent.mkdir(parents=True, exist_ok=True)
    temporary = mark.with_suffix(".tmp")
    with temporary.open("w") as file:
        json.dump(decided, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(mark)


def _folder(path: str) -> str:
    return f"{path}/" if path else ""


def _is_hidden(inside: str) -> bool:
    return any(part.startswith((".", "_")) for part in inside.strip("/").split("/"))


def _is_same(one: Path, other: Path) -> bool:
    """Whether a file that was made is the fetched one, under a second name."""
    return other.exists() and one.samefile(other)
