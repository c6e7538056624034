"""What every post must keep to: what is staged shows only when published, a publication repeated does no harm."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from pipelines.conformance.examples import Records, inputs_of, same_records
from pipelines.conformance.nodes import NodeConformance, Reported
from pipelines.conformance.transforms import account
from pipelines.messages import is_told_last
from pipelines.node import Example, Outcome, Part, Post, Publication, Writer
from pipelines.records import with_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

PUBLICATION = "r1/post"
"""What names a publication to its target."""
MOMENTS = ("staged", "settled", "committed")
LABELS = ("effectively once", "at least once")


@dataclass(frozen=True)
class Case:
    """One example of a post, ready to deliver."""

    example: Example
    node: Post
    scope: Scope
    batch: pa.RecordBatch
    """With row ids where the post asks for them."""
    sandbox: Sandbox

    def open(self) -> Writer:
        return self.node.open(self.batch.schema, self.scope, self.sandbox)

    def stage(self, batches: Sequence[pa.RecordBatch]) -> list[Part]:
        """What a worker does with its batches; its parts as another process would get them."""
        writer = self.open()
        for batch in batches:
            account(writer.put(batch), batch)
        parts = pickle.loads(pickle.dumps(list(writer.close())))  # noqa: S301 -- written a moment ago
        for part in parts:
            assert json.loads(json.dumps(part.payload)) == part.payload
        return [replace(part, payload=json.loads(json.dumps(part.payload))) for part in parts]

    def publication(self, parts: Sequence[Part], token: str = PUBLICATION) -> Publication:
        schema = self.batch.schema if not self.node.keeps_ids else self.batch.schema.remove(len(self.batch.schema) - 1)
        return self.node.publish(parts, schema, self.scope, token)

    def publish(self, parts: Sequence[Part], token: str = PUBLICATION) -> list[tuple[pa.RecordBatch, Outcome]]:
        publication = self.publication(parts, token)
        settled = list(publication.settle())
        publication.commit()
        return settled


class PostConformance(NodeConformance):
    """Holds a post to the contract; an example's `gives["out"]` is what is in the target afterwards."""

    node: ClassVar[type[Post]]

    def delivered(self, scope: Scope, example: Example) -> Records:
        """What the target holds now; nothing where it does not exist. To be overridden."""
        raise AssertionError("override `delivered` so that the target can be looked at")

    def cases(self, tmp_path: Path) -> Iterator[Case]:
        """Each example made ready, with a target of its own."""
        sandbox = Sandbox()
        try:
            for example, node, scope in self.worlds(tmp_path):
                assert isinstance(node, Post)
                batch = inputs_of(example, sandbox)[""]
                if node.keeps_ids:
                    batch = with_ids(batch, pa.array(np.arange(batch.num_rows), pa.int64()))
                yield Case(example, node, scope, batch, sandbox)
        finally:
            sandbox.close()

    def test_its_examples_arrive_as_they_say(self, tmp_path: Path) -> None:
        for case in self.cases(tmp_path):
            parts = case.stage([case.batch])
            if case.node.staged:
                case.publish(parts)

            assert same_records(self.delivered(case.scope, case.example), case.example.gives.get("out", []))

    def test_check_finds_nothing_wrong(self, tmp_path: Path) -> None:
        for case in self.cases(tmp_path):
            report = Reported()
            schema = case.batch.schema
            told = case.node.check(
                {"": schema.remove(len(schema) - 1) if case.node.keeps_ids else schema}, case.scope, report
            )

            assert not report
            assert set(told) == set(case.node.ports())

    def test_its_label_and_address_are_told(self, tmp_path: Path) -> None:
        for case in self.cases(tmp_path):
            label, reason = case.node.delivery()

            assert label in LABELS
            assert reason
            assert case.node.target(case.scope)

    def test_nothing_shows_before_it_is_published(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            before = list(self.delivered(case.scope, case.example))
            case.stage([case.batch])

            assert list(self.delivered(case.scope, case.example)) == before

    def test_a_writer_abandoned_leaves_nothing(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            before, files = list(self.delivered(case.scope, case.example)), _files(case.scope)
            writer = case.open()
            writer.put(case.batch)
            writer.abandon()

            assert list(self.delivered(case.scope, case.example)) == before
            assert _files(case.scope) == files

    def test_a_publication_abandoned_leaves_the_target_as_it_was(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            if is_told_last(case.node):
                continue  # what was said cannot be taken back
            before = list(self.delivered(case.scope, case.example))
            publication = case.publication(case.stage([case.batch]))
            for _settled in publication.settle():
                pass
            publication.abandon()

            assert list(self.delivered(case.scope, case.example)) == before

    def test_a_publication_that_broke_off_can_be_made_again(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            parts = case.stage([case.batch])
            publication = case.publication(parts)
            for _settled in publication.settle():
                pass
            publication.abandon()
            case.publish(parts)

            assert same_records(self.delivered(case.scope, case.example), case.example.gives.get("out", []))

    def test_published_twice_under_one_token_is_there_once(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            parts = case.stage([case.batch])
            assert not case.node.is_published(case.scope, PUBLICATION)
            case.publish(parts)
            first = list(self.delivered(case.scope, case.example))
            if not case.node.is_published(case.scope, PUBLICATION):
                case.publish(parts)

            assert list(self.delivered(case.scope, case.example)) == first

    def test_a_worker_killed_at_any_moment_does_no_harm(self, tmp_path: Path) -> None:
        cases = list(self.staged(tmp_path))
        # each example and each moment once, not all of both: a process is started for every one
        for number in range(max(len(cases), len(MOMENTS)) if cases else 0):
            moment = MOMENTS[number % len(MOMENTS)]
            case = cases[number] if number < len(cases) else next(self.staged(_folder(tmp_path, moment)))
            parts = _killed(case, moment, tmp_path / f"{number}.parts")
            if not case.node.is_published(case.scope, PUBLICATION):
                case.publish(parts)

            assert same_records(self.delivered(case.scope, case.example), case.example.gives.get("out", []))

    def test_several_workers_parts_arrive_together(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            rows = case.batch.num_rows
            cuts = [case.batch.slice(0, rows // 2), case.batch.slice(rows // 2), case.batch.slice(0, 0)]
            parts = [part for cut in cuts for part in case.stage([cut])]
            case.publish(parts)

            found = sorted(map(repr, self.delivered(case.scope, case.example)))
            said = case.example.gives.get("out", [])
            assert len(found) == len(said)

    def test_no_records_at_all_do_no_harm(self, tmp_path: Path) -> None:
        for case in self.staged(tmp_path):
            case.publish(case.stage([]))

            assert isinstance(list(self.delivered(case.scope, case.example)), list)

    def staged(self, tmp_path: Path) -> Iterator[Case]:
        """The cases, where the post stages; a direct one has no publication."""
        return (case for case in self.cases(tmp_path) if case.node.staged)


def _files(scope: Scope) -> dict[str, Any]:
    """Every file of the project with its size, the run's own folder left out."""
    return {
        str(path.relative_to(scope.project)): path.stat().st_size
        for path in scope.project.rglob("*")
        if path.is_file() and not path.is_relative_to(scope.staging)
    }


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


def _killed(case: Case, moment: str, told: Path) -> list[Part]:
    """What a worker had staged that was killed at a moment, in a process of its own."""
    child = multiprocessing.get_context("spawn").Process(target=_work_and_die, args=(case, moment, told))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL, f"the worker ended by itself with {child.exitcode}"
    parts: list[Part] = pickle.loads(told.read_bytes())  # noqa: S301 -- written a moment ago
    return parts


def _work_and_die(case: Case, moment: str, told: Path) -> None:
    told.write_bytes(pickle.dumps(parts := case.stage([case.batch])))
    if moment != "staged":
        publication = case.publication(parts)
        for _settled in publication.settle():
            pass
        if moment == "committed":
            publication.commit()
    os.kill(os.getpid(), signal.SIGKILL)
