"""What every adapter must do with values: what its post takes its get gives back as it was, and what it can't take is rejected."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from pipelines.conformance.edges import Edge, edges
from pipelines.conformance.nodes import Reported
from pipelines.node import Get, Outcome, Part, Post, Want
from pipelines.records import with_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.values import shown

PUBLICATION = "r1/exchange"
LARGE_BYTES = 64 << 20
MOST_MEMORY_BYTES = 12 * LARGE_BYTES
"""What such a value may take on its way there and back, at most."""
KEY = "k"
"""The column that tells records apart."""


@dataclass(frozen=True)
class Rig:
    """An outside system with a place where records go in and come out again."""

    scope: Scope
    post: Callable[..., Post]
    """A post to the place; takes further fields."""
    get: Callable[..., Get]
    """A get of the place, told the columns where it cannot know their types; takes further fields."""


@dataclass
class Exchange:
    """What became of records that were sent and read back, by their keys."""

    problems: list[str] = field(default_factory=list)
    """What was wrong before anything was sent."""
    rejects: dict[str, tuple[str, str]] = field(default_factory=dict)
    malformed: list[tuple[str, str, str]] = field(default_factory=list)
    came: pa.Table | None = None

    def reason(self, key: str) -> str | None:
        """Why a record did not come back, in words; None: it came, or is lost."""
        if key in self.rejects:
            return self.rejects[key][1]
        return next((message for text, _code, message in self.malformed if key in text), None)


def delivered(post: Post, batch: pa.RecordBatch, scope: Scope, token: str) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
    """Sends a batch as a run does, and gives what became of its records."""
    sandbox = Sandbox()
    try:
        given = with_ids(batch, pa.array(range(batch.num_rows), pa.int64())) if post.keeps_ids else batch
        writer = post.open(given.schema, scope, sandbox)
        outcome = writer.put(given)
        parts = list(writer.close())
        yield batch, outcome
        if post.staged:
            yield from _published(post, parts, batch.schema, scope, token)
    finally:
        sandbox.close()


def _published(
    post: Post, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str
) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
    publication = post.publish(parts, schema, scope, token)
    try:
        yield from publication.settle()
        publication.commit()
    except BaseException:
        publication.abandon()
        raise


def read(get: Get, schema: pa.Schema, scope: Scope) -> tuple[pa.Table, list[tuple[str, str, str]]]:
    """All that a get gives, and what it sets aside: texts, codes and messages."""
    batches: list[pa.RecordBatch] = []
    malformed: list[tuple[str, str, str]] = []
    for split in get.plan(scope, None, Want()).splits:
        for chunk in get.read(split.payload, schema, scope, Want()):
            batches.append(chunk.batch)
            if (bad := chunk.malformed) is not None:
                malformed += zip(bad.texts, bad.codes, bad.messages, strict=True)
    return pa.Table.from_batches(batches, schema), malformed


def exchange(rig: Rig, batch: pa.RecordBatch, **config: Any) -> Exchange:
    """Sends records, whose texts in the column `KEY` differ, and reads what is there then."""
    found = Exchange()
    report = Reported()
    post = rig.post(**config)
    post.check({"": batch.schema}, rig.scope, report)
    found.problems += report
    if report:
        return found
    for put, outcome in delivered(post, batch, rig.scope, PUBLICATION):
        rejects = outcome.rejects
        if rejects is not None:
            keys = put.column(KEY).take(rejects.rows).to_pylist()
            found.rejects.update(zip(keys, zip(rejects.codes, rejects.messages, strict=True), strict=True))
    get = rig.get(batch.schema)
    schema = get.check({}, rig.scope, report)["out"]
    found.problems += report
    if schema is not None and not report:
        found.came, found.malformed = read(get, schema, rig.scope)
        get.release(rig.scope)
    return found


@contextmanager
def _watched_memory() -> Iterator[list[int]]:
    """Gives, behind the block, how far this process has grown in it."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the highest mark begins anew
    used = [0]
    before = _memory("VmRSS")
    yield used
    used[0] = _memory("VmHWM") - before


