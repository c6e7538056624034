"""Where `file.post` writes: one file, a folder of parts, or either of them by the values of columns.

`out/orders.csv` is a file, `out/orders/` a folder of parts. `{column}` stands for a value: `out/{country}.csv` is a file for each
country, `out/year={year}/` a folder for each year, as Hive lays them out: there the column is in the path and no longer
in the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.searching import inside
from adapters.file.stores.store import Store
from adapters.file.text import nested, text
from pipelines.scope import Scope
from pipelines.tables.relation import suggestion

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
NAME_BYTES = 200
"""What a partition's name may take: file systems end at 255, and a part's own name comes on top."""

_PLACE = re.compile(r"\{([^{}]+)\}")
_SAFE = " !#$&'()+,;@[]^_`~-."


@dataclass(frozen=True)
class Target:
    """A path of a flow, understood."""

    root: Path
    """The file or folder; with columns in the path the folder above the first of them. Absolute, links followed."""
    pattern: str
    """What comes below the root, with its `{column}`s; empty without any."""
    is_folder: bool
    store: Store | None = None
    """Where it is, if not on this machine: then the root lies in `mirror`."""
    mirror: Path = Path()
    """A folder of the run that looks like the store's, as far as a publication needs it."""

    @classmethod
    def of(cls, path: str, scope: Scope, store: Store | None = None, name: str = "") -> Target:
        """A path in the project folder or a store; there `name` tells apart what is built for one publication."""
        mirror = Path()
        if store is not None:
            mirror = Path(os.path.realpath(scope.staging / "parts" / f"store-{name}"))
            path, scope = inside(path) + ("/" if path.endswith("/") else ""), replace(scope, project=mirror)
        pieces = path.split("/")
        cut = next((number for number, piece in enumerate(pieces) if _PLACE.search(piece)), len(pieces))
        fixed = "/".join(pieces[:cut]) or ("/" if path.startswith("/") else ".")
        root = Path(os.path.realpath(scope.path(fixed)))
        return cls(root, "/".join(pieces[cut:]).rstrip("/"), path.endswith("/"), store, mirror)

    @property
    def inside(self) -> str:
        """The root's path in the store."""
        return self.root.relative_to(self.mirror).as_posix().removeprefix(".")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns in the path, in order, each once."""
        return tuple(dict.fromkeys(_PLACE.findall(self.pattern)))

    @property
    def hive_columns(self) -> frozenset[str]:
        """Those whose values are told by the path alone (`year={year}`), so that the files don't hold them."""
        return frozenset(
            match[1]
            for piece in self.pattern.split("/")[: None if self.is_folder else -1]
            if (match := _PLACE.fullmatch(piece.partition("=")[2])) and piece.partition("=")[0] == match[1]
        )

    def stored(self, schema: pa.Schema) -> pa.Schema:
        """The columns that the files hold."""
        hive = self.hive_columns
        return pa.schema([field for field in schema if field.name not in hive])

    def places(self, batch: pa.RecordBatch) -> pa.StringArray:
        """For each record the path below the root. Values that cannot stand in a path have been rejected before."""
        pieces: list[pa.Array | str] = []
        for number, piece in enumerate(_PLACE.split(self.pattern)):
            pieces.append(_named(text(batch.column(piece))) if number % 2 else piece)
        if not any(isinstance(piece, pa.Array) for piece in pieces):
            return pa.repeat(pa.scalar(self.pattern), batch.num_rows)
        return pc.binary_join_element_wise(*[_operand(piece) for piece in pieces], "")

    def unfit(self, batch: pa.RecordBatch) -> list[tuple[pa.BooleanArray, str, str]]:
        """Which records have a value that cannot stand in the path: mask, code and message."""
        found: list[tuple[pa.BooleanArray, str, str]] = []
        for name in self.columns:
            values = text(batch.column(name))
            empty = pc.fill_null(pc.equal(values, ""), False)
            missing = values.is_null()
            long = pc.fill_null(pc.greater(pc.binary_length(values), NAME_BYTES // 3), False)
            if name not in self.hive_columns and pc.any(missing).as_py():
                found.append(
                    (missing, "path_null", f"column {name!r} is null, which gives no path; fill it with a map")
                )
            if pc.any(empty).as_py():
                found.append(
                    (empty, "path_empty", f"column {name!r} is empty, which gives no path; fill it with a map")
                )
            if pc.any(long).as_py():
                found.append((long, "path_long", f"column {name!r} is too long for a path; shorten it with a map"))
        return found

    def problems(self, schema: pa.Schema) -> list[tuple[str, str]]:
        """What is wrong with the path for records of these columns: what and what would be right."""
        found: list[tuple[str, str]] = []
        for name in self.columns:
            if name not in schema.names:
                found.append((f"path names column {name!r}, which does not come in", suggestion(name, schema.names)))
            elif nested(schema.field(name).type) or pa.types.is_binary(schema.field(name).type):
                kind = schema.field(name).type
                found.append((f"path names column {name!r} of type {kind}", "make it text with a map"))
        if schema.names and not self.stored(schema).names:
            found.append(("every column is in the path, so that the files would hold none", "keep one more column"))
        return found


def _named(values: pa.StringArray) -> pa.StringArray:
    """Values as parts of a path: what means something in one is percent-encoded, as Hive and DuckDB read it back."""
    encoded = values.dictionary_encode()
    names = [_name(value) for value in encoded.dictionary.to_pylist()]
    return pc.fill_null(pa.array(names, pa.string()).take(encoded.indices), HIVE_NULL)


def _name(value: str) -> str:
    name = quote(value, safe=_SAFE)
    return name.replace(".", "%2E") if set(name) == {"."} else name


def _operand(piece: pa.Array | str) -> pa.Array | pa.Scalar:
    return pa.scalar(piece) if isinstance(piece, str) else piece


def groups(places: pa.StringArray) -> Sequence[tuple[str, pa.Int64Array | None]]:
    """Each distinct place with the rows that belong there; None: all rows."""
    encoded = places.dictionary_encode()
    names = encoded.dictionary.to_pylist()
    if len(names) == 1:
        return [(names[0], None)]
    order = pc.sort_indices(encoded.indices)
    counts = pc.value_counts(encoded.indices.take(order))
    found: list[tuple[str, pa.Int64Array | None]] = []
    start = 0
    for code, count in zip(counts.field(0).to_pylist(), counts.field(1).to_pylist(), strict=True):
        found.append((names[code], pc.array_take(order, pa.array(range(start, start + count)))))
        start += count
    return found
