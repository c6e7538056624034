"""What an outcome says of its records."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pipelines.node import Outcome, Rejects
from pipelines.plan import Station
from pipelines.records import REJECT_COLUMNS, ids_of, with_ids, without_ids


def created(outcome: Outcome) -> int:
    """How many records left beyond one for each input row that left at all."""
    left = sum(piece.batch.num_rows for piece in outcome.out.values())
    if all(piece.rows is None for piece in outcome.out.values()) and len(outcome.out) <= 1:
        return 0
    rows = [
        np.arange(piece.batch.num_rows) if piece.rows is None else piece.rows.to_numpy(zero_copy_only=False)
        for piece in outcome.out.values()
    ]
    if len(rows) == 1 and bool(np.all(rows[0][1:] > rows[0][:-1])):
        return 0
    return left - len(np.unique(np.concatenate(rows)))


def rejected_batch(node: str, batch: pa.RecordBatch, rejects: Rejects) -> pa.RecordBatch:
    """What the port `rejected` gives: the records with node, code and message, and their row ids last."""
    plain = without_ids(batch)
    own = {column.name for column in REJECT_COLUMNS}
    kept = plain.select([name for name in plain.schema.names if name not in own])
    why = [
        pa.repeat(node, batch.num_rows),
        pa.array(rejects.codes, pa.string()),
        pa.array(rejects.messages, pa.string()),
    ]
    schema = pa.schema([*kept.schema, *REJECT_COLUMNS])
    return with_ids(pa.RecordBatch.from_arrays([*kept.columns, *why], schema=schema), ids_of(batch))


def too_many(station: Station, rejected: int, taken: int | None = None) -> str:
    """What a run says that stops at its threshold of rejects."""
    of = "" if taken is None else f" of {taken:,}"
    return (
        f"node {station.name!r}: {rejected:,}{of} records were rejected, more than fail_above: "
        f"{station.rejects.fail_above} allows; nothing staged in this phase was published"
    )
