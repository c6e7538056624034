"""Columns that a run's policy keeps out of the data logs, or shows only as `***`."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.node import MALFORMED
from pipelines.tap import TapPlan
from repository.pieces import MESSAGE, OWN_COLUMNS

MASKED = "***"


def hidden_columns(plan: TapPlan) -> frozenset[str]:
    """The names, in lower case, of columns whose values no log may show."""
    return frozenset(name.lower() for name in (*plan.mask, *plan.exclude))


def without_secrets(batch: pa.RecordBatch, plan: TapPlan) -> pa.RecordBatch:
    """The records without excluded columns and with masked ones unreadable, in messages too. Names match as SQL's do.

    A malformed record has no columns yet: all of its text is masked.
    """
    hidden = hidden_columns(plan)
    if not hidden:
        return batch
    if [name for name in batch.schema.names if name not in OWN_COLUMNS] == MALFORMED.names:
        hidden |= {name.lower() for name in MALFORMED.names}
    excluded = {name.lower() for name in plan.exclude}
    arrays, names = [], []
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if name in OWN_COLUMNS:
            arrays.append(_told(array, batch, hidden) if name == MESSAGE else array)
        elif name.lower() in excluded:
            continue
        else:
            arrays.append(_masked(array) if name.lower() in hidden else array)
        names.append(name)
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _masked(array: pa.Array) -> pa.Array:
    return pc.if_else(array.is_null(), pa.scalar(None, pa.string()), pa.scalar(MASKED))


def _told(messages: pa.Array, batch: pa.RecordBatch, hidden: frozenset[str]) -> pa.Array:
    """The messages of rejects without the hidden values that they quote. Row by row: each has values of its own."""
    told = messages.to_pylist()
    for name, array in zip(batch.schema.names, batch.columns, strict=True):
        if name not in OWN_COLUMNS and name.lower() in hidden:
            for row, value in enumerate(array.to_pylist()):
                if value is not None and str(value):
                    told[row] = told[row].replace(str(value), MASKED)
    return pa.array(told, pa.string())
