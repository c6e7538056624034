"""What every get must keep to: splits that read the same again and again, positions that go on where one stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipelines.conformance.examples import Records, same_records
from pipelines.conformance.nodes import NodeConformance, Reported
from pipelines.finding import Finds
from pipelines.node import Chunk, Example, Get, Json, Want
from pipelines.records import REJECT_COLUMNS
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from pipelines.tables.relation import as_list


class GetConformance(NodeConformance):
    """Holds a get to the contract; an example's `gives` is what there is to read, in order."""

    node: ClassVar[type[Get]]

    def grow(self, scope: Scope, example: Example) -> Records | None:
        """Lets new records arrive in an example's world and gives them; None where there are none to come."""
        return None

    def gets(self, tmp_path: Path) -> Iterator[tuple[Example, Get, Scope, pa.Schema]]:
        """Each example made ready: node, scope, and the columns that its check tells."""
        for example, node, scope in self.worlds(tmp_path):
            report = Reported()
            schema = node.check({}, scope, report)["out"]
            assert isinstance(node, Get)
            assert not report
            assert schema is not None, "a get tells its columns before the run"
            yield example, node, scope, schema

    def test_its_examples_read_as_they_say(self, tmp_path: Path) -> None:
        for example, node, scope, schema in self.gets(tmp_path):
            chunks = [
                chunk
                for split in node.plan(scope, None, Want()).splits
                for chunk in _read(node, split.payload, schema, scope)
            ]

            assert same_records(records(chunks), example.gives.get("out", []))
            if "rejected" in example.gives:
                assert same_records(malformed(chunks, example), example.gives["rejected"])

    def test_what_is_no_record_is_set_aside_with_its_reason(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            for chunk in _all(node, scope, schema):
                if chunk.malformed is None:
                    continue
                assert all(chunk.malformed.codes)
                assert all(chunk.malformed.messages)
                assert len(chunk.malformed.texts) == len(chunk.malformed.codes) == len(chunk.malformed.ordinals)

    def test_what_is_read_has_the_columns_that_check_told(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            for split in node.plan(scope, None, Want()).splits:
                for chunk in _read(node, split.payload, schema, scope):
                    types = {column.name: column.type for column in chunk.batch.schema}
                    assert all(types[column.name].equals(column.type) for column in schema)

    def test_a_split_reads_the_same_again_with_the_same_ordinals(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            for split in node.plan(scope, None, Want()).splits:
                payload = json.loads(json.dumps(split.payload))
                first, again = (numbered(_read(node, payload, schema, scope)) for _time in range(2))

                assert first == again

    def test_ordinals_ascend_and_have_room(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            for split in node.plan(scope, None, Want()).splits:
                read = list(_read(node, split.payload, schema, scope))
                good = [place for chunk in read for place in ordinals(chunk)]
                bad = [place for chunk in read if chunk.malformed is not None for place in chunk.malformed.ordinals]

                assert good == sorted(good)
                assert len({*good, *bad}) == len(good) + len(bad)
                assert all(0 <= place < split.room for place in (*good, *bad))

    def test_batches_are_no_longer_than_wanted(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            want = Want(batch_rows=1)
            chunks = [
                chunk
                for split in node.plan(scope, None, want).splits
                for chunk in node.read(split.payload, schema, scope, want)
            ]

            assert all(chunk.batch.num_rows <= 1 for chunk in chunks)
            assert len(records(chunks)) == len(records(_all(node, scope, schema)))

    def test_one_wanted_column_reads_as_with_all(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            whole = records(_all(node, scope, schema))
            for name in schema.names:
                want = Want(columns=frozenset({name}))
                narrow = pa.schema([schema.field(name)])
                chunks = [
                    chunk
                    for split in node.plan(scope, None, want).splits
                    for chunk in node.read(split.payload, narrow, scope, want)
                ]

                assert [record[name] for record in records(chunks)] == [record[name] for record in whole]

    def test_a_few_wanted_rows_are_there(self, tmp_path: Path) -> None:
        for _example, node, scope, schema in self.gets(tmp_path):
            whole = records(_all(node, scope, schema))
            want = Want(rows=1)
            chunks = [
                chunk
                for split in node.plan(scope, None, want).splits
                for chunk in node.read(split.payload, schema, scope, want)
            ]

            assert len(records(chunks)) >= min(1, len(whole))
            assert all(record in whole for record in records(chunks))

    def test_what_it_reads_it_finds_by_its_key(self, tmp_path: Path) -> None:
        for example, node, scope, schema in self.gets(tmp_path):
            names = as_list(example.config.get("key"))
            if not isinstance(node, Finds) or not names or "cursor" in example.config or "path" in example.config:
                continue
            on = {name: name for name in names}
            report = Reported()
            told = node.check_find(pa.schema([schema.field(name) for name in names]), on, scope, report)
            whole = pa.Table.from_batches([chunk.batch for chunk in _all(node, scope, schema)]).combine_chunks()
            with borrowed(scope) as sandbox:
                keys = whole.select(names).to_batches()[0]
                hits = node.find(keys, on, schema.names, scope, sandbox, lambda: None)

            assert not report
            assert told is not None
            assert told.equals(schema)
            assert (
                hits.batch.sort_by([(name, "ascending") for name in names]).to_pylist()
                == whole.sort_by([(name, "ascending") for name in names]).to_pylist()
            )
            assert not hits.faults

    def test_behind_a_position_there_is_only_what_is_new(self, tmp_path: Path) -> None:
        for example, node, scope, schema in self.gets(tmp_path):
            position = _position(node, scope, schema, None)
            if position is None:
                continue
            position = json.loads(json.dumps(position))
            assert not records(_all(node, scope, schema, position)), "what was read is read again"
            fresh = self.grow(scope, example)
            if fresh is None:
                continue
            assert same_records(records(_all(node, scope, schema, position)), fresh)
            after = node.later(position, _position(node, scope, schema, position))
            assert not records(_all(node, scope, schema, after)), "what is new is new for ever"

    def test_positions_come_together_in_any_order(self, tmp_path: Path) -> None:
        for example, node, scope, schema in self.gets(tmp_path):
            one = _position(node, scope, schema, None)
            if one is None:
                continue
            self.grow(scope, example)
            other = _position(node, scope, schema, one)

            assert node.later(one, None) == one
            assert node.later(None, one) == one
            assert node.later(one, one) == one
            assert node.later(one, other) == node.later(other, one)


def _read(node: Get, payload: Json, schema: pa.Schema, scope: Scope) -> Iterator[Chunk]:
    return node.read(payload, schema, scope, Want())


def _all(node: Get, scope: Scope, schema: pa.Schema, position: Json = None) -> list[Chunk]:
    return [
        chunk
        for split in node.plan(scope, position, Want()).splits
        for chunk in _read(node, split.payload, schema, scope)
    ]


def _position(node: Get, scope: Scope, schema: pa.Schema, position: Json) -> Json:
    """Where reading goes on once all there is has been read, as plan or chunks tell it."""
    plan = node.plan(scope, position, Want())
    found = plan.position
    for split in plan.splits:
        for chunk in _read(node, split.payload, schema, scope):
            if chunk.position is not None:
                found = chunk.position if found is None else node.later(found, chunk.position)
    return found


def ordinals(chunk: Chunk) -> list[int]:
    """Each record's place in its split."""
    if chunk.ordinals is not None:
        return [int(place) for place in chunk.ordinals.to_pylist()]
    return [int(place) for place in np.arange(chunk.first, chunk.first + chunk.batch.num_rows)]


def records(chunks: list[Chunk]) -> list[dict[str, Any]]:
    """The records of chunks, in order."""
    return [record for chunk in chunks for record in chunk.batch.to_pylist()]


def numbered(chunks: Iterator[Chunk]) -> list[tuple[int, str]]:
    """Each record and each malformed one with its ordinal."""
    found: list[tuple[int, str]] = []
    for chunk in chunks:
        found += [(place, repr(record)) for place, record in zip(ordinals(chunk), chunk.batch.to_pylist(), strict=True)]
        if chunk.malformed is not None:
            found += list(zip(chunk.malformed.ordinals, chunk.malformed.texts, strict=True))
    return sorted(found)


def malformed(chunks: list[Chunk], example: Example) -> list[dict[str, Any]]:
    """What could not be read as records, as far as the example tells of it."""
    _node, code, message = (column.name for column in REJECT_COLUMNS)
    found = [
        {"line": text, code: said, message: words}
        for chunk in chunks
        if chunk.malformed is not None
        for text, said, words in zip(
            chunk.malformed.texts, chunk.malformed.codes, chunk.malformed.messages, strict=True
        )
    ]
    told = example.gives.get("rejected", [])
    return [{name: record[name] for name in said} for record, said in zip(found, told, strict=False)] + found[
        len(told) :
    ]
