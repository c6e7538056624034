"""Batches as bytes and files: Arrow IPC, of a slice only its own rows, files read without a copy where the system can."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.align import align
from pipelines.disk import spilled
from pipelines.sql.carried import plain_schema


def encode(batch: pa.RecordBatch) -> bytes:
    """One batch, with its schema, as an Arrow IPC stream; of a slice only its own rows are written."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode(encoded: bytes) -> pa.RecordBatch:
    """The one batch of an Arrow IPC stream."""
    with pa.ipc.open_stream(encoded) as reader:
        return reader.read_next_batch()


class SpillWriter:
    """Appends batches of one schema to an Arrow IPC file; the file exists from the first batch on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        batch = align(batch, plain_schema(batch.schema))
        with spilled(self.path):
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = pa.ipc.new_file(str(self.path), batch.schema)
            self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        if self._writer is not None:
            with spilled(self.path):
                self._writer.close()


def read_spill(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of a spilled file, in order, mapped into memory."""
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)
