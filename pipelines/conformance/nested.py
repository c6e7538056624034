"""What every node that stands for a flow must keep to: its nodes take its place, and nothing is lost among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.check import check
from pipelines.conformance.examples import assert_gives, inputs_of
from pipelines.conformance.nodes import NodeConformance
from pipelines.drive import drive
from pipelines.flow import Flow, Link, NodeSpec
from pipelines.job import Gathering, Job
from pipelines.nested import Nested
from pipelines.node import (
    Chunk,
    Example,
    Get,
    Json,
    Outcome,
    Piece,
    Receipts,
    Rejects,
    Report,
    Schemas,
    SplitPlan,
    Start,
    Step,
    Transform,
    Want,
)
from pipelines.plan import plan
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tap import TapPlan


class NestedConformance(NodeConformance):
    """Holds a node that stands for a flow to the contract, with its examples' records as data."""

    node: ClassVar[type[Nested]]

    def test_its_examples_come_out_as_they_say(self, tmp_path: Path) -> None:
        for example, node, scope in self.worlds(tmp_path):
            assert isinstance(node, Nested)
            sandbox = Sandbox()
            batch = inputs_of(example, sandbox)[""]
            sandbox.close()
            assert_gives(_run(node, example, batch, scope, batch.num_rows), example)

    def test_how_records_are_cut_into_batches_makes_no_difference(self, tmp_path: Path) -> None:
        for example, node, scope in self.worlds(tmp_path):
            assert isinstance(node, Nested)
            sandbox = Sandbox()
            batch = inputs_of(example, sandbox)[""]
            sandbox.close()
            whole = _run(node, example, batch, scope, batch.num_rows)

            for size in range(1, batch.num_rows):
                cut = _run(node, example, batch, scope, size)

                assert {port: sorted(map(str, rows)) for port, rows in cut.items()} == {
                    port: sorted(map(str, rows)) for port, rows in whole.items()
                }


def _run(node: Nested, example: Example, batch: pa.RecordBatch, scope: Scope, batch_rows: int) -> dict[str, list[Any]]:
    """What leaves by each port, where all records come to the node."""
    flow = _around(node, batch.schema)
    checked = check(flow, scope)
    assert checked.flow is not None
    for port in [port for port in checked.flow.uses["node"].ports if port != "rejected"]:
        taker = NodeSpec(f"to-{port}", "end", _Passing(), (Link("node", port),))
        flow = replace(flow, nodes={**flow.nodes, taker.name: taker})
    checked = check(flow, scope)
    assert not checked.faults, checked.faults
    assert checked.flow is not None
    scope, sandbox = replace(scope, uses=checked.uses), Sandbox()
    planned = plan(checked.flow, checked.inputs, checked.outputs, scope, sandbox, checked.named_inputs)
    sandbox.close()
    places = {link: port for port, links in checked.flow.uses["node"].ports.items() for link in links}
    gathering = Gathering({(link.node, link.port): None for link in places}, {"given": _cut(batch, batch_rows)})
    drive(Job(planned, scope, TapPlan(scope.staging, scope.staging, "", "", "", {}), _untold, gathering=gathering))
    found: dict[str, list[Any]] = {}
    for link, port in places.items():
        rows = [row for some in gathering.found.get((link.node, link.port), ()) for row in some.to_pylist()]
        found.setdefault(port, []).extend(rows)
    return {port: rows for port, rows in found.items() if rows or port in example.gives}


def _around(node: Nested, schema: pa.Schema) -> Flow:
    """A flow in which records of these columns come to the node."""
    given = _Given(columns=schema.serialize().to_pybytes().hex())
    nodes = [
        NodeSpec("start", "start", Start()),
        NodeSpec("given", "given", given, (Link("start"),)),
        NodeSpec("node", "node", node, (Link("given"),)),
    ]
    return Flow("conformance", {spec.name: spec for spec in nodes})


def _cut(batch: pa.RecordBatch, rows: int) -> list[pa.RecordBatch]:
    return [batch.slice(start, rows) for start in range(0, batch.num_rows, rows)]


class _Given(Get):
    """Gives an example's records."""

    columns: str
    """Their schema, serialized."""

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(self.columns)))}

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        return SplitPlan(())

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        return iter(())


class _Passing(Transform):
    """Takes what leaves by a port."""

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs.get("")}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return lambda batch: Outcome({"out": Piece(batch)})


class _Untold:
    """A tap that keeps nothing."""

    def records(self, node: str, port: str, batch: pa.RecordBatch) -> None: ...

    def rejects(self, node: str, batch: pa.RecordBatch, rejects: Rejects, attempt: int) -> None: ...

    def deliveries(self, node: str, ids: pa.Int64Array, receipts: Receipts, attempt: int) -> None: ...

    def descent(
        self, node: str, port: str, made: pa.Int64Array, find: Callable[[pa.Array], pa.RecordBatch]
    ) -> None: ...

    def transaction(self, node: str, what: str, **details: Any) -> None: ...

    def close(self) -> Sequence[Mapping[str, Any]]:
        return ()


def _untold(plan: TapPlan) -> _Untold:
    return _Untold()
