"""Runs code over the numbers from 0, for the tests of users' Python."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.conformance.transforms import account
from pipelines.node import Outcome
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from transforms.python import Python

SCHEMA = pa.schema([("n", pa.int64())])
EACH = "def run(batch):\n    return {'x': [one(n) for n in batch['n'].to_pylist()]}\n"
BOTH = pytest.mark.parametrize("trusted", [True, False])


def worked(code: str, rows: int = 40, project: Path = Path(), **config: Any) -> Outcome:
    """What becomes of the numbers from 0, checked to be all of them."""
    sandbox = Sandbox()
    batch = pa.RecordBatch.from_pylist([{"n": n} for n in range(rows)], schema=SCHEMA)
    text = {"code": textwrap.dedent(code)} if code else {}
    step = Python.model_validate({"columns": {"x": "BIGINT"}, **text, **config}).open(SCHEMA, Scope(project), sandbox)
    outcome = step(batch)
    sandbox.close()
    account(outcome, batch)
    return outcome


def values(outcome: Outcome) -> list[Any]:
    found: list[Any] = outcome.out["out"].batch.column("x").to_pylist()
    return found


def rejected(outcome: Outcome) -> dict[int, str]:
    assert outcome.rejects is not None
    assert set(outcome.rejects.codes) == {"python"}
    return dict(zip(outcome.rejects.rows.to_pylist(), outcome.rejects.messages, strict=True))
