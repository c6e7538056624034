"""What tests of `validate` share: one batch through the node, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.node import Outcome
from pipelines.quality.findings import Finding
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from transforms.validate import Validate

SCHEMA = pa.schema([pa.field("email", pa.string())])
NOT_NULL = {"expect_column_values_to_not_be_null": {"column": "email"}}


@dataclass
class Told:
    """The problems that a check reports."""

    problems: list[tuple[tuple[str | int, ...], str, str, bool]] = field(default_factory=list)

    def __call__(self, at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        self.problems.append((at, what, fix, warning))


def records_of(*records: Mapping[str, Any], schema: pa.Schema | None = None) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(records), schema=schema)


def run(node: Validate, batch: pa.RecordBatch, scope: Scope | None = None) -> Outcome:
    scope = scope or Scope(project=Path())
    with borrowed(scope) as sandbox:
        return node.open(batch.schema, scope, sandbox)(batch)


def reasons(node: Validate, batch: pa.RecordBatch, scope: Scope | None = None) -> dict[int, str]:
    """Per rejected row what was said of it."""
    rejects = run(node, batch, scope).rejects
    return {} if rejects is None else dict(zip(rejects.rows.to_pylist(), rejects.messages, strict=True))


def passed_rows(outcome: Outcome, rows: int) -> list[int]:
    piece = outcome.out["out"]
    return list(range(rows)) if piece.rows is None else piece.rows.to_pylist()


def findings(node: Validate, batches: Sequence[pa.RecordBatch], scope: Scope) -> list[Finding]:
    """What is found over batches that as many threads have judged."""
    parts = []
    with borrowed(scope) as sandbox:
        for batch in batches:
            step: Any = node.open(batch.schema, scope, sandbox)
            step(batch)
            parts.extend(step.close())
    return list(node.verify(parts, batches[0].schema, scope))


def problems_of(node: Validate, schema: pa.Schema | None, scope: Scope | None = None) -> list[tuple[Any, ...]]:
    told = Told()
    node.check({"": schema}, scope or Scope(project=Path()), told)
    return told.problems
