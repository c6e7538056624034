"""Keeps the lake small while it is used: runs that are too old leave it, small files of many runs become few.

Readers and runs are never stopped. New files are written beside the old ones; one rename of a manifest makes them count
and the old ones not. What no longer counts is removed some time later, when nobody who read the former manifest can
still be reading. A crash at any moment leaves what was, or what is to be, and files that the next call removes.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import Unavailable
from repository.commit import merge
from repository.disk import synced, written
from repository.manifest import (
    COMMITS,
    Commit,
    File,
    locked,
    merged_of,
    merged_paths,
    read,
    write_durably,
    write_merged,
)
from repository.spill import encoding

SMALL_BYTES = 8 << 20
"""Files below this are merged."""
MERGED_BYTES = 64 << 20
"""What a merged file has at most, by the size of those it is made of."""
GROUP_ROWS = 65_536
GRACE_SECONDS = 900.0
"""How long a file that no longer counts is left to whoever began to read before."""
GARBAGE = ".garbage"
ORDERED = ("records", "rejects")
"""Tables whose merged rows stand in the order of their keys, so that one key is found without reading the others."""

Keep = Callable[[str, str], bool]
"""Whether a run (its flow, its id) stays."""


@dataclass
class Tidied:
    """What was done."""

    runs_removed: int = 0
    files_before: int = 0
    files_after: int = 0
    files_deleted: int = 0
    """Files removed from the disk: of what no longer counted before this call, too."""
    bytes_deleted: int = 0


def everything(flow: str, run: str) -> bool:
    """Keeps every run."""
    return True


def tidy(root: Path, keep: Keep = everything, grace_seconds: float = GRACE_SECONDS) -> Tidied:
    """Lets runs go, merges small files, and removes what no longer counts.

    Raises:
        Unavailable: another process is at it, or the disk refuses; nothing is lost.
    """
    done = Tidied()
    if not (root / COMMITS).is_dir():
        return done
    with written(root):
        done.files_before = len(_referenced(root))
        merge(root, 0)
        with locked(root) as alone:
            if not alone:
                raise Unavailable("another process is merging the data logs; try again when it is done")
            for path in merged_paths(root):
                _tidy_manifest(root, path, keep, done)
            done.files_after = len(_referenced(root))
            _purge(root, grace_seconds, done)
    return done


def _tidy_manifest(root: Path, path: Path, keep: Keep, done: Tidied) -> None:
    tables, commits = merged_of(path)
    kept = [commit for commit in commits if keep(commit.flow, commit.run)]
    done.runs_removed += len(commits) - len(kept)
    if not kept:
        files = [file.path for commit in commits for file in commit.files]
        _discard(root, [*tables.values(), *_filters(commits), *files])
        path.unlink()
        return
    plan = list(_merges(root, commits, {commit.run for commit in kept}))
    if not plan and len(kept) == len(commits):
        return
    renamed = {old: new for new, olds in plan for old in olds}
    fresh = {table: _renewed(name) if len(kept) < len(commits) else name for table, name in tables.items()}
    dropped = {file.path for commit in commits for file in commit.files} - {
        file.path for commit in kept for file in commit.files
    }
    changed = [name for table, name in tables.items() if fresh[table] != name]
    _discard(root, [*renamed, *renamed.values(), *dropped, *changed, *(fresh[table] for table in fresh)])
    runs = [commit.run for commit in kept]
    for new, olds in plan:
        _write_together(root, new, olds, runs)
    for table, name in tables.items():
        if fresh[table] != name:
            _write_rows(root / fresh[table], pq.read_table(root / name, partitioning=None), runs)
    write_merged(root, [_moved(commit, renamed) for commit in kept], fresh, instead_of=path)


def _merges(root: Path, commits: Sequence[Commit], kept: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    """New files and those they are made of: small ones of equal columns, and those with rows of runs that leave."""
    groups: dict[str, dict[str, bool]] = {}
    for commit in commits:
        for file in commit.files:
            group = json.dumps([file.table, commit.flow, file.payloads])
            files = groups.setdefault(group, {})
            files[file.path] = files.get(file.path, False) or commit.run in kept
    leaving = {file.path for commit in commits if commit.run not in kept for file in commit.files}
    for files in groups.values():
        held: list[str] = []
        size = 0
        for name in [name for name, stays in files.items() if stays]:
            own = (root / name).stat().st_size
            if own >= SMALL_BYTES:
                if name in leaving:
                    yield _renewed(name), [name]
                continue
            if held and size + own > MERGED_BYTES:
                yield from _worth(held, leaving)
                held, size = [], 0
            held.append(name)
            size += own
        yield from _worth(held, leaving)


def _worth(names: list[str], leaving: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    if len(names) > 1 or (names and names[0] in leaving):
        yield _renewed(names[-1]), names


def _renewed(name: str) -> str:
    """Another name in the same folder."""
    folder, _, file = name.rpartition("/")
    stem = file.removesuffix(".parquet").partition("~")[0]
    return f"{folder}/{stem}~m{secrets.token_hex(6)}.parquet"


def _moved(commit: Commit, renamed: Mapping[str, str]) -> Commit:
    """A run's files with the merged ones in place of those they are made of; its parts of one file are one entry."""
    files: dict[str, File] = {}
    for file in commit.files:
        path = renamed.get(file.path, file.path)
        before = files.get(path)
        files[path] = replace(file, path=path, rows=file.rows + (before.rows if before else 0))
    return replace(commit, files=tuple(files.values()))


