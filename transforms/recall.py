"""The node type `recall`: fetches values that were stored by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines.errors import Invalid
from pipelines.node import Chunk, Example, Get, Json, Outcome, Report, Schemas, Split, SplitPlan, Step, Want
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.stored import Place, Where, kept
from pipelines.tables.keys import Keys, common
from pipelines.tables.lookups import InTable, Rules, keys_in
from pipelines.tables.relation import arrow_type_of, as_list, suggestion
from pipelines.tables.small import typed


class Recall(Get):
    """Fetches values that were stored by name: as records of their own, or, with records coming in, as further columns.

    Behind `start` it gives each stored record. Behind another node every record stays one record: with `key` it gets the
    values of its own key, without it those of the one record under the name.

    What counts is what runs that had ended before this one began had stored; with `scope: run`, what nodes of this run have
    stored, which the node has to wait for by `after`. A run that is taken up again recalls the same.
    """

    name: str = Field(pattern=r"^[\w.-]{1,100}$", examples=["last-order", "rates"])
    """What the values are called."""
    scope: Where = "flow"
    """Whose values: of this `run`, of the `flow` in this environment, or of all flows of the `environment`."""
    columns: dict[str, str] = Field(min_length=1, examples=[{"at": "TIMESTAMPTZ"}])
    """The stored columns to recall, and their DuckDB types."""
    key: str | list[str] | None = None
    """The columns by which values were stored; they are among `columns`, and with records coming in among theirs."""
    default: dict[str, Any] = Field(default_factory=dict, examples=[{"at": "2026-01-01T00:00:00Z"}])
    """What holds where nothing is stored, for each column or some: behind `start` a record of its own, where there is no
    `key`; else the values of a record for whose key nothing is stored."""
    missing: Literal["null", "reject"] = "null"
    """What becomes of a record that comes in, where nothing is stored for it and `default` says nothing: its new columns are
    null, or it is rejected with the code `not_found`."""

    takes_records: ClassVar[bool] = True
    category: ClassVar[str] = "state"
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Behind `start`: where the last run came to, or the beginning of the year.",
            config={
                "name": "last-change",
                "columns": {"at": "TIMESTAMPTZ"},
                "default": {"at": "2026-01-01T00:00:00Z"},
            },
            gives={"out": [{"at": "2026-01-01T00:00:00Z"}]},
        ),
        Example(
            says="Behind a node that gives orders: the rate of each order's currency.",
            config={
                "name": "rates",
                "scope": "environment",
                "key": "currency",
                "columns": {"currency": "VARCHAR", "rate": "DECIMAL(9,4)"},
                "missing": "reject",
            },
        ),
    )

    def recalled_from(self) -> Place:
        return Place(self.scope, self.name)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = self._declared(report)
        return {"out": schema if schema is None or self._defaults(schema, scope, report) else None}

    def check_each(self, schema: pa.Schema, scope: Scope, report: Report) -> pa.Schema | None:
        declared = self._declared(report)
        if declared is None or not self._defaults(declared, scope, report):
            return None
        for name in as_list(self.key):
            if name not in schema.names:
                report(("key",), f"no column {name!r} comes in", suggestion(name, schema.names))
            elif name in declared.names:
                common(schema.field(name), declared.field(name))
        both = [name for name in self._added(declared) if name in schema.names]
        if both:
            report(("columns",), f"column {both[0]!r} comes in and is recalled", "rename it in a map before")
        gone = [name for name in as_list(self.key) if name not in schema.names]
        added = [declared.field(name) for name in self._added(declared)]
        return None if both or gone else pa.schema([*schema, *added])

    def plan(self, scope: Scope, position: Json, want: Want) -> SplitPlan:
        return SplitPlan((Split({}, max(len(kept(scope, self.recalled_from())), 1)),))

    def read(self, split: Json, schema: pa.Schema, scope: Scope, want: Want) -> Iterator[Chunk]:
        with borrowed(scope) as sandbox:
            found = self._stored(scope, sandbox)
            if not found.num_rows and self.default and not self.key:
                found = self._default(scope, sandbox)
        batch = found.select(schema.names)
        rows = batch.num_rows if want.rows is None else min(want.rows, batch.num_rows)
        for first in range(0, rows, want.batch_rows):
            yield Chunk(batch.slice(first, min(want.batch_rows, rows - first)), first)

    def open_each(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        table = self._stored(scope, sandbox)
        key = as_list(self.key)
        if self.default:
            table = pa.concat_batches([table, self._default(scope, sandbox)])
        if not key:
            return _Beside(self, schema, table)
        kinds = pa.schema([common(schema.field(name), table.schema.field(name)) for name in key])
        keys = Keys(keys_in(table, kinds), sandbox)
        take = {name: name for name in self._added(table.schema)}
        rules = Rules(self.name, {name: name for name in key}, take, self.missing, "first")
        return InTable(rules, table, keys, kinds, sandbox, otherwise=table.num_rows - 1 if self.default else None)

    def _declared(self, report: Report) -> pa.Schema | None:
        """The recalled columns."""
        fields = []
        for name, kind in self.columns.items():
            try:
                fields.append(pa.field(name, arrow_type_of(kind)))
            except Invalid as fault:
                report(("columns", name), str(fault), "")
        for place, names in (("key", as_list(self.key)), ("default", list(self.default))):
            for name in names:
                if name not in self.columns:
                    report((place,), f"{name!r} is none of `columns`", suggestion(name, list(self.columns)))
        return pa.schema(fields) if len(fields) == len(self.columns) else None

    def _defaults(self, schema: pa.Schema, scope: Scope, report: Report) -> bool:
        """Whether the defaults are of their types."""
        try:
            with borrowed(scope) as sandbox:
                self._default(scope, sandbox)
        except Invalid as fault:
            report(("default",), str(fault), "")
            return False
        return True

    def _added(self, schema: pa.Schema) -> list[str]:
        return [name for name in schema.names if name not in as_list(self.key)]

    def _stored(self, scope: Scope, sandbox: Sandbox) -> pa.RecordBatch:
        return self._typed(list(kept(scope, self.recalled_from()).values()), "what is stored as", sandbox)

    def _default(self, scope: Scope, sandbox: Sandbox) -> pa.RecordBatch:
        plain = {name: None if value is None else _text(value) for name, value in self.default.items()}
        return self._typed([plain], "the default of", sandbox)

    def _typed(self, records: Sequence[Mapping[str, str | None]], what: str, sandbox: Sandbox) -> pa.RecordBatch:
        """Texts as their declared types."""
        arrays = [pa.array([record.get(name) for record in records], pa.string()) for name in self.columns]
        texts = pa.RecordBatch.from_arrays(arrays, list(self.columns))
        found = typed(texts, dict(self.columns), f"{what} {self.name!r}", sandbox)
        kinds = pa.schema([pa.field(name, arrow_type_of(kind)) for name, kind in self.columns.items()])
        return keys_in(found, kinds)


class _Beside:
    """Sets the one stored record beside each that comes."""

    def __init__(self, node: Recall, schema: pa.Schema, table: pa.RecordBatch) -> None:
        self._rules = Rules(node.name, {}, {name: name for name in node.columns}, node.missing, "first")
        self._table = table
        self._gives = self._rules.gives(table.schema)

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        there = np.full(batch.num_rows, self._table.num_rows > 0)
        rows = pa.array(np.zeros(batch.num_rows, np.int64), mask=~there)
        added = [column.take(rows) for column in self._table.columns]
        rejects = (
            {}
            if self._table.num_rows or self._rules.missing != "reject"
            else dict.fromkeys(range(batch.num_rows), ("not_found", f"nothing is stored as {self._rules.name!r}"))
        )
        return self._rules.outcome(batch, added, self._gives, there, rejects)


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
