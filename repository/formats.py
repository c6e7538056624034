"""How a query's answer is written: a table for people; CSV, JSON, Parquet or Arrow for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO

from repository.columns import quoted

ANSWER = quoted("the answer")
STANDARD_OUTPUT = "/dev/stdout"
BATCH_ROWS = 2048
WIDEST_CELL = 60
NUMBERS = ("INT", "DECIMAL", "DOUBLE", "FLOAT")
COPIES = {
    "csv": "(FORMAT csv, HEADER true)",
    "json": "(FORMAT json, ARRAY true)",
    "parquet": "(FORMAT parquet, COMPRESSION zstd)",
}
FORMATS = ("table", *COPIES, "arrow")

Said = dict[str, Any]
"""`rows` written, and whether the row limit cut the rest off (`truncated`)."""


def write(connection: Any, relation: Any, name: str, limit_rows: int, width: int, out: BinaryIO) -> Said:
    """Writes an answer to the standard output `out`, in a format, at most `limit_rows` rows of it."""
    if name in COPIES:
        return write_copy(connection, relation, name, limit_rows)
    if name == "arrow":
        return write_arrow(relation, limit_rows, out)
    return write_table(connection, relation, limit_rows, width, out)


def write_copy(connection: Any, relation: Any, name: str, limit_rows: int) -> Said:
    """Lets DuckDB write the format as the rows come. The query was parsed before: nothing of its text is pasted here."""
    shown = [_portable(index, name, *column) for index, column in enumerate(_columns(relation), 1)]
    relation.project(", ".join(shown)).create_view(ANSWER.strip('"'))
    copy = f"COPY (FROM {ANSWER} LIMIT {limit_rows}) TO '{STANDARD_OUTPUT}' {COPIES[name]}"
    rows = connection.execute(copy).fetchone()[0]
    more = 0
    if rows == limit_rows:
        (more,) = connection.execute(f"SELECT count(*) FROM (FROM {ANSWER} LIMIT 1 OFFSET {limit_rows})").fetchone()
    return {"rows": rows, "truncated": bool(more)}


def write_arrow(relation: Any, limit_rows: int, out: BinaryIO) -> Said:
    """An Arrow IPC stream."""
    import pyarrow as pa

    rows, truncated = 0, False
    reader = relation.limit(limit_rows + 1).to_arrow_reader(65_536)
    with pa.ipc.new_stream(out, reader.schema) as writer:
        for batch in reader:
            truncated = rows + batch.num_rows > limit_rows
            writer.write_batch(batch.slice(0, limit_rows - rows))
            rows += min(batch.num_rows, limit_rows - rows)
            if truncated:
                break
    out.flush()
    return {"rows": rows, "truncated": truncated}


def write_table(connection: Any, relation: Any, limit_rows: int, width: int, out: BinaryIO) -> Said:
    """Aligned columns, numbers to the right. Widths come from the first rows.

    Where a line would be longer than `width`, cells are cut to what people read at a glance.
    """
    names = [_cell(name) for name, _ in _columns(relation)]
    right = [any(word in kind for word in NUMBERS) and "[" not in kind for _, kind in _columns(relation)]
    relation.create_view(ANSWER.strip('"'))
    texts = ", ".join(f"CAST(#{index} AS VARCHAR)" for index in range(1, len(names) + 1))
    result = connection.execute(f"SELECT {texts} FROM {ANSWER} LIMIT {limit_rows + 1}")
    rows, truncated = 0, False
    widths: list[int] = []
    for batch in _batches(result):
        truncated = rows + len(batch) > limit_rows
        cells = [[_cell(value) for value in row] for row in batch[: limit_rows - rows]]
        if not widths:
            widths = _widths(zip(names, *cells, strict=True), width)
            _head(out, names, widths, right)
        _lines(out, cells, widths, right)
        rows += len(cells)
    if not widths:
        _head(out, names, [_width(name) for name in names], right)
    out.flush()
    return {"rows": rows, "truncated": truncated}


def _columns(relation: Any) -> list[tuple[str, str]]:
    return [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]


def _portable(index: int, format_name: str, name: str, kind: str) -> str:
    """A column as the format can hold it: JSON has no NaN, Parquet no integers beyond 64 bits."""
    value = f"#{index}"
    if format_name == "json" and kind in {"DOUBLE", "FLOAT"}:
        value = f"CASE WHEN isfinite({value}) THEN {value} END"
    if format_name == "parquet" and kind in {"HUGEINT", "UHUGEINT"}:
        value = f"CAST({value} AS DECIMAL(38, 0))"
    return f"{value} AS {quoted(name)}"


def _batches(result: Any) -> Iterator[list[tuple[Any, ...]]]:
    rows: list[tuple[Any, ...]] = result.fetchmany(BATCH_ROWS)
    while rows:
        yield rows
        rows = result.fetchmany(BATCH_ROWS)


def _widths(columns: Iterable[Sequence[str]], room: int) -> list[int]:
    natural = [max(map(_width, column)) for column in columns]
    fits = sum(natural) + 2 * len(natural) <= room
    return natural if fits else [min(WIDEST_CELL, width) for width in natural]


def _head(out: BinaryIO, names: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> None:
    _lines(out, [list(names), ["─" * width for width in widths]], widths, right)


def _lines(out: BinaryIO, rows: list[list[str]], widths: Sequence[int], right: Sequence[bool]) -> None:
    lines = [
        "  ".join(_aligned(cell, width, to_right) for cell, width, to_right in zip(row, widths, right, strict=True))
        for row in rows
    ]
    out.write("".join(line.rstrip() + "\n" for line in lines).encode("utf-8", "replace"))


def _cell(value: str | None) -> str:
    """A value in one line, without signs that would steer the terminal."""
    if value is None:
        return "∅"
    if value.isprintable():
        return value
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value)


def _aligned(text: str, width: int, to_right: bool) -> str:
    missing = width - _width(text)
    if missing < 0:
        while _width(text) > width - 1:
            text = text[: -max(1, (_width(text) - width) // 2)]
        text += "…"
        missing = width - _width(text)
    return " " * missing + text if to_right else text + " " * missing


def _width(text: str) -> int:
    """How many places a text takes at a terminal."""
    if text.isascii():
        return len(text)
    import unicodedata

    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)
