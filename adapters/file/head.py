"""The head of a CSV file: the names of its columns, where its records begin, and some of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from adapters.file.dialect import Dialect
from adapters.file.format import File
from adapters.file.quotes import LINES, RECORD_LIMIT_BYTES, Bytes, array, last_end, record_ends
from adapters.file.source import UTF8, UTF8_MARK, Reader, read_fully, to_utf8
from pipelines.errors import Invalid
from pipelines.records import ROW_ID

SAMPLE_BYTES = 1 << 20
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
MOST_BLANK_LINES = 1_000


@dataclass(frozen=True)
class Head:
    """The beginning of a CSV file."""

    names: tuple[str, ...]
    start: int
    """Where the first record begins."""
    sample: bytes
    """Some whole records, in UTF-8."""


@dataclass(frozen=True)
class Layout:
    """How a file begins."""

    dialect: Dialect
    encoding: str
    has_header: bool
    skip_rows: int


def read_head(reader: Reader, file: File, layout: Layout, sample_bytes: int = SAMPLE_BYTES) -> Head:
    """Reads the head of a file from its beginning.

    Raises:
        Invalid: where there is no proper header.
    """
    held = b""
    while True:
        wanted = max(sample_bytes, len(held))
        fresh = read_fully(reader, wanted, file.name)
        held += fresh
        found = _head(held, len(fresh) < wanted, file, layout)
        if found is not None:
            return found
        if len(held) > RECORD_LIMIT_BYTES:
            raise Invalid(f"{file.name}: no record ends within {RECORD_LIMIT_BYTES >> 20} MiB; is a quote left open?")


def _head(held: bytes, is_all: bool, file: File, layout: Layout) -> Head | None:
    """The head as far as `held` tells; None where more must be read."""
    if layout.encoding == UTF8 and held[:2] in UTF16_MARKS:
        raise Invalid(f"{file.name}: is UTF-16, as its first bytes tell; set `encoding: utf-16`")
    data, quoting = array(held), layout.dialect.quoting
    place = len(UTF8_MARK) if layout.encoding == UTF8 and held.startswith(UTF8_MARK) else 0
    if layout.skip_rows:
        ends = record_ends(data[place:], LINES)
        if len(ends) < layout.skip_rows and not is_all:
            return None
        place = place + int(ends[layout.skip_rows - 1]) if len(ends) >= layout.skip_rows else len(held)
    names: tuple[str, ...] = ()
    if layout.has_header:
        begin, stop = _first_record(data, place, layout.dialect)
        if stop is None and not is_all:
            return None
        stop = len(held) if stop is None else stop
        names = _header_names(bytes(to_utf8(memoryview(held)[begin:stop], layout.encoding)), file, layout.dialect)
        place = stop
    end = len(held) if is_all else place + last_end(data[place:], quoting)
    if end == place and not is_all:
        return None
    sample = bytes(to_utf8(memoryview(held)[place:end], layout.encoding))
    return Head(names or _numbered(sample, layout.dialect), place, sample)


def _first_record(data: Bytes, place: int, dialect: Dialect) -> tuple[int, int | None]:
    """Where the first record that is not blank begins and ends."""
    begin = place
    for end in record_ends(data[place:], dialect.quoting)[:MOST_BLANK_LINES]:  # as a rule the first is it
        stop = place + int(end)
        if data[begin:stop].tobytes().strip(b"\r\n"):
            return begin, stop
        begin = stop
    return begin, None


def _header_names(text: bytes, file: File, dialect: Dialect) -> tuple[str, ...]:
    """The names in a header; those left empty are called after their place, `column_3`."""
    names = _fields(text, dialect)
    if names is None:
        raise Invalid(f"{file.name}: its header is no text in this encoding: {text[:80]!r}; set `encoding`")
    names = [name or f"column_{place}" for place, name in enumerate(names, 1)]
    folded = [name.casefold() for name in names]
    twice = sorted({name for name in names if folded.count(name.casefold()) > 1})
    fix = "read it with `header: false`, `skip_rows: 1` and names of your own under `columns`"
    if twice:
        raise Invalid(f"{file.name}: its header names {', '.join(map(repr, twice))} more than once; {fix}")
    if ROW_ID in names:
        raise Invalid(f"{file.name}: its header names {ROW_ID!r}, which is kept for row ids; {fix}")
    return tuple(names)


def _numbered(sample: bytes, dialect: Dialect) -> tuple[str, ...]:
    """Names for the columns of a file without header, as many as its first record has."""
    _, stop = _first_record(array(sample), 0, dialect)
    fields = _fields(sample[:stop], dialect) or []
    return tuple(f"column_{place}" for place in range(1, len(fields) + 1))


def _fields(text: bytes, dialect: Dialect) -> list[str] | None:
    """The fields of one record as they stand; None where they are no UTF-8."""
    if not text.strip(b"\r\n"):
        return []
    plain = replace(dialect, null_values=())
    try:
        row = plain.rows(text, None, {})
        raw = plain.rows(text, None, dict.fromkeys(row.column_names, pa.binary()))
        return [column[0].as_py().decode() for column in raw.columns]
    except (UnicodeDecodeError, pa.ArrowInvalid):
        return None
