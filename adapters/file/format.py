"""What a file format gives to `file.get`: the columns, the splits and the records of files.

`adapters/file/csv.py`, `jsonl.py`, `parquet.py`, `avro.py`, `excel.py`, `xml.py` and `fixed.py` each hold one `Format`. Finding
files, positions, `once`, `cursor`, `where`, `filename` and watching for files that change under the reader are `file.get`'s and the
same for all formats.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from adapters.file.stores.ahead import Ahead
from adapters.file.stores.store import Entry, Store
from pipelines.node import Chunk, Json, Split, Want

if TYPE_CHECKING:
    from adapters.file.get import Get


@dataclass(frozen=True)
class File:
    """A file as it was when the run was planned."""

    path: Path
    """Where it is, absolute; in a store: inside of the connection's folder. Its suffixes tell what it is."""
    name: str
    """What messages and the column of `filename` call it: from the project folder where it lies inside."""
    size_bytes: int
    changed_ns: int
    version: str
    """What tells it from another file that takes its name: its inode, a store's ETag; may be empty."""
    store: Store | None = None
    """Where it lies; None: on a path of this machine."""

    def open(self, stop: int | None = None) -> io.RawIOBase:
        """Its bytes from the beginning on, to seek and to read. From a store bytes are fetched ahead, up to `stop`."""
        if self.store is None:
            return self.path.open("rb", buffering=0)
        return Ahead(self.store.open(self.entry), self.size_bytes, stop)

    @property
    def entry(self) -> Entry:
        """What a store calls it."""
        return Entry(self.path.as_posix(), self.size_bytes, self.changed_ns, self.version)


class Format(Protocol):
    """Reads files of one kind. It keeps nothing between calls; any of them may run in another process."""

    def schema(self, files: Sequence[File], node: Get) -> pa.Schema:
        """The columns of all files together, from their heads. `Invalid` names the file and what is wrong."""

    def splits(self, file: File, node: Get) -> list[Split]:
        """Parts of a file that can be read alone; the payload is the format's own and plain JSON."""

    def read(self, file: File, part: Json, node: Get, schema: pa.Schema, want: Want) -> Iterator[Chunk]:
        """The records of a part, each batch of just the columns of `schema`, in that order and of those types.

        `schema` is already cut down to what is wanted (`want.columns` says nothing more); batches have at most
        `want.batch_rows` rows. Reading may stop once `want.rows` records are given.
        """
