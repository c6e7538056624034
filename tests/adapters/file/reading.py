"""Reads with `file.get` as a run does, and keeps all that came: what the tests of its formats share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from adapters.file import Get
from pipelines.errors import Invalid
from pipelines.node import Chunk, Want
from pipelines.scope import Scope


class Read:
    """What a get gives: its schema, records, ordinals and what was set aside."""

    def __init__(self, project: Path, position: Any = None, want: Want | None = None, **fields: Any) -> None:
        want = want or Want()
        scope = Scope(project=project)
        get = Get(**fields)
        self.schema = checked(get, scope)
        self.plan = get.plan(scope, position, want)
        self.position = self.plan.position
        self.rows: list[dict[str, Any]] = []
        self.ordinals: list[int] = []
        self.malformed: list[tuple[int, str, str, str]] = []
        self.batches: list[int] = []
        base = 0
        for split in self.plan.splits:
            chunks = list(get.read(split.payload, self.schema, scope, want))
            places = sorted(place for chunk in chunks for place in [*ordinals(chunk), *malformed_ordinals(chunk)])
            assert len(set(places)) == len(places)
            assert not places or (places[0] >= 0 and places[-1] < split.room)
            for chunk in chunks:
                self.rows += chunk.batch.to_pylist()
                self.batches.append(chunk.batch.num_rows)
                self.ordinals += [base + place for place in ordinals(chunk)]
                bad = chunk.malformed
                if bad:
                    self.malformed += [
                        (base + place, code, text, message)
                        for place, code, text, message in zip(
                            bad.ordinals, bad.codes, bad.texts, bad.messages, strict=True
                        )
                    ]
                self.position = get.later(self.position, chunk.position)
            base += split.room

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


def checked(get: Get, scope: Scope) -> pa.Schema:
    problems: list[str] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        if not warning:
            problems.append(f"{'.'.join(map(str, at))}: {what}; {fix}")

    schema = get.check({}, scope, report)["out"]
    if schema is None or problems:
        raise Invalid("\n".join(problems))
    return schema


def ordinals(chunk: Chunk) -> list[int]:
    if chunk.ordinals is not None:
        return chunk.ordinals.to_pylist()
    return list(range(chunk.first, chunk.first + chunk.batch.num_rows))


def malformed_ordinals(chunk: Chunk) -> Sequence[int]:
    return chunk.malformed.ordinals if chunk.malformed else ()


def write(folder: Path, text: str | bytes, name: str = "data.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path
