"""What taps hand to the commit: rows as Arrow IPC bytes, or names of files in the run's staging folder.

A piece is a plain dict. Records and rejects carry their own columns beside the payload's, under the names below.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.records import ROW_ID
from repository.sample import one_batch

Piece = dict[str, Any]
"""`table`, `rows`, `bytes`; `node`, `port`, `policy`, `whole` for records; one of `ipc`, `ipc_file`, `parquet`."""

AT, KEY, CODE, MESSAGE, ATTEMPT = "__at", "__key", "__code", "__message", "__attempt"
"""Columns of ours beside a payload: time, business key; a reject's code, message and attempt."""
OWN_COLUMNS = (ROW_ID, AT, KEY, CODE, MESSAGE, ATTEMPT)
INLINE_BYTES = 1 << 16
"""Larger pieces are files: what travels between workers and the commit stays small."""
INSTANT = pa.timestamp("us", tz="UTC")

DELIVERIES = pa.schema(
    [
        pa.field("node", pa.string()),
        pa.field("rids", pa.list_(pa.int64())),
        pa.field("keys", pa.list_(pa.string())),
        pa.field("ids", pa.list_(pa.string())),
        pa.field("status", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("milliseconds", pa.float64()),
        pa.field("at", INSTANT),
    ]
)
"""One row per delivered batch; the view unfolds the lists."""
REPLAYS = pa.schema(
    [
        pa.field("node", pa.string()),
        pa.field("of", pa.string()),
        pa.field("rids", pa.list_(pa.int64())),
    ]
)
"""One row per node and earlier run whose rejects a run took up again; the view unfolds the lists."""
PARENTS = pa.schema(
    [
        pa.field("node", pa.string()),
        pa.field("rid", pa.int64()),
        pa.field("parents", pa.list_(pa.int64())),
        pa.field("count", pa.int64()),
    ]
)
"""One row per record that a node made of several; the view unfolds the list."""
TRANSACTIONS = pa.schema(
    [
        pa.field("part", pa.string()),
        pa.field("number", pa.int64()),
        pa.field("at", INSTANT),
        pa.field("node", pa.string()),
        pa.field("what", pa.string()),
        pa.field("details", pa.string()),
    ]
)
"""One row per event; the view numbers a run's events by time, then by tap and place in it."""


def by_schema(batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """The records as one batch for each schema, in the order the schemas came."""
    groups: list[list[pa.RecordBatch]] = []
    for batch in batches:
        for group in groups:
            if group[0].schema.equals(batch.schema):
                group.append(batch)
                break
        else:
            groups.append([batch])
    return [one_batch(group) for group in groups]


def pack(head: Mapping[str, Any], batch: pa.RecordBatch, path: Path) -> Piece:
    """A piece that holds the rows: inline, or in a file at `path` where they are many."""
    piece = {**head, "rows": batch.num_rows, "bytes": batch.nbytes}
    if batch.nbytes <= INLINE_BYTES:
        sink = io.BytesIO()
        _write(sink, [batch])
        return {**piece, "ipc": sink.getvalue()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        _write(file, [batch])
    return {**piece, "ipc_file": str(path)}


def unpack(piece: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """The rows of a piece that is no finished Parquet file."""
    if "ipc" in piece:
        yield from pa.ipc.open_stream(piece["ipc"])
        return
    with pa.OSFile(piece["ipc_file"]) as file:
        yield from pa.ipc.open_stream(file)


def _write(sink: Any, batches: Sequence[pa.RecordBatch]) -> None:
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
