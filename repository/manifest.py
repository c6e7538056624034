"""Which files of the lake count: one manifest per run, written last and in one step, merged where they become many.

`_commits/RUN.json` names a run's files with the columns of their payloads, and carries its rows of `runs` and `nodes`.
Beyond some runs the manifests are merged into one (`_commits/RUN.merged.json`, named by its last run), and the rows
they carried move to Parquet files beside the other tables. A reader takes a run from whichever it finds first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pipelines.errors import Invalid
from repository.columns import Columns
from repository.keyfilter import KeyFilter, of_plain
from repository.tables import REPORTED, Row

COMMITS = "_commits"
LOOSE_RUNS = 128
"""How many manifests of single runs may stand before they are merged."""
MERGED = ".merged.json"
UNFINISHED = ".tmp"


@dataclass(frozen=True)
class File:
    """A committed file: its table, its path below the root, and the columns of each payload in it, by name."""

    table: str
    path: str
    rows: int
    payloads: dict[str, Columns] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return {"table": self.table, "path": self.path, "rows": self.rows, "payloads": self.payloads}


@dataclass(frozen=True)
class Commit:
    """What one run has made visible."""

    run: str
    flow: str
    files: tuple[File, ...]
    rows: dict[str, list[Row]] = field(default_factory=dict)
    """Its rows of `runs` and `nodes`; empty once they are merged into Parquet."""
    keys: KeyFilter | None = None
    """Tells which business keys it has not kept; None: nobody knows."""


@dataclass
class Manifest:
    """All that is committed under a root."""

    commits: list[Commit] = field(default_factory=list)
    merged: dict[str, list[str]] = field(default_factory=lambda: {table: [] for table in REPORTED})
    """Parquet files of `runs` and `nodes`, by table, with paths below the root."""

    def files(self, table: str, flow: str | None = None) -> Iterator[File]:
        """The committed files of a table, latest run first; one that several runs share, once."""
        seen: set[str] = set()
        for commit in reversed(self.commits):
            for file in commit.files if flow in (None, commit.flow) else ():
                if file.table == table and file.path not in seen:
                    seen.add(file.path)
                    yield file


def write(root: Path, commit: Commit) -> None:
    """Makes a run's files visible. Whatever happens, all of them are or none."""
    folder = root / COMMITS
    path = folder / f"{safe(commit.run)}.json"
    text = {**_plain(commit), "files": [file.plain() for file in commit.files], "rows": commit.rows}
    write_durably(path, json.dumps(text, ensure_ascii=False, separators=(",", ":"), default=str))


def is_committed(root: Path, run: str, started: str) -> bool:
    """Whether the manifest of a run that started then stands, or has been merged since."""
    if (root / COMMITS / f"{safe(run)}.json").exists():
        return True
    since = datetime.fromisoformat(started).timestamp()
    merged = (path for path in (root / COMMITS).glob(f"*{MERGED}") if path.stat().st_mtime >= since)
    return any(run in _runs_of(path) for path in merged)


def read(root: Path) -> Manifest:
    """All that is committed, oldest run first."""
    for _ in range(20):
        try:
            return _read(root)
        except FileNotFoundError:
            continue  # a merge took a file away between listing and reading: what it held is in the merged one
    raise Invalid(f"{root / COMMITS}: files vanish while they are read; is something else deleting there?")


def loose(root: Path) -> list[Path]:
    """The manifests of single runs."""
    names = [entry.name for entry in os.scandir(root / COMMITS)]
    return [root / COMMITS / name for name in sorted(names) if name.endswith(".json") and not name.endswith(MERGED)]


def commit_of(text: str) -> Commit:
    """A manifest's text as data."""
    plain = json.loads(text)
    files = tuple(File(f["table"], f["path"], f["rows"], f["payloads"]) for f in plain["files"])
    return Commit(plain["run"], plain["flow"], files, plain["rows"], of_plain(plain.get("keys")))


def merged_paths(root: Path) -> list[Path]:
    """The manifests of many runs, the oldest first."""
    return sorted((root / COMMITS).glob(f"*{MERGED}"), key=lambda path: path.stat().st_mtime_ns)


def merged_of(path: Path) -> tuple[dict[str, str], list[Commit]]:
    """What a manifest of many runs says: the Parquet files of `runs` and `nodes`, and each run's files."""
    plain = json.loads(path.read_bytes())
    schemas = plain["schemas"]
    commits = []
    for run in plain["runs"]:
        files = tuple(
            File(f["table"], f["path"], f["rows"], {name: schemas[n] for name, n in f["payloads"].items()})
            for f in run["files"]
        )
        commits.append(Commit(run["run"], run["flow"], files, keys=of_plain(run.get("keys"))))
    return plain["tables"], commits


def write_merged(root: Path, commits: list[Commit], tables: dict[str, str], instead_of: Path | None = None) -> None:
    """Writes one manifest for many runs, each payload's columns once; `instead_of` is the one whose place it takes."""
    schemas: dict[str, int] = {}
    runs = []
    for commit in commits:
        files = [
            {
                **file.plain(),
                "payloads": {
                    name: schemas.setdefault(json.dumps(columns), len(schemas))
                    for name, columns in file.payloads.items()
                },
            }
            for file in commit.files
        ]
        runs.append({**_plain(commit), "files": files})
    text = {"tables": tables, "schemas": [json.loads(schema) for schema in schemas], "runs": runs}
    path = instead_of or root / COMMITS / f"{safe(commits[-1].run)}{MERGED}"
    changed_ns = None if instead_of is None else instead_of.stat().st_mtime_ns  # tells the order of manifests
    write_durably(path, json.dumps(text, ensure_ascii=False, separators=(",", ":")), changed_ns)


@contextmanager
def locked(root: Path) -> Iterator[bool]:
    """Whether this process alone may merge now; the lock ends with the process."""
    import fcntl

    with (root / COMMITS / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def safe(name: str) -> str:
    """A name as a part of a path."""
    quoted = quote(name, safe=" +,=@").replace("~", "%7E")
    return quoted if name.strip(".") else quoted.replace(".", "%2E")


def _read(root: Path) -> Manifest:
    found, seen = Manifest(), set()
    folder = root / COMMITS
    if not folder.is_dir():
        return found
    singles = loose(root)
    for path in merged_paths(root):
        tables, commits = merged_of(path)
        for table, name in tables.items():
            found.merged[table].append(name)
        found.commits += commits
        seen |= {commit.run for commit in commits}
    for path in singles:
        commit = commit_of(path.read_text("utf-8"))
        if commit.run not in seen:
            found.commits.append(commit)
    return found


def _plain(commit: Commit) -> dict[str, Any]:
    return {"run": commit.run, "flow": commit.flow, "keys": commit.keys.plain() if commit.keys else None}


def _runs_of(path: Path) -> set[str]:
    return {run["run"] for run in json.loads(path.read_bytes())["runs"]}


def write_durably(path: Path, text: str, changed_ns: int | None = None) -> None:
    """Writes a file so that it is there whole or not at all, also after a power cut."""
    partial = path.with_name(path.name + UNFINISHED)
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if changed_ns is not None:
        os.utime(partial, ns=(changed_ns, changed_ns))
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
