"""The lake's tap: what one worker thread tells the data logs, kept in bounded memory until the commit takes it over."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.node import Receipts, Rejects
from pipelines.tap import TapPlan
from repository.disk import written
from repository.pieces import ATTEMPT, CODE, DELIVERIES, MESSAGE, PARENTS, TRANSACTIONS, Piece, pack
from repository.port import Port, instant, stamped
from repository.sample import Hashes, one_batch
from repository.secrecy import hidden_columns
from repository.spill import Spill, with_constants

TAP_BYTES = 64 << 20
"""What all ports of a tap hold together before the largest is relieved."""
DELIVERED_ROWS = 1 << 20
"""Row ids of receipts held before they are written."""
DELIVERED_BYTES = 16 << 20
DESCENTS = 1 << 18
"""Records whose parents are held before they are written."""
EVENTS = 20_000
"""Transactions held before they are written."""


class LakeTap:
    """Takes what passes a worker thread: see `pipelines.tap.Tap`."""

    def __init__(self, plan: TapPlan) -> None:
        self._plan = plan
        self._token = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._hashes = Hashes()
        self._ports: dict[tuple[str, str, str], Port] = {}
        self._deliveries = Rows(plan, self._new_path, "deliveries")
        self._parents = Rows(plan, self._new_path, "parents")
        self._descents: list[pa.RecordBatch] = []
        self._transactions = Rows(plan, self._new_path, "transactions")
        self._receipts: list[tuple[str, pa.Int64Array, Receipts, int, pa.Scalar]] = []
        self._receipt_rows = 0
        self._receipt_bytes = 0
        self._events: list[tuple[int, pa.Scalar, str, str, str]] = []
        self._event_number = itertools.count()

    def records(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        """Keeps what the port's policy wants. Rejects come by their own way."""
        policy = self._plan.snapshots.get(f"{node}.{port}", "auto")
        if policy == "none" or port == "rejected" or not batch.num_rows:
            return
        self._keep("records", node, port, policy, batch)

    def rejects(self, node: str, batch: pa.RecordBatch, rejects: Rejects, attempt: int) -> None:
        """Keeps rejected records, always whole."""
        if not batch.num_rows:
            return
        batch = stamped(batch)
        batch = batch.append_column(CODE, pa.array(rejects.codes, pa.string()))
        batch = batch.append_column(MESSAGE, pa.array(rejects.messages, pa.string()))
        batch = batch.append_column(ATTEMPT, pa.repeat(pa.scalar(attempt, pa.int32()), batch.num_rows))
        self._keep("rejects", node, "rejected", "all", batch)

    def deliveries(self, node: str, ids: pa.Int64Array, receipts: Receipts, attempt: int) -> None:
        """Keeps what a target said of a batch."""
        if not len(ids):
            return
        if not hidden_columns(self._plan).isdisjoint(name.lower() for name in self._plan.keys.get(node, ())):
            receipts = replace(receipts, keys=None)
        self._receipts.append((node, ids, receipts, attempt, instant()))
        self._receipt_rows += len(ids)
        self._receipt_bytes += sum(0 if some is None else some.nbytes for some in (receipts.keys, receipts.ids))
        if self._receipt_rows >= DELIVERED_ROWS or self._receipt_bytes >= DELIVERED_BYTES:
            with written(self._plan.staging):
                self._deliveries.spill(self._take_receipts())

    def descent(self, node: str, port: str, made: pa.Int64Array, find: Callable[[pa.Array], pa.RecordBatch]) -> None:
        """Keeps the parents of those that are kept."""
        kept = self._ports.get(("records", node, port))
        ids = made.slice(0, 0) if kept is None else kept.among(made)
        if not len(ids):
            return
        found = find(ids)
        columns = [pa.repeat(pa.scalar(node), found.num_rows), *found.columns]
        self._descents.append(pa.RecordBatch.from_arrays(columns, schema=PARENTS))
        if sum(batch.num_rows for batch in self._descents) >= DESCENTS:
            with written(self._plan.staging):
                self._parents.spill(self._take_descents())

    def transaction(self, node: str, what: str, **details: Any) -> None:
        """Keeps an event."""
        text = json.dumps(details, default=str, ensure_ascii=False, separators=(",", ":"))
        self._events.append((next(self._event_number), instant(), node, what, text))
        if len(self._events) >= EVENTS:
            with written(self._plan.staging):
                self._transactions.spill(self._take_events())

    def close(self) -> Sequence[Mapping[str, Any]]:
        """The pieces for the commit."""
        with written(self._plan.staging):
            pieces = [piece for port in self._ports.values() for piece in port.close()]
            pieces += self._deliveries.close(self._take_receipts())
            pieces += self._parents.close(self._take_descents())
            pieces += self._transactions.close(self._take_events())
        return pieces

    def _keep(self, table: str, node: str, port: str, policy: str, batch: pa.RecordBatch) -> None:
        kept = self._ports.get((table, node, port))
        if kept is None:
            kept = self._ports[table, node, port] = Port(self._plan, self._new_path, table, node, port, policy)
        before = kept.bytes
        with written(self._plan.staging):
            kept.add(batch, self._hashes)
            self._relieve(kept, before)

    def _relieve(self, kept: Port, before: int) -> None:
        """Frees memory where this port's growth takes the tap beyond its bound."""
        if kept.bytes > before and sum(each.bytes for each in self._ports.values()) > TAP_BYTES:
            whole = [each for each in self._ports.values() if each.is_whole]
            max(whole or [kept], key=lambda each: each.bytes).relieve()

    def _new_path(self, suffix: str) -> Path:
        return self._plan.staging / "log" / f"{self._token}-{next(self._numbers)}.{suffix}"

    def _take_receipts(self) -> pa.RecordBatch:
        taken, self._receipts, self._receipt_rows, self._receipt_bytes = self._receipts, [], 0, 0
        arrays = [
            pa.array([node for node, *_ in taken], pa.string()),
            lists([ids for _, ids, *_ in taken], pa.int64()),
            lists([receipts.keys for _, _, receipts, *_ in taken], pa.string()),
            lists([receipts.ids for _, _, receipts, *_ in taken], pa.string()),
            pa.array([receipts.status for _, _, receipts, *_ in taken], pa.string()),
            pa.array([attempt for *_, attempt, _ in taken], pa.int32()),
            pa.array([receipts.milliseconds for _, _, receipts, *_ in taken], pa.float64()),
            pa.array([at for *_, at in taken], DELIVERIES.field("at").type),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=DELIVERIES)

    def _take_descents(self) -> pa.RecordBatch:
        taken, self._descents = self._descents, []
        return one_batch(taken) if taken else pa.RecordBatch.from_pylist([], schema=PARENTS)

    def _take_events(self) -> pa.RecordBatch:
        taken, self._events = self._events, []
        columns = list(zip(*taken, strict=True)) or [()] * 5
        names = ("number", "at", "node", "what", "details")
        arrays = [pa.array(column, TRANSACTIONS.field(name).type) for name, column in zip(names, columns, strict=True)]
        return pa.RecordBatch.from_arrays([pa.repeat(self._token, len(taken)), *arrays], schema=TRANSACTIONS)


