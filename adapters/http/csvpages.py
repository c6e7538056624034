"""Reads answers that are CSV as `file.get` reads files of it: the same types, the same care with what does not fit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from adapters.file.get import Get as FileGet
from adapters.http.answers import Page
from pipelines.errors import Invalid
from pipelines.node import Chunk, Malformed, Want
from pipelines.scope import Scope
from pipelines.tables.relation import Names


def csv_schema(page: Page, columns: Names | dict[str, str] | None, delimiter: str | None, scope: Scope) -> pa.Schema:
    """The columns of an answer, types declared or inferred."""
    problems: list[str] = []

    def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
        if not warning:
            problems.append(f"{what}; {fix}" if fix else what)

    with _file(page, columns, delimiter) as get:
        found = get.check({}, scope, report)["out"]
    if found is None:
        raise Invalid("; ".join(problems) or f"{page.address}: the answer is empty")
    return found


def csv_chunks(
    pages: Iterable[Page],
    columns: Names | dict[str, str] | None,
    delimiter: str | None,
    schema: pa.Schema,
    scope: Scope,
    want: Want,
) -> Iterator[Chunk]:
    """The records of answers, with ordinals that go on from one to the next."""
    first = given = 0
    for page in pages:
        with _file(page, columns, delimiter) as get:
            here = 0
            for split in get.plan(scope, None, want).splits:
                for chunk in get.read(split.payload, schema, scope, want):
                    yield _moved(chunk, first + here, page, get.path)
                    given += chunk.batch.num_rows
                here += split.room
        first += here
        if want.rows is not None and given >= want.rows:
            return


@contextmanager
def _file(page: Page, columns: Names | dict[str, str] | None, delimiter: str | None) -> Iterator[FileGet]:
    """The answer as a file, and what reads it."""
    with tempfile.TemporaryDirectory(prefix="processflow-http-") as folder:
        path = Path(folder) / "answer.csv"
        path.write_bytes(page.text.encode("utf-8", "surrogateescape"))
        yield FileGet(path=str(path), format="csv", columns=columns, delimiter=delimiter)


def _moved(chunk: Chunk, by: int, page: Page, path: str) -> Chunk:
    ordinals = None
    if chunk.ordinals is not None:
        ordinals = pa.array([place + by for place in chunk.ordinals.to_pylist()], pa.int64())
    malformed = chunk.malformed
    if malformed is not None:
        messages = [message.replace(path, page.address) for message in malformed.messages]
        places = [place + by for place in malformed.ordinals]
        malformed = Malformed(malformed.texts, malformed.codes, messages, places)
    return replace(chunk, first=chunk.first + by, ordinals=ordinals, malformed=malformed)
