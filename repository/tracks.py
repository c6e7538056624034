"""Finds records by their business key over all runs, and what each run has kept of them at every port."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository.columns import literal, quoted
from repository.kept import opened, read_files
from repository.keyhash import hash_of
from repository.manifest import Commit, File, read
from repository.views import payload_text

TOGETHER_RUNS = 64
"""So many runs are asked for a key at once, the latest first."""

Step = dict[str, Any]
"""`node`, `port`, `at`, and what is known there: `payload`; `code`, `message`; `id`, `status`, `milliseconds`."""


@dataclass(frozen=True)
class Track:
    """A record of a run: `rid` stays with it from the source to the target."""

    run: str
    flow: str
    rid: int


class Tracks:
    """The committed files of a lake, asked for single records."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._commits = {commit.run: commit for commit in read(root).commits}

    def by_key(self, key: str, flow: str | None = None, run: str | None = None, most: int = 100) -> list[Track]:
        """The records with this business key at any node, the oldest run first; of many, those of the latest runs.

        Of each run records and rejects are asked first, and its receipts where they know nothing.
        """
        commits = [
            commit for commit in self._commits.values() if flow in (None, commit.flow) and run in (None, commit.run)
        ]
        number = hash_of(key)
        likely = [c for c in commits if c.keys is None or c.keys.may_have(self._root, number)]
        found: list[Track] = []
        for end in range(len(likely), 0, -TOGETHER_RUNS):
            found = [*self._found(likely[max(0, end - TOGETHER_RUNS) : end], key), *found]
            if len(found) >= most:
                break
        if not found:  # of very many receipts no filter tells anything, and to read them takes its time
            found = self._in_receipts([c for c in likely if c.keys is None or not c.keys.has_receipts], key)
        return found

    def _found(self, commits: Sequence[Commit], key: str) -> list[Track]:
        where = f"key = {literal(key)}"
        rows = self._matching(_of(commits, "records", "rejects"), "SELECT DISTINCT run, flow, rid", where)
        known = {row[0] for row in rows}
        others = [c for c in commits if c.run not in known and c.keys is not None and c.keys.has_receipts]
        return self._ordered([*(Track(*row) for row in rows), *self._in_receipts(others, key)])

    def _in_receipts(self, commits: Sequence[Commit], key: str) -> list[Track]:
        place = f"list_position(keys, {literal(key)})"
        select, where = f"SELECT DISTINCT run, flow, rids[{place}]", f"list_contains(keys, {literal(key)})"
        return self._ordered([Track(*row) for row in self._matching(_of(commits, "deliveries"), select, where)])

    def _ordered(self, tracks: Iterable[Track]) -> list[Track]:
        order = {name: place for place, name in enumerate(self._commits)}
        return sorted((track for track in tracks if track.run in order), key=lambda t: (order[t.run], t.rid))

    def replays(self, tracks: Collection[Track]) -> dict[Track, list[Track]]:
        """For each record the runs that took it up again after it had been rejected."""
        flows = {track.flow for track in tracks}
        files = _of([commit for commit in self._commits.values() if commit.flow in flows], "replays")
        runs = ", ".join(literal(run) for run in sorted({track.run for track in tracks}))
        rids = ", ".join(str(rid) for rid in sorted({track.rid for track in tracks}))
        where = f'"of" IN ({runs}) AND list_has_any(rids, [{rids}]::BIGINT[])'
        select = f'SELECT DISTINCT run, flow, "of", unnest(list_intersect(rids, [{rids}]::BIGINT[]))'
        found: dict[Track, list[Track]] = {}
        for run, flow, of, rid in sorted(self._matching(files, select, where)) if tracks else ():
            found.setdefault(Track(of, flow, rid), []).append(Track(run, flow, rid))
        return found

    def steps(self, tracks: Collection[Track]) -> dict[Track, list[Step]]:
        """What their runs have kept of each record, in the order in which it happened."""
        found: dict[Track, list[Step]] = {track: [] for track in tracks}
        commits = [commit for name, commit in self._commits.items() if any(track.run == name for track in tracks)]
        flows = {commit.run: commit.flow for commit in commits}
        wanted = ", ".join(f"({literal(track.run)}, {track.rid})" for track in tracks)
        for run, rid, step in [
            *self._payloads(commits, "records", wanted),
            *self._payloads(commits, "rejects", wanted),
            *self._receipts(commits, tracks),
        ]:
            if (track := Track(run, flows.get(run, ""), rid)) in found:
                found[track].append(step)
        return {track: sorted(steps, key=lambda step: str(step["at"])) for track, steps in found.items()}

    def _payloads(self, commits: Sequence[Commit], table: str, wanted: str) -> Iterator[tuple[str, int, Step]]:
        columns = ["run", "rid", "node", "at"] + (["port"] if table == "records" else ["code", "message", "attempt"])
        head = ", ".join(map(quoted, columns))
        groups: dict[str, list[File]] = {}
        for file in _of(commits, table):
            groups.setdefault(json.dumps(file.payloads), []).append(file)
        for files in groups.values():
            select = f"SELECT {head}, {payload_text(files[0].payloads)} AS payload"
            for row in self._matching(files, select, f"(run, rid) IN ({wanted})"):
                run, rid, *rest = row
                step = dict(zip([*columns[2:], "payload"], rest, strict=True))
                payload = step.pop("payload")
                yield run, rid, {"port": "rejected", **step, "payload": payload and json.loads(payload)}

    def _receipts(self, commits: Sequence[Commit], tracks: Collection[Track]) -> Iterator[tuple[str, int, Step]]:
        rids = ", ".join(str(rid) for rid in sorted({track.rid for track in tracks}))
        select = (
            f'SELECT run, rid, node, "at", ids[list_position(rids, rid)], status, attempt, milliseconds FROM '
            f"(SELECT *, unnest(list_intersect(rids, [{rids}]::BIGINT[])) AS rid"
        )
        where = f"list_has_any(rids, [{rids}]::BIGINT[]))"
        for run, rid, *rest in self._matching(_of(commits, "deliveries"), select, where):
            names = ("node", "at", "id", "status", "attempt", "milliseconds")
            yield run, rid, {"port": "delivered", **dict(zip(names, rest, strict=True))}

    def _matching(self, files: Iterable[File], select: str, where: str) -> list[tuple[Any, ...]]:
        paths = [str(self._root / file.path) for file in files]
        if not paths:
            return []
        with opened(paths) as connection:
            found: list[tuple[Any, ...]] = connection.sql(f"{select} FROM {read_files(paths)} WHERE {where}").fetchall()
        return found


def _of(commits: Sequence[Commit], *tables: str) -> list[File]:
    found = {file.path: file for commit in commits for file in commit.files if file.table in tables}
    return list(found.values())
