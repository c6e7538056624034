"""Small tables that lie in files of the project: read once a process for each version of a file, shared by its threads.

CSV and JSON lines tell their types as those of a whole file allow it without changing any value: numbers with leading
zeros stay text, and so do dates in JSON, which has none.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import Invalid
from pipelines.quality.declared import Declared, conversions, converted_schema
from pipelines.quality.families import family_of
from pipelines.sql.literals import literal, name_of, quoted
from pipelines.sql.sandbox import Sandbox
from pipelines.sql.wording import one_line

T = TypeVar("T")
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet",
    ".json": "auto", ".jsonl": "newline_delimited", ".ndjson": "newline_delimited",
}  # fmt: skip
KEPT = 16
HEAD_BYTES = 1 << 16
LONG = "DECIMAL(38, 0)"
NUMBERS = ("BIGINT", "HUGEINT", "DOUBLE")
GUESSED = {
    **{kind: kind for kind in ("BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIME", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")},
    "HUGEINT": LONG,
}
"""What DuckDB makes of a whole column of texts, and the type that such a column gets; others stay text."""
CSV = (
    """header = true, skip = 0, quote = '"', escape = '"', comment = '', sample_size = -1, allow_quoted_nulls = false"""
)
LEADING_ZERO = r"^\s*[+-]?0[0-9]"
WHOLE = r"^\s*[+-]?[0-9]+\s*$"


class Shared(Generic[T]):
    """What is made of something that has versions, kept until it has another, the longest unused given up first."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[object, T]] = OrderedDict()

    def get(self, about: Hashable, version: object, make: Callable[[], T]) -> T:
        """What `make` gives, now or before, of this version; several threads make it once."""
        with self._lock:
            known = self._kept.get(about)
            if known is None or known[0] != version:
                known = self._kept[about] = (version, make())
            self._kept.move_to_end(about)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return known[1]


@dataclass(frozen=True, eq=False)
class SmallTable:
    """One version of a table; it equals itself only."""

    table: pa.RecordBatch


_tables: Shared[SmallTable] = Shared()


def is_text_format(path: Path) -> bool:
    """Whether all values of such a file are text until something is known of them."""
    return FORMATS.get(path.suffix.lower()) == "csv"


def small_table(path: Path, shown: str, declared: Mapping[str, str], limit_bytes: int, sandbox: Sandbox) -> SmallTable:
    """The whole table of a file, `declared` columns of their DuckDB types.

    Raises:
        Invalid: there is no such file, it is too large, cannot be read, or a value is not of its declared type.
    """
    if path.suffix.lower() not in FORMATS:
        raise Invalid(f"{shown}: of which format it is cannot be told; its name ends in one of: {', '.join(FORMATS)}")
    if not path.is_file():
        near = sorted(other.name for other in path.parent.iterdir() if other.is_file()) if path.parent.is_dir() else []
        close = get_close_matches(path.name, near, 1)
        raise Invalid(f"there is no file {shown}" + (f"; did you mean {close[0]!r}?" if close else ""))
    too_large = f"{shown}: is larger than {limit_bytes >> 20:,} MiB, half of the environment's memory; use `join`"
    state = path.stat()
    if state.st_size > limit_bytes:
        raise Invalid(too_large)
    about = (path, shown, *sorted(declared.items()))
    version = (state.st_mtime_ns, state.st_size, state.st_ino)
    small = _tables.get(about, version, lambda: SmallTable(_read(path, shown, declared, sandbox)))
    if small.table.nbytes > limit_bytes:
        raise Invalid(too_large)
    return small


def typed(table: pa.RecordBatch, types: Mapping[str, str], shown: str, sandbox: Sandbox) -> pa.RecordBatch:
    """The table with columns brought to DuckDB types, no value changed.

    Raises:
        Invalid: for the first value that is none of its type.
    """
    found, wrong = _brought(table, types, sandbox)
    for name, rows in wrong.items():
        if len(rows):
            value = table.column(name)[rows[0].as_py()]
            raise Invalid(
                f"{shown}: column {name!r} holds {str(value)!r:.80} in record {rows[0].as_py() + 1:,}, "
                f"which is no {types[name]}"
            )
    return found


