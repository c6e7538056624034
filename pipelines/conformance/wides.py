"""What every wide node must keep to: the same records leave however they came, were parted and were worked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from pipelines.conformance.examples import inputs_of, same_records
from pipelines.conformance.nodes import NodeConformance, Reported
from pipelines.flow import Link, NodeSpec
from pipelines.job import Job
from pipelines.node import Wide
from pipelines.plan import Plan, Station
from pipelines.records import ROW_ID, ids_of, with_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tap import Tap, TapPlan
from pipelines.wide import Intake, open_bench, wide_splits, work

Batches = Mapping[str, pa.RecordBatch]


class WideConformance(NodeConformance):
    """Holds a wide node to the contract, with its examples' records as data."""

    node: ClassVar[type[Wide]]

    def cases(self, tmp_path: Path) -> Iterator[tuple[Wide, Batches, Mapping[str, Any], Scope, Sandbox]]:
        """Each example: node, batches by input, what it gives, scope, sandbox."""
        sandbox = Sandbox()
        try:
            for example, node, scope in self.worlds(tmp_path):
                assert isinstance(node, Wide)
                yield node, inputs_of(example, sandbox), example.gives, scope, sandbox
        finally:
            sandbox.close()

    def test_its_examples_come_out_as_they_say(self, tmp_path: Path) -> None:
        for node, batches, gives, scope, sandbox in self.cases(tmp_path):
            found = worked(node, batches, scope, sandbox, 65_536)

            assert same_records(_ordered(node, records(found)), _ordered(node, list(gives["out"])))

    def test_check_finds_nothing_wrong_and_tells_the_columns_that_come_out(self, tmp_path: Path) -> None:
        for node, batches, _gives, scope, sandbox in self.cases(tmp_path):
            report = Reported()
            told = node.check(_schemas(batches), scope, report)

            assert not report
            for batch in worked(node, batches, scope, sandbox, 65_536):
                assert batch.drop_columns([ROW_ID]).schema.equals(told["out"])

    def test_check_does_without_knowing_what_comes_in(self, tmp_path: Path) -> None:
        for node, batches, _gives, scope, _sandbox in self.cases(tmp_path):
            report = Reported()
            told = node.check(dict.fromkeys(batches), scope, report)

            assert not report
            assert set(told) == {"out"}

    def test_how_records_are_cut_and_parted_makes_no_difference(self, tmp_path: Path) -> None:
        for node, batches, _gives, scope, sandbox in self.cases(tmp_path):
            whole = records(worked(node, batches, scope, sandbox, 65_536))

            for size in (1, 2, 3):
                found = records(worked(node, batches, scope, sandbox, size))
                assert _ordered(node, found) == _ordered(node, whole)

    def test_each_record_that_leaves_has_the_row_id_of_one_that_came_or_is_new(self, tmp_path: Path) -> None:
        for node, batches, _gives, scope, sandbox in self.cases(tmp_path):
            came = {identity for batch in numbered(batches).values() for identity in ids_of(batch).to_pylist()}

            left = [ids_of(batch).to_pylist() for batch in worked(node, batches, scope, sandbox, 65_536)]

            assert {identity for ids in left for identity in ids if identity >= 0} <= came

    def test_no_records_are_worked_without_a_fault(self, tmp_path: Path) -> None:
        for node, batches, _gives, scope, sandbox in self.cases(tmp_path):
            nothing = {name: batch.slice(0, 0) for name, batch in batches.items()}

            found = records(worked(node, nothing, scope, sandbox, 65_536))

            assert len(found) <= 1


def worked(node: Wide, batches: Batches, scope: Scope, sandbox: Sandbox, batch_rows: int) -> list[pa.RecordBatch]:
    """What leaves a wide node for these records, with row ids; in batches of `batch_rows`, spilled as often."""
    schemas = {name: batch.schema for name, batch in batches.items()}
    told = node.check(schemas, scope, Reported())["out"]
    links = tuple(Link(f"from-{name}", into=name) for name in schemas)
    spec = NodeSpec("wide", "wide", node, links)
    station = Station(spec, next(iter(schemas.values())), {"out": told}, named_inputs=schemas)
    plan = Plan("conformance", "1", {"wide": station}, batch_rows)
    job = Job(plan, scope, TapPlan(scope.project, scope.staging, "conformance", "1", "r1", {}), _no_tap)
    intake = Intake(station, job, sandbox)
    for link in links:
        batch = numbered(batches)[link.into]
        for start in range(0, batch.num_rows, batch_rows):
            intake.put(link.node, link.port, batch.slice(start, batch_rows))
    found: list[pa.RecordBatch] = []
    taken = 0
    bench = open_bench(job)
    for split in wide_splits(intake.close(), job, 0):
        rows, left = work(job, station, split, sandbox, bench)
        taken += rows
        found.extend(left)
    bench.close()
    assert taken == sum(batch.num_rows for batch in batches.values()), "not every record was worked"
    return found


def _no_tap(plan: TapPlan) -> Tap:
    raise AssertionError("a wide node by itself logs nothing")


def numbered(batches: Batches) -> dict[str, pa.RecordBatch]:
    """The batches with row ids, no two alike."""
    found, first = {}, 0
    for name, batch in batches.items():
        found[name] = with_ids(batch, pa.array(range(first, first + batch.num_rows), pa.int64()))
        first += batch.num_rows
    return found


def records(batches: list[pa.RecordBatch]) -> list[dict[str, Any]]:
    return [record for batch in batches for record in batch.drop_columns([ROW_ID]).to_pylist()]


def _schemas(batches: Batches) -> dict[str, pa.Schema | None]:
    return {name: batch.schema for name, batch in batches.items()}


def _ordered(node: Wide, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found if node.keeps_order else sorted(found, key=lambda record: json.dumps(record, default=str))
