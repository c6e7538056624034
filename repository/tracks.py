"""Finds records by their business key over all runs, and what each run has kept of them at every port."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repository.columns import literal, quoted
from repository.families import Made, families
from repository.keyfilter import Blocks, hash_of
from repository.manifest import Commit, File, Manifest, read
from repository.opening import opened, read_files
from repository.views import View, Views, payload_text

Step = dict[str, Any]
"""`node`, `port`, `at`, and what is known there: `payload`; `code`, `message`; `id`, `status`, `milliseconds`."""
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Track:
    """A record of a run: `rid` stays with it from the source to the target."""

    run: str
    flow: str
    rid: int


@dataclass
class Passed:
    """A run, as far as a record's way needs it."""

    started: str
    replay_of: str | None
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Per node, in the order of the flow, its `type` and how many records it has `filtered`."""


class Tracks:
    """The committed files of a lake, asked for single records."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._manifest = read(root)
        self._commits = {commit.run: commit for commit in self._manifest.commits}

    def by_key(self, key: str, flow: str | None = None, run: str | None = None, most: int = 100) -> list[Track]:
        """The records with this business key at any node, the oldest run first; of many, those of the latest runs.

        Of each run records and rejects are asked first, and its receipts where they know nothing.
        """
        number = hash_of(key)
        with Blocks(self._root) as blocks:
            likely = [
                commit
                for commit in self._commits.values()
                if flow in (None, commit.flow) and run in (None, commit.run)
                if commit.keys is None or commit.keys.may_have(number, blocks)
            ]
        found: list[Track] = []
        for end in range(len(likely), 0, -most):
            found = [*self._found(likely[max(0, end - most) : end], key), *found]
            if len(found) >= most:
                break
        if not found:  # of very many receipts no filter tells anything, and to read them takes its time
            unknown = [commit for commit in likely if commit.keys is None or not commit.keys.has_receipts]
            with opened(self._paths(unknown, "deliveries")) as connection:
                found = self._ordered(self._in_receipts(connection, unknown, key))
        return found

    def _found(self, commits: Sequence[Commit], key: str) -> list[Track]:
        with opened(self._paths(commits, "records", "rejects", "deliveries")) as connection:
            paths = self._paths(commits, "records", "rejects")
            rows = _asked(connection, paths, "SELECT DISTINCT run, flow, rid", f"key = {literal(key)}")
            known = {row[0] for row in rows}
            others = [
                commit for commit in commits if commit.run not in known and commit.keys and commit.keys.has_receipts
            ]
            return self._ordered([*rows, *self._in_receipts(connection, others, key)])

    def _in_receipts(self, connection: Any, commits: Sequence[Commit], key: str) -> Rows:
        place = f"list_position(keys, {literal(key)})"
        select, where = f"SELECT DISTINCT run, flow, rids[{place}]", f"list_contains(keys, {literal(key)})"
        return _asked(connection, self._paths(commits, "deliveries"), select, where)

    def _ordered(self, rows: Rows) -> list[Track]:
        order = {name: place for place, name in enumerate(self._commits)}
        tracks = [Track(*row) for row in rows if row[0] in order]
        return sorted(tracks, key=lambda track: (order[track.run], track.rid))

    def replays(self, tracks: Collection[Track]) -> dict[Track, list[Track]]:
        """For each record the runs that took it up again after it had been rejected."""
        flows = {track.flow for track in tracks}
        paths = self._paths([commit for commit in self._commits.values() if commit.flow in flows], "replays")
        rids = _numbers(tracks)
        where = f'"of" IN ({_runs(tracks)}) AND list_has_any(rids, {rids})'
        select = f'SELECT DISTINCT run, flow, "of", unnest(list_intersect(rids, {rids}))'
        found: dict[Track, list[Track]] = {}
        if paths:
            with opened(paths) as connection:
                for run, flow, of, rid in sorted(_asked(connection, paths, select, where)):
                    found.setdefault(Track(of, flow, rid), []).append(Track(run, flow, rid))
        return found

    def families(self, tracks: Collection[Track]) -> dict[Track, list[Made]]:
        """For each record those that a node made of it and others."""
        runs = {track.run for track in tracks}
        paths = self._paths([commit for name, commit in self._commits.items() if name in runs], "parents")
        found = families(paths, {(track.run, track.rid) for track in tracks})
        return {track: found.get((track.run, track.rid), []) for track in tracks}

    def steps(self, tracks: Collection[Track]) -> tuple[dict[str, Passed], dict[Track, list[Step]]]:
        """The runs of some records, and what they have kept of each record, in the order in which it happened."""
        found: dict[Track, list[Step]] = {track: [] for track in tracks}
        flows = {track.run: track.flow for track in tracks}
        commits = [commit for name, commit in self._commits.items() if name in flows]
        views = Views(self._root, Manifest(commits, self._manifest.merged))
        reported = [view for view in map(views.find, (("runs",), ("nodes",))) if view is not None]
        paths = self._paths(commits, "records", "rejects", "deliveries")
        with opened([*paths, *(path for view in reported for path in view.files)]) as connection:
            passed = _passed(connection, views, reported, tracks)
            for run, rid, step in [
                *self._payloads(connection, commits, "records", tracks),
                *self._payloads(connection, commits, "rejects", tracks),
                *self._receipts(connection, commits, tracks),
            ]:
                if (track := Track(run, flows.get(run, ""), rid)) in found:
                    found[track].append(step)
        return passed, {track: sorted(steps, key=lambda step: str(step["at"])) for track, steps in found.items()}

    def _payloads(
        self, connection: Any, commits: Sequence[Commit], table: str, tracks: Collection[Track]
    ) -> Iterator[tuple[str, int, Step]]:
        columns = ["run", "rid", "node", "at"] + (["port"] if table == "records" else ["code", "message", "attempt"])
        rids = sorted({track.rid for track in tracks})
        where = f"rid IN ({', '.join(map(str, rids)) or 'NULL'}) AND run IN ({_runs(tracks)})"
        groups: dict[str, list[File]] = {}
        for file in _files(commits, table):
            groups.setdefault(json.dumps(file.payloads), []).append(file)
        for files in groups.values():
            select = f"SELECT {', '.join(map(quoted, columns))}, {payload_text(files[0].payloads)} AS payload"
            for row in _asked(connection, [str(self._root / file.path) for file in files], select, where):
                run, rid, *rest = row
                step = dict(zip([*columns[2:], "payload"], rest, strict=True))
                payload = step.pop("payload")
                yield run, rid, {"port": "rejected", **step, "payload": payload and json.loads(payload)}

    def _receipts(
        self, connection: Any, commits: Sequence[Commit], tracks: Collection[Track]
    ) -> Iterator[tuple[str, int, Step]]:
        rids = _numbers(tracks)
        columns = 'run, rid, node, "at", ids[list_position(rids, rid)], status, attempt, milliseconds'
        select = f"SELECT {columns} FROM (SELECT *, unnest(list_intersect(rids, {rids})) AS rid"
        where = f"list_has_any(rids, {rids}))"
        for run, rid, *rest in _asked(connection, self._paths(commits, "deliveries"), select, where):
            names = ("node", "at", "id", "status", "attempt", "milliseconds")
            yield run, rid, {"port": "delivered", **dict(zip(names, rest, strict=True))}

    def _paths(self, commits: Sequence[Commit], *tables: str) -> list[str]:
        return [str(self._root / file.path) for file in _files(commits, *tables)]


