"""Stages records in part files, one set for each worker thread: what `file.post` opens.

Parts lie in the run's own staging folder; nothing shows at the target before `publish`. After a fault of the file
system a writer takes nothing more (a part may be cut short), so that the run ends and leaves nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.parquet import plain_type
from adapters.file.target import Target, groups
from adapters.file.text import json_text, nested, text
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Outcome, Part, Piece, Receipts, Rejects
from pipelines.values import shown

OPEN_PARTS = 64
"""How many part files a writer holds open; with more places in the path the longest unused is ended first."""
HELD_BYTES = 128 << 20
"""What the open parts of a writer may hold in memory together."""
ARRIVED = "__arrived"
"""In parts staged for `upsert` and `delete`: when the record came, in nanoseconds."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Unfit:
    """Where records don't fit, and why."""

    mask: pa.BooleanArray
    code: str
    words: str
    column: pa.Array | None = None
    """Whose value the words speak of; None: they say all there is to say."""
    name: str = ""

    def message(self, row: int) -> str:
        return self.words if self.column is None else f"column {self.name!r}: {shown(self.column, row)} {self.words}"


class PartFile(Protocol):
    """A file being written."""

    rows: int
    held_bytes: int

    def write(self, batch: pa.RecordBatch) -> None: ...

    def close(self) -> int:
        """Ends the file and gives the number of its records, counted in what was written."""


