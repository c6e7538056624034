"""Turns pages into records of the declared or inferred columns, all of a batch at once; what does not fit is set aside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from adapters.file import jsonhead
from adapters.file.infer import settled
from adapters.file.jsonfaults import Careful, exact
from adapters.file.lines import Fault, Piece, cut_text
from adapters.file.nested import replaced
from adapters.file.types import arrow_type
from adapters.http.answers import Page, texts_of
from adapters.http.places import steps
from pipelines.errors import Invalid, Problem
from pipelines.sql.literals import quoted
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.relation import Names, as_list, suggestion

BODY = pa.schema([pa.field("body", pa.string())])
PIECE_ROWS = 16_384
"""Small pages are taken together until they have so many records: taking a text apart costs a millisecond a time."""
PIECE_BYTES = 16 << 20


class Parser:
    """Turns the records of pages into columns."""

    def __init__(self, schema: pa.Schema, records: str | None, sandbox: Sandbox) -> None:
        self._careful = Careful(schema, sandbox)
        self._sandbox = sandbox
        names = steps(records)
        path = None if names is None else "$" + "".join(f'."{name}"' for name in names)
        self._cut = (
            None
            if path is None
            else f"unnest(from_json(json_extract(body, {quoted(path)}), '[\"JSON\"]'))::VARCHAR AS line"
        )
        self._has_decimals = any(_holds_decimals(field.type) for field in schema)

    def __call__(self, pages: Sequence[Page]) -> Piece:
        """The records of pages, in order."""
        texts = self._texts(pages)
        batch = self._careful.strict(texts) if len(texts) else self._careful.nothing()
        if batch is not None:
            return Piece(batch)
        batch, bad = self._careful(texts)
        return Piece(batch, [self._fault(pages, texts, number, *bad[number]) for number in sorted(bad)])

    def _texts(self, pages: Sequence[Page]) -> pa.BinaryArray:
        """Each record as a text of JSON; cut out of the pages by DuckDB where that can be done."""
        if self._cut is not None and all(page.kind == "json" for page in pages):
            try:
                bodies = pa.array([page.text for page in pages], pa.string())
                bodies = exact(bodies) if self._has_decimals else bodies
                found = self._sandbox.prepare(self._cut, BODY)(pa.record_batch([bodies], schema=BODY)).column(0)
                if len(found) == sum(page.count for page in pages):
                    return found.fill_null("null").cast(pa.binary())
            except (duckdb.Error, UnicodeError, pa.ArrowException):
                pass  # one by one tells which record it is
        return pa.array([_bytes(text) for page in pages for text in texts_of(page)], pa.binary())

    def _fault(self, pages: Sequence[Page], texts: pa.BinaryArray, number: int, code: str, message: str) -> Fault:
        place = number
        for page in pages:
            if place < page.count:
                break
            place -= page.count
        text = cut_text(memoryview(texts[number].as_py()))
        return Fault(number, text, code, f"{page.address} record {place + 1}: {message}")


def pieces(pages: Iterable[Page], parser: Parser, most_rows: int) -> Iterator[Piece]:
    """Pages as pieces, small ones together."""
    held: list[Page] = []
    rows = size = 0
    for page in pages:
        held.append(page)
        rows += page.count
        size += len(page.text)
        if rows >= min(PIECE_ROWS, most_rows) or size >= PIECE_BYTES:
            yield parser(held)
            held, rows, size = [], 0, 0
    if held:
        yield parser(held)


def inferred(samples: Sequence[Any], columns: Names | Mapping[str, str] | None) -> pa.Schema:
    """The columns of sampled records: names by first sight, types declared or as the values tell.

    Raises:
        Invalid: the records have a name twice, but for case, or not those that are asked for.
    """
    declared = declared_types(columns)
    kinds = jsonhead.infer((written_plainly(record) for record in samples), declared)
    wanted = as_list(columns)
    twins = jsonhead.twins(list(kinds))
    if twins and not wanted:
        what = f"keys {', '.join(map(repr, twins))} are empty or differ only in case"
        raise Invalid(Problem("", 0, 0, what, "name those to read under `columns`", ("columns",)))
    whole = settled({name: replaced(kind, _text_of_nulls) for name, kind in kinds.items()} | declared)
    if not wanted:
        return whole
    missing = [name for name in wanted if name not in whole.names]
    if missing and len(whole):
        raise Invalid(
            Problem("", 0, 0, f"the first records have no {name!r}", suggestion(name, whole.names), ("columns",))
            for name in missing
        )
    return pa.schema([whole.field(name) for name in wanted if name in whole.names])


def declared_types(columns: Names | Mapping[str, str] | None) -> dict[str, pa.DataType]:
    """The types that are declared, by column."""
    found: dict[str, pa.DataType] = {}
    for name, text in columns.items() if isinstance(columns, Mapping) else ():
        try:
            found[name] = arrow_type(text)
        except Invalid as fault:
            fix = "write one such as BIGINT, DECIMAL(18,2), VARCHAR, DATE or TIMESTAMP"
            raise Invalid(Problem("", 0, 0, f"column {name!r}: {fault}", fix, ("columns", name))) from fault
        if pa.types.is_binary(found[name]) or pa.types.is_interval(found[name]):
            fix = "read it as VARCHAR and convert it in a map"
            raise Invalid(Problem("", 0, 0, f"column {name!r}: JSON has no {text}", fix, ("columns", name)))
    return found


def written_plainly(record: Any) -> bytes:
    """A record as a line for the inference of types: its numbers are numbers."""
    return json.dumps(record, default=float).encode()


def _text_of_nulls(kind: pa.DataType) -> pa.DataType:
    return pa.string() if pa.types.is_null(kind) else kind


def _holds_decimals(kind: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(kind)) or any(
        _holds_decimals(kind.field(index).type) for index in range(kind.num_fields)
    )


def _bytes(text: str) -> bytes:
    """The text's bytes; those that were no text come back as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
