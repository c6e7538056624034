"""The node type `store`: keeps values by name, for later runs to recall."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from pipelines import stored
from pipelines.errors import Failed
from pipelines.node import Example, Outcome, Part, Piece, Post, Publication, Rejects, Report, Schemas, Writer
from pipelines.records import schema_without_ids, without_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox, borrowed
from pipelines.stored import KEY_MOST, Change, Place, Values, Where, key_of, save_change, texts
from pipelines.tables.post import receipts
from pipelines.tables.relation import as_list, suggestion
from pipelines.tables.spool import SpoolWriter, in_order

NO_KEY = "key"
"""The reject code of a record without a key, or with one that is too long."""
KEYS_MOST = 1_000_000


class Store(Post):
    """Keeps values by name, for other nodes to recall: in later runs of the flow, of all flows, or later in the same run.

    What is stored counts when its run has ended well, in the same moment in which the positions of its sources move: a run
    that fails stores nothing, one that is taken up again stores once. A record of nulls, beside its key, is counted as filtered:
    what was stored stays, so that a run in which nothing came loses no cursor. Of several records with the same key the last in the
    order of the source counts; of several runs at the same time, key by key, the one that ends last.

    Values are kept in the project's catalogue, exactly, each column as text. It is a place for a cursor, a token, a rate, what
    was last seen of each customer; not for tables of many millions.
    """

    name: str = Field(pattern=r"^[\w.-]{1,100}$", examples=["last-order", "rates"])
    """What the values are called."""
    scope: Where = "flow"
    """Who recalls them: later nodes of the same `run`, runs of the same `flow` in this environment, or those of all flows of
    the `environment`."""
    key: str | list[str] | None = None
    """The columns that tell values apart. Without it there is one record under the name: the last."""
    columns: str | list[str] | None = None
    """The columns that are kept beside those of the key; without it all."""
    mode: Literal["upsert", "delete", "replace"] = "upsert"
    """`upsert` adds and changes, `delete` forgets the values of these keys, `replace` forgets all others."""

    category: ClassVar[str] = "state"
    keeps_ids: ClassVar[bool] = True
    examples: ClassVar[tuple[Example, ...]] = (
        Example(
            says="Keeps where the next run goes on; `recall` fetches it.",
            config={"name": "last-change", "columns": ["at"]},
            records=[{"at": "2026-01-31T08:00:00Z", "orders": 12}],
            columns={"at": "TIMESTAMPTZ"},
            gives={"out": [{"at": "2026-01-31T08:00:00Z"}]},
        ),
        Example(
            says="Keeps the latest rate of each currency, for all flows.",
            config={"name": "rates", "scope": "environment", "key": "currency"},
            records=[
                {"currency": "CHF", "rate": "0.9312"},
                {"currency": "USD", "rate": "1.0844"},
                {"currency": "CHF", "rate": "0.9315"},
            ],
            columns={"rate": "DECIMAL(9,4)"},
            gives={"out": [{"currency": "CHF", "rate": "0.9315"}, {"currency": "USD", "rate": "1.0844"}]},
        ),
    )

    def stored_in(self) -> Place:
        return Place(self.scope, self.name)

    def target(self, scope: Scope) -> str:
        return f"store:{self.scope}/{self.name}"

    def delivery(self) -> tuple[str, str]:
        return "effectively once", "what is stored counts with the end of its run"

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = next(iter(inputs.values()), None)
        plain = None if schema is None else schema_without_ids(schema)
        if self.mode == "delete" and not self.key:
            report(("mode",), "mode 'delete' needs `key`", "name the columns that tell values apart")
        for place in ("key", "columns"):
            for name in as_list(getattr(self, place)):
                if plain is not None and name not in plain.names:
                    report((place,), f"there is no column {name!r}", suggestion(name, plain.names))
        for field in self._kept(plain) if plain is not None else ():
            if pa.types.is_nested(field.type):
                fix = "take it out by `columns`, or flatten it before"
                report(("columns",), f"column {field.name!r} is nested, and values are single", fix)
        return {"out": schema}

    def open(self, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Writer:
        kept = self._kept(schema_without_ids(schema)).names
        values = [] if self.mode == "delete" else [name for name in kept if name not in as_list(self.key)]
        return _Writer(SpoolWriter(scope.staging / "spool"), as_list(self.key), values, sandbox)

    def publish(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope, token: str) -> Publication:
        kept = self._kept(schema_without_ids(schema))
        return _Storing(self.stored_in(), self.mode, as_list(self.key), kept.names, parts, scope)

    def is_published(self, scope: Scope, token: str) -> bool:
        return False  # done again it does no harm, and it is quick

    def _kept(self, schema: pa.Schema) -> pa.Schema:
        names = schema.names if self.columns is None else [*as_list(self.key), *as_list(self.columns)]
        return pa.schema([schema.field(name) for name in dict.fromkeys(names) if name in schema.names])


class _Writer:
    """Stages records, but for those without a key or without any value."""

    def __init__(self, spool: SpoolWriter, key: Sequence[str], values: Sequence[str], sandbox: Sandbox) -> None:
        self._spool, self._key, self._values, self._sandbox = spool, key, values, sandbox

    def put(self, batch: pa.RecordBatch) -> Outcome:
        without, long = _any_null(batch, self._key), np.zeros(batch.num_rows, dtype=bool)
        if self._key and batch.num_rows:
            keys = texts(batch.select(self._key), self._sandbox)
            long = np.array([len(key_of(key, self._key)) > KEY_MOST for key in keys])
        bad = without | long
        empty = ~bad & (_all_null(batch, self._values) if self._values else np.zeros(batch.num_rows, dtype=bool))
        taken = self._spool.put(batch if not (bad | empty).any() else batch.filter(pa.array(~(bad | empty))))
        rows = np.flatnonzero(bad)
        if not len(rows):
            return Outcome(pending=taken.pending, filtered=int(empty.sum()))
        words = [
            "its key has a null" if without[row] else f"its key is longer than {KEY_MOST:,} letters" for row in rows
        ]
        rejects = Rejects(pa.array(rows, pa.int64()), [NO_KEY] * len(rows), words)
        return Outcome(pending=taken.pending, filtered=int(empty.sum()), rejects=rejects)

    def close(self) -> Sequence[Part]:
        return self._spool.close()

    def abandon(self) -> None:
        self._spool.abandon()


class _Storing:
    """What one node stores in a run, on its way to where the run's end finds it."""

    def __init__(
        self, place: Place, mode: str, key: Sequence[str], kept: Sequence[str], parts: Sequence[Part], scope: Scope
    ) -> None:
        self._place, self._mode, self._key, self._kept = place, mode, key, kept
        self._parts, self._scope = parts, scope

    def settle(self) -> Iterator[tuple[pa.RecordBatch, Outcome]]:
        for batch in in_order(self._parts):
            plain = without_ids(batch)
            yield batch, Outcome({"out": Piece(plain)}, receipts=receipts(plain, self._key, None, 0.0))

    def commit(self) -> None:
        values: dict[str, Values | None] = {}
        with borrowed(self._scope) as sandbox:
            for batch in in_order(self._parts):
                for record in texts(
                    without_ids(batch).select(self._kept), sandbox
                ):  # each becomes a row of the catalogue
                    values[key_of(record, self._key)] = None if self._mode == "delete" else record
        if len(values) > KEYS_MOST:
            raise Failed(f"{len(values):,} values are more than {KEYS_MOST:,}; keep them in a table of a database")
        change = Change(self._place, values, self._mode == "replace")
        if self._place.where == "run":
            stored.keep(self._scope, self._place, stored.changed(stored.kept(self._scope, self._place), change))
        save_change(self._scope, self._scope.node, change)

    def abandon(self) -> None:
        """Nothing has been stored."""


def _any_null(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """Which records have a null in one of these columns."""
    found = np.zeros(batch.num_rows, dtype=bool)
    for name in names:
        found |= batch.column(name).is_null().to_numpy(zero_copy_only=False)
    return found


def _all_null(batch: pa.RecordBatch, names: Sequence[str]) -> np.ndarray:
    """Which records have nothing but nulls in these columns."""
    found = np.ones(batch.num_rows, dtype=bool)
    for name in names:
        found &= batch.column(name).is_null().to_numpy(zero_copy_only=False)
    return found
