"""Excel workbooks are written exactly: others read them, they read back the same, and sheets are never overfull."""

from __future__ import annotations

import tempfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import python_calamine
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.file import excel_values, writers_excel
from pipelines.errors import Invalid
from tests.adapters.file.post_room import batch, deliver, post, read_back
from tests.adapters.file.reading import Read


def test_others_read_what_is_written(tmp_path: Path) -> None:
    rows = [
        {"n": 1, "x": 0.1 + 0.2, "s": "a & <b>\n\x01 _x0041_", "day": date(2026, 1, 1), "b": True},
        {"n": None, "x": None, "s": "=1+1", "day": None, "b": None},
    ]

    deliver(post(path="a.xlsx", sheet="Orders"), [batch(rows)], tmp_path)

    book = python_calamine.CalamineWorkbook.from_path(tmp_path / "a.xlsx")
    assert book.sheet_names == ["Orders"]
    assert book.get_sheet_by_index(0).to_python() == [
        ["n", "x", "s", "day", "b"],
        [1.0, 0.1 + 0.2, "a & <b>\n\x01 _x0041_", date(2026, 1, 1), True],
        ["", "", "=1+1", "", ""],
    ]


KINDS: dict[str, tuple[pa.DataType, Any]] = {
    "BIGINT": (pa.int64(), st.integers(-(2**53), 2**53)),
    "DOUBLE": (pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "DECIMAL(18,4)": (pa.decimal128(18, 4), st.integers(-(10**14), 10**14).map(lambda number: Decimal(f"{number}E-4"))),
    "VARCHAR": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.just("_x0041_\r\n")),
    "BOOLEAN": (pa.bool_(), st.booleans()),
    "DATE": (pa.date32(), st.dates(date(1900, 1, 1))),
    "TIMESTAMP": (
        pa.timestamp("us"),
        st.datetimes(datetime(1900, 1, 1)).map(lambda at: at.replace(microsecond=at.microsecond // 1_000 * 1_000)),  # noqa: DTZ001
    ),
    "TIME": (pa.time64("us"), st.times()),
}


@settings(max_examples=40, deadline=None)
@given(data=st.data(), rows=st.integers(1, 6), writers=st.integers(1, 3))
def test_it_reads_back_the_same(data: st.DataObject, rows: int, writers: int) -> None:
    columns = {
        name: pa.array(data.draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), kind)
        for name, (kind, values) in KINDS.items()
    }
    table = pa.table({"row": pa.array(range(rows), pa.int64()), **columns})

    with tempfile.TemporaryDirectory() as folder:
        outcomes = deliver(post(path="out.xlsx"), table.to_batches(max_chunksize=2), Path(folder), writers=writers)
        found = read_back(Path(folder), path="out.xlsx", columns={"row": "BIGINT", **{name: name for name in KINDS}})

    assert [outcome.rejects for outcome in outcomes if outcome.rejects] == []
    assert found.sort_by("row").equals(table)


@pytest.mark.parametrize(("split", "path"), [(True, "a.xlsx"), (False, "a/")])
def test_more_records_than_a_sheet_holds_are_refused_or_split(
    split: bool, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers_excel, "MOST_ROWS", 5)
    batches = [batch([{"n": number} for number in range(start, start + 3)]) for start in (0, 3, 6)]

    with pytest.raises(
        Invalid, match="9 records are more than the 4 that a sheet has room for; set `split_sheets: true`"
    ):
        deliver(post(path="b.xlsx"), batches, tmp_path)
    deliver(post(path=path, format="excel", split_sheets=split), batches, tmp_path, writers=3)

    assert not (tmp_path / "b.xlsx").exists()
    found = Read(tmp_path, path=path, sheet="data*")
    assert sorted(found.column("n")) == list(range(9))
    assert len(found.plan.splits) == 3


def test_a_workbook_that_is_there_is_not_added_to(tmp_path: Path) -> None:
    deliver(post(path="a.xlsx"), [batch([{"n": 1}])], tmp_path)

    for fields in ({}, {"mode": "upsert", "key": "n"}):
        with pytest.raises(Invalid, match=r"what else it holds would be lost|always written as a whole"):
            deliver(post(path="a.xlsx", **fields), [batch([{"n": 2}])], tmp_path, "r2")
    deliver(post(path="a.xlsx", mode="replace"), [batch([{"n": 3}])], tmp_path, "r3")

    assert Read(tmp_path, path="a.xlsx").rows == [{"n": 3}]


@settings(max_examples=60)
@given(micro=st.integers(0, 8099 * 365 * 86_400_000).map(lambda milli: milli * 1_000 - 2_208_988_800_000_000))
def test_milliseconds_survive_excel_s_days(micro: int) -> None:
    found, known = excel_values.moments(excel_values.serials_of(np.array([micro])), from_1904=False)

    assert (found.tolist(), known.tolist()) == ([micro], [True])