def _write_together(root: Path, new: str, olds: Sequence[str], runs: Sequence[str]) -> None:
    table = pa.concat_tables(
        [pq.read_table(root / old, partitioning=None) for old in olds], promote_options="permissive"
    )
    if new.partition("/")[0] in ORDERED:
        table = table.sort_by([("key", "ascending"), ("run", "ascending"), ("rid", "ascending")])
    _write_rows(root / new, table, runs)


def _write_rows(path: Path, table: pa.Table, runs: Sequence[str]) -> None:
    """Writes the rows of these runs, to the disk."""
    rows = table.filter(pc.is_in(table.column("run"), pa.array(runs, pa.string())))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path, row_group_size=GROUP_ROWS, **encoding(rows))
    synced(path)


def _referenced(root: Path) -> set[str]:
    """The files that count."""
    manifest = read(root)
    files = {file.path for commit in manifest.commits for file in commit.files}
    return files | {name for names in manifest.merged.values() for name in names}


def _filters(commits: Sequence[Commit]) -> set[str]:
    """The files that hold filters of their keys."""
    return {commit.keys.path for commit in commits if commit.keys is not None and commit.keys.path}


def _discard(root: Path, names: Collection[str]) -> None:
    """Writes down files that will not count any more, or not yet, before anything happens to them."""
    known = _garbage(root)
    known |= dict.fromkeys(names, time.time())
    write_durably(root / COMMITS / GARBAGE, json.dumps(known))


def _garbage(root: Path) -> dict[str, float]:
    path = root / COMMITS / GARBAGE
    found: dict[str, float] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def _purge(root: Path, grace_seconds: float, done: Tidied) -> None:
    """Removes the files that have not counted for long enough."""
    known = _garbage(root)
    counting = _referenced(root) | _filters(read(root).commits)
    left: dict[str, float] = {}
    for name, since in known.items():
        if name in counting:
            continue
        if time.time() - since < grace_seconds:
            left[name] = since
            continue
        path = root / name
        if path.exists():
            done.files_deleted += 1
            done.bytes_deleted += path.stat().st_size
            path.unlink()
    if left != known:
        write_durably(root / COMMITS / GARBAGE, json.dumps(left))


def older_than(started: Mapping[str, datetime], limits: Mapping[str, datetime]) -> Keep:
    """Keeps a run that began at or after its flow's limit, that has no limit, or of which nothing is known."""

    def keep(flow: str, run: str) -> bool:
        began, limit = started.get(run), limits.get(flow)
        return began is None or limit is None or began >= limit

    return keep
