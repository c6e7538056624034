"""Finds records by their business key over all runs, and what each run has kept of them at every port."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository.columns import literal, quoted
from repository.kept import opened, read_files
from repository.manifest import Commit, File, read
from repository.views import payload_text

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

    def by_key(self, key: str, flow: str | None = None, run: str | None = None) -> list[Track]:
        """The records with this business key at any node, the oldest run first.

        Records and rejects are asked first; only where they know nothing, the receipts.
        """
        commits = [
            commit for commit in self._commits.values() if flow in (None, commit.flow) and run in (None, commit.run)
        ]
        found = self._matching(
            _of(commits, "records", "rejects"), "SELECT DISTINCT run, flow, rid", f"key = {literal(key)}"
        )
        if not found:
            place = f"list_position(keys, {literal(key)})"
            found = self._matching(
                _of(commits, "deliveries"),
                f"SELECT DISTINCT run, flow, rids[{place}]",
                f"list_contains(keys, {literal(key)})",
            )
        order = {name: place for place, name in enumerate(self._commits)}
        return sorted((Track(*row) for row in found), key=lambda track: (order[track.run], track.rid))

    def replays(self, track: Track) -> list[Track]:
        """The runs that took this record up again after it had been rejected."""
        later = [commit for commit in self._commits.values() if commit.flow == track.flow]
        where = f'"of" = {literal(track.run)} AND list_contains(rids, {track.rid})'
        found = self._matching(_of(later, "replays"), "SELECT DISTINCT run", where)
        return [Track(run, track.flow, track.rid) for (run,) in sorted(found)]

    def steps(self, track: Track) -> list[Step]:
        """What its run has kept of a record, in the order in which it happened."""
        commit = self._commits[track.run]
        found = [*self._payloads(commit, "records", track), *self._payloads(commit, "rejects", track)]
        found += self._receipts(commit, track)
        return sorted(found, key=lambda step: str(step["at"]))

    def _payloads(self, commit: Commit, table: str, track: Track) -> Iterator[Step]:
        columns = ["node", "at"] + (["port"] if table == "records" else ["code", "message", "attempt"])
        for file in _of([commit], table):
            head = ", ".join(map(quoted, columns))
            select = f"SELECT {head}, {payload_text(file.payloads)} AS payload"
            for row in self._matching([file], select, f"rid = {track.rid}", track.run):
                step = dict(zip([*columns, "payload"], row, strict=True))
                payload = step.pop("payload")
                yield {"port": "rejected", **step, "payload": None if payload is None else json.loads(payload)}

    def _receipts(self, commit: Commit, track: Track) -> Iterator[Step]:
        place = f"list_position(rids, {track.rid})"
        select = f'SELECT node, "at", ids[{place}], status, attempt, milliseconds'
        for row in self._matching(_of([commit], "deliveries"), select, f"list_contains(rids, {track.rid})", track.run):
            names = ("node", "at", "id", "status", "attempt", "milliseconds")
            yield {"port": "delivered", **dict(zip(names, row, strict=True))}

    def _matching(
        self, files: Iterable[File], select: str, where: str, run: str | None = None
    ) -> list[tuple[Any, ...]]:
        paths = [str(self._root / file.path) for file in files]
        if not paths:
            return []
        with opened(paths) as connection:
            found: list[tuple[Any, ...]] = connection.sql(
                f"{select} FROM {read_files(paths, run)} WHERE {where}"
            ).fetchall()
        return found


def _of(commits: Sequence[Commit], *tables: str) -> list[File]:
    found = {file.path: file for commit in commits for file in commit.files if file.table in tables}
    return list(found.values())
