"""What every transform must keep to: a function of a batch that loses nothing and sees no difference in how it is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from pipelines.conformance.examples import inputs_of, records_of, run_example
from pipelines.conformance.nodes import NodeConformance, Reported
from pipelines.node import Outcome, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

World = tuple[Transform, pa.RecordBatch, Scope, Sandbox]


class TransformConformance(NodeConformance):
    """Holds a transform to the contract, with its examples' records as data."""

    node: ClassVar[type[Transform]]

    def cases(self, tmp_path: Path) -> Iterator[World]:
        """Each example opened for use: node, records, scope, sandbox."""
        sandbox = Sandbox()
        try:
            for example, node, scope in self.worlds(tmp_path):
                assert isinstance(node, Transform)
                yield node, inputs_of(example, sandbox)[""], scope, sandbox
        finally:
            sandbox.close()

    def test_its_examples_come_out_as_they_say(self, tmp_path: Path) -> None:
        sandbox = Sandbox()
        for example, node, scope in self.worlds(tmp_path):
            assert isinstance(node, Transform)
            run_example(node, example, scope, sandbox)
        sandbox.close()

    def test_check_finds_nothing_wrong_and_tells_the_columns_that_come_out(self, tmp_path: Path) -> None:
        for node, batch, scope, sandbox in self.cases(tmp_path):
            report = Reported()
            told = node.check({"": batch.schema}, scope, report)
            outcome = node.open(batch.schema, scope, sandbox)(batch)

            assert not report
            assert set(told) == set(node.ports())
            for port, piece in outcome.out.items():
                schema = told[port]
                assert schema is not None, f"the columns of {port} are not told"
                assert piece.batch.schema.equals(schema), f"{port}: told {schema}, gave {piece.batch.schema}"

    def test_check_does_without_knowing_what_comes_in(self, tmp_path: Path) -> None:
        for node, _batch, scope, _sandbox in self.cases(tmp_path):
            report = Reported()
            told = node.check({"": None}, scope, report)

            assert not report
            assert set(told) == set(node.ports())

    def test_every_record_is_accounted_for(self, tmp_path: Path) -> None:
        for node, batch, scope, sandbox in self.cases(tmp_path):
            step = node.open(batch.schema, scope, sandbox)
            for given in (batch, batch.slice(0, 0), _nulls(batch), batch.slice(1), _long(batch)):
                account(step(given), given)

    def test_how_records_are_cut_into_batches_makes_no_difference(self, tmp_path: Path) -> None:
        for node, batch, scope, sandbox in self.cases(tmp_path):
            step = node.open(batch.schema, scope, sandbox)
            whole = records_of(step(batch), batch)
            for size in range(1, batch.num_rows + 1):
                found: dict[str, list[dict[str, object]]] = {}
                for start in range(0, batch.num_rows, size):
                    piece = batch.slice(start, size)
                    for port, records in records_of(step(piece), piece).items():
                        found.setdefault(port, []).extend(records)

                assert {port: records for port, records in found.items() if records} == {
                    port: records for port, records in whole.items() if records
                }

    def test_the_batch_that_came_in_is_left_as_it_was(self, tmp_path: Path) -> None:
        for node, batch, scope, sandbox in self.cases(tmp_path):
            before = batch.serialize().to_pybytes()
            node.open(batch.schema, scope, sandbox)(batch)

            assert batch.serialize().to_pybytes() == before

    def test_the_columns_it_needs_are_enough(self, tmp_path: Path) -> None:
        for node, batch, scope, sandbox in self.cases(tmp_path):
            whole = node.open(batch.schema, scope, sandbox)(batch)
            for wanted in {name for piece in whole.out.values() for name in piece.batch.schema.names}:
                needed = node.needs(frozenset({wanted}), batch.schema, sandbox)
                if needed is None:
                    continue
                assert needed <= set(batch.schema.names)
                narrow = batch.select([name for name in batch.schema.names if name in needed])
                if not needed:
                    continue
                outcome = node.open(narrow.schema, scope, sandbox)(narrow)
                for port, piece in whole.out.items():
                    if wanted in piece.batch.schema.names:
                        assert outcome.out[port].batch.column(wanted).equals(piece.batch.column(wanted))


def account(outcome: Outcome, batch: pa.RecordBatch) -> None:
    """Every row left, was filtered or was rejected; none was both; each reject says why."""
    rows = batch.num_rows
    left = np.zeros(rows, dtype=bool)
    for port, piece in outcome.out.items():
        places = np.arange(rows) if piece.rows is None else piece.rows.to_numpy()
        assert len(places) == piece.batch.num_rows, f"{port}: {len(places)} places for {piece.batch.num_rows} records"
        left[places] = True
    rejected = np.zeros(rows, dtype=bool)
    if outcome.rejects is not None:
        places = outcome.rejects.rows.to_numpy()
        assert len(set(places)) == len(places), "a record was rejected twice"
        rejected[places] = True
        assert len(outcome.rejects.codes) == len(outcome.rejects.messages) == len(places)
        assert all(outcome.rejects.codes)
        assert all(outcome.rejects.messages)
    assert not (left & rejected).any(), "a record both left and was rejected"
    assert left.sum() + rejected.sum() + outcome.filtered + outcome.pending == rows, "records were lost or invented"


def _nulls(batch: pa.RecordBatch) -> pa.RecordBatch:
    schema = pa.schema([column.with_nullable(True) for column in batch.schema])
    return pa.RecordBatch.from_arrays([pa.nulls(3, column.type) for column in schema], schema=schema)


def _long(batch: pa.RecordBatch) -> pa.RecordBatch:
    """More records than DuckDB works on at a time."""
    times = 5_000 // max(batch.num_rows, 1) + 1
    return batch.take(pa.array(list(range(batch.num_rows)) * times, pa.int64()))
