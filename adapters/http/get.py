"""Reads records of an HTTP API: page by page, what is new since the last run, or for each record that comes in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from adapters.file.lines import chunked
from adapters.file.sieve import Sieve, cursor_value, packed_schema, united, unpacked_schema
from adapters.http import loop, since
from adapters.http.answers import Format
from adapters.http.asking import Ahead, Source, first_pages, one_by_one, side_by_side, told
from adapters.http.client import client
from adapters.http.connection import Connection
from adapters.http.csvpages import csv_chunks, csv_schema
from adapters.http.paging import Ask, Paging, page_asked, total_of
from adapters.http.places import JmesPath
from adapters.http.records import Parser, declared_types, inferred, pieces
from adapters.http.since import Cursor
from adapters.http.templates import Missing, filled, filled_path, places
from pipelines import node
from pipelines.errors import Invalid
from pipelines.finding import Hits
from pipelines.node import Chunk, Example, Json, Report, Schemas, Split, SplitPlan, Step, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from pipelines.tables import positions
from pipelines.tables.relation import Names, as_list, is_number, suggestion

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox

SAMPLE_PAGES, SAMPLE_ROWS = 5, 100
PAGE_ROOM = 1 << 22
OPEN_ROOM = 1 << 44
PART_PAGES = 64
"""So many pages are one split: what a run that is taken up again need not fetch again."""


class Get(node.Get):
    """Reads records of an HTTP API: page by page, what is new since the last run, or for each record that comes in.

    Numbers keep their digits: a column declared as DECIMAL is read without a detour through floating point. A record
    that does not fit the columns is set aside with its text, its page and the reason. An answer that breaks off, or with
    the status 408, 425, 429, 500, 502, 503 or 504, is asked for again as the connection says.

    With records coming in, it fetches for each of them, several at once, the same address once; `keep` says which of their
    columns stand before what was fetched, and all that was fetched for a record leaves where the record came. What the
    API refuses is rejected with its message and the code `refused`; what goes on failing while others are answered with
    `unavailable`.
    """

    takes_records: ClassVar[bool] = True
    most_rows: ClassVar[int | None] = 500
    infers_types: ClassVar[bool] = True
    category: ClassVar[str] = "web"

    connection: str
    """The connection's name."""
    path: str = Field(default="", examples=["/orders", "/customers/{customer_id}/orders"])
    """The path behind the connection's `url`. `{name}` is a column of the record that comes in, a parameter or a
    variable."""
    method: Literal["GET", "POST"] = "GET"
    """How it is asked: `POST` where an API searches so."""
    query: dict[str, Any] = Field(default_factory=dict, examples=[{"status": "paid", "country": "$country"}])
    """Parameters of the query. `{name}` as in `path`; `$name` alone is that value itself, null leaves the parameter out,
    a list repeats it."""
    headers: dict[str, str] = Field(default_factory=dict)
    """Further headers."""
    body: Any = Field(default=None, examples=[{"filter": {"status": "paid"}}])
    """The body of a `POST`, with `{name}` and `$name` as in `query`."""
    records: JmesPath | None = Field(default=None, examples=["items", "data[*].attributes"])
    """Where in the answer (JMESPath) the list of records stands; `@` is the whole answer. Without it the answer itself, if
    a list."""
    format: Format | None = None
    """What the answer is; without it its Content-Type tells, else JSON. In XML an element is an object of its attributes
    and elements."""
    encoding: str | None = None
    """How characters are written, where the answer tells it wrongly or not at all and they are no UTF-8."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    """CSV: what stands between fields: `,` unless given."""
    columns: Names | dict[str, str] | None = Field(default=None, examples=[["id", "total"], {"total": "DECIMAL(18,2)"}])
    """Which columns to read: names, or names to DuckDB types. Without types they are inferred from the first pages, and
    hold for all."""
    paging: Paging | None = None
    """How the API hands out its records page by page; without it one answer has them all."""
    cursor: Cursor | None = None
    """What tells new records from those of earlier runs: `column`, sent as `parameter`."""
    key: Names | None = None
    """The columns that identify a record. With `cursor` they tell records of equal cursor values apart."""
    keep: Names | Literal["all", "none"] = Field(default="none", examples=["all", ["customer_id"]])
    """With records coming in: which of their columns leave with what was fetched for them: `all`, `none`, or names."""
    missing: Literal["drop", "null", "reject"] = "drop"
    """With records coming in: what becomes of one for which there is nothing, or 404: it is left out and counted as
    filtered, leaves with null for what was not found, or is rejected with the code `not_found`."""

    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Reads the pages of `orders` side by side, as the API tells how many there are.",
            config={
                "connection": "shop",
                "path": "/orders",
                "records": "items",
                "paging": {
                    "by": "page",
                    "parameter": "page",
                    "size_parameter": "per_page",
                    "size": 2,
                    "total": "total",
                },
            },
            gives={"out": [{"id": 1, "total": 9.5}, {"id": 2, "total": 12.0}, {"id": 3, "total": 7.25}]},
        ),
        Example(
            says="Reads what has changed since the last run, with exact amounts.",
            config={
                "connection": "shop",
                "path": "/changes",
                "columns": {"id": "BIGINT", "total": "DECIMAL(18,2)", "updated_at": "TIMESTAMPTZ"},
                "cursor": {"column": "updated_at", "parameter": "since"},
                "key": ["id"],
            },
            gives={"out": [{"id": 1, "total": 9.5, "updated_at": "2026-01-01T08:00:00Z"}]},
        ),
        Example(
            says="Behind a node that gives orders: fetches each order's customer, and keeps the order's columns.",
            config={
                "connection": "shop",
                "path": "/customers/{customer_id}",
                "records": "@",
                "columns": {"name": "VARCHAR", "country": "VARCHAR"},
                "keep": "all",
                "missing": "null",
            },
        ),
    )

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        try:
            self._check_names(scope.values, report)
            whole = self._whole(scope)
        except Missing as fault:
            report(("path",), str(fault), "give it a value")
            return {"out": None}
        except Invalid as fault:
            for problem in fault.problems:
                report(problem.at or ("path",), problem.what, problem.fix)
            return {"out": None}
        if not len(whole):
            report(("columns",), "there is no record, so its columns are not known", "give `columns` with their types")
            return {"out": None}
        self._check_columns(whole, report)
        return {"out": whole}

    def _check_names(self, there: Mapping[str, Any], report: Report) -> None:
        for place in ("path", "query", "body"):
            for name in places(getattr(self, place)):
                if name not in there:
                    report((place,), f"{{{name}}} is no column, parameter or variable", suggestion(name, sorted(there)))

    def _check_columns(self, whole: pa.Schema, report: Report) -> None:
        names = {"key": as_list(self.key), "cursor": [self.cursor.column] if self.cursor else []}
        for place, wanted in names.items():
            for name in wanted:
                if name not in whole.names:
                    report((place,), f"there is no column {name!r}", suggestion(name, whole.names))

    def _whole(self, scope: Scope) -> pa.Schema:
        """The columns: declared, or as the first pages tell."""
        declared = declared_types(self.columns)
        if declared:
            scope.connection(self.connection, Connection)
            return pa.schema(list(declared.items()))
        pages = first_pages(self.source(scope, scope.values), scope, SAMPLE_PAGES, SAMPLE_ROWS)
        if pages and pages[0].kind == "csv":
            return csv_schema(pages[0], self.columns, self.delimiter, scope)
        return inferred([record for page in pages for record in page.samples()], self.columns)

    def source(self, scope: Scope, values: Mapping[str, Any]) -> Source:
        """What is asked, with these values for its names."""
        return Source(
            scope.connection(self.connection, Connection),
            self.method,
            filled_path(self.path, values),
            filled(self.query, values),
            self.headers,
            filled(self.body, values),
            self.records,
            self.format,
            self.encoding,
            self.paging,
        )

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        after = (position or {}).get("cursor")
        also = packed_schema(self._also(scope)) if self.cursor is not None else ""
        reached = after["then"] if after and "until" in after else position
        common = {"after": after, "also": also}
        parts = [] if want.rows is not None else self._parts(scope, after)
        splits = [
            Split({**part, **common}, part["pages"] * PAGE_ROOM if part["pages"] else OPEN_ROOM) for part in parts
        ]
        if not splits:
            splits = [Split({"number": 0, "start": 0, "pages": None, **common}, OPEN_ROOM)]
        return SplitPlan(tuple(splits), reached)

    def _parts(self, scope: Scope, after: Json) -> list[dict[str, Any]]:
        """The pages as parts, where the API tells how many records there are; the last part ends where the pages do."""
        if self.paging is None or self.paging.total is None:
            return []
        source = self._since(scope, after)
        first = page_asked(self.paging, source.plain, 0)
        page = loop.run(_asked_once(source, scope, first))
        total = total_of(self.paging, told(page))
        if total is None or not page.count or total <= page.count:
            return []
        size = page.count  # what the API gives at once, whatever it was asked for
        count = -(-total // size)
        return [
            {"number": number, "start": number * size, "pages": min(PART_PAGES, count - number), "size": size}
            | ({"is_last": True} if number + PART_PAGES >= count else {})
            for number in range(0, count, PART_PAGES)
        ]

    def _since(self, scope: Scope, after: Json) -> Source:
        """What is asked after a position."""
        source = self.source(scope, scope.values)
        return source if self.cursor is None else since.asked(source, self.cursor, after, scope.values)

    def _also(self, scope: Scope) -> pa.Schema:
        """The columns of cursor and key, which are needed whether anything else wants them or not."""
        needed = [str(self.cursor and self.cursor.column), *as_list(self.key)]
        whole = self._whole(scope)
        missing = [name for name in needed if name not in whole.names]
        if missing:
            raise Invalid(f"there is no column {missing[0]!r}; {suggestion(missing[0], whole.names)}")
        return pa.schema([whole.field(name) for name in needed])

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        wanted = pa.schema([field for field in schema if want.columns is None or field.name in want.columns])
        outer = united(wanted, unpacked_schema(split["also"]))
        most_rows = want.batch_rows if want.rows is None else min(want.rows, want.batch_rows)
        with borrowed(scope) as sandbox:
            parser = Parser(outer, self.records, sandbox)
            pages = iter(Ahead(_pages(self._since(scope, split["after"]), scope, split)))
            first = next(pages, None)
            if first is None:
                return
            whole = itertools.chain([first], pages)
            chunks = chunked(pieces(whole, parser, most_rows), want)
            if first.kind == "csv":
                chunks = csv_chunks(whole, self.columns, self.delimiter, outer, scope, want)
            if self.cursor is not None:
                sieve = Sieve(None, self.cursor.column, as_list(self.key), split["after"])
                chunks = sieve(chunks, outer, wanted, scope)
            yield from chunks

    def check_each(self, schema: pa.Schema, scope: Scope, report: Report) -> pa.Schema | None:
        scope.connection(self.connection, Connection)
        self._check_names({**scope.values, **dict.fromkeys(schema.names)}, report)
        if self.cursor is not None:
            report(("cursor",), "with records coming in there is no last run to go on from", "take `cursor` out")
        if not isinstance(self.columns, dict):
            what = "with records coming in, no record can be looked at before the run"
            report(("columns",), what, "declare the columns with their types")
            return None
        missing = [name for name in self.kept(schema) if name not in schema.names]
        both = [name for name in self.kept(schema) if name in self.columns]
        if missing:
            report(("keep",), f"there is no column {missing[0]!r}", suggestion(missing[0], schema.names))
        elif both:
            what = f"column {both[0]!r} comes in and is fetched"
            report(("keep",), what, "leave it out of one of them, or rename it in a map before")
        else:
            return self.each_schema(schema)
        return None

    def open_each(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        from adapters.http.each import Fetcher

        return Fetcher(self, schema, scope, sandbox)

    def check_find(self, keys: pa.Schema, on: Mapping[str, str], scope: Scope, report: Report) -> pa.Schema | None:
        asked = {*places(self.path), *places(self.query), *places(self.body)}
        for name in on:
            if name not in asked:
                report(("on",), f"{{{name}}} stands neither in `path` nor in `query` or `body`", "ask for it there")
        return self._for_keys().check_each(keys, scope, report)

    def find(
        self,
        keys: pa.RecordBatch,
        on: Mapping[str, str],
        columns: Sequence[str],
        scope: Scope,
        sandbox: Sandbox,
        heed: Callable[[], None],
    ) -> Hits:
        step, most = self._for_keys().open_each(keys.schema, scope, sandbox), self.most_rows or keys.num_rows
        found: list[pa.RecordBatch] = []
        rows: list[pa.Array] = []
        faults: dict[int, tuple[str, str]] = {}
        for start in range(0, keys.num_rows, most):
            heed()
            outcome = step(keys.slice(start, most))
            piece, rejects = outcome.out["out"], outcome.rejects
            assert piece.rows is not None
            found.append(piece.batch.select(list(columns)))
            rows.append(pc.add(piece.rows, start))
            if rejects is not None:
                told = zip(rejects.codes, rejects.messages, strict=True)
                faults.update(zip((start + row for row in rejects.rows.to_pylist()), told, strict=True))
        return Hits(pa.concat_batches(found), pa.concat_arrays(rows), faults)

    def _for_keys(self) -> Get:
        """The get that gives what it finds and nothing else."""
        return self.model_copy(update={"keep": "none", "missing": "drop"})

    def kept(self, schema: pa.Schema) -> list[str]:
        """The columns of records coming in that leave."""
        if self.keep in ("all", "none"):
            return list(schema.names) if self.keep == "all" else []
        return as_list(self.keep)

    def each_schema(self, schema: pa.Schema) -> pa.Schema:
        """What leaves when records of `schema` come in."""
        declared = declared_types(self.columns)
        return pa.schema([*(schema.field(name) for name in self.kept(schema)), *declared.items()])

    def later(self, one: Json, other: Json) -> Json:
        if one is None or other is None:
            return one if other is None else other
        return {"cursor": positions.later(one.get("cursor"), other.get("cursor"))}

    def position_at(self, scope: Scope, first: str, last: str | None, then: Json) -> Json:
        if self.cursor is None:
            return super().position_at(scope, first, last, then)
        kind = self._also(scope).field(self.cursor.column).type
        start, until = [
            None if text is None else cursor_value(text, kind, self.cursor.column) for text in (first, last)
        ]
        return {"cursor": positions.set_back(start, until, then, is_number(kind))}


async def _asked_once(source: Source, scope: Scope, ask: Ask) -> Any:
    return await source.page(client(source.connection, scope), ask)


async def _pages(source: Source, scope: Scope, split: Mapping[str, Any]) -> Any:
    """The pages of a split: side by side as far as they are known, and the last part on until there are no more."""
    asking = client(source.connection, scope)
    first, count = split["number"], split["pages"]
    if count is None:
        async for page in one_by_one(source, asking, page_asked(source.paging, source.plain, 0)):
            yield page
        return
    size = split["size"]
    asks = [page_asked(source.paging, source.plain, number, number * size) for number in range(first, first + count)]
    last = None
    async for page in side_by_side(source, asking, asks, source.connection.limit.concurrent):
        last = page
        yield page
    if split.get("is_last") and last is not None and last.count >= size:  # more may have come since
        behind = page_asked(source.paging, source.plain, first + count, (first + count) * size)
        async for page in one_by_one(source, asking, behind):
            yield page
