"""A user's function over a batch: all of it at once, and where that fails, part by part until the records are found."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa

from pipelines.functions.calling import Code, Died, Faulty, Given, called, load

PARTS = 16
"""What fails is tried again in so many parts: few deaths for each record that kills, few calls for each that raises."""
DEATHS = 64
"""After so many in one batch, or where the whole and all its parts die, what is left is rejected untried."""


@dataclass(frozen=True)
class Function:
    """A function as a flow names it, what it gives, and what it may take."""

    project: Path
    function: str | None
    """`module:name`"""
    code: str | None
    """Text that defines the function `run`."""
    schema: pa.Schema
    """The columns that it gives."""
    timeout_seconds: float
    memory_bytes: int


class Caller(Protocol):
    """Calls a function for parts of a batch."""

    def take(self, batch: pa.RecordBatch) -> None:
        """The batch that calls are about."""

    def call(self, start: int, stop: int) -> Given:
        """What the function gives for the batch's records from `start` up to `stop`.

        Raises:
            Faulty: it fails for these records; `Died` where that took its process along.
            Misbehaved: it is not what was declared.
            Cancelled: the call was ended.
        """

    def end_call(self) -> None:
        """Ends the call in hand and takes no more, where it can; called from another thread."""


class Here:
    """Calls a trusted function in this very process."""

    def __init__(self, function: Function) -> None:
        self._schema = function.schema
        self._code: Code = load(function.project, function.function, function.code)
        self._batch = pa.RecordBatch.from_pylist([], schema=pa.schema([]))

    def take(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def call(self, start: int, stop: int) -> Given:
        return called(self._code, self._batch.slice(start, stop - start), self._schema)

    def end_call(self) -> None:
        """Python cannot be ended inside of its own process."""


@dataclass(frozen=True)
class Worked:
    """What became of a batch: what was given, from which rows, and the words about each row that was not worked."""

    batch: pa.RecordBatch
    rows: pa.Int64Array
    wrong: dict[int, str]
    left_out: int
    """How many rows were worked and gave nothing."""


class Work:
    """Works batch after batch by one caller."""

    def __init__(self, caller: Caller, schema: pa.Schema) -> None:
        self._caller = caller
        self._schema = schema

    def end_call(self) -> None:
        """Ends the call in hand, from another thread."""
        self._caller.end_call()

    def __call__(self, batch: pa.RecordBatch) -> Worked:
        """Every record is given for, left out or wrong."""
        self._caller.take(batch)
        batches, rows, wrong, left_out = [], [], dict[int, str](), 0
        for start, stop, found in sorted(self._parts(batch.num_rows), key=lambda part: part[0]):
            if isinstance(found, Faulty):
                wrong |= dict.fromkeys(range(start, stop), str(found))
                continue
            own = np.arange(stop - start) if found.rows is None else found.rows.to_numpy()
            left_out += 0 if found.rows is None else stop - start - len(np.unique(own))
            batches.append(found.batch)
            rows.append(own + start)
        given = pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema=self._schema)
        places = np.concatenate(rows) if rows else np.array([], dtype=np.int64)
        return Worked(given, pa.array(places, pa.int64()), wrong, left_out)

    def _parts(self, rows: int) -> Iterator[tuple[int, int, Given | Faulty]]:
        """Stretches of the batch that could be worked, and single records, or what is not taken apart, that could not.

        All parts of a size come before any smaller one, so that what always dies shows soon.
        """
        parts = deque([(0, rows)] if rows else [])
        deaths, in_vain = 0, True
        while parts:
            start, stop = parts.popleft()
            try:
                yield start, stop, self._caller.call(start, stop)
                in_vain = False
            except Faulty as fault:
                deaths += isinstance(fault, Died)
                if stop - start == 1:
                    yield start, stop, fault
                else:
                    step = -(-(stop - start) // PARTS)
                    parts.extend((begin, min(begin + step, stop)) for begin in range(start, stop, step))
                if isinstance(fault, Died) and deaths >= (PARTS + 1 if in_vain else DEATHS):
                    untried = Faulty(f"not tried: {deaths} parts of its batch ended so before: {fault}")
                    yield from ((begin, end, untried) for begin, end in parts)
                    return
