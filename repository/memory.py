"""The files of keys that nodes remember: taken over when a run ends, merged as they grow many, removed when they no longer count.

`memory/ENVIRONMENT/FLOW/NODE/*.parquet` below the project's home; which of them count stands in the catalogue. Files of like
size are merged, so that a key is written again as often as the memory grows eightfold, not with each run.
"""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.remembering import AT, BUCKET, BUCKETS, GROUP_ROWS, INSTANT, WITNESS, bucketed, witness
from pipelines.sql.sandbox import Sandbox
from repository.disk import synced, written
from repository.manifest import safe

FOLDER = "memory"
FEW = 8
"""So many files of like size are left side by side."""
ALIKE = 4
"""A file is like smaller ones while it is no larger than so many times all of them together."""
GRACE_SECONDS = 900.0
"""How long a file that no longer counts is left to whoever began to read before."""

Line = dict[str, Any]
"""A file as the catalogue has it: `path` below the folder, `environment`, `flow`, `node`, `run`, `key`, `rows`, `since`, `at`."""


def taken_over(
    home: Path, environment: str, flow: str, run: str, at: datetime, keys: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Line]:
    """Moves the files that a run's workers wrote into the memory; the lines by which they come to count. Done again
    after a crash it gives the same."""
    lines = []
    for node, files in keys.items():
        for file in files:
            source = Path(file["path"])
            path = f"{folder_of(environment, flow, node)}/{safe(run)}~{source.name}"
            _moved(source, home / FOLDER / path)
            head = {"path": path, "environment": environment, "flow": flow, "node": node, "run": run}
            lines.append({**head, "key": file["key"], "rows": file["rows"], "since": at, "at": at})
    return lines


def _moved(source: Path, target: Path) -> None:
    if not source.exists():
        return  # it was moved before a crash
    with written(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        synced(source)
        try:
            source.replace(target)
        except OSError:  # the run's folder is on another disk
            partial = target.with_suffix(".tmp")
            shutil.copyfile(source, partial)
            partial.replace(target)
        synced(target.parent)


def folder_of(environment: str, flow: str, node: str) -> str:
    """Where a node's files lie, below the memory folder."""
    return f"{safe(environment)}/{safe(flow)}/{safe(node)}"


def alike(lines: Iterable[Line]) -> list[Line]:
    """The files that are to become one; none where they are few, or one is much larger than all before it."""
    ordered = sorted(lines, key=lambda line: int(line["rows"]))
    found: list[Line] = []
    rows = 0
    for line in ordered:
        if found and line["rows"] > ALIKE * rows:
            break
        found.append(line)
        rows += line["rows"]
    return found if len(found) >= FEW else []


def merged(home: Path, lines: Sequence[Line], days: int | None, now: datetime, sandbox: Sandbox) -> Line:
    """One file of several, a bucket at a time, without what has been remembered long enough."""
    first = lines[0]
    path = f"{Path(first['path']).parent}/{uuid.uuid4().hex}.parquet"
    since = None if days is None else now - timedelta(days=days)
    files = [pq.ParquetFile(home / FOLDER / line["path"]) for line in lines]
    target = home / FOLDER / path
    rows = 0
    with written(target):
        schema = files[0].schema_arrow.with_metadata({WITNESS: witness(sandbox)})
        with pq.ParquetWriter(target.with_suffix(".tmp"), schema, compression="zstd") as writer:
            for bucket in range(BUCKETS):
                table = pa.concat_tables([_bucket(file, bucket, since, sandbox, schema) for file in files])
                rows += table.num_rows
                writer.write_table(table, row_group_size=GROUP_ROWS)
        for file in files:
            file.close()
        synced(target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)
        synced(target.parent)
    oldest = min(line["since"] for line in lines)
    latest = max(lines, key=lambda line: str(line["at"]))
    return {**first, "path": path, "run": latest["run"], "rows": rows, "since": oldest, "at": latest["at"]}


def _bucket(file: pq.ParquetFile, bucket: int, since: datetime | None, sandbox: Sandbox, schema: pa.Schema) -> pa.Table:
    found = [schema.empty_table()]
    key = [name for name in schema.names if name not in (BUCKET, AT)]
    is_sound = (file.schema_arrow.metadata or {}).get(WITNESS) == witness(sandbox)
    for number in range(file.num_row_groups):
        table = file.read_row_group(number, use_threads=False)
        if not is_sound:  # another release of DuckDB has put them into buckets
            keys = table.drop_columns([BUCKET]).combine_chunks().to_batches()
            table = pa.concat_tables([bucketed(batch, key, sandbox) for batch in keys])
        chosen = pc.equal(table.column(BUCKET), bucket)
        if since is not None:
            chosen = pc.and_(chosen, pc.greater_equal(table.column(AT), pa.scalar(since, INSTANT)))
        found.append(table.filter(chosen).replace_schema_metadata(schema.metadata))
    return pa.concat_tables(found)


def swept(home: Path, folder: str, counting: Iterable[str], now_seconds: float | None = None) -> None:
    """Removes the files of a folder that do not count, some time after they ceased to."""
    kept = {Path(path).name for path in counting}
    until = (now_seconds or time.time()) - GRACE_SECONDS
    place = home / FOLDER / folder
    for path in list(place.iterdir()) if place.is_dir() else ():
        if path.name not in kept and path.stat().st_mtime < until:
            path.unlink(missing_ok=True)