def _memory(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def diagonal(chosen: Mapping[str, Edge]) -> tuple[pa.RecordBatch, list[tuple[str, str, str]]]:
    """One record for each value, null elsewhere, and one of nulls; with the key, edge and name of each value."""
    told = [(edge, name) for edge, each in chosen.items() for name in each.values]
    keyed = [(f"key-{place:04d}", edge, name) for place, (edge, name) in enumerate(told)]
    columns: list[pa.Array] = [pa.array([*(key for key, _, _ in keyed), "key-none"], pa.string())]
    before = 0
    for each in chosen.values():
        array = each.array()
        places = [None] * before + list(range(len(array))) + [None] * (len(keyed) + 1 - before - len(array))
        columns.append(array.take(pa.array(places, pa.int64())))
        before += len(array)
    return pa.RecordBatch.from_arrays(columns, [KEY, *chosen]), keyed


def same(found: pa.Array, sent: pa.Array) -> bool:
    """Whether an array holds exactly what was sent, where its type may be another that says as much."""
    if pa.types.is_dictionary(sent.type):
        sent = sent.dictionary_decode()
    if pa.types.is_nested(sent.type) and pa.types.is_string(found.type):
        return [None if text is None else json.loads(text) for text in found.to_pylist()] == sent.to_pylist()
    if pa.types.is_null(sent.type):
        return bool(found.null_count == len(found))
    try:
        cast = found.cast(sent.type)
        if pa.types.is_temporal(sent.type):
            width = pa.int32() if sent.type.bit_width == 32 else pa.int64()
            return bool(cast.view(width).equals(sent.view(width)))
        return repr(cast.to_pylist()) == repr(sent.to_pylist())
    except pa.ArrowException:
        return False


class ExchangeConformance:
    """Holds a get and a post of one system together to the list of edges."""

    modes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"append": {}}
    """The ways to deliver, each with what it needs."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """The edges whose type is refused before anything runs, each with the reason as it is told."""
    rejects: ClassVar[Mapping[str, frozenset[str]]] = {}
    """The values that cannot be delivered, by their edge."""
    too_large: ClassVar[str] = ""
    """What is said of a value of 64 MB; nothing: it comes back."""
    texts: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    """The edges whose values come back as texts of the system's own, with those texts."""

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        """A place of a folder's own to deliver to; with settings of the connection that differ. To be overridden."""
        raise AssertionError("override `rig` with a place that takes records and gives them back")

    @pytest.fixture
    def _far_from_utc(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """This process in a place whose clock is changed twice a year."""
        with monkeypatch.context() as patched:
            patched.setenv("TZ", "Europe/Berlin")
            time.tzset()
            yield
        time.tzset()

    def test_a_type_that_it_lacks_is_a_problem_that_names_the_column(self, tmp_path: Path) -> None:
        report = Reported()
        rig = self.rig(tmp_path)

        rig.post().check({"": diagonal(edges())[0].schema}, rig.scope, report)

        told = {name: words for name in edges() for words in report if repr(name) in words}
        assert len(told) == len(report), report
        assert set(told) == set(self.lacks), report
        assert {name for name, words in told.items() if self.lacks[name] not in words} == set(), report

    @pytest.mark.usefixtures("_far_from_utc")
    def test_values_come_back_as_they_went_or_are_rejected_by_name(self, tmp_path: Path) -> None:
        batch, keyed = diagonal({name: edge for name, edge in edges().items() if name not in self.lacks})
        for mode, config in self.modes.items():
            folder = tmp_path / mode
            folder.mkdir()

            found = exchange(self.rig(folder), batch, **config)

            assert found.problems == []
            faults = self.faults(found, batch, keyed)
            assert not faults, f"{mode}:\n" + "\n".join(faults)

    def test_a_value_of_64_megabytes_comes_back_or_is_rejected_in_bounded_memory(self, tmp_path: Path) -> None:
        large = "ä" * (LARGE_BYTES // 2)
        batch = pa.record_batch({KEY: ["key-0", "key-1"], "text": ["small", large]})

        with _watched_memory() as used:
            found = exchange(self.rig(tmp_path), batch)

        assert used[0] < MOST_MEMORY_BYTES
        assert found.problems == []
        assert found.came is not None
        came = dict(zip(found.came[KEY].to_pylist(), found.came["text"].to_pylist(), strict=True))
        assert came["key-0"] == "small"
        if self.too_large:
            assert self.too_large in (found.reason("key-1") or "nothing")
        else:
            assert (found.reason("key-1"), came.get("key-1") == large) == (None, True)

    def faults(self, found: Exchange, batch: pa.RecordBatch, keyed: list[tuple[str, str, str]]) -> list[str]:
        """What is wrong with an exchange, in words."""
        assert found.came is not None
        came = {key: row for row, key in enumerate(found.came[KEY].to_pylist())}
        faults = [] if "key-none" in came else ["the record of nulls did not come"]
        faults += [f"{len(found.came) - len(came)} came twice"] if len(came) < len(found.came) else []
        for row, (key, edge, name) in enumerate(keyed):
            place, reason = f"{edge}: {name}", found.reason(key)
            sent = batch.column(edge)[row : row + 1]
            if key in came:
                back = found.came[edge].combine_chunks()[came[key] : came[key] + 1]
                own = self.texts.get(edge)
                if not (same(back, sent) if own is None else back.to_pylist() == [own[name]]):
                    faults.append(f"{place} went as {_shown(sent)} and came as {_shown(back)}")
                if name in self.rejects.get(edge, ()):
                    faults.append(f"{place} comes back, though it is said to be rejected")
            elif reason is None:
                faults.append(f"{place} is lost")
            else:
                if not any(f"{sign}{edge}{sign}" in reason for sign in "'\"`"):
                    faults.append(f"{place} is rejected without its column: {reason}")
                if not any(words[:20] in reason for words in _words(sent)):
                    faults.append(f"{place} is rejected without its value: {reason}")
                if name not in self.rejects.get(edge, ()):
                    faults.append(f"{place} is rejected: {reason}")
        return faults


def _words(sent: pa.Array) -> list[str]:
    """How a message may write a value."""
    words = shown(sent, 0)
    return [
        words,
        words.replace(" ", "T", 1),
        *([] if pa.types.is_temporal(sent.type) else [json.dumps(sent[0].as_py(), default=str)]),
    ]


def _shown(array: pa.Array) -> str:
    return (
        f"{array.type} {str(array.cast(pa.string(), safe=False)[0])[:60]!r}"
        if not pa.types.is_nested(array.type)
        else str(array)
    )
