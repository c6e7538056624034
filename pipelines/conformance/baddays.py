"""What every adapter must do on bad days: a connection that is wrong, a line that is cut at each stage, a slow system."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa
import pytest

from pipelines.conformance.exchanges import KEY, Rig, delivered, read
from pipelines.conformance.nodes import Reported
from pipelines.errors import FlowError, Interrupted, Invalid, Unavailable
from pipelines.node import Get, Post

KINDS = ("host", "port", "password", "certificate", "database", "table", "rights")
"""What may be wrong."""
READING = ("connect", "first page", "middle")
WRITING = ("connect", "middle", "commit", "after commit")
"""When a line may be cut: the last, once the system has taken the records and before it is heard."""
ATTEMPTS = 4
PUBLICATION = "r1/bad-day"
EARLIER = "r0/good-day"
SLOW_BYTES_PER_SECOND = 3_000_000


@dataclass(frozen=True)
class Mistake:
    """Something that is wrong, and what is told of it."""

    words: str
    """A pattern of what is told of it."""
    connection: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the connection that differ."""
    get: Mapping[str, Any] | None = field(default_factory=dict)
    """The get's fields that differ; None: it does not meet the mistake."""
    post: Mapping[str, Any] | None = field(default_factory=dict)
    error: type[FlowError] = Invalid
    check_tells: bool = True
    """Whether the check before a run meets it."""
    test_tells: bool = True
    """Whether the connection's own test meets it."""


@dataclass(frozen=True)
class Cut:
    """When a line is cut: at a pattern of what the client says, heard by the system or not; or after so many bytes."""

    word: bytes = b""
    heard: bool = False
    count: int = 0
    direction: Literal["up", "down"] = "up"


class Line(Protocol):
    """A line to a system that can be cut and slowed, such as a proxy."""

    port: int
    cuts: int

    def cut_at(self, word: bytes, *, heard: bool = False) -> None: ...

    def cut_after(self, count: int, direction: Literal["up", "down"]) -> None: ...

    def slow(self, bytes_per_second: float) -> None: ...

    def back(self) -> None: ...


def told(work: Callable[[], object]) -> FlowError | None:
    """How something that is asked for ends: with one of our errors, or well.

    Raises:
        Exception: any other error, as a user would see it.
    """
    try:
        work()
    except FlowError as fault:
        return fault
    except Interrupted as fault:
        return fault.why
    return None


def records(count: int, times: int = 70) -> pa.RecordBatch:
    """Records with keys and some text, 700 bytes each unless the key is written less often."""
    keys = [f"key-{number:05d}" for number in range(count)]
    return pa.record_batch({KEY: keys, "n": pa.array(range(count), pa.int64()), "text": [key * times for key in keys]})


def sent(post: Post, batch: pa.RecordBatch, rig: Rig, publication: str = PUBLICATION) -> None:
    """Sends all of a batch, none of which may be rejected."""
    for _put, outcome in delivered(post, batch, rig.scope, publication):
        assert outcome.rejects is None


