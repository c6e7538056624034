"""Records that find one another by the place of their key make the pairs that DuckDB makes, or say that they cannot."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.placing import Pairing, Places
from pipelines.records import ROW_ID

KINDS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
ENDS = {0, 1, 2, 5, 127, 255, -1, -5, -128, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64 - 5}


def numbers(kind: pa.DataType) -> st.SearchStrategy[Any]:
    bits, is_signed = kind.bit_width, pa.types.is_signed_integer(kind)
    least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    return st.sampled_from(sorted(number for number in ENDS if least <= number <= most))


def sides(mine: list[Any], theirs: list[Any], left: pa.DataType, right: pa.DataType) -> tuple[pa.RecordBatch, pa.Table]:
    batch = pa.record_batch({"k": pa.array(mine, left), "n": range(len(mine)), ROW_ID: range(len(mine))})
    names = [None if number % 3 == 0 else f"name {number}" for number in range(len(theirs))]
    return batch, pa.table({"id": pa.array(theirs, right), "name": pa.array(names, pa.string())})


@pytest.mark.parametrize("left", KINDS, ids=str)
@pytest.mark.parametrize("right", KINDS, ids=str)
def test_pairs_are_those_that_duckdb_makes(left: pa.DataType, right: pa.DataType) -> None:
    @settings(max_examples=8)
    @given(
        st.lists(st.one_of(st.none(), numbers(left)), max_size=20),
        st.lists(numbers(right), min_size=1, max_size=8, unique=True),
        st.booleans(),
    )
    def holds(mine: list[Any], theirs: list[Any], keeps_left: bool) -> None:
        batch, table = sides(mine, theirs, left, right)
        places = Places.of(Pairing({"k": "id"}, {"called": "name"}, keeps_left), batch.schema, table)
        if places is None:
            return

        schema = pa.schema([*batch.schema, pa.field("called", pa.string())])
        found = places.paired(batch, schema)

        with duckdb.connect() as connection:
            connection.register("l", batch)
            connection.register("r", table)
            kind = "LEFT JOIN" if keeps_left else "JOIN"
            wanted = connection.execute(
                f"SELECT l.k, l.n, l.{ROW_ID}, r.name FROM l {kind} r ON l.k = r.id ORDER BY l.n"
            ).fetchall()
        assert [tuple(row.values()) for row in found.to_pylist()] == wanted

    holds()


def placed(mine: list[Any], theirs: list[Any], **more: Any) -> Places | None:
    batch, table = sides(mine, theirs, more.pop("left", pa.int64()), more.pop("right", pa.int64()))
    return Places.of(Pairing({"k": "id"}, {"name": "name"}, **more), batch.schema, table)


def test_records_have_a_place_only_where_that_finds_all_of_them() -> None:
    assert placed([1], [1, 2, 3]) is not None
    assert placed([1], [1, 2, 2]) is None
    assert placed([1], [1, None]) is None
    assert placed([1], []) is None
    assert placed([1], [1, 2], keeps_right=True) is None
    assert placed(["a"], ["a"], left=pa.string(), right=pa.string()) is None


def test_keys_that_lie_far_apart_have_no_places() -> None:
    assert placed([1], [0, 1 << 40]) is None
    assert placed([1], [1 << 40, (1 << 40) + 9]) is not None


def test_a_sign_on_one_side_only_never_makes_two_keys_the_same() -> None:
    assert placed([-1], [2**64 - 1], right=pa.uint64()) is None
    assert placed([2**64 - 1], [-1], left=pa.uint64()) is None
