"""Makes a run's data logs visible: gathers what its taps kept, writes it as Parquet, and announces it by one manifest."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from repository.columns import Columns
from repository.disk import synced, written
from repository.keyfilter import INLINE_BYTES, Blocks, KeyFilter
from repository.keyhash import blocks_of, hashes_of
from repository.manifest import (
    COMMITS,
    LOOSE_RUNS,
    UNFINISHED,
    Commit,
    File,
    commit_of,
    is_committed,
    locked,
    loose,
    merged_of,
    merged_paths,
    safe,
    write,
    write_merged,
)
from repository.pieces import by_schema, unpack
from repository.port import AUTO_BYTES, AUTO_ROWS
from repository.sample import sampled
from repository.spill import encoding, records_table, with_constants
from repository.tables import REPORTED, Row, node_rows, run_row

TOGETHER_BYTES = 1 << 20
"""Payloads smaller than this share a run's file; larger ones have one of their own."""
TOGETHER_PAYLOADS = 32
"""How many share a file: each row is null in the columns of all others."""
COMPACT: dict[str, Any] = {"default": str, "ensure_ascii": False, "separators": (",", ":")}
PLAIN_TABLES = ("deliveries", "parents", "replays", "transactions")
KEYS, MERGED_KEYS = ".keys", ".merged.keys"
FILTERED_KEYS = 1 << 20
"""Of a run that keeps more keys there is no filter, and of more receipts none of theirs: it would take seconds."""

Payload = tuple[str, pa.Table, Columns]
"""A payload's name, its rows with head columns, its columns."""


def commit(root: Path, report: Mapping[str, Any], pieces: Sequence[Mapping[str, Any]]) -> None:
    """Makes a run's logs visible in one step. Again after a crash it finishes what was begun, or does nothing.

    Raises:
        Unavailable: The disk refuses; nothing of the run shows, and a later call may finish it.
    """
    with written(root):
        _commit(root, report, pieces)


def _commit(root: Path, report: Mapping[str, Any], pieces: Sequence[Mapping[str, Any]]) -> None:
    run, flow = report["run"], report["flow"]
    folder = root / COMMITS
    folder.mkdir(parents=True, exist_ok=True)
    if is_committed(root, run, str(report["started"])):
        return
    place = Place(root, run, flow, str(report["started"])[:10])
    intent = folder / f"{safe(run)}.json{UNFINISHED}"
    if intent.exists():
        place.clear({Path(piece["parquet"]).stem for piece in pieces if "parquet" in piece})
    intent.touch()
    constants = {"run": run, "flow": flow, "version": str(report.get("version", ""))}
    files = [*_moved(place, pieces)]
    for table in ("records", "rejects"):
        files += _write_payloads(place, table, _payloads(constants, table, pieces))
    for table in PLAIN_TABLES:
        files += _write_plain(place, table, constants, pieces)
    keys = _keys(place, files)
    place.settle()
    write(root, Commit(run, flow, tuple(files), {"runs": [run_row(report)], "nodes": node_rows(report)}, keys))
    merge(root)


class Place:
    """Where a run's files go, hive-partitioned, and which have been written."""

    def __init__(self, root: Path, run: str, flow: str, date: str) -> None:
        self._root = root
        self._run = safe(run)
        self._partition = f"flow={safe(flow)}/date={date}"
        self._written: list[Path] = []

    def path(self, table: str, suffix: str = "") -> tuple[Path, str]:
        """A file's path, and its name in the manifest."""
        name = f"{table}/{self._partition}/{self._run}{suffix}.parquet"
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.append(path)
        return path, name

    def beside(self, suffix: str) -> tuple[Path, str]:
        """The path of a file beside the run's manifest, and its name there."""
        name = f"{COMMITS}/{self._run}{suffix}"
        self._written.append(self._root / name)
        return self._root / name, name

    def of(self, file: File) -> Path:
        """Where a committed file is."""
        return self._root / file.path

    def clear(self, moved: set[str]) -> None:
        """Removes what a commit that did not end has written, but for the files `moved` from the staging folder."""
        for table in ("records", "rejects", *PLAIN_TABLES):
            for path in (self._root / table / self._partition).glob("*"):
                run, _, rest = path.name.removesuffix(UNFINISHED).removesuffix(".parquet").partition("~")
                if run == self._run and rest not in moved:
                    path.unlink()

    def settle(self) -> None:
        """Waits until all that was written is on disk. Several at a time: each waits for the same disk."""
        if self._written:
            with ThreadPoolExecutor(min(8, len(self._written))) as pool:
                list(pool.map(synced, self._written))