class BadDayConformance:
    """Holds a get and a post of one system to bad days."""

    count: ClassVar[int] = 1500
    """So many records are carried by a line."""
    spared: ClassVar[Mapping[str, str]] = {}
    """What cannot be wrong, with the reason."""
    reading: ClassVar[Mapping[str, Cut]] = {}
    writing: ClassVar[Mapping[str, Cut]] = {}
    """By stage when the line is cut; none: there is no line."""

    def rig(self, tmp_path: Path, **connection: Any) -> Rig:
        """A new place to deliver to, or the same for the same folder; with settings of the connection that differ."""
        raise AssertionError("override `rig` with a place that takes records and gives them back")

    def mistakes(self, tmp_path: Path) -> Mapping[str, Mistake]:
        """What may be wrong, by its kind. To be overridden."""
        raise AssertionError("override `mistakes` with what may be wrong")

    def secrets(self) -> tuple[str, ...]:
        """What no message may hold."""
        return ()

    def refusing(self, tmp_path: Path) -> Rig | None:
        """A place that refuses records whose `n` is negative, and no others; None: the system refuses nothing by itself."""
        return None

    def line(self) -> AbstractContextManager[Line]:
        """A line to the system. To be overridden where there is one."""
        raise AssertionError("override `line` with one that can be cut")

    def through(self, line: Line) -> Mapping[str, Any]:
        """The settings of a connection by this line."""
        return {"port": line.port}

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_mistake_is_told_in_words_that_help_wherever_it_is_met(self, tmp_path: Path, kind: str) -> None:
        right = self.rig(tmp_path)
        batch = records(3, 7)
        sent(right.post(), batch, right, EARLIER)
        mistake = self.mistakes(tmp_path).get(kind)
        assert (mistake is None) == (kind in self.spared)
        if mistake is None:
            assert self.spared[kind]
            return
        rig = self.rig(tmp_path, **mistake.connection)

        met = list(_met(mistake, rig, batch))

        assert met
        for where, texts in met:
            assert any(re.search(mistake.words, text) for text in texts), (where, texts)
            assert not [secret for secret in self.secrets() for text in texts if secret in text], (where, texts)

    @pytest.mark.parametrize("wrong", [[3], range(10)], ids=["one", "all"])
    def test_what_the_system_refuses_is_rejected_and_all_else_arrives(
        self, tmp_path: Path, wrong: Sequence[int]
    ) -> None:
        rig = self.refusing(tmp_path)
        if rig is None:
            return
        numbers = [-number - 1 if number in wrong else number for number in range(10)]
        batch = records(10).set_column(1, "n", pa.array(numbers, pa.int64()))

        outcomes = list(delivered(rig.post(), batch, rig.scope, PUBLICATION))

        rejects = [outcome.rejects for _, outcome in outcomes if outcome.rejects is not None]
        assert [row for each in rejects for row in each.rows.to_pylist()] == list(wrong)
        assert {code for each in rejects for code in each.codes} == {"refused"}
        assert all(message for each in rejects for message in each.messages)
        get = rig.get(batch.schema)
        found = read(get, batch.schema, rig.scope)[0]
        get.release(rig.scope)
        assert sorted(found["n"].to_pylist()) == [number for number in numbers if number >= 0]

    @pytest.mark.parametrize("stage", READING)
    def test_a_line_cut_while_reading_is_said_and_all_is_read_when_it_is_back(self, tmp_path: Path, stage: str) -> None:
        if not self.reading:
            assert not self.writing
            return
        batch = records(self.count)
        direct = self.rig(tmp_path)
        sent(direct.post(), batch, direct)
        with self.line() as line:
            rig = self.rig(tmp_path, **self.through(line))
            get = rig.get(batch.schema)
            report = Reported()
            schema = get.check({}, rig.scope, report)["out"]
            assert schema is not None, report
            _cut(line, self.reading[stage])

            fault = told(lambda: read(get, schema, rig.scope))
            cuts = line.cuts
            line.back()
            get.release(rig.scope)
            found = read(get, schema, rig.scope)[0]
            get.release(rig.scope)

        assert cuts == 1
        assert fault is None or isinstance(fault, Unavailable), fault
        assert sorted(found[KEY].to_pylist()) == batch.column(KEY).to_pylist()

    @pytest.mark.parametrize("stage", WRITING)
    def test_a_line_cut_while_writing_loses_no_record_and_doubles_none_that_the_label_does_not(
        self, tmp_path: Path, stage: str
    ) -> None:
        if not self.writing:
            assert not self.reading
            return
        batch = records(self.count)
        with self.line() as line:
            rig = self.rig(tmp_path, **self.through(line))
            post = rig.post()
            _cut(line, self.writing[stage])
            faults = []
            for _attempt in range(ATTEMPTS):
                fault = told(lambda: _sent_once(post, batch, rig))
                if fault is None:
                    break
                faults.append(fault)
            cuts = line.cuts

        direct = self.rig(tmp_path)
        get = direct.get(batch.schema)
        schema = get.check({}, direct.scope, Reported())["out"]
        found = sorted(read(get, schema, direct.scope)[0][KEY].to_pylist())
        get.release(direct.scope)
        assert cuts == 1
        assert [fault for fault in faults if not isinstance(fault, Unavailable)] == []
        assert (found if post.delivery()[0] == "effectively once" else sorted(set(found))) == batch.column(
            KEY
        ).to_pylist()

    def test_a_slow_line_carries_everything(self, tmp_path: Path) -> None:
        if not self.writing:
            assert not self.reading
            return
        batch = records(self.count)
        with self.line() as line:
            rig = self.rig(tmp_path, **self.through(line))
            line.slow(SLOW_BYTES_PER_SECOND)
            sent(rig.post(), batch, rig)
            get = rig.get(batch.schema)
            schema = get.check({}, rig.scope, Reported())["out"]
            found = read(get, schema, rig.scope)[0]
            get.release(rig.scope)

        assert sorted(found[KEY].to_pylist()) == batch.column(KEY).to_pylist()


def _sent_once(post: Post, batch: pa.RecordBatch, rig: Rig) -> None:
    if not post.is_published(rig.scope, PUBLICATION):
        sent(post, batch, rig)


def _cut(line: Line, cut: Cut) -> None:
    if cut.word:
        line.cut_at(cut.word, heard=cut.heard)
    else:
        line.cut_after(cut.count, cut.direction)


def _met(mistake: Mistake, rig: Rig, batch: pa.RecordBatch) -> Iterator[tuple[str, list[str]]]:
    """What is told of a mistake, wherever it is met."""
    get = None if mistake.get is None else rig.get(batch.schema, **mistake.get)
    post = None if mistake.post is None else rig.post(**mistake.post)
    if mistake.check_tells:
        for node, inputs in ((get, {}), (post, {"": batch.schema})):
            if node is not None:
                yield f"check of {type(node).__name__}", _problems(node, inputs, rig)
    works: dict[str, Callable[[], object]] = {}
    if get is not None:
        works["get"] = lambda: read(get, batch.schema, rig.scope)
    if post is not None:
        works["post"] = lambda: sent(post, batch, rig)
    if mistake.test_tells:
        for connection in rig.scope.environment.connections.values():
            works["test"] = lambda connection=connection: connection.test(rig.scope)  # type: ignore[misc]
    for name, work in works.items():
        fault = told(work)
        assert isinstance(fault, mistake.error), (name, fault)
        yield name, [str(fault)]
    if get is not None:
        with suppress(FlowError):
            get.release(rig.scope)


def _problems(node: Get | Post, inputs: Mapping[str, pa.Schema | None], rig: Rig) -> list[str]:
    found: list[str] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        found.append(f"{what}; {fix}")

    fault = told(lambda: node.check(inputs, rig.scope, report))
    return [*found, *([] if fault is None else [str(fault)])]
