"""What the tests of `file.post` share: a post run from batches to a file, without the engine around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from adapters.file.post import Post
from pipelines.node import Outcome, Part, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox


def scope_in(folder: Path, run: str = "run-1") -> Scope:
    staging = folder / ".processflow" / "staging" / run
    staging.mkdir(parents=True, exist_ok=True)
    return Scope(project=folder, run=run, staging=staging)


def post(**config: Any) -> Post:
    return Post.model_validate(config)


def stage(node: Post, batches: Sequence[pa.RecordBatch], scope: Scope) -> tuple[list[Part], list[Outcome]]:
    writer = node.open(batches[0].schema, scope, Sandbox())
    outcomes = [writer.put(batch) for batch in batches]
    return list(writer.close()), outcomes


def deliver(
    node: Post, batches: Sequence[pa.RecordBatch], folder: Path, run: str = "run-1", writers: int = 1
) -> list[Outcome]:
    """Runs batches through as many writers, then publishes; nothing but the target may be left."""
    scope = scope_in(folder, run)
    parts: list[Part] = []
    outcomes: list[Outcome] = []
    for number in range(writers):
        if batches[number::writers]:
            more, told = stage(node, batches[number::writers], scope)
            parts += more
            outcomes += told
    node.publish(parts, batches[0].schema, scope, f"{run}/node").commit()
    assert node.is_published(scope, f"{run}/node")
    return outcomes


def batch(rows: Iterable[dict[str, Any]], schema: pa.Schema | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=schema)


def visible(folder: Path) -> list[str]:
    """Every file there, hidden ones too, but for the run's own folder."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".processflow/" not in str(path.relative_to(folder))
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The records of a Parquet file."""
    found: list[dict[str, Any]] = pq.ParquetFile(path).read().to_pylist()
    return found


def read_back(folder: Path, **config: Any) -> pa.Table:
    """What `file.get` reads of a path; a malformed record is a fault of the test."""
    from adapters.file.get import Get

    node = Get.model_validate(config)
    scope = scope_in(folder)
    problems: list[str] = []
    schema = node.check({}, scope, lambda at, what, fix="", *, warning=False: problems.append(what))["out"]
    assert not problems
    assert schema is not None
    want = Want()
    chunks = [
        chunk
        for split in node.plan(scope, None, want).splits
        for chunk in node.read(split.payload, schema, scope, want)
    ]
    assert not [text for chunk in chunks if chunk.malformed for text in chunk.malformed.texts]
    return pa.Table.from_batches([chunk.batch for chunk in chunks], schema)
