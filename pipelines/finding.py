"""Finding records of a live system by key: what a get must offer for it, beside reading.

A get that has these methods can be looked up in: nothing else needs to know which system it is of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow as pa

from pipelines.node import Report, Step
from pipelines.scope import Scope

if TYPE_CHECKING:
    from pipelines.sql.sandbox import Sandbox


@dataclass(frozen=True)
class Hits:
    """Records that were found: `keys[i]` is the row of the key that record i was found for."""

    batch: pa.RecordBatch
    keys: pa.Int64Array
    faults: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Keys for which the system gave no answer that can be used: a reject code and a message each."""


@runtime_checkable
class Finds(Protocol):
    """A get that can be asked for the records of some keys, as they are now."""

    def check_find(self, keys: pa.Schema, on: Mapping[str, str], scope: Scope, report: Report) -> pa.Schema | None:
        """The columns of the records that it finds; None where they cannot be told, which is reported.

        Args:
            keys: the columns of the keys, by the names that they have where they come from.
            on: those names to the names of its own columns.
        """

    def find(
        self,
        keys: pa.RecordBatch,
        on: Mapping[str, str],
        columns: Sequence[str],
        scope: Scope,
        sandbox: Sandbox,
        heed: Callable[[], None],
    ) -> Hits:
        """The records of `keys`, which are distinct and without nulls: these `columns` of them, in any order.

        Of a key that many records have, two are enough. Equal is what DuckDB's `=` says, whatever the system takes for
        equal. `heed` is called between two requests, and ends it where the run shall stop.

        Raises:
            Unavailable: the system is away; nothing has changed, it may be asked again.
        """


@runtime_checkable
class Asks(Protocol):
    """A transform that may ask a live system. A test of a flow gives what is there in its place."""

    def asks(self) -> bool:
        """Whether it does."""

    def asked_columns(self, schema: pa.Schema, scope: Scope) -> pa.Schema:
        """The columns of what is there, where records of `schema` come in."""

    def open_given(self, there: pa.RecordBatch, schema: pa.Schema, scope: Scope, sandbox: Sandbox) -> Step:
        """The node made ready with all that is there, for one worker thread; the system is not asked."""
