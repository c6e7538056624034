"""Node types as a stranger would write them, small enough to see through, for tests of the engine."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from pipelines.errors import Unavailable
from pipelines.node import (
    Chunk,
    Get,
    Json,
    Malformed,
    Outcome,
    Part,
    Piece,
    Post,
    Publication,
    Receipts,
    Rejects,
    Report,
    Schemas,
    Split,
    SplitPlan,
    Step,
    Transform,
    Want,
    Writer,
)
from pipelines.records import ROW_ID, without_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.wire import SpillWriter, read_spill

NUMBERS = pa.schema([pa.field("n", pa.int64())])


class Numbers(Get):
    """Gives the numbers from 0, in splits; every `malformed_each`th is no record. Breaks off where it is told to."""

    count: int = 100
    """How many places there are."""
    splits: int = 4
    """Over how many splits."""
    chunk_rows: int = 7
    """Rows a chunk."""
    malformed_each: int = 0
    """0: none."""
    breaks: str = ""
    """A file whose existence makes the reading break off once, in the middle of a chunk's split."""

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": NUMBERS}

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        first = position or 0
        each = max(1, (self.count - first + self.splits - 1) // self.splits)
        starts = range(first, self.count, each)
        splits = tuple(Split([start, min(self.count, start + each)], each, each * 8) for start in starts)
        return SplitPlan(splits, self.count)

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        start, end = split
        for low in range(start, end, self.chunk_rows):
            if self.breaks and low > start and (flag := scope.path(self.breaks)).exists():
                flag.unlink()
                raise Unavailable("the numbers went away")
            yield self._chunk(start, range(low, min(end, low + self.chunk_rows)))

    def _chunk(self, start: int, numbers: range) -> Chunk:
        bad = [n for n in numbers if self.malformed_each and n % self.malformed_each == 0]
        good = [n for n in numbers if n not in bad]
        batch = pa.record_batch([pa.array(good, pa.int64())], schema=NUMBERS)
        malformed = Malformed([str(n) for n in bad], ["odd"] * len(bad), ["no"] * len(bad), [n - start for n in bad])
        return Chunk(batch, ordinals=pa.array([n - start for n in good], pa.int64()), malformed=malformed)


class Sift(Transform):
    """Lets odd numbers out by `odd`, every number by `all`, filters multiples of ten, rejects multiples of seven."""

    loses: bool = False
    """Whether it forgets a record, as no node may."""

    def ports(self) -> tuple[str, ...]:
        return ("odd", "rest")

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"odd": inputs[""], "rest": inputs[""]}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        return self._sift

    def _sift(self, batch: pa.RecordBatch) -> Outcome:
        numbers = batch.column("n").to_pylist()
        seven = [row for row, n in enumerate(numbers) if n % 7 == 0]
        ten = [row for row, n in enumerate(numbers) if n % 10 == 0 and n % 7]
        left = [row for row in range(len(numbers)) if row not in seven and row not in ten]
        odd = pa.array([row for row in left if numbers[row] % 2], pa.int64())
        rest = pa.array([row for row in left if not numbers[row] % 2][1 if self.loses else 0 :], pa.int64())
        out = {"odd": Piece(batch.take(odd), odd), "rest": Piece(batch.take(rest), rest)}
        reason = [f"{numbers[row]} is a multiple of seven" for row in seven]
        return Outcome(out, len(ten), Rejects(pa.array(seven, pa.int64()), ["seven"] * len(seven), reason))


class Heap(Post):
    """Appends numbers to a text file when published, in one rename; refuses those above `most`."""

    staged: ClassVar[bool] = True
    keeps_ids: ClassVar[bool] = True
    path: str
    """The file."""
    most: int = 1 << 60
    """The largest number it takes."""

    def target(self, scope: Scope) -> str:
        return str(scope.path(self.path))

    def delivery(self) -> tuple[str, str]:
        return "effectively once", "published in one rename"

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs[""]}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        return _Spooled(scope.staging / f"heap-{uuid.uuid4().hex}.arrow")

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        return _Heaping(self, parts, scope, token)

    def is_published(self, scope: Scope, token: str) -> bool:
        done = scope.path(self.path + ".done")
        return done.exists() and token in done.read_text().split("\n")


class _Spooled:
    def __init__(self, path: Path) -> None:
        self._spill = SpillWriter(path)

    def put(self, batch: pa.RecordBatch) -> Outcome:
        assert batch.schema.names[-1] == ROW_ID
        self._spill.write(batch)
        return Outcome(pending=batch.num_rows)

    def close(self) -> Sequence[Part]:
        self._spill.close()
        return [Part(str(self._spill.path), self._spill.rows)] if self._spill.rows else []

    def abandon(self) -> None:
        self._spill.close()
        self._spill.path.unlink(missing_ok=True)


class _Heaping:
    def __init__(self, heap: Heap, parts: Sequence[Part], scope: Scope, token: str) -> None:
        self._heap, self._parts, self._scope, self._token = heap, parts, scope, token
        self._numbers: list[int] = []

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        for part in self._parts:
            for batch in read_spill(Path(part.payload)):
                yield batch, self._outcome(without_ids(batch))

    def _outcome(self, batch: pa.RecordBatch) -> Outcome:
        numbers = batch.column("n").to_pylist()
        bad = [row for row, n in enumerate(numbers) if n > self._heap.most]
        rows = pa.array([row for row in range(len(numbers)) if row not in bad], pa.int64())
        self._numbers += [numbers[row] for row in rows.to_pylist()]
        rejects = Rejects(pa.array(bad, pa.int64()), ["refused"] * len(bad), ["too large"] * len(bad))
        return Outcome({"out": Piece(batch.take(rows), rows)}, rejects=rejects, receipts=Receipts())

    def commit(self) -> None:
        if self._heap.is_published(self._scope, self._token):
            return
        target = self._scope.path(self._heap.path)
        old = target.read_text() if target.exists() else ""
        target.with_suffix(".new").write_text(old + "".join(f"{n}\n" for n in self._numbers))
        target.with_suffix(".new").replace(target)
        done = self._scope.path(self._heap.path + ".done")
        done.write_text((done.read_text() if done.exists() else "") + self._token + "\n")

    def abandon(self) -> None:
        self._numbers = []


class Caller(Post):
    """Delivers at once: appends each batch to a file as it comes; away until a flag file is gone."""

    staged: ClassVar[bool] = False
    path: str
    """The file."""
    away: str = ""
    """While this file exists the target is away; each attempt takes a character of it."""

    def target(self, scope: Scope) -> str:
        return str(scope.path(self.path))

    def delivery(self) -> tuple[str, str]:
        return "at least once", "it has no key, so a retry may duplicate"

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        return {"out": inputs[""]}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        return _Calling(self, scope)

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        raise AssertionError("a direct post is never published")


class _Calling:
    def __init__(self, caller: Caller, scope: Scope) -> None:
        self._caller, self._scope = caller, scope

    def put(self, batch: pa.RecordBatch) -> Outcome:
        away = self._scope.path(self._caller.away) if self._caller.away else None
        if away is not None and away.exists() and (left := away.read_text()):
            away.write_text(left[1:])
            raise Unavailable("nobody answers")
        with self._scope.path(self._caller.path).open("a") as file:
            file.write("".join(f"{n}\n" for n in batch.column("n").to_pylist()))
        return Outcome({"out": Piece(batch)}, receipts=Receipts())

    def close(self) -> Sequence[Part]:
        return []

    def abandon(self) -> None:
        return None


TYPES: Mapping[str, type] = {"numbers": Numbers, "sift": Sift, "heap": Heap, "caller": Caller}
