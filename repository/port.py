"""What one tap keeps of one port: all of it, a sample, or all while there is little and a sample beyond."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.records import ids_of
from pipelines.tap import TapPlan
from repository.pieces import AT, INSTANT, KEY, Piece, by_schema, pack
from repository.sample import Hashes, Sample, detached
from repository.secrecy import without_secrets
from repository.spill import Spill, records_table
from repository.storable import taken
from repository.unheld import held

AUTO_ROWS = 10_000
AUTO_BYTES = 16 << 20
"""Below both, the policy `auto` keeps all records of a port."""
SPILL_BYTES = 8 << 20
"""What a port that keeps everything holds before it writes a row group."""

NewPath = Callable[[str], Path]
"""Gives a fresh path in the run's staging folder, for a suffix."""


class Port:
    """Keeps records of a port by its policy, in bounded memory."""

    def __init__(self, plan: TapPlan, new_path: NewPath, table: str, node: str, port: str, policy: str) -> None:
        self._plan = plan
        self._new_path = new_path
        self._head: dict[str, Any] = {"table": table, "node": node, "port": port, "policy": policy}
        self._whole: list[pa.RecordBatch] = []
        self._sample: Sample | None = Sample() if policy == "sample" else None
        self._spills: list[tuple[pa.Schema, Spill, Any]] = []
        self._rows = 0
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """What is held in memory."""
        return self._bytes if self._sample is None else self._sample.bytes

    @property
    def is_whole(self) -> bool:
        """Whether all records are kept, so far."""
        return self._sample is None

    def add(self, batch: pa.RecordBatch, hashes: Hashes) -> None:
        """Keeps what the policy wants of these records."""
        if self._sample is None and self._head["policy"] == "auto" and self._is_much(batch):
            self._become_sample()
        if self._sample is not None:
            self._add_sample(self._sample, batch, hashes)
            return
        self._whole.append(stamped(detached(batch)))
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._head["policy"] == "all" and self._bytes > SPILL_BYTES:
            self._spill()

    def among(self, ids: pa.Array) -> pa.Array:
        """Which of the records that just came are kept, so far."""
        if self._head["policy"] == "all":
            return ids
        held = self._whole if self._sample is None else self._sample.held()
        return pc.filter(ids, pc.is_in(ids, pa.chunked_array([ids_of(batch) for batch in held], pa.int64())))

    def relieve(self) -> None:
        """Frees memory: a port that keeps everything writes it, `auto` goes over to a sample."""
        if self._head["policy"] == "all":
            self._spill()
        elif self._sample is None:
            self._become_sample()

    def close(self) -> list[Piece]:
        """What was kept, for the commit."""
        if self._spills:
            self._spill()
            return [spill.close({self._name: columns}) for _, spill, columns in self._spills]
        kept = self._whole if self._sample is None else self._sample.close()
        head = {**self._head, "whole": self._sample is None}
        return [pack(head, self._shown(batch), self._new_path("arrow")) for batch in by_schema(kept)]

    @property
    def _name(self) -> str:
        """What the payload's column is called."""
        node = str(self._head["node"])
        return node if self._head["table"] == "rejects" else f"{node}.{self._head['port']}"

    def _is_much(self, batch: pa.RecordBatch) -> bool:
        return self._rows + batch.num_rows >= AUTO_ROWS or self._bytes + batch.nbytes >= AUTO_BYTES

    def _become_sample(self) -> None:
        sample, hashes = Sample(), Hashes()
        for batch in self._whole:
            self._add_sample(sample, batch, hashes)
        self._sample, self._whole = sample, []

    def _add_sample(self, sample: Sample, batch: pa.RecordBatch, hashes: Hashes) -> None:
        seen = hashes.of(ids_of(batch))
        near = sample.near(seen)
        if near is None:
            sample.add(stamped(batch), seen)
        elif len(near):
            sample.add(stamped(taken(batch, pa.array(near))), seen[near])

    def _spill(self) -> None:
        constants = {"run": self._plan.run, "flow": self._plan.flow, "version": self._plan.version}
        constants["node"] = self._head["node"]
        is_reject = self._head["table"] == "rejects"
        if not is_reject:
            constants["port"] = self._head["port"]
        for batch in by_schema(self._whole):
            shown = self._shown(batch)
            table, columns = records_table(constants, self._name, shown, is_reject=is_reject)
            self._spill_for(shown.schema, columns).write(table)
        self._whole, self._bytes = [], 0

    def _spill_for(self, schema: pa.Schema, columns: Any) -> Spill:
        for known, spill, _ in self._spills:
            if known.equals(schema):
                return spill
        spill = Spill({key: self._head[key] for key in ("table", "node", "port")}, self._new_path("parquet"))
        self._spills.append((schema, spill, columns))
        return spill

    def _shown(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The records as logs may show them, with their business key."""
        batch = held(without_secrets(batch, self._plan))
        return with_key(batch, self._plan.keys.get(str(self._head["node"]), ()))


def stamped(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The records with the time at which they passed, where they have none."""
    if batch.schema.get_field_index(AT) >= 0:
        return batch
    return batch.append_column(AT, pa.repeat(instant(), batch.num_rows))


def instant() -> pa.Scalar:
    """Now, for a log."""
    return pa.scalar(time.time_ns() // 1000, pa.int64()).cast(INSTANT)


def with_key(batch: pa.RecordBatch, key: Sequence[str]) -> pa.RecordBatch:
    """The records with their business key as text: values joined by `|`; none where a column of it is missing."""
    indices = [batch.schema.get_field_index(name) for name in key]
    if not indices or min(indices) < 0 or any(pa.types.is_nested(batch.schema.field(i).type) for i in indices):
        return batch
    texts = [batch.column(index).cast(pa.string()) for index in indices]
    return batch.append_column(KEY, texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "|"))