class Rows:
    """Rows of a table without payloads: inline at the end, or in a file where there are many."""

    def __init__(self, plan: TapPlan, new_path: Any, table: str) -> None:
        self._constants = {"run": plan.run, "flow": plan.flow, "version": plan.version}
        self._new_path = new_path
        self._table = table
        self._spill: Spill | None = None

    def spill(self, batch: pa.RecordBatch) -> None:
        """Writes rows to the file."""
        if self._spill is None:
            self._spill = Spill({"table": self._table}, self._new_path("parquet"))
        self._spill.write(with_constants(self._constants, batch))

    def close(self, batch: pa.RecordBatch) -> list[Piece]:
        """The piece that holds all rows, with these last ones."""
        if self._spill is None:
            return [pack({"table": self._table}, batch, self._new_path("arrow"))] if batch.num_rows else []
        if batch.num_rows:
            self.spill(batch)
        return [self._spill.close({})]


def lists(arrays: Sequence[pa.Array | None], kind: pa.DataType) -> pa.ListArray:
    """A list for each array; null for none."""
    present = [_flat(array, kind) for array in arrays if array is not None]
    lengths = [0 if array is None else len(array) for array in arrays]
    offsets = pa.array(itertools.accumulate(lengths, initial=0), pa.int32())
    absent = pa.array([array is None for array in arrays], pa.bool_())
    values = pa.concat_arrays(present) if present else pa.array([], kind)
    return pa.ListArray.from_arrays(offsets, values, mask=absent)


def _flat(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    return array if array.type == kind else array.cast(kind)
