"""Records of fixed width: columns by place, exact both ways, and what does not fit set aside or rejected, never cut."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.file import Get
from adapters.file.again import parse
from pipelines.errors import Invalid
from pipelines.node import Chunk, Want
from pipelines.scope import Scope
from tests.adapters.file.post_room import batch, deliver, post, read_back
from tests.adapters.file.reading import Read, write

HOSTILE = Path(__file__).resolve().parents[2] / "hostile" / "fixed"
LAYOUT: dict[str, Any] = {"order_no": {"width": 8, "pad": "0"}, "name": 10, "total": 8}
ORDERS = "00000001Anna         12.50\n00000002Bob          -3.25\n"


def read(folder: Path, **fields: Any) -> Read:
    return Read(folder, **{"path": "orders.txt", "format": "fixed", "layout": LAYOUT} | fields)


def test_columns_stand_where_the_layout_says(tmp_path: Path) -> None:
    write(tmp_path, ORDERS, "orders.txt")

    found = read(tmp_path)

    assert found.rows == [
        {"order_no": 1, "name": "Anna", "total": 12.5},
        {"order_no": 2, "name": "Bob", "total": -3.25},
    ]


def test_declared_types_are_exact_and_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    write(tmp_path, "00000001Anna       nothing\n" + ORDERS, "orders.txt")

    found = read(tmp_path, columns={"total": "DECIMAL(9,2)", "order_no": "VARCHAR"})
    numbers = read(tmp_path, columns=["order_no"])

    assert found.rows == [
        {"total": Decimal("12.50"), "order_no": "1"},
        {"total": Decimal("-3.25"), "order_no": "2"},
    ]
    assert found.malformed == [
        (0, "type", "00000001Anna       nothing", "orders.txt line 1: column 'total': 'nothing' is no DECIMAL(9,2)")
    ]
    assert numbers.column("order_no") == [1, 1, 2]


def test_columns_may_leave_gaps_and_share_places(tmp_path: Path) -> None:
    write(tmp_path, "A-20260131\nB-20261231\n", "orders.txt")
    layout = {"day": {"at": 3, "width": 8}, "year": {"at": 3, "width": 4}, "kind": {"at": 1, "width": 1}}

    found = read(tmp_path, layout=layout, columns={"day": "VARCHAR", "year": "SMALLINT", "kind": "VARCHAR"})

    assert found.rows == [
        {"day": "20260131", "year": 2026, "kind": "A"},
        {"day": "20261231", "year": 2026, "kind": "B"},
    ]


@pytest.mark.parametrize("line", ["00000003Eve          1.0", "00000003Eve             1.00", "", "x"])
def test_a_record_that_is_too_short_or_too_long_is_set_aside(line: str, tmp_path: Path) -> None:
    first, second = ORDERS.splitlines()
    write(tmp_path, f"{first}\n{line}\n{second}\n", "orders.txt")

    found = read(tmp_path)

    assert found.column("order_no") == [1, 2]
    said = f"orders.txt line 2: {len(line)} characters where a record has 26"
    assert found.malformed == ([(1, "width", line, said)] if line else [])


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "utf-16"])
def test_width_is_counted_in_characters_of_the_encoding(encoding: str, tmp_path: Path) -> None:
    text = "00000001Jürgen €      1.00\n" if encoding != "latin-1" else "00000001Jürgen Ö      1.00\n"
    write(tmp_path, (text + ORDERS).encode(encoding), "orders.txt")

    found = read(tmp_path, encoding=encoding)

    assert found.column("name") == [text[8:18].strip(), "Anna", "Bob"]


def test_bytes_that_are_no_text_are_set_aside(tmp_path: Path) -> None:
    write(tmp_path, b"00000001J\xfcrgen        1.00\n" + ORDERS.encode(), "orders.txt")

    found = read(tmp_path)

    assert found.column("name") == ["Anna", "Bob"]
    assert found.malformed[0][3] == "orders.txt line 1: is no text in utf-8; set `encoding` to what it is"


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_line_ends_marks_and_lines_to_skip_are_no_data(ends: str, tmp_path: Path) -> None:
    text = "\ufeffORDERS OF MONDAY\n" + ORDERS
    write(tmp_path, text.replace("\n", ends).encode(), "orders.txt")

    found = read(tmp_path, skip_rows=1)

    assert (found.column("order_no"), found.malformed) == ([1, 2], [])


def test_byte_ranges_read_as_the_whole_file(tmp_path: Path) -> None:
    lines = [f"{number:08d}{'ä' * (number % 9):10}{number / 4:8.2f}\n" for number in range(500)]
    lines[77] = "short\n"
    write(tmp_path, "".join(lines), "orders.txt")

    whole, many = read(tmp_path), read(tmp_path, split_bytes=700)

    assert len(many.plan.splits) > 10
    assert many.rows == whole.rows
    assert len(whole.rows) == 499
    assert [message for *_, message in many.malformed] == [message for *_, message in whole.malformed]


def test_what_was_set_aside_reads_from_its_text_once_the_layout_is_mended(tmp_path: Path) -> None:
    write(tmp_path, ORDERS, "orders.txt")
    get, scope = Get(path="orders.txt", format="fixed", layout={"order_no": 8, "rest": 19}), Scope(project=tmp_path)
    schema = pa.schema([("order_no", pa.int64()), ("rest", pa.string())])

    chunks: Sequence[Chunk] = list(parse(get, ["00000009some text 19 signs.", "9"], schema, scope, Want()))

    assert [row for chunk in chunks for row in chunk.batch.to_pylist()] == [
        {"order_no": 9, "rest": "some text 19 signs."}
    ]
    assert [list(chunk.malformed.messages) for chunk in chunks if chunk.malformed] == [
        ["1 characters where a record has 27"]
    ]


@pytest.mark.parametrize(
    "name", ["nul_bytes.txt", "no_final_newline.txt", "one_long_line.txt", "parquet.txt", "empty.txt"]
)
def test_hostile_files_give_records_or_rejects(name: str) -> None:
    found = Read(HOSTILE, path=name, format="fixed", layout={"a": 3, "b": 3}, columns={"a": "VARCHAR", "b": "INTEGER"})

    assert len(found.rows) == {"no_final_newline.txt": 2, "nul_bytes.txt": 2}.get(name, 0)
    assert bool(found.malformed) == (name in ("one_long_line.txt", "parquet.txt", "nul_bytes.txt"))


KINDS: dict[str, tuple[pa.DataType, Any]] = {
    "BIGINT": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "DOUBLE": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "DECIMAL(18,4)": (pa.decimal128(18, 4), st.integers(-(10**17), 10**17).map(lambda number: Decimal(f"{number}E-4"))),
    "VARCHAR": (
        pa.string(),
        st.text(st.characters(codec="cp1252", exclude_characters="\r\n"), min_size=1, max_size=24).filter(
            lambda text: not text.endswith(" ")
        ),
    ),
    "BOOLEAN": (pa.bool_(), st.booleans()),
    "DATE": (pa.date32(), st.dates(date(1, 1, 1))),
    "TIMESTAMP": (pa.timestamp("us"), st.datetimes(datetime(1, 1, 1))),  # noqa: DTZ001 - of no zone
    "TIME": (pa.time64("us"), st.times(time(0))),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 9))
    return pa.table(
        {
            name: pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
            for name, (kind, values) in KINDS.items()
        }
    )


@settings(max_examples=40)
@given(
    table=tables(), pads=st.lists(st.sampled_from(" 0"), min_size=len(KINDS), max_size=len(KINDS)), blanks=st.booleans()
)
def test_it_reads_back_the_same(table: pa.Table, pads: list[str], blanks: bool) -> None:
    widths = [max(28, 1)] * len(KINDS)
    layout = {
        name: {"width": width, "pad": pad if name in ("BIGINT", "DOUBLE", "DECIMAL(18,4)") else " "}
        for name, width, pad in zip(KINDS, widths, pads, strict=True)
    }
    written = {"layout": layout, "encoding": "cp1252", "format": "fixed", "path": "out.txt"}

    with tempfile.TemporaryDirectory() as folder:
        outcomes = deliver(post(**written), table.to_batches(max_chunksize=3), Path(folder), writers=1 + blanks)
        lines = (Path(folder) / "out.txt").read_bytes().decode("cp1252").split("\n")
        found = read_back(Path(folder), **written, columns={name: name for name in KINDS})

    assert [outcome.rejects for outcome in outcomes if outcome.rejects] == []
    assert {len(line) for line in lines[:-1]} == {sum(widths)}
    assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, table.to_pylist()))


@pytest.mark.parametrize(
    ("name", "pad", "code"),
    [
        ("twelve signs", " ", "too_long"),
        ("blank ", " ", "padding"),
        ("star*", "*", "padding"),
        ("", " ", "null_text"),
        ("two\nlines", " ", "line_end"),
        ("Ł", " ", "encoding"),
    ],
)
def test_a_value_that_would_not_read_back_the_same_is_rejected(name: str, pad: str, code: str, tmp_path: Path) -> None:
    node = post(path="o.txt", format="fixed", encoding="latin-1", layout={"n": 2, "name": {"width": 10, "pad": pad}})

    outcome = deliver(node, [batch([{"n": 1, "name": "ok"}, {"n": 2, "name": name}, {"n": 3, "name": None}])], tmp_path)

    (found,) = outcome
    assert found.rejects is not None
    assert (found.rejects.rows.to_pylist(), found.rejects.codes) == ([1], [code])
    assert len((tmp_path / "o.txt").read_bytes().splitlines()) == 2


def test_a_number_that_is_too_wide_is_rejected_and_zeros_stand_behind_the_sign(tmp_path: Path) -> None:
    node = post(path="o.txt", format="fixed", layout={"n": {"width": 4, "pad": "0"}})

    (found,) = deliver(node, [batch([{"n": -7}, {"n": 0}, {"n": 12_345}, {"n": None}])], tmp_path)

    assert (tmp_path / "o.txt").read_text() == "-007\n0000\n    \n"
    assert found.rejects is not None
    assert found.rejects.messages == [
        "column 'n': 12345 is longer than the 4 characters that `layout` gives it; shorten it with a map"
    ]


def test_a_file_is_added_to_and_changed_by_key(tmp_path: Path) -> None:
    fields = {"path": "o.txt", "format": "fixed", "layout": {"n": 3, "s": 5}}

    deliver(post(**fields), [batch([{"n": 1, "s": "a"}, {"n": 2, "s": "b"}])], tmp_path)
    deliver(post(**fields), [batch([{"n": 3, "s": "c"}])], tmp_path, "r2")
    deliver(post(**fields, mode="upsert", key="n"), [batch([{"n": 2, "s": "B"}])], tmp_path, "r3")
    deliver(post(**fields, mode="delete", key="n"), [batch([{"n": 1}])], tmp_path, "r4")

    assert (tmp_path / "o.txt").read_text() == "  3c    \n  2B    \n"


def test_a_file_of_another_width_is_not_added_to(tmp_path: Path) -> None:
    write(tmp_path, "1234567\n", "o.txt")

    with pytest.raises(Invalid, match="has 7 characters in its first record, and the layout has 8; use mode `replace`"):
        deliver(post(path="o.txt", format="fixed", layout={"n": 3, "s": 5}), [batch([{"n": 1, "s": "a"}])], tmp_path)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (None, "columns of fixed width are told by `layout`, which is missing; give `layout: {order_id: 8, name: 20}`"),
        ({"n": 3}, "`layout` has no place for it; add it there, or drop it with a map"),
        ({"n": 3, "s": 5, "x": 1}, "column 'x' does not come in"),
        ({"n": 3, "s": {"at": 3, "width": 5}}, "columns 'n' and 's' stand in each other's place; let 's' begin at 4"),
    ],
)
def test_what_is_wrong_with_a_layout_is_told_before_anything_is_written(layout: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid) as fault:
        deliver(post(path="o.txt", format="fixed", layout=layout), [batch([{"n": 1, "s": "a"}])], tmp_path)

    assert said in str(fault.value)
