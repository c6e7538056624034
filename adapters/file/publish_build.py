"""Builds what a publication will show, under hidden names beside the target."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from adapters.file.publish_keys import Dropped, Keys, kept, write_kept
from adapters.file.target import Target
from adapters.file.writers import ARRIVED, Form
from adapters.file.writers_parquet import ParquetForm
from adapters.file.writers_text import LINE, Jsonl
from pipelines.errors import Invalid
from pipelines.node import Part

DATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet", ".avro", ".xlsx", ".xml")


@dataclass(frozen=True)
class Built:
    """What is left to do: renames from hidden names, and a folder to remove then."""

    steps: list[tuple[str, str]]
    scratch: str | None = None


@dataclass
class Builder:
    """Builds for one publication."""

    form: Form
    target: Target
    mode: str
    key: tuple[str, ...]
    schema: pa.Schema
    """What the files hold."""
    parts: Sequence[Part]
    token: str
    """Names files of this publication only: letters, digits, `-`, `_` and `.`."""
    memory_bytes: int
    work: Path
    """A folder of the run, for DuckDB."""
    _made: list[Path] = field(default_factory=list)
    _folders: list[Path] = field(default_factory=list)

    def build(self) -> Built:
        """Builds everything and puts it safely on the disk."""
        return self._build_folder() if self.target.is_folder else self._build_files()

    def remove(self, built: Built | None = None) -> None:
        """Removes what was built."""
        for path in [*self._made, *(Path(step[0]) for step in (built.steps if built else ()))]:
            if path.is_dir() and not path.is_symlink() and path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            elif path.is_file():
                path.unlink()
        for folder in reversed(self._folders):
            try:
                folder.rmdir()
            except OSError:
                # Somebody else has put something into it meanwhile.
                break

    def _build_files(self) -> Built:
        steps: list[tuple[str, str]] = []
        for place, parts in self._by_place().items():
            final = self.target.root / place if place else self.target.root
            if final.is_dir():
                raise Invalid(
                    f"{final}: is a folder; end `path` with '/' for a folder of parts, or choose another name"
                )
            built = final.with_name(f".{final.name}.{self.token}.tmp")
            old = final if final.exists() and self.mode != "replace" else None
            if (old is None and self.mode == "delete") or (old is not None and not parts):
                continue
            self._make_folder(built.parent)
            self._made.append(built)
            built.unlink(missing_ok=True)
            self._build_file(built, old, parts)
            if final.exists():
                shutil.copymode(final, built)
            _sync(built)
            steps.append((str(built), str(final)))
        return Built(steps)

    def _build_file(self, built: Path, old: Path | None, parts: Sequence[Path]) -> None:
        if self.mode in ("upsert", "delete"):
            self._build_keyed(built, [] if old is None else [old], parts)
        elif old is None and len(parts) == 1 and not self.form.is_built_whole:
            link(parts[0], built)
        else:
            self.form.join(built, parts, self.schema, old)

    def _build_keyed(self, built: Path, olds: Sequence[Path], parts: Sequence[Path]) -> None:
        """One file of the old records whose key does not come, and what comes."""
        with Keys(self.work, self.key, self.memory_bytes) as keys:
            replaced = keys.take(parts, self._staged)
            found = keys.found(olds, self._old, self._raw_line)

            def batches() -> Iterator[pa.RecordBatch]:
                start = 0
                for path, rows in zip(olds, found.counts, strict=True):
                    yield from kept(self._old(path), found, start)
                    start += rows
                if self.mode == "upsert":
                    yield from self._coming(parts, replaced)

            write_kept(self.form, built, self.schema, batches())

    def _coming(self, parts: Sequence[Path], replaced: Dropped) -> Iterator[pa.RecordBatch]:
        def every() -> Iterator[pa.RecordBatch]:
            for path in parts:
                yield from self._staged(path)

        for batch in kept(every(), replaced, 0):
            yield batch.select(self.schema.names)

    def _staged(self, path: Path) -> Iterator[pa.RecordBatch]:
        staged = pa.schema([*self.schema, pa.field(ARRIVED, pa.int64())])
        if self.mode == "delete":
            staged = pa.schema([*(field for field in self.schema if field.name in self.key), staged.field(ARRIVED)])
        return ParquetForm().batches(path, staged)

    def _old(self, path: Path) -> Iterator[pa.RecordBatch]:
        return self.form.batches(path, self._own_schema(path))

    def _own_schema(self, path: Path) -> pa.Schema:
        """The columns of a file that is there: those it goes on with."""
        there = self.form.columns(path)
        if there is None:
            return self.schema
        return pa.schema([pa.field(name, kind or pa.string()) for name, kind in there.items()])

    @property
    def _raw_line(self) -> str | None:
        return LINE if isinstance(self.form, Jsonl) else None

    def _build_folder(self) -> Built:
        root = self.target.root
        if root.exists() and not root.is_dir():
            raise Invalid(f"{root}: is a file; leave the '/' at the end of `path` away, or choose another name")
        if (self.mode in ("upsert", "delete") and not self.parts) or (self.mode == "delete" and not root.is_dir()):
            return Built([])
        scratch = root.with_name(f".{root.name}.{self.token}.tmp")
        shutil.rmtree(scratch, ignore_errors=True)
        self._make_folder(scratch.parent)
        self._made.append(scratch)
        scratch.mkdir()
        if self.mode == "append" and root.is_dir() and any(root.iterdir()):
            return self._build_appended(scratch)
        if root.is_dir():
            self._refuse_strangers(root)
        if self.mode in ("upsert", "delete"):
            self._build_keyed_folder(scratch)
        else:
            self._link_parts(scratch)
        (scratch / f".{self.token}").touch()
        return Built([(str(scratch), str(root))])

    def _build_appended(self, scratch: Path) -> Built:
        steps: list[tuple[str, str]] = []
        if self.parts:
            for path in self._link_parts(scratch):
                final = self.target.root / path.relative_to(scratch)
                self._make_folder(final.parent)
                steps.append((str(path), str(final)))
        return Built(steps, str(scratch))

    def _link_parts(self, scratch: Path) -> list[Path]:
        made: list[Path] = []
        for place, parts in self._by_place().items():
            for number, source in enumerate(parts):
                made.append(self._part_path(scratch, place, number))
                if self.form.is_built_whole:
                    self.form.join(made[-1], [source], self.schema, None)
                else:
                    link(source, made[-1])
                _sync(made[-1])
            if not parts:
                made.append(self._part_path(scratch, place, 0))
                self.form.join(made[-1], [], self.schema, None)
        return made

    def _build_keyed_folder(self, scratch: Path) -> None:
        """Files none of whose records change are linked, the others written anew, place by place."""
        root = self.target.root
        untouched = [path for path in sorted(root.rglob("*")) if path.is_file()] if root.is_dir() else []
        for place, parts in self._by_place().items():
            folder = root / place
            olds = [path for path in untouched if path.parent == folder and self._is_data(path)]
            if not parts:
                continue
            self._build_keyed_place(scratch, place, olds, parts)
            untouched = [path for path in untouched if path not in set(olds)]
        for path in untouched:
            copy = scratch / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            link(path, copy)

    def _build_keyed_place(self, scratch: Path, place: str, olds: Sequence[Path], parts: Sequence[Path]) -> None:
        key = tuple(name for name in self.key if name in self.schema.names)
        with Keys(self.work, key, self.memory_bytes) as keys:
            replaced = keys.take(parts, self._staged)
            found = keys.found(olds, self._old, self._raw_line)
            start = number = 0
            for path, rows in zip(olds, found.counts, strict=True):
                if found.any_before(start + rows):
                    new = self._part_path(scratch, place, number)
                    number += 1
                    if not write_kept(self.form, new, self._own_schema(path), kept(self._old(path), found, start)):
                        new.unlink()
                else:
                    new = scratch / path.relative_to(self.target.root)
                    new.parent.mkdir(parents=True, exist_ok=True)
                    link(path, new)
                start += rows
            if self.mode == "upsert":
                new = self._part_path(scratch, place, number)
                write_kept(self.form, new, self.schema, self._coming(parts, replaced))
                _sync(new)

    def _part_path(self, scratch: Path, place: str, number: int) -> Path:
        folder = scratch / place
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"part-{self.token}-{number:05d}{self.form.suffix}"

    def _by_place(self) -> Mapping[str, list[Path]]:
        """The parts by the place of their records; one place without parts where no column is in the path."""
        found: dict[str, list[Path]] = {} if self.target.columns else {"": []}
        for part in self.parts:
            found.setdefault(part.payload["to"], []).append(Path(part.payload["file"]))
        return dict(sorted(found.items()))

    def _is_data(self, path: Path) -> bool:
        return path.name.endswith(self.form.suffix) and not path.name.startswith((".", "_"))

    def _is_any_data(self, path: Path) -> bool:
        name = path.name.removesuffix(".gz").removesuffix(".zst")
        return name.endswith(DATA_SUFFIXES) or self._is_data(path)

    def _refuse_strangers(self, root: Path) -> None:
        """What replaces a folder must not take somebody's files along."""
        if os.path.ismount(root):
            raise Invalid(f"{root}: is a mount point, which cannot be replaced in one step; give a folder inside of it")
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.name.startswith((".", "_")) and not self._is_any_data(path):
                raise Invalid(
                    f"{root}: holds {path.relative_to(root)}, which is no data file and would be lost; "
                    f"choose a folder of its own, or take that file away"
                )

    def _make_folder(self, folder: Path) -> None:
        missing = [each for each in [folder, *folder.parents] if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        self._folders.extend(reversed(missing))


def link(source: Path, path: Path) -> None:
    """The same file under a second name; a copy where the file system has none, or another lies between."""
    path.unlink(missing_ok=True)
    try:
        os.link(source, path)
    except FileNotFoundError:
        raise
    except OSError:
        try:
            shutil.copyfile(source, path)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _sync(path: Path) -> None:
    """Puts a file safely on the disk, so that a power cut does not leave a name without content."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
