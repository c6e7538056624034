"""Compares what two runs have kept of a port, by key: which records are added, removed, or differ, and in which fields."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import Invalid
from repository.columns import Columns, common_columns, literal, quoted
from repository.manifest import Commit, File, read
from repository.opening import opened, read_files
from repository.views import payload_columns

EXAMPLES = 20


@dataclass(frozen=True)
class Side:
    """A run and the lake that has its records."""

    root: Path
    run: str
    only: Path | None = None
    """A Parquet file of the row ids that count; None: all."""


@dataclass(frozen=True)
class Difference:
    """What differs at one port. Records of the same key beyond the first are compared in the order of their row ids."""

    place: str
    key: str
    """What tells the records apart: the columns, `business key`, or where there is none `row id` or `whole record`."""
    before: int
    after: int
    """Records compared, of each side."""
    added: int
    removed: int
    changed: int
    same: int
    fields: Mapping[str, int]
    """Per field in how many of the changed records it differs."""
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    examples: Sequence[Mapping[str, Any]]
    """Some of the records that differ: `key`, `before`, `after` (null where there is none) and the `fields`."""

    @property
    def is_none(self) -> bool:
        return not (self.added or self.removed or self.changed or self.columns_added or self.columns_removed)


class Sides:
    """Two runs, each in a lake, opened for comparing."""

    def __init__(self, before: Side, after: Side, *, same_ids: bool = False) -> None:
        """With `same_ids` a record has the same row id on both sides, which tells those apart that have no key."""
        self._same_ids = same_ids
        self._roots = (before.root, after.root)
        self._only = (before.only, after.only)
        self._commits = tuple(_commit(side) for side in (before, after))

    def places(self) -> list[str]:
        """The ports, as `node.port`, of which at least one side has records."""
        names = [name for commit in self._commits for file in _records(commit) for name in file.payloads]
        return list(dict.fromkeys(names))

    def kept(self, place: str) -> tuple[int, int]:
        """How many records each side has of a port."""
        counts = []
        for root, commit in zip(self._roots, self._commits, strict=True):
            paths = [str(root / file.path) for file in _records(commit, place)]
            with opened(paths) as connection:
                sql = f"SELECT count(*) FROM {read_files(paths, commit.run)} WHERE {_of(place)}"
                counts.append(connection.sql(sql).fetchall()[0][0] if paths else 0)
        return counts[0], counts[1]

    def difference(self, place: str, key: Sequence[str] = (), examples: int = EXAMPLES) -> Difference:
        """What differs at a port; `key` names columns that tell records apart in place of their business key."""
        files = [_records(commit, place) for commit in self._commits]
        versions = [[file.payloads[place] for file in some] for some in files]
        columns = common_columns([*versions[0], *versions[1]])
        unknown = [name for name in key if name.lower() not in {column.lower() for column, _ in columns}]
        if unknown:
            there = ", ".join(name for name, _ in columns) or "none"
            raise Invalid(f"{place} has no column {unknown[0]!r} that could tell records apart; there are: {there}")
        owned = [{name.lower() for version in some for name, _ in version} for some in versions]
        shared = [name for name, _ in columns if all(name.lower() in names or not names for names in owned)]
        paths = [str(root / file.path) for root, some in zip(self._roots, files, strict=True) for file in some]
        with opened([*paths, *(str(only) for only in self._only if only is not None)]) as connection:
            for number, side in enumerate(("one", "other")):
                source = _source(self._commits[number], self._roots[number], files[number], place, columns)
                found = _side(source, columns, key, same_ids=self._same_ids)
                only = self._only[number]
                chosen = "" if only is None else f' WHERE "__rid" IN (FROM read_parquet({literal(str(only))}))'
                connection.execute(f"CREATE VIEW {side} AS SELECT * FROM ({found}){chosen}")
            connection.execute(f"CREATE TEMP VIEW pairs AS {_pairs(columns, shared)}")
            counts = connection.sql(_counts(shared)).fetchall()[0]
            rows = connection.sql(_examples(columns, shared, examples)).fetchall()
        before, after, added, removed, changed, by_key, *fields = counts
        differing = {name: count for name, count in zip(shared, fields, strict=True) if count}
        without = "row id" if self._same_ids else "whole record"
        told = ", ".join(key) if key else "business key" if by_key else without
        return Difference(
            place, told, before, after, added, removed, changed, before - removed - changed, differing,
            tuple(name for name, _ in columns if owned[0] and name.lower() not in owned[0]),
            tuple(name for name, _ in columns if owned[1] and name.lower() not in owned[1]),
            [_example(shared, *row) for row in rows],
        )  # fmt: skip


def _commit(side: Side) -> Commit:
    found = [commit for commit in read(side.root).commits if commit.run == side.run]
    return found[0] if found else Commit(side.run, "", ())


def _records(commit: Commit, place: str | None = None) -> list[File]:
    return [file for file in commit.files if file.table == "records" and (place is None or place in file.payloads)]


def _of(place: str) -> str:
    node, _, port = place.rpartition(".")
    return f"node = {literal(node)} AND port = {literal(port)}"


def _source(commit: Commit, root: Path, files: Sequence[File], place: str, columns: Columns) -> str:
    """One side's records: their columns, their row id and business key."""
    picked = []
    for file in files:
        values = ", ".join(payload_columns(place, file.payloads[place], columns))
        source = read_files([str(root / file.path)], commit.run)
        picked.append(f'SELECT {values}, rid AS "__rid", key AS "__business" FROM {source} WHERE {_of(place)}')
    if not picked:
        nothing = ", ".join(payload_columns(place, [], columns))
        picked = [f'SELECT {nothing}, NULL::BIGINT AS "__rid", NULL::VARCHAR AS "__business" WHERE false']
    return " UNION ALL ".join(picked)


