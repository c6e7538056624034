"""Makes jobs of strangers' nodes and runs them, for tests of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.flow import Flow, Link, NodeSpec, Retry
from pipelines.job import Job
from pipelines.ledger import imbalances
from pipelines.node import MALFORMED, Get, Node, Receipts, Rejects
from pipelines.plan import Plan, lay, number_phases, number_sources
from pipelines.records import ids_of, rejected_schema
from pipelines.scope import Scope
from pipelines.settle import all_facts
from pipelines.tap import TapPlan
from tests.pipelines.strangers import NUMBERS


@dataclass
class Noted:
    """A tap that keeps ids in its pieces."""

    pieces: list[Mapping[str, Any]] = field(default_factory=list)

    def records(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        self._note("records", f"{node}.{port}", ids_of(batch))

    def rejects(self, node: str, batch: pa.RecordBatch, rejects: Rejects, attempt: int) -> None:
        self._note("rejects", node, ids_of(batch))

    def deliveries(self, node: str, ids: pa.Int64Array, receipts: Receipts, attempt: int) -> None:
        self._note("deliveries", node, ids)

    def descent(self, node: str, port: str, made: pa.Int64Array, find: Callable[[pa.Array], pa.RecordBatch]) -> None:
        """Nothing of it is noted."""

    def transaction(self, node: str, what: str, **details: Any) -> None:
        self.pieces.append({"table": "transactions", "place": node, "what": what})

    def close(self) -> Sequence[Mapping[str, Any]]:
        return self.pieces

    def _note(self, table: str, place: str, ids: pa.Int64Array) -> None:
        self.pieces.append({"table": table, "place": place, "ids": ids.to_pylist()})


def open_noted(plan: TapPlan) -> Noted:
    return Noted()


def spec(name: str, config: Node, *inputs: str, **more: Any) -> NodeSpec:
    links = tuple(Link(*text.split(".")) for text in inputs)
    return NodeSpec(name, type(config).__name__.lower(), config, links, retry=Retry(first_seconds=0), **more)


def plan_of(*specs: NodeSpec) -> Plan:
    """The plan of nodes that all carry the one column n."""
    flow = Flow("numbers", {node.name: node for node in specs}, version="v1")
    inputs: dict[str, pa.Schema | None] = {}
    outputs: dict[str, dict[str, pa.Schema | None]] = {}
    for node in specs:
        rejected = MALFORMED if isinstance(node.config, Get) else NUMBERS
        inputs[node.name] = NUMBERS
        outputs[node.name] = dict.fromkeys(node.config.ports(), NUMBERS) | {"rejected": rejected_schema(rejected)}
    return number_phases(number_sources(lay(flow, inputs, outputs), flow), flow)


def job_of(plan: Plan, folder: Path, **more: Any) -> Job:
    scope = Scope(
        project=folder,
        now=datetime(2026, 1, 1, tzinfo=UTC),
        flow="numbers",
        run=more.pop("run", "run-1"),
        staging=folder / "staging",
    )
    scope.staging.mkdir(exist_ok=True)
    tap_plan = TapPlan(folder, scope.staging, "numbers", "v1", scope.run, {})
    return Job(plan, scope, tap_plan, open_noted, **more)


def outcome_of(job: Job) -> dict[str, Any]:
    """What a run did: imbalances, counts, and row ids by table and place, in order."""
    facts = all_facts(job)
    ids: dict[tuple[str, str], list[int]] = {}
    for piece in facts.pieces:
        ids.setdefault((piece["table"], piece["place"]), []).extend(piece.get("ids", []))
    return {
        "wrong": list(imbalances(facts.ledger, job.plan.links(), [post.name for post in job.plan.posts()])),
        "nodes": {name: _without_time(counts.plain()) for name, counts in sorted(facts.ledger.nodes.items())},
        "ids": {place: sorted(found) for place, found in sorted(ids.items()) if place[0] != "transactions"},
    }


def _without_time(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if name not in ("seconds", "batches")}