class Form(Protocol):
    """Writes files of one format."""

    @property
    def suffix(self) -> str:
        """What the names of its files end in."""

    @property
    def is_built_whole(self) -> bool:
        """Whether a file is made at once of all its records, `join` of parts which are Parquet until then."""

    def part(self, path: Path, schema: pa.Schema) -> PartFile:
        """A new file, whole by itself."""

    def join(self, path: Path, sources: Sequence[Path], schema: pa.Schema, old: Path | None) -> None:
        """One file of `old` and the parts, which stay as they are."""

    def columns(self, path: Path) -> Mapping[str, pa.DataType | None] | None:
        """What a file that is there has, which appended records must fit: its columns, with types where it has them.

        None where anything fits.
        """

    def batches(self, path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The records of a file, as this form writes them back unchanged."""

    def unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        """Which records hold a value that this format can't."""

    def unsupported(self, column: pa.Field) -> str:
        """Why no value of this column goes into this format, with what to do; empty: they go."""


@dataclass(frozen=True)
class Staging:
    """How a writer lays out its parts."""

    form: Form
    """The format of the parts, which for `upsert` and `delete` is not yet the target's."""
    target_form: Form
    target: Target
    key: tuple[str, ...]


class StagingWriter:
    """A `file.post` opened for one worker thread."""

    def __init__(self, staging: Staging, stored: pa.Schema, folder: Path) -> None:
        """`stored` is what the parts hold, in their order; with `ARRIVED` in it each record's time is kept beside it."""
        self._staging = staging
        self._stored = stored
        self._base = folder
        self._folder: Path | None = None
        self._open: OrderedDict[str, tuple[Path, PartFile]] = OrderedDict()
        self._parts: list[Part] = []
        self._broken: Unavailable | None = None

    def put(self, batch: pa.RecordBatch) -> Outcome:
        """Stages a batch; records that the file can't hold are rejected."""
        if self._broken is not None:
            raise self._broken
        rejects = chosen = None
        unfit = self._unfit(batch)
        if unfit:
            rejects, chosen = _rejected(unfit)
            batch = batch.take(chosen)
        try:
            self._stage(batch)
        except Unavailable as fault:
            self._broken = fault
            raise
        keys = key_text(batch, self._staging.key)
        return Outcome({"out": Piece(batch, chosen)}, rejects=rejects, receipts=Receipts(keys=keys))

    def close(self) -> Sequence[Part]:
        """Ends all parts."""
        if self._broken is not None:
            raise self._broken
        while self._open:
            self._end(next(iter(self._open)))
        return self._parts

    def abandon(self) -> None:
        """Removes all parts."""
        for _, part in self._open.values():
            # The part is thrown away: that it can't be ended (a full disk) changes nothing.
            with _ignored():
                part.close()
        self._open.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _unfit(self, batch: pa.RecordBatch) -> list[Unfit]:
        found: list[Unfit] = []
        for name in self._staging.key:
            missing = batch.column(name).is_null()
            if pc.any(missing).as_py():
                found.append(Unfit(missing, "key_null", f"key column {name!r} is null; give every record a key"))
        found += [Unfit(*told) for told in self._staging.target.unfit(batch)]
        return [*found, *self._staging.target_form.unfit(batch)]

    def _stage(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return None
        stored = self._laid_out(batch)
        if not self._staging.target.columns:
            return self._write("", stored)
        for place, rows in groups(self._staging.target.places(batch)):
            self._write(place, stored if rows is None else stored.take(rows))
        return None

    def _laid_out(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The columns that the files hold, in their order; what does not come in is null."""
        columns = [
            plain(batch.column(field.name), field.type)
            if field.name in batch.schema.names
            else pa.repeat(pa.scalar(time.time_ns()), batch.num_rows)
            if field.name == ARRIVED
            else pa.nulls(batch.num_rows, field.type)
            for field in self._stored
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._stored)

    def _write(self, place: str, batch: pa.RecordBatch) -> None:
        if place not in self._open:
            if len(self._open) >= OPEN_PARTS:
                self._end(next(iter(self._open)))
            path = self._new_path()
            with told(path):
                self._open[place] = path, self._staging.form.part(path, self._stored)
        self._open.move_to_end(place)
        path, part = self._open[place]
        with told(path):
            part.write(batch)
        while len(self._open) > 1 and sum(held.held_bytes for _, held in self._open.values()) > HELD_BYTES:
            self._end(max(self._open, key=lambda name: self._open[name][1].held_bytes))

    def _end(self, place: str) -> None:
        path, part = self._open.pop(place)
        with told(path):
            rows = part.close()
            self._parts.append(Part({"file": str(path), "to": place}, rows, path.stat().st_size))

    def _new_path(self) -> Path:
        if self._folder is None:
            with told(self._base):
                self._base.mkdir(parents=True, exist_ok=True)
                self._folder = Path(tempfile.mkdtemp(prefix="file-post-", dir=self._base))
        return self._folder / f"{len(self._parts) + len(self._open):06d}{self._staging.form.suffix}"


def plain(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column as files hold it: dictionaries decoded."""
    return column if column.type.equals(kind) else column.cast(kind)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns as files hold them: all may be null, since what a file says must hold for what is appended later."""
    return pa.schema([pa.field(field.name, plain_type(field.type)) for field in schema])


def key_text(batch: pa.RecordBatch, key: Sequence[str]) -> pa.StringArray | None:
    """Each record's key as text, for receipts; keys of several columns joined by `|`."""
    if not key:
        return None
    columns = [batch.column(name) for name in key]
    texts = [json_text(column) if nested(column.type) else text(column) for column in columns]
    return texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "|")


def _rejected(unfit: Sequence[Unfit]) -> tuple[Rejects, pa.Int64Array]:
    """The rejects, each for the first thing that is wrong with it, and the rows that are left."""
    bad = unfit[0].mask
    for each in unfit[1:]:
        bad = pc.or_(bad, each.mask)
    rows = pc.indices_nonzero(bad).cast(pa.int64())
    which = pc.case_when(
        pc.make_struct(*[each.mask.take(rows) for each in unfit]),
        *[pa.scalar(number, pa.int32()) for number in range(len(unfit))],
    ).to_pylist()
    messages = [unfit[number].message(row) for number, row in zip(which, rows.to_pylist(), strict=True)]
    rejects = Rejects(rows, [unfit[number].code for number in which], messages)
    return rejects, pc.indices_nonzero(pc.invert(bad)).cast(pa.int64())


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Says what the file system refuses, with the path.

    Raises:
        Unavailable: the disk is full, or the file system fails: it may work later.
        Invalid: the path can't be written by this user, or is something else.
    """
    try:
        yield
    except (PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError) as fault:
        reason = os.strerror(fault.errno).lower() if fault.errno else str(fault)
        raise Invalid(f"{path}: cannot be written: {reason}; choose another path, or allow it to this user") from fault
    except OSError as fault:
        if fault.errno in FULL or any(os.strerror(code) in str(fault) for code in FULL):
            raise Unavailable(f"{path}: the disk is full, or a quota reached; make room and run it again") from fault
        if fault.errno == errno.EROFS:
            raise Invalid(f"{path}: the file system is read-only; choose another path") from fault
        raise Unavailable(f"{path}: cannot be written: {fault}") from fault


@contextmanager
def _ignored() -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException):
        return
