"""Merges the logs of what gets with `changes_only` know of their sources (`pipelines/differing.py`)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.align import align
from pipelines.differing import HASH, LOG_COLUMNS, log_of
from pipelines.remembering import AT, BUCKET, BUCKETS, GROUP_ROWS, WITNESS, witness
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox
from repository.disk import synced, written
from repository.memory import FOLDER, Line
from repository.opening import opened


def merged_log(home: Path, lines: Sequence[Line], key: pa.Schema, sandbox: Sandbox, *, is_whole: bool) -> Line:
    """One file of several, a bucket at a time: of each key the latest row. Where the files are all there are, keys that
    are gone are left out."""
    first = lines[0]
    path = f"{Path(first['path']).parent}/{uuid.uuid4().hex}.parquet"
    target = home / FOLDER / path
    schema = pa.schema([*key, *LOG_COLUMNS], metadata={WITNESS: witness(sandbox)})
    rows = 0
    with written(target):
        with pq.ParquetWriter(target.with_suffix(".tmp"), schema, compression="zstd") as writer:
            for bucket in range(BUCKETS):
                files = [str(home / FOLDER / line["path"]) for line in lines]
                table = _latest(files, key, schema, bucket, is_whole=is_whole)
                rows += table.num_rows
                writer.write_table(table, row_group_size=GROUP_ROWS)
        synced(target.with_suffix(".tmp"))
        target.with_suffix(".tmp").replace(target)
        synced(target.parent)
    oldest = min(line["since"] for line in lines)
    latest = max(lines, key=lambda line: str(line["at"]))
    return {**first, "path": path, "run": latest["run"], "rows": rows, "since": oldest, "at": latest["at"]}


def _latest(files: Sequence[str], key: pa.Schema, schema: pa.Schema, bucket: int, *, is_whole: bool) -> pa.Table:
    """The rows of a bucket that count."""
    now = (schema.metadata or {})[WITNESS]
    found = pa.concat_tables(table for path in files for table in log_of(path, key, now, [bucket]))
    names = ", ".join(map(name_of, key.names))
    kept = f"WHERE {HASH} IS NOT NULL" if is_whole else ""
    with opened([]) as connection:
        connection.register("found", found)
        rows = connection.sql(
            f"SELECT {names}, {HASH}, {bucket}::UTINYINT AS {BUCKET}, {AT} FROM (SELECT {names}, "
            f"arg_max_null({HASH}, {AT}) AS {HASH}, max({AT}) AS {AT} FROM found "
            f"WHERE hash({names}) % {BUCKETS} = {bucket} GROUP BY {names}) {kept}"
        ).to_arrow_table()
    batches = [align(batch, schema) for batch in rows.to_batches()]
    return pa.Table.from_batches(batches, schema)
