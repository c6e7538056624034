"""How a batch travels between workers: one Arrow IPC stream, of a slice only its rows, its size known without pickling it."""

from __future__ import annotations

import apache_beam as beam
import pyarrow as pa

from pipelines import wire


class BatchCoder(beam.coders.Coder):
    """Encodes a `pyarrow.RecordBatch` as one Arrow IPC stream (the columnar format's streaming protocol)."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        return wire.encode(value)

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        return wire.decode(encoded)

    def estimate_size(self, value: pa.RecordBatch) -> int:
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        return False

    def to_type_hint(self) -> type[pa.RecordBatch]:
        return pa.RecordBatch