def _passed(connection: Any, views: Views, reported: Sequence[View], tracks: Collection[Track]) -> dict[str, Passed]:
    views.make(connection, reported)
    runs = connection.sql(f"SELECT run, started, replay_of FROM runs WHERE run IN ({_runs(tracks)})").fetchall()
    found = {run: Passed(started.isoformat(), of) for run, started, of in runs}
    nodes = connection.sql(f"SELECT run, node, type, filtered FROM nodes WHERE run IN ({_runs(tracks)})").fetchall()
    for run, node, kind, filtered in nodes:
        found[run].nodes[node] = {"type": kind, "filtered": filtered}
    return found


def _asked(connection: Any, paths: Sequence[str], select: str, where: str) -> Rows:
    if not paths:
        return []
    found: Rows = connection.sql(f"{select} FROM {read_files(paths)} WHERE {where}").fetchall()
    return found


def _files(commits: Iterable[Commit], *tables: str) -> list[File]:
    found = {file.path: file for commit in commits for file in commit.files if file.table in tables}
    return list(found.values())


def _runs(tracks: Collection[Track]) -> str:
    return ", ".join(literal(run) for run in sorted({track.run for track in tracks})) or "NULL"


def _numbers(tracks: Collection[Track]) -> str:
    return f"[{', '.join(str(rid) for rid in sorted({track.rid for track in tracks}))}]::BIGINT[]"