def merge(root: Path, most: int = LOOSE_RUNS) -> None:
    """Merges the manifests of single runs once there are more than `most`, and their rows into Parquet files."""
    if len(loose(root)) <= most:
        return
    with locked(root) as alone:
        if not alone:
            return
        known = {commit.run for path in merged_paths(root) for commit in merged_of(path)[1]}
        paths = loose(root)
        for path in [path for path in paths if commit_of(path.read_text("utf-8")).run in known]:
            path.unlink()  # left by a merge that was interrupted
            path.with_suffix(KEYS).unlink(missing_ok=True)
        paths = [path for path in paths if path.exists()]
        if not paths:
            return
        commits = [commit_of(path.read_text("utf-8")) for path in paths]
        tables = {}
        for table, columns in REPORTED.items():
            rows = [row for each in commits for row in each.rows[table]]
            name = f"{table}/{safe(commits[-1].run)}.merged.parquet"
            (root / table).mkdir(exist_ok=True)
            pq.write_table(reported_table(rows, columns), root / name)
            synced(root / name)
            tables[table] = name
        write_merged(root, _filters_together(root, commits), tables)
        for path in paths:
            path.unlink()
            path.with_suffix(KEYS).unlink(missing_ok=True)


def reported_table(rows: Sequence[Row], columns: Mapping[str, str]) -> pa.Table:
    """Rows of `runs` or `nodes` as Arrow."""
    kinds = {"BOOLEAN": pa.bool_(), "BIGINT": pa.int64(), "DOUBLE": pa.float64()}
    arrays = {}
    for name, kind in columns.items():
        values = [row[name] for row in rows]
        if kind == "JSON":
            values = [None if value is None else json.dumps(value, **COMPACT) for value in values]
        array = pa.array(values, kinds.get(kind, pa.string()))
        arrays[name] = array.cast(pa.timestamp("us", tz="UTC")) if kind == "TIMESTAMPTZ" else array
    return pa.table(arrays)


def _keys(place: Place, files: Sequence[File]) -> KeyFilter | None:
    """The filter of the business keys in these files; None where there are too many to tell."""
    others = [file for file in files if file.table in ("records", "rejects")]
    if sum(file.rows for file in others) > FILTERED_KEYS:
        return None
    numbers = [hashes_of(pq.ParquetFile(place.of(file)).read(["key"])["key"]) for file in others]
    told = _receipts([place.of(file) for file in files if file.table == "deliveries"])
    blocks = blocks_of([*numbers, *(told or ())])
    if len(blocks) <= INLINE_BYTES:
        return KeyFilter(blocks, has_receipts=told is not None)
    path, name = place.beside(KEYS)
    path.write_bytes(blocks)
    return KeyFilter(None, name, 0, len(blocks), told is not None)


def _receipts(paths: Iterable[Path]) -> list[np.ndarray] | None:
    """The hashes of the keys of receipts; None where there are too many of them."""
    found: list[np.ndarray] = []
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(columns=["keys"]):
            found.append(hashes_of(batch.column(0).flatten()))
            if sum(map(len, found)) > FILTERED_KEYS:
                return None
    return found


def _filters_together(root: Path, commits: Sequence[Commit]) -> list[Commit]:
    """The commits, with the filters that have files of their own in one file."""
    target = f"{COMMITS}/{safe(commits[-1].run)}{MERGED_KEYS}"
    found, offset = [], 0
    with (root / target).open("wb") as file, Blocks(root) as there:
        for commit in commits:
            keys = commit.keys
            if keys is not None and keys.inline is None:
                blocks = there.read(keys.path, keys.offset, keys.length)
                if blocks is not None:
                    file.write(blocks)
                    keys = replace(keys, path=target, offset=offset, length=len(blocks))
                    offset += len(blocks)
            found.append(replace(commit, keys=keys))
    synced(root / target)
    return found


