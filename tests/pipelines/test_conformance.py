"""The conformance suite finds what a node type does wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.conformance import TransformConformance, batch_of, run_example, same_records
from pipelines.node import Example, Outcome, Piece, Rejects, Report, Schemas, Step, Transform
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

EXAMPLE = Example(config={}, records=[{"n": 1}, {"n": 2}, {"n": 3}], gives={"out": [{"n": 1}, {"n": 2}, {"n": 3}]})


class Sound(Transform):
    """Passes on what comes."""

    examples = (EXAMPLE,)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs.get("")}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return lambda batch: Outcome({"out": Piece(batch)})


class Losing(Sound):
    """Forgets the last record."""

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        def step(batch: pa.RecordBatch) -> Outcome:
            kept = batch.slice(0, max(batch.num_rows - 1, 0))
            return Outcome({"out": Piece(kept, pa.array(range(kept.num_rows), pa.int64()))})

        return step


class Doubling(Sound):
    """Rejects records that it passes on too."""

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return lambda batch: Outcome(
            {"out": Piece(batch)},
            rejects=Rejects(
                pa.array(range(batch.num_rows), pa.int64()), ["x"] * batch.num_rows, ["y"] * batch.num_rows
            ),
        )


class Lying(Sound):
    """Gives other columns than it tells."""

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": pa.schema([("n", pa.string())])}


class Numbering(Sound):
    """Gives each record its place in the batch, which is no property of the record."""

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return lambda batch: Outcome(
            {"out": Piece(pa.record_batch({"n": pa.array(range(batch.num_rows), pa.int64())}))}
        )


class Greedy(Sound):
    """Says it needs nothing, and uses a column."""

    def needs(self, wanted: frozenset[str] | None, schema: pa.Schema, sandbox: Sandbox) -> frozenset[str] | None:
        return frozenset({"m"})


class Undocumented(Sound):
    """Has a field of which nobody knows what it is for."""

    secret: int = 0


def suite(node: type[Transform]) -> TransformConformance:
    made: TransformConformance = type("Suite", (TransformConformance,), {"node": node})()
    return made


def test_a_sound_node_passes(tmp_path: Path) -> None:
    tests = [name for name in dir(TransformConformance) if name.startswith("test_")]

    for number, name in enumerate(tests):
        folder = tmp_path / str(number)
        folder.mkdir()
        test: Callable[..., None] = getattr(suite(Sound), name)
        test(*([folder] if "tmp_path" in test.__annotations__ else []))

    assert len(tests) > 10


@pytest.mark.parametrize(
    ("node", "test"),
    [
        (Losing, "test_every_record_is_accounted_for"),
        (Losing, "test_its_examples_come_out_as_they_say"),
        (Doubling, "test_every_record_is_accounted_for"),
        (Doubling, "test_its_examples_come_out_as_they_say"),
        (Lying, "test_check_finds_nothing_wrong_and_tells_the_columns_that_come_out"),
        (Numbering, "test_how_records_are_cut_into_batches_makes_no_difference"),
        (Greedy, "test_the_columns_it_needs_are_enough"),
    ],
)
def test_what_a_node_does_wrong_is_found(node: type[Transform], test: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        getattr(suite(node), test)(tmp_path)


def test_a_field_without_a_docstring_is_found() -> None:
    with pytest.raises(AssertionError, match="secret"):
        suite(Undocumented).test_every_field_and_the_node_itself_are_documented()


def test_an_example_s_columns_have_the_types_it_names() -> None:
    sandbox = Sandbox()
    batch = batch_of([{"price": "9.5", "n": 1}], {"price": "DECIMAL(12, 2)", "at": "TIMESTAMPTZ"}, sandbox)
    sandbox.close()

    assert batch.schema.field("price").type.equals(pa.decimal128(12, 2))
    assert batch.schema.field("at").type.equals(pa.timestamp("us", tz="UTC"))
    assert batch.schema.names == ["price", "n", "at"]


def test_an_example_that_leaves_out_a_rejected_record_fails() -> None:
    sandbox = Sandbox()
    scope = Scope(Path())

    with pytest.raises(AssertionError, match="rejected"):
        run_example(Doubling(), EXAMPLE, scope, sandbox)
    sandbox.close()


@pytest.mark.parametrize(
    ("found", "said", "same"),
    [
        ([{"a": 1}], [{"a": 1}], True),
        ([{"a": 1}], [{"a": 2}], False),
        ([{"a": 1}], [{"a": 1, "b": None}], False),
        ([{"a": True}], [{"a": 1}], False),
        ([{"a": None}], [{"a": 0}], False),
        ([{"a": [1, {"b": "x"}]}], [{"a": [1, {"b": "x"}]}], True),
        ([{"a": [("k", 1)]}], [{"a": {"k": 1}}], True),
        ([], [{"a": 1}], False),
    ],
)
def test_records_are_the_same_when_they_say_the_same(
    found: list[dict[str, object]], said: list[dict[str, object]], same: bool
) -> None:
    assert same_records(found, said) is same
