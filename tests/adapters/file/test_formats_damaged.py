"""A file that is damaged anywhere, in any format, is read or refused with its name: nothing else ever happens."""

from __future__ import annotations

import functools
import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.errors import Invalid
from tests.adapters.file.post_room import batch, deliver, post
from tests.adapters.file.reading import Read, write

ROWS = [{"n": number, "s": f"text {number}", "l": [number, None]} for number in range(20)]
FLAT = [{"n": row["n"], "s": row["s"]} for row in ROWS]
FIXED = {"format": "fixed", "layout": {"n": 6, "s": 12}}


@functools.cache
def sound(name: str) -> bytes:
    """A file of a format."""
    with tempfile.TemporaryDirectory() as folder:
        fields: dict[str, Any] = FIXED if name.endswith(".txt") else {}
        deliver(post(path=name, **fields), [batch(ROWS if name.endswith((".avro", ".xml")) else FLAT)], Path(folder))
        return (Path(folder) / name).read_bytes()


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[float, bytes]]:
    return draw(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3)), min_size=1, max_size=4))


def damaged(content: bytes, where: list[tuple[float, bytes]]) -> bytes:
    for place, other in where:
        at = int(place * len(content))
        content = content[:at] + other + content[at + max(len(other), 1) :]
    return content


@pytest.mark.parametrize("name", ["a.avro", "a.xml", "a.txt", "a.xlsx"])
@settings(max_examples=25, deadline=None)
@given(where=damages(), declared=st.booleans())
def test_it_is_read_or_refused(name: str, where: list[tuple[float, bytes]], declared: bool) -> None:
    fields: dict[str, Any] = {"columns": {"n": "BIGINT", "s": "VARCHAR"}} if declared else {}

    read_or_refused(name, damaged(sound(name), where), fields | (FIXED if name.endswith(".txt") else {}))


@pytest.mark.parametrize(
    "part", ["xl/worksheets/sheet1.xml", "xl/styles.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels"]
)
@settings(max_examples=25, deadline=None)
@example(where=[(0.046875, b"")])
@given(where=damages())
def test_a_part_of_a_workbook_is_read_or_refused(part: str, where: list[tuple[float, bytes]]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound("a.xlsx"))) as old, zipfile.ZipFile(content, "w") as new:
        for name in old.namelist():
            new.writestr(name, damaged(old.read(name), where) if name == part else old.read(name))

    read_or_refused("a.xlsx", content.getvalue(), {"columns": {"n": "BIGINT", "s": "VARCHAR"}})


def read_or_refused(name: str, content: bytes, fields: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), content, name)
        try:
            found = Read(Path(folder), path=name, **fields)
        except Invalid as fault:
            assert name in str(fault) or "column" in str(fault)  # noqa: PT017 - either is right
            return
    assert all(name in message for *_, message in found.malformed)
