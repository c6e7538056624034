"""Batches of records: Arrow record batches with a hidden row id.

A batch that moves between nodes carries the column `ROW_ID` (int64, never null) as its last column. Node code never
sees it: the kernel takes it off before a node and puts it back after, so that no node can lose it.
"""

from __future__ import annotations

import pyarrow as pa

from pipelines.lean import settle_arrow

settle_arrow()

ROW_ID = "__rid"
SOURCE_BITS = 55
"""A row id is `source number << SOURCE_BITS | place within the source's split plan`: 255 sources, 3.6e16 places each."""

REJECT_COLUMNS = (
    pa.field("reject_node", pa.string(), nullable=False),
    pa.field("reject_code", pa.string(), nullable=False),
    pa.field("reject_message", pa.string(), nullable=False),
)
"""What the port `rejected` adds to the columns of the node's input."""


def without_ids(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The records as a node sees them."""
    index = batch.schema.get_field_index(ROW_ID)
    return batch if index < 0 else batch.remove_column(index)


def ids_of(batch: pa.RecordBatch) -> pa.Int64Array:
    """The row ids of a batch that has them."""
    return batch.column(ROW_ID)


def with_ids(batch: pa.RecordBatch, ids: pa.Array) -> pa.RecordBatch:
    """The records with `ids` (int64, one a record) as their hidden column."""
    fields = [*batch.schema, pa.field(ROW_ID, pa.int64(), nullable=False)]
    return pa.RecordBatch.from_arrays([*batch.columns, ids], schema=pa.schema(fields))


def schema_without_ids(schema: pa.Schema) -> pa.Schema:
    index = schema.get_field_index(ROW_ID)
    return schema if index < 0 else schema.remove(index)


def rejected_schema(schema: pa.Schema) -> pa.Schema:
    """What the port `rejected` of a node with this input gives."""
    kept = [field for field in schema if field.name not in {column.name for column in REJECT_COLUMNS}]
    return pa.schema([*kept, *REJECT_COLUMNS])
