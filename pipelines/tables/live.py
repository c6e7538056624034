"""Looks records up in a live system: each key asked for once in a while, many at a time, in an order that nobody sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from pipelines.environment import Connection
from pipelines.errors import Cancelled, Invalid, Problem
from pipelines.finding import Finds
from pipelines.registry import node_type
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from pipelines.tables.answers import Answer, Answers
from pipelines.tables.keys import Keys
from pipelines.tables.small import Shared

_answers: Shared[Answers] = Shared()


@dataclass(frozen=True)
class Matches:
    """What was found for the rows of a batch."""

    counts: np.ndarray
    """How many records the row's key has; of more than two, two; of a key with a null none."""
    records: pa.RecordBatch
    """The first record of each row's key; nulls where there is none."""
    faults: Mapping[int, tuple[str, str]]
    """Rows whose key was not answered: code and message each."""


class Live:
    """A live system, opened for one worker thread."""

    def __init__(
        self, get: Finds, on: Mapping[str, str], gives: pa.Schema, answers: Answers, scope: Scope, sandbox: Sandbox
    ) -> None:
        """`gives` are the columns to fetch, under the system's names."""
        self._get, self._on, self._gives = get, on, gives
        self._answers, self._scope, self._sandbox = answers, scope, sandbox
        self._is_ended = False

    def __call__(self, keys: pa.RecordBatch) -> Matches:
        """What the system has for the keys of a batch, a row each."""
        index = Keys(keys, self._sandbox)
        firsts = index.find(keys, self._sandbox)
        asked = np.unique(firsts[firsts >= 0])
        answer, faults = self._answered(keys.take(pa.array(asked)))
        places = np.where(firsts >= 0, np.searchsorted(asked, firsts), -1)
        counts = np.where(places >= 0, answer.counts[places] if len(asked) else 0, 0)
        records = answer.records.take(pa.array(places, mask=places < 0))
        if not faults:
            return Matches(counts, records, {})
        rows = np.flatnonzero(np.isin(places, list(faults)))
        return Matches(counts, records, {int(row): faults[int(places[row])] for row in rows})

    def end(self) -> None:
        """Ends a search in hand, from another thread."""
        self._is_ended = True

    def _heed(self) -> None:
        if self._is_ended:
            raise Cancelled("a lookup was interrupted")

    def _answered(self, keys: pa.RecordBatch) -> tuple[Answer, Mapping[int, tuple[str, str]]]:
        """The answers for distinct keys, in their order."""
        parts = list(self._answers.known(keys, self._sandbox))
        known = np.concatenate([rows for rows, _ in parts]) if parts else np.empty(0, np.int64)
        left = np.setdiff1d(np.arange(keys.num_rows), known)
        faults: dict[int, tuple[str, str]] = {}
        if len(left):
            answer, wrong = self._fetched(keys.take(pa.array(left)))
            faults = {int(left[row]): fault for row, fault in wrong.items()}
            parts.append((left, answer))
        if not parts:
            return Answer(np.empty(0, np.int64), pa.RecordBatch.from_pylist([], schema=self._gives)), {}
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))
        return Answer.together([answer for _, answer in parts]).take(order), faults

    def _fetched(self, keys: pa.RecordBatch) -> tuple[Answer, Mapping[int, tuple[str, str]]]:
        since = self._answers.now()
        hits = self._get.find(keys, self._on, self._gives.names, self._scope, self._sandbox, self._heed)
        places = hits.keys.to_numpy()
        counts = np.bincount(places, minlength=keys.num_rows)
        firsts = np.full(keys.num_rows, -1, dtype=np.int64)
        found, rows = np.unique(places, return_index=True)
        firsts[found] = rows
        records = _fitted(hits.batch, self._gives).take(pa.array(firsts, mask=firsts < 0))
        answer = Answer(counts, records)
        sound = np.setdiff1d(np.arange(keys.num_rows), list(hits.faults))
        self._answers.keep(keys.take(pa.array(sound)), answer.take(sound), since, self._sandbox)
        return answer, hits.faults


def finding_get(connection: str, fields: Mapping[str, Any], further: Mapping[str, Any], scope: Scope) -> Finds:
    """The get of a connection's adapter that is asked by key.

    Args:
        fields: fields of the get that stand at the node itself.
        further: those under its `get`.

    Raises:
        Invalid: the adapter has none, or a field is wrong.
    """
    adapter = scope.connection(connection, Connection).adapter
    try:
        kind = node_type(f"{adapter}.get")
    except Invalid as fault:
        raise Invalid(Problem("", 0, 0, str(fault), "", ("connection",))) from fault
    try:
        found = kind.model_validate({**further, **fields, "connection": connection})
    except ValidationError as fault:
        wrong = fault.errors()[0]
        place = tuple(wrong["loc"])
        at = place if place and place[0] in fields else ("get", *place)
        what = f"{adapter}.get: {'.'.join(map(str, place))}: {wrong['msg']}"
        raise Invalid(Problem("", 0, 0, what, f"see `processflow nodes show {adapter}.get`", at)) from fault
    if not isinstance(found, Finds):
        what = f"{adapter} cannot be asked by key"
        raise Invalid(Problem("", 0, 0, what, "read it by a get, and join", ("connection",)))
    return found


def answers_of(about: Sequence[object], make: Callable[[], Answers]) -> Answers:
    """The memory that all threads of this process share for what is asked in the same way."""
    return _answers.get(tuple(map(repr, about)), None, make)


def _fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [batch.column(field.name).cast(field.type) for field in schema]
    if not columns:
        return batch.select([])
    return pa.RecordBatch.from_arrays(columns, schema=schema)