def _side(source: str, columns: Columns, key: Sequence[str], *, same_ids: bool) -> str:
    """One side's records, what tells them apart, and which of those that share it they are."""
    whole = f"to_json({_struct([name for name, _ in columns])})::VARCHAR"
    own = f"to_json([{', '.join(f'{quoted(name)}::VARCHAR' for name in key)}])::VARCHAR" if key else '"__business"'
    without = "'rid ' || \"__rid\"" if same_ids else whole
    return (
        f'SELECT *, row_number() OVER (PARTITION BY "__key" ORDER BY "__rid") AS "__number" '
        f'FROM (SELECT *, coalesce({own}, {without}) AS "__key" FROM ({source}))'
    )


def _pairs(columns: Columns, shared: Sequence[str]) -> str:
    """Records of both sides that belong together, and those that have no fellow."""
    names = [name for name, _ in columns]
    values = [f"{side}.{quoted(name)} AS {quoted(f'{side}.{name}')}" for name in names for side in ("one", "other")]
    differs = [f"one.{quoted(name)} IS DISTINCT FROM other.{quoted(name)}" for name in shared]
    flags = [f"{condition} AS {quoted(f'differs.{name}')}" for name, condition in zip(shared, differs, strict=True)]
    heads = [
        'coalesce(one."__key", other."__key") AS "__key"',
        'one."__key" IS NULL AS is_added',
        'other."__key" IS NULL AS is_removed',
        f'({" OR ".join(differs) or "false"}) AND one."__key" IS NOT NULL AND other."__key" IS NOT NULL AS is_changed',
        'coalesce(one."__business", other."__business") IS NOT NULL AS has_key',
    ]
    on = 'one."__key" = other."__key" AND one."__number" = other."__number"'
    return f"SELECT {', '.join([*heads, *flags, *values])} FROM one FULL JOIN other ON {on}"


def _counts(shared: Sequence[str]) -> str:
    fields = [f"count(*) FILTER (is_changed AND {quoted(f'differs.{name}')})" for name in shared]
    heads = [
        "count(*) FILTER (NOT is_added)",
        "count(*) FILTER (NOT is_removed)",
        "count(*) FILTER (is_added)",
        "count(*) FILTER (is_removed)",
        "count(*) FILTER (is_changed)",
        "coalesce(bool_and(has_key), false)",
    ]
    return f"SELECT {', '.join([*heads, *fields])} FROM pairs"


def _examples(columns: Columns, shared: Sequence[str], most: int) -> str:
    names = [name for name, _ in columns]
    sides = [
        f"CASE WHEN NOT {missing} THEN to_json({_struct(names, f'{side}.')}) END"
        for side, missing in (("one", "is_added"), ("other", "is_removed"))
    ]
    flags = [f"is_changed AND {quoted(f'differs.{name}')}" for name in shared]
    where = "is_added OR is_removed OR is_changed"
    return f'SELECT "__key", {", ".join([*sides, *flags])} FROM pairs WHERE {where} ORDER BY "__key" LIMIT {most}'


def _struct(names: Sequence[str], before: str = "") -> str:
    return "{" + ", ".join(f"{literal(name)}: {quoted(before + name)}" for name in names) + "}"


def _example(shared: Sequence[str], key: str, before: str | None, after: str | None, *differs: bool) -> dict[str, Any]:
    return {
        "key": key,
        "before": None if before is None else json.loads(before),
        "after": None if after is None else json.loads(after),
        "fields": [name for name, is_other in zip(shared, differs, strict=True) if is_other],
    }