def _payloads(constants: Mapping[str, str], table: str, pieces: Sequence[Mapping[str, Any]]) -> Iterable[Payload]:
    """What taps kept in memory, gathered by port: the policy is decided once more, over all taps."""
    ports: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for piece in pieces:
        if piece["table"] == table and "parquet" not in piece:
            ports.setdefault((piece["node"], piece["port"]), []).append(piece)
    for (node, port), some in ports.items():
        name, head = node, {**constants, "node": node}
        if table == "records":
            name, head = f"{node}.{port}", {**head, "port": port}
        for batch in by_schema(_kept(some)):
            rows, columns = records_table(head, name, batch, is_reject=table == "rejects")
            yield name, rows.sort_by([("rid", "ascending"), ("at", "ascending")]), columns


def _kept(pieces: Sequence[Mapping[str, Any]]) -> Iterable[pa.RecordBatch]:
    batches = (batch for piece in pieces for batch in unpack(piece))
    rows, size = sum(piece["rows"] for piece in pieces), sum(piece["bytes"] for piece in pieces)
    whole = all(piece["whole"] for piece in pieces)
    if whole and (pieces[0]["policy"] == "all" or (rows < AUTO_ROWS and size < AUTO_BYTES)):
        return batches
    return sampled(batches)


def _write_payloads(place: Place, table: str, payloads: Iterable[Payload]) -> Iterable[File]:
    """Writes small payloads into one file side by side, each as a column of structs, and large ones by themselves."""
    small: list[Payload] = []
    number = 0
    for name, rows, columns in payloads:
        is_second = any(name == known for known, _, _ in small)
        if rows.nbytes > TOGETHER_BYTES or is_second:
            number += 1
            yield _write_table(place, table, f"~{number}", rows, {name: columns})
        else:
            small.append((name, rows, columns))
    for first in range(0, len(small), TOGETHER_PAYLOADS):
        some = small[first : first + TOGETHER_PAYLOADS]
        together = pa.concat_tables([rows for _, rows, _ in some], promote_options="default").combine_chunks()
        suffix = f"~{number + first}s" if first else ""
        yield _write_table(place, table, suffix, together, {name: columns for name, _, columns in some})


def _write_plain(
    place: Place, table: str, constants: Mapping[str, str], pieces: Sequence[Mapping[str, Any]]
) -> Iterable[File]:
    batches = [
        batch for piece in pieces if piece["table"] == table and "parquet" not in piece for batch in unpack(piece)
    ]
    if batches:
        rows = pa.concat_tables([with_constants(constants, batch) for batch in batches])
        yield _write_table(place, table, "", rows, {})


def _write_table(place: Place, table: str, suffix: str, rows: pa.Table, payloads: dict[str, Columns]) -> File:
    path, name = place.path(table, suffix)
    partial = path.with_name(path.name + UNFINISHED)
    pq.write_table(rows, partial, **encoding(rows))
    partial.replace(path)
    return File(table, name, rows.num_rows, payloads)


def _moved(place: Place, pieces: Sequence[Mapping[str, Any]]) -> Iterable[File]:
    """Finished files leave the staging folder for the lake; those moved before a crash are there already."""
    for piece in pieces:
        if "parquet" in piece:
            source = Path(piece["parquet"])
            path, name = place.path(piece["table"], f"~{source.stem}")
            if source.exists():
                _move(source, path)
            yield File(piece["table"], name, piece["rows"], json.loads(piece["payloads"]))


def _move(source: Path, target: Path, rename: Callable[[Path, Path], Any] = os.replace) -> None:
    """Renames; where the lake is on another disk, copies beside the target and renames there."""
    try:
        rename(source, target)
    except OSError:
        partial = target.with_name(target.name + UNFINISHED)
        shutil.copyfile(source, partial)
        partial.replace(target)
        with contextlib.suppress(OSError):
            source.unlink()
