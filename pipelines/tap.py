"""What the kernel tells the data logs, and what it gets back: the names of files that one commit makes visible."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from pipelines.node import Receipts, Rejects


@dataclass(frozen=True)
class TapPlan:
    """What a run's taps must know before the first record."""

    root: Path
    """The lake's root."""
    staging: Path
    """The run's own folder, where uncommitted log files are written."""
    flow: str
    version: str
    run: str
    snapshots: Mapping[str, str]
    """Per `node.port` its policy: `auto`, `none`, `sample`, `all`."""
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Per node the columns whose values name a record to people, where they are known."""
    mask: tuple[str, ...] = ()
    """Columns whose values no data log may show: `***` stands for each value, null stays null."""
    exclude: tuple[str, ...] = ()
    """Columns that no data log keeps."""


class Tap(Protocol):
    """Takes what passes a worker thread. All batches carry the row-id column."""

    def records(self, node: str, port: str, batch: pa.RecordBatch) -> None:
        """Records leaving a node by a port."""

    def rejects(self, node: str, batch: pa.RecordBatch, rejects: Rejects, attempt: int) -> None:
        """Rejected records: `batch` holds just those, in the order of `rejects.codes`; `rejects.rows` is not used."""

    def deliveries(self, node: str, ids: pa.Int64Array, receipts: Receipts, attempt: int) -> None:
        """Records that a target has taken."""

    def descent(self, node: str, port: str, made: pa.Int64Array, find: Callable[[pa.Array], pa.RecordBatch]) -> None:
        """Records that a node has made of several have left by a port. `find` tells for some of them, those that are kept,
        their `parents` and how many these are (`count`)."""

    def transaction(self, node: str, what: str, **details: Any) -> None:
        """Something that happened, in order: a call made, a retry, an error. No secrets, no payload."""

    def close(self) -> Sequence[Mapping[str, Any]]:
        """The log pieces written: plain dicts of str, int, bytes and lists, which travel as pipeline elements."""
