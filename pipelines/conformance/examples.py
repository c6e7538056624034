"""Examples of node types as data: records to batches, batches to records, and whether two say the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from pipelines.node import Example, Outcome, Transform
from pipelines.records import REJECT_COLUMNS
from pipelines.scope import Scope
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox

Records = Sequence[Mapping[str, Any]]


def batch_of(records: Records, columns: Mapping[str, str], sandbox: Sandbox) -> pa.RecordBatch:
    """Records as a batch; `columns` gives the DuckDB types of those columns whose values do not tell them."""
    names = list(dict.fromkeys([*(name for record in records for name in record), *columns]))
    arrays = {name: pa.array([record.get(name) for record in records]) for name in names}
    plain = pa.RecordBatch.from_arrays(list(arrays.values()), names=names)
    if not columns:
        return plain
    items = [
        f"CAST({name_of(name)} AS {columns[name]}) AS {name_of(name)}" if name in columns else name_of(name)
        for name in names
    ]
    batch: pa.RecordBatch = sandbox.prepare(", ".join(items), plain.schema)(plain)
    return batch


def inputs_of(example: Example, sandbox: Sandbox) -> dict[str, pa.RecordBatch]:
    """The batch that comes in by each input; `""` where inputs have no names."""
    given = example.records if isinstance(example.records, Mapping) else {"": example.records}
    return {name: batch_of(records, example.columns, sandbox) for name, records in given.items()}


def records_of(outcome: Outcome, batch: pa.RecordBatch) -> dict[str, list[dict[str, Any]]]:
    """What leaves by each port, `rejected` included."""
    found = {port: piece.batch.to_pylist() for port, piece in outcome.out.items()}
    rejects = outcome.rejects
    if rejects is not None:
        why = zip(rejects.codes, rejects.messages, strict=True)
        _node, code, message = (column.name for column in REJECT_COLUMNS)
        found["rejected"] = [
            {**record, code: said, message: words}
            for record, (said, words) in zip(batch.take(rejects.rows).to_pylist(), why, strict=True)
        ]
    return found


def run_example(node: Transform, example: Example, scope: Scope, sandbox: Sandbox) -> None:
    """Runs an example of a transform as one batch.

    Raises:
        AssertionError: where something else comes out than the example says.
    """
    batch = inputs_of(example, sandbox)[""]
    assert_gives(records_of(node.open(batch.schema, scope, sandbox)(batch), batch), example)


def assert_gives(found: Mapping[str, Records], example: Example) -> None:
    """Holds what left by each port to what an example says.

    Raises:
        AssertionError: something else left.
    """
    for port in {*found, *example.gives}:
        given, said = found.get(port, []), example.gives.get(port, [])
        if port == "rejected":  # an example tells what matters of a rejected record
            named = [{name: record[name] for name in told} for record, told in zip(given, said, strict=False)]
            given = [*named, *given[len(said) :]]
        assert same_records(given, said), f"{example.says or example.config}: port {port} gave {given}, not {said}"


def same_records(found: Records, said: Records) -> bool:
    """Whether records say the same, where an example may write a decimal as a number and a time as a text."""
    return len(found) == len(said) and all(_same(one, other) for one, other in zip(found, said, strict=True))


def _same(found: Any, said: Any) -> bool:
    if isinstance(said, Mapping):
        found = dict(found) if isinstance(found, list) else found  # Arrow gives a map as pairs
        return (
            isinstance(found, Mapping) and found.keys() == said.keys() and all(_same(found[k], said[k]) for k in said)
        )
    if isinstance(said, list | tuple):
        return isinstance(found, list | tuple) and same_lists(found, said)
    if isinstance(found, bool) or isinstance(said, bool) or found is None or said is None:
        return found is said
    if isinstance(found, Decimal | float) and isinstance(said, Decimal | float | int):
        return math.isclose(float(found), float(said), rel_tol=1e-12) or (found != found and said != said)
    if isinstance(said, str) and not isinstance(found, str):
        return said in _written(found)
    return bool(found == said)


def same_lists(found: Sequence[Any], said: Sequence[Any]) -> bool:
    return len(found) == len(said) and all(_same(one, other) for one, other in zip(found, said, strict=True))


def _written(value: Any) -> tuple[str, ...]:
    """The ways in which an example may write a value as a text."""
    if isinstance(value, datetime):
        text = value.isoformat()
        return text, text.replace("+00:00", "Z"), str(value)
    if isinstance(value, date | time):
        return (value.isoformat(),)
    if isinstance(value, bytes):
        return (value.decode(errors="replace"), value.hex())
    return (str(value),)
