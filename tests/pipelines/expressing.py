"""What tests of expressions share: columns, a scope, and one expression computed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from pipelines.scope import Scope
from pipelines.sql.expressions import Bound, Evaluated, Evaluator, bind
from pipelines.sql.sandbox import Sandbox

LINES = pa.list_(pa.struct([("sku", pa.string()), ("qty", pa.int64())]))
ORDERS = pa.schema(
    [
        ("order_id", pa.int64()),
        ("email", pa.string()),
        ("quantity", pa.string()),
        ("price", pa.decimal128(38, 4)),
        ("lines", LINES),
        ("ship to", pa.struct([("city", pa.string())])),
        ("updated", pa.timestamp("ns", tz="Europe/Berlin")),
    ]
)


def scope(**values: object) -> Scope:
    return Scope(Path(), values=values, now=datetime(2026, 3, 29, 0, 30, 15, 123456, tzinfo=UTC))


def bound(text: str, sandbox: Sandbox, **values: object) -> Bound:
    return bind({"field": text}, ORDERS, values, sandbox)


def evaluated(text: str, batch: pa.RecordBatch, sandbox: Sandbox, **values: object) -> Evaluated:
    return Evaluator({"field": text}, batch.schema, scope(**values), sandbox)(batch)


def value(text: str, sandbox: Sandbox, row: Mapping[str, object] | None = None, **values: object) -> object:
    batch = pa.RecordBatch.from_pylist([dict(row or {"a": 1})])
    found = evaluated(text, batch, sandbox, **values)
    assert not found.faults
    return found.columns.column(0)[0].as_py()
