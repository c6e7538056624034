"""Finds the records that an expression cannot be computed for, once a batch has shown that there are some.

Each expression is computed once more inside a box, `TRY([expression])`: where the box is null there was a fault, where
the box holds a null that is the value. What DuckDB does not let into a box (random, error, …), and its internal errors,
which no box catches, are found by halving.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Bug
from pipelines.node import Rejects
from pipelines.sql.halving import Halving, is_of_data
from pipelines.sql.literals import name_of
from pipelines.sql.parsed import enclosed
from pipelines.sql.sandbox import Prepared, Sandbox
from pipelines.sql.wording import one_line

CODE = "expression"
"""The reject code of a record that an expression cannot be computed for."""
TOLD = 1_000
"""So many faults of an evaluator are told in DuckDB's words, which takes a statement each; the rest by their input."""
INPUT_CHARACTERS = 200
OWN_ERROR = re.compile(r"\berror\b", re.IGNORECASE)


@dataclass(frozen=True)
class Fault:
    """One expression that could not be computed for one row of a batch."""

    row: int
    name: str
    message: str


class Faults:
    """The careful way to compute expressions: slower, but every value that can be had is had, and the rest is named."""

    def __init__(self, computed: Mapping[str, str], used: pa.Schema, gives: pa.Schema, sandbox: Sandbox) -> None:
        self._computed = computed
        self._used = used
        self._gives = gives
        self._sandbox = sandbox
        self._told = 0
        self._boxed: Prepared | None = None
        self._is_sorted_out = False

    def __call__(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[Fault, ...]]:
        """A column for each expression, null where it has a fault; the faults by row."""
        self._sort_out()
        columns, bad = self._by_boxes(batch)
        for name in self._computed:
            if name not in columns:
                columns[name], bad[name] = self._by_halving(name, batch)
        arrays = [_as(columns[field.name], field.type) for field in self._gives]
        places = sorted((row, name) for name, rows in bad.items() for row in rows)
        # row by row: each fault has words of its own
        faults = tuple(Fault(row, name, self._message(name, batch, row, bad[name][row])) for row, name in places)
        return pa.RecordBatch.from_arrays(arrays, schema=self._gives), faults

    def _by_boxes(self, batch: pa.RecordBatch) -> tuple[dict[str, pa.Array], dict[str, dict[int, str | None]]]:
        """The columns that boxes give, and the rows without; of those that boxes cannot be trusted with, nothing."""
        columns: dict[str, pa.Array] = {}
        bad: dict[str, dict[int, str | None]] = {}
        if self._boxed is None:
            return columns, bad
        try:
            boxes = self._boxed(batch)
        except duckdb.OutOfMemoryException:
            raise
        except duckdb.Error as error:
            if not is_of_data(error):
                raise
            return columns, bad
        for name in boxes.schema.names:
            held = boxes.column(name).is_valid()
            if not OWN_ERROR.search(self._computed[name]) or self._is_sound(name, batch.filter(held)):
                columns[name] = unboxed(boxes.column(name))
                bad[name] = dict.fromkeys(_indices(pc.invert(held)).tolist())
        return columns, bad

    def _is_sound(self, name: str, batch: pa.RecordBatch) -> bool:
        """Whether an expression with an error of the user's own can be computed for these records out of its box."""
        try:
            self._alone(name)(batch)
        except duckdb.Error as error:
            if not is_of_data(error):
                raise
            return False
        return True

    def _sort_out(self) -> None:
        """Finds out, once, which expressions can be boxed."""
        if self._is_sorted_out:
            return
        careful = self._sandbox.careful
        boxes = {name: f"TRY([({text}\n)]) AS {name_of(name)}" for name, text in self._computed.items()}
        boxed = dict(boxes)
        try:
            self._boxed = careful.prepare(", ".join(boxes.values()), self._used)
        except duckdb.BinderException:
            for name, box in boxes.items():
                try:
                    careful.prepare(box, self._used)
                except duckdb.BinderException:
                    del boxed[name]
            self._boxed = careful.prepare(", ".join(boxed.values()), self._used) if boxed else None
        self._is_sorted_out = True

    def _by_halving(self, name: str, batch: pa.RecordBatch) -> tuple[pa.Array, dict[int, str | None]]:
        prepared = self._alone(name)
        halving = Halving(lambda part: prepared(part).column(0), batch, self._gives.field(name).type)
        return halving(), {**halving.wrong}

    def _alone(self, name: str) -> Prepared:
        return self._sandbox.prepare(enclosed(self._computed[name], name), self._used)

    def _message(self, name: str, batch: pa.RecordBatch, row: int, known: str | None) -> str:
        if known is not None:
            return f"{name}: {known}"
        self._told += 1
        record = batch.slice(row, 1)
        if self._told <= TOLD:
            try:
                self._alone(name)(record)
            except duckdb.Error as error:
                return f"{name}: {one_line(str(error))}"
        inputs = ", ".join(f"{column}={_shown(record.column(column)[0])}" for column in self._used.names)
        return f"{name}: cannot be computed for {inputs}" if inputs else f"{name}: cannot be computed"


def unboxed(boxes: pa.Array) -> pa.Array:
    """What lists of one value hold; null for a null list."""
    held = boxes.is_valid()
    places = pc.subtract(pc.cumulative_sum(held.cast(pa.int64())), 1)
    return boxes.flatten().take(pc.if_else(held, places, pa.scalar(None, pa.int64())))


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type.equals(kind):
        return column
    try:
        return column.cast(kind)
    except pa.ArrowException as fault:
        raise Bug(f"a boxed expression gave {column.type}, by itself {kind}") from fault


def _indices(mask: pa.BooleanArray) -> np.ndarray:
    found: np.ndarray = pc.indices_nonzero(mask).to_numpy()
    return found


def _shown(value: pa.Scalar) -> str:
    try:
        text = repr(value.as_py())
    except (ValueError, OverflowError):  # nanoseconds and far years, which Python's own times do not have
        text = str(value.cast(pa.string())) if pa.types.is_temporal(value.type) else str(value.type)
    return text if len(text) <= INPUT_CHARACTERS else text[: INPUT_CHARACTERS - 1] + "…"


def rejects_of(faults: Iterable[Fault]) -> Rejects | None:
    """The rows that have faults, each once, with all that is wrong with it; None where there are none."""
    messages: dict[int, str] = {}
    for fault in faults:
        messages[fault.row] = f"{messages[fault.row]}; {fault.message}" if fault.row in messages else fault.message
    if not messages:
        return None
    return Rejects(pa.array(messages, pa.int64()), [CODE] * len(messages), list(messages.values()))


def together(one: Rejects | None, other: Rejects) -> Rejects:
    """Rejects of different rows as one, in the order of the rows. Few are rejected: a Python loop will do."""
    known = [one, other] if one is not None else [other]
    rows = sorted(row for some in known for row in zip(some.rows.to_pylist(), some.codes, some.messages, strict=True))
    return Rejects(pa.array([row for row, _, _ in rows], pa.int64()), [c for _, c, _ in rows], [m for *_, m in rows])


def rows_without(rejects: Rejects, rows: int) -> pa.Int64Array:
    """The rows of a batch of `rows` that are not rejected, in order."""
    sound = np.ones(rows, dtype=bool)
    sound[rejects.rows.to_numpy()] = False
    return pa.array(np.flatnonzero(sound), pa.int64())
