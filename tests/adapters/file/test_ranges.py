"""Where records are cut: the same places however the file is looked at, and those that the parser sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.file.blocks import Blocks
from adapters.file.dialect import Dialect
from adapters.file.format import File
from adapters.file.lines import Spans
from adapters.file.places import line_ends, lines_before
from adapters.file.quotes import Quoting, array, ends_inside, last_end, record_ends
from adapters.file.ranges import nominal_ranges, record_start
from adapters.file.source import opened

COMMA, QUOTE, BACKSLASH = 44, 34, 92
marks = st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"\r", b"a", b"bc", b"\\"]), max_size=40).map(
    b"".join
)
quotings = st.sampled_from(
    [Quoting(COMMA, QUOTE), Quoting(COMMA, None), Quoting(COMMA, QUOTE, BACKSLASH), Quoting(0, None, None, False)]
)


def written(folder: Path, data: bytes) -> File:
    path = folder / "data.csv"
    path.write_bytes(data)
    about = path.stat()
    return File(path, "data.csv", len(data), about.st_mtime_ns, str(about.st_ino))


@settings(max_examples=50, deadline=None)
@given(data=marks.filter(bool), quoting=quotings, window_bytes=st.integers(1, 9))
def test_a_record_begins_at_the_same_place_however_much_is_looked_at(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, quoting: Quoting, window_bytes: int
) -> None:
    file = written(tmp_path_factory.mktemp("ranges"), data)
    ends = record_ends(array(data), quoting).tolist()
    lines = record_ends(array(data), Quoting(0, None, None, quoting.returns_end)).tolist()
    tail = array(data)[ends[-1] if ends else 0 :]

    for nominal in range(1, len(data)):
        found = record_start(file, nominal, 0, quoting, window_bytes)

        behind = ends if not ends_inside(tail, quoting) or nominal < (ends or [0])[-1] else lines
        assert found == min([end for end in behind if end > nominal], default=len(data))


@settings(max_examples=50, deadline=None)
@given(data=marks, quoting=quotings)
def test_the_last_end_is_the_last_of_all_ends(data: bytes, quoting: Quoting) -> None:
    padded = data + b"x" * 70_000 + b"\n" + data

    assert last_end(array(data), quoting) == max([0, *record_ends(array(data), quoting)])
    assert last_end(array(padded), quoting) == max([0, *record_ends(array(padded), quoting)])


@settings(max_examples=50, deadline=None)
@given(data=marks.filter(lambda data: data.strip(b"\r\n")), escape=st.sampled_from(["", "\\"]))
def test_the_parser_sees_as_many_records_as_are_cut(data: bytes, escape: str) -> None:
    dialect = Dialect(escape=escape)
    spans = Spans.of(array(data), dialect.quoting)

    seen: list[object] = []
    table = dialect.rows(data, ["a"], {"a": pa.binary()}, on_invalid=lambda row: seen.append(row) or "skip")

    assert table.num_rows + len(seen) == len(spans.starts)


@settings(max_examples=50, deadline=None)
@given(data=marks, quoting=quotings, block_bytes=st.integers(1, 20), count=st.integers(1, 5))
def test_blocks_hold_every_byte_once(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, quoting: Quoting, block_bytes: int, count: int
) -> None:
    file = written(tmp_path_factory.mktemp("ranges"), data)
    found = b""

    for nominal in nominal_ranges(0, len(data), max(len(data) // count, 1)):
        start, stop = (record_start(file, place, 0, quoting) for place in nominal)
        with opened(file, "utf-8") as reader:
            reader.seek(start)
            for block in Blocks(reader, start, stop, block_bytes, quoting, file.name):
                assert block.offset == len(found)
                found += bytes(block.data)

    assert found == data


@settings(max_examples=30, deadline=None)
@given(data=marks, place=st.integers(0, 60))
def test_lines_are_counted_as_an_editor_does(tmp_path_factory: pytest.TempPathFactory, data: bytes, place: int) -> None:
    file = written(tmp_path_factory.mktemp("ranges"), data)
    place = min(place, len(data))
    following = data[place] if place < len(data) else None

    wanted = len(data[:place].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")) - 1
    if data[:place].endswith(b"\r") and following == 10:
        wanted -= 1

    assert lines_before(file, place) == wanted
    assert line_ends(array(data[:place]), following) == wanted


def test_a_quote_in_the_distance_tells_what_a_place_in_a_large_field_is(tmp_path: Path) -> None:
    field = b"a,\n" * 300_000
    file = written(tmp_path, b'1,x\n2,"' + field + b'"\n3,y\n')
    quoting = Quoting(COMMA, QUOTE)

    assert {record_start(file, place, 0, quoting) for place in (10, 400_000, 800_000)} == {len(field) + 9}


def test_a_line_that_is_too_long_is_one_fault_and_the_rest_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, b"1,a\n2," + b"x" * (70 << 20) + b"\n3,b\n")

    with opened(file, "utf-8") as reader:
        parts = Blocks(reader, 0, None, 1 << 20, Quoting(COMMA, QUOTE), file.name)
        found = [(bytes(block.data[:4]), block.fault) for block in parts]

    assert found == [
        (b"1,a\n", ""),
        (b"2,xx", "the line does not end within 32 MiB"),
        (b"3,b\n", ""),
    ]


def test_ranges_of_no_file_differ_much_in_size() -> None:
    for size, wanted in ((1, 1), (5 << 20, 1), (9 << 20, 2), (100 << 20, 4), (1 << 30, 32)):
        sizes = np.diff(nominal_ranges(0, size, 32 << 20), axis=1)

        assert len(sizes) == wanted
        assert sizes.max() - sizes.min() <= 1
