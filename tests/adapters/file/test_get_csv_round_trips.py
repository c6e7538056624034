"""`file.get` for CSV, held to generated tables: what is written is read, however the file is cut."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.node import Want
from tests.adapters.file.reading import Read, write


def as_csv(rows: Sequence[Sequence[str | None]], line_end: str = "\n", **how: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end, **how).writerows(rows)
    return text.getvalue()


texts = st.text(st.sampled_from(list("ab,\"\n\r 'é\u2028\0\\\ud7ff😀;")), max_size=6)


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=12),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    split_bytes=st.integers(1, 40),
    batch_rows=st.integers(1, 5),
    quotes_all=st.booleans(),
)
def test_what_pythons_csv_writes_is_read_back_whatever_the_ranges(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    line_end: str,
    split_bytes: int,
    batch_rows: int,
    quotes_all: bool,
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    # Python leaves a line end unquoted that is not its own
    how = {"quoting": csv.QUOTE_ALL, "line_end": line_end} if quotes_all else {"line_end": "\r\n"}
    write(folder, as_csv([("x", "y", "z"), *rows], **how))
    columns = {"x": "VARCHAR", "y": "VARCHAR", "z": "VARCHAR"}

    read = Read(folder, path="data.csv", columns=columns, split_bytes=split_bytes, want=Want(batch_rows=batch_rows))
    whole = Read(folder, path="data.csv", columns=columns)

    wanted = [tuple(value or None for value in row) for row in rows] if not quotes_all else rows
    assert [tuple(row.values()) for row in read.rows] == wanted
    assert whole.rows == read.rows
    assert read.malformed == []
    assert read.ordinals == sorted(set(read.ordinals))
    assert max(read.batches) <= batch_rows


@settings(max_examples=50, deadline=None)
@given(
    lines=st.lists(
        st.sampled_from(
            [
                "1,a",
                "2",
                "3,b,c",
                '4,"x\ny"',
                '5,a"b',
                "x,y",
                '"6",""',
                "",
                '7,"a"b',
                '8,"a,',
                'c",9',
                "9,\udcff",
                '10,"',
            ]
        ),
        max_size=14,
    ),
    split_bytes=st.integers(1, 30),
    final=st.booleans(),
)
def test_broken_text_gives_the_same_records_and_rejects_at_every_reading(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], split_bytes: int, final: bool
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    text = "id,name\n" + "\n".join(lines) + ("\n" if final else "")
    write(folder, text.encode("utf-8", "surrogateescape"))
    columns = {"id": "BIGINT", "name": "VARCHAR"}

    one = Read(folder, path="data.csv", columns=columns, split_bytes=split_bytes)
    other = Read(folder, path="data.csv", columns=columns, split_bytes=split_bytes, want=Want(batch_rows=1))

    assert one.rows == other.rows
    assert one.ordinals == other.ordinals
    assert one.malformed == other.malformed
    places = sorted([*one.ordinals, *(bad[0] for bad in one.malformed)])
    assert len(places) == len(set(places))


@settings(max_examples=30, deadline=None)
@given(
    values=st.lists(
        st.sampled_from(["1", "22", "-3", "x", "1.5", "", '""', '"4"', " 5", "9" * 30, '"a""b"']), max_size=40
    ),
    batch_rows=st.integers(1, 50),
)
def test_a_value_fares_the_same_alone_and_among_others(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], batch_rows: int
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    write(folder, "n,k\n" + "".join(f"{value},k\n" for value in values))
    fates = {}
    for value in set(values):
        write(folder, f"n,k\n{value},k\n", "one.csv")
        alone = Read(folder, path="one.csv", columns={"n": "BIGINT", "k": "VARCHAR"})
        fates[value] = alone.column("n") or None

    read = Read(folder, path="data.csv", columns={"n": "BIGINT", "k": "VARCHAR"}, want=Want(batch_rows=batch_rows))

    assert read.column("n") == [fates[value][0] for value in values if fates[value] is not None]
    assert [bad[2] for bad in read.malformed] == [f"{value},k" for value in values if fates[value] is None]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(st.tuples(texts, texts), min_size=1, max_size=10),
    split_bytes=st.integers(1, 40),
    escape=st.sampled_from(["\\", "'"]),
)
def test_escaped_marks_are_plain_characters_whatever_the_ranges(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], split_bytes: int, escape: str
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    how = {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": escape}
    write(folder, as_csv([("x", "y"), *rows], **how))

    read = Read(
        folder, path="data.csv", columns={"x": "VARCHAR", "y": "VARCHAR"}, escape=escape, split_bytes=split_bytes
    )

    assert [tuple(row.values()) for row in read.rows] == rows
    assert read.malformed == []