def _read(path: Path, shown: str, declared: Mapping[str, str], sandbox: Sandbox) -> pa.RecordBatch:
    kind = FORMATS[path.suffix.lower()]
    try:
        if kind == "parquet":
            import pyarrow.parquet as pq

            return typed(_whole(pq.read_table(path, use_threads=False)), declared, shown, sandbox)
        with duckdb.connect(":memory:", config={"threads": 1}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            if kind == "csv":
                return _csv(path, shown, declared, connection, sandbox)
            return typed(_json(path, kind, connection), declared, shown, sandbox)
    except (duckdb.Error, pa.ArrowException, OSError) as fault:
        raise Invalid(f"{shown}: cannot be read: {one_line(str(fault))}") from fault


def _csv(
    path: Path, shown: str, declared: Mapping[str, str], connection: duckdb.DuckDBPyConnection, sandbox: Sandbox
) -> pa.RecordBatch:
    source = f"read_csv({_address(path)}, delim = {quoted(_separator(path))}, {CSV}"
    sniffed = _described(f"{source})", connection)
    texts = _whole(connection.sql(f"SELECT * FROM {source}, all_varchar = true)").to_arrow_table())
    wanted = {name: declared[name] for name in texts.schema.names if name in declared}
    guessed = {
        name: guess
        for name in texts.schema.names
        if name not in declared and (guess := _guessed(sniffed.get(name, ""), texts.column(name))) is not None
    }
    _found, wrong = _brought(texts, guessed, sandbox)
    guessed = {name: kind for name, kind in guessed.items() if not len(wrong.get(name, ()))}
    return typed(texts, {**wanted, **guessed}, shown, sandbox)


def _guessed(sniffed: str, texts: pa.Array) -> str | None:
    """The type that a column's values allow; None: text."""
    if sniffed in NUMBERS and pc.any(pc.match_substring_regex(texts, LEADING_ZERO)).as_py():
        return None
    if sniffed == "DOUBLE" and pc.all(pc.match_substring_regex(texts, WHOLE)).as_py():
        return LONG
    return GUESSED.get(sniffed)


def _separator(path: Path) -> str:
    """The sign that the first line has most of: a comma, semicolon, tab or bar."""
    with path.open("rb") as file:
        line = file.readline(HEAD_BYTES)
    return max(",;\t|", key=lambda sign: line.count(sign.encode()))


def _json(path: Path, kind: str, connection: duckdb.DuckDBPyConnection) -> pa.RecordBatch:
    source = f"read_json({_address(path)}, format = {quoted(kind)}, sample_size = -1"
    types = {
        name: "VARCHAR" if found.startswith(("DATE", "TIME", "UUID", "JSON")) else found
        for name, found in _described(f"{source})", connection).items()
    }
    return _whole(connection.sql(f"SELECT * FROM {source}, columns = {literal(types)})").to_arrow_table())


def _described(source: str, connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    rows: list[Any] = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    return {str(name): str(kind) for name, kind, *_rest in rows}


def _address(path: Path) -> str:
    """A path in which DuckDB sees no pattern."""
    return quoted("".join(f"[{sign}]" if sign in "*?[" else sign for sign in str(path)))


def _whole(table: pa.Table) -> pa.RecordBatch:
    """A table as one batch, its text in one piece."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _brought(
    table: pa.RecordBatch, types: Mapping[str, str], sandbox: Sandbox
) -> tuple[pa.RecordBatch, dict[str, pa.Array]]:
    """The table with its columns of these types, and per column the rows whose value is none of its type.

    An empty text is null where something else than text is wanted.
    """
    found = conversions({name: Declared(kind) for name, kind in types.items()}, table.schema, sandbox)
    if not found:
        return table, {}
    for each in found:
        column = table.column(each.name)
        if family_of(column.type) == "text" and family_of(each.kind) != "text":
            emptied = pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), pa.scalar(None, column.type), column)
            table = table.set_column(table.schema.get_field_index(each.name), each.name, emptied)
    items = ", ".join(f"{each.value} AS v{number}, {each.wrong} AS w{number}" for number, each in enumerate(found))
    used = pa.schema([table.schema.field(each.name) for each in found])
    made = sandbox.prepare(items, used)(table)
    columns = {each.name: made.column(f"v{number}") for number, each in enumerate(found)}
    schema = converted_schema(table.schema, found)
    arrays = [columns.get(name, table.column(name)) for name in schema.names]
    wrong = {each.name: pc.indices_nonzero(made.column(f"w{number}")) for number, each in enumerate(found)}
    return pa.RecordBatch.from_arrays(arrays, schema=schema), wrong


def type_named(kind: pa.DataType, sandbox: Sandbox) -> str:
    """What DuckDB calls an Arrow type."""
    schema = pa.schema([("x", kind)])
    nothing = pa.RecordBatch.from_arrays([pa.nulls(1, kind)], schema=schema)
    return str(sandbox.prepare(f"typeof({name_of('x')}) AS t", schema)(nothing).column(0)[0].as_py())
