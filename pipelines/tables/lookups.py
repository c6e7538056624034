"""What becomes of a batch whose records are looked up: in a table that is held here, or in a live system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from pipelines.finding import Finds
from pipelines.node import Outcome, Piece, Rejects
from pipelines.scope import Scope
from pipelines.sql.literals import quoted
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.answers import Answers
from pipelines.tables.keys import Keys, plain
from pipelines.tables.live import Live, answers_of

NOT_FOUND = "not_found"
"""The reject code of a record whose key the table does not have."""
AMBIGUOUS = "ambiguous"
"""The reject code of a record for whose key a live system has several records."""
SHOWN_CHARACTERS = 200


@dataclass(frozen=True)
class Rules:
    """What a lookup node says, whatever it looks up in."""

    name: str
    """What it looks up in, for messages."""
    on: Mapping[str, str]
    """The input's columns to those of the key there."""
    take: Mapping[str, str]
    """New columns to those there."""
    missing: Literal["null", "reject", "port"]
    duplicates: Literal["refuse", "first"]

    def gives(self, there: pa.Schema) -> pa.Schema:
        """The new columns."""
        return pa.schema([pa.field(new, there.field(its).type) for new, its in self.take.items()])

    def outcome(
        self,
        batch: pa.RecordBatch,
        added: Sequence[pa.Array],
        gives: pa.Schema,
        there: np.ndarray,
        rejects: Mapping[int, tuple[str, str]],
    ) -> Outcome:
        """What becomes of a batch.

        Args:
            added: the new columns, a value for each record.
            there: whether something was found for each record.
            rejects: the records to set aside, code and message each.
        """
        bad = np.array(sorted(rejects), dtype=np.int64)
        leaves = there.copy() if self.missing != "null" else np.ones(batch.num_rows, dtype=bool)
        left = ~there
        leaves[bad] = left[bad] = False
        made = pa.RecordBatch.from_arrays([*batch.columns, *added], schema=pa.schema([*batch.schema, *gives]))
        rows = None if leaves.all() else pa.array(np.flatnonzero(leaves))
        out = {"out": Piece(made if rows is None else made.take(rows), rows)}
        if self.missing == "port":
            others = pa.array(np.flatnonzero(left))
            out["missing"] = Piece(batch.take(others), others)
        if not len(bad):
            return Outcome(out)
        told = [rejects[int(row)] for row in bad]
        codes, messages = [code for code, _ in told], [words for _, words in told]
        return Outcome(out, rejects=Rejects(pa.array(bad), codes, messages))

    def unknown(self, there: np.ndarray, keys: pa.RecordBatch, sandbox: Sandbox) -> dict[int, tuple[str, str]]:
        """The records to reject because nothing was found for them."""
        rows = np.flatnonzero(~there & (self.missing == "reject"))
        return self.told(NOT_FOUND, "has no record with", keys, rows, sandbox)

    def ambiguous(self, counts: np.ndarray, keys: pa.RecordBatch, sandbox: Sandbox) -> dict[int, tuple[str, str]]:
        """The records to reject because several were found for them."""
        rows = np.flatnonzero((counts > 1) & (self.duplicates == "refuse"))
        return self.told(AMBIGUOUS, "has several records with", keys, rows, sandbox)

    def told(
        self, code: str, what: str, keys: pa.RecordBatch, rows: np.ndarray, sandbox: Sandbox
    ) -> dict[int, tuple[str, str]]:
        """Some rows with a code and a sentence about their key."""
        if not len(rows):
            return {}
        texts = [
            f"{quoted(name + ' = ')} || left(coalesce(CAST(k{number} AS VARCHAR), 'null'), {SHOWN_CHARACTERS})"
            for number, name in enumerate(keys.schema.names)
        ]
        named = keys.take(pa.array(rows)).rename_columns([f"k{number}" for number in range(keys.num_columns)])
        begin, and_then = quoted(f"{self.name} {what} "), " || ', ' || "
        words = sandbox.prepare(f"{begin} || {and_then.join(texts)} AS words", named.schema)(named)
        return {int(row): (code, text) for row, text in zip(rows, words.column(0).to_pylist(), strict=True)}


class InTable:
    """A lookup in a table that is held here, opened for one worker thread."""

    def __init__(
        self,
        rules: Rules,
        table: pa.RecordBatch,
        keys: Keys,
        kinds: pa.Schema,
        sandbox: Sandbox,
        otherwise: int | None = None,
    ) -> None:
        """`kinds` are the columns of the key, in the types in which they are compared; `otherwise` is the row that counts
        for keys that the table does not have."""
        self._otherwise = otherwise
        self._rules, self._keys, self._kinds, self._sandbox = rules, keys, kinds, sandbox
        self._gives = rules.gives(table.schema)
        self._columns = [table.column(name) for name in rules.take.values()]

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        keys = keys_in(batch, self._kinds)
        rows = self._keys.find(keys, self._sandbox)
        if self._otherwise is not None:
            rows = np.where(rows < 0, self._otherwise, rows)
        chosen = pa.array(rows, mask=rows < 0)
        added = [column.take(chosen) for column in self._columns]
        rejects = self._rules.unknown(rows >= 0, keys, self._sandbox)
        return self._rules.outcome(batch, added, self._gives, rows >= 0, rejects)


class InSystem:
    """A lookup in a live system, opened for one worker thread."""

    def __init__(
        self,
        rules: Rules,
        get: Finds,
        there: pa.Schema,
        schema: pa.Schema,
        cache: tuple[float, int],
        scope: Scope,
        sandbox: Sandbox,
    ) -> None:
        """`there` are the columns that the get finds, `cache` the seconds that an answer holds and how many are kept."""
        self._rules, self._sandbox = rules, sandbox
        self._kinds, self._gives = keys_of(rules.on, schema), rules.gives(there)
        fetched = pa.schema([there.field(name) for name in dict.fromkeys(rules.take.values() or there.names[:1])])
        values = sorted((name, repr(value)) for name, value in scope.values.items())
        about = (get, dict(rules.on), scope.project, scope.environment, values, self._kinds, fetched, cache)
        answers = answers_of(about, lambda: Answers(*cache, scope.environment.runner.memory_bytes // 8))
        self._live = Live(get, rules.on, fetched, answers, scope, sandbox)

    def __call__(self, batch: pa.RecordBatch) -> Outcome:
        keys = keys_in(batch, self._kinds)
        found = self._live(keys)
        there = found.counts > 0
        rejects = {
            **self._rules.unknown(there, keys, self._sandbox),
            **self._rules.ambiguous(found.counts, keys, self._sandbox),
            **found.faults,
        }
        added = [found.records.column(name) for name in self._rules.take.values()]
        return self._rules.outcome(batch, added, self._gives, there, rejects)

    def end_call(self) -> None:
        self._live.end()


def keys_of(on: Mapping[str, str], schema: pa.Schema) -> pa.Schema:
    """The input's columns of the key as far as they are there, without dictionaries."""
    return pa.schema([pa.field(mine, plain(schema.field(mine).type)) for mine in on if mine in schema.names])


def keys_in(batch: pa.RecordBatch, kinds: pa.Schema) -> pa.RecordBatch:
    """The columns of a batch that `kinds` names, in its types."""
    columns = [batch.column(field.name) for field in kinds]
    cast = [
        column if column.type.equals(field.type) else column.cast(field.type)
        for column, field in zip(columns, kinds, strict=True)
    ]
    return pa.RecordBatch.from_arrays(cast, schema=kinds)
