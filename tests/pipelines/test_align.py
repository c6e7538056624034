"""Columns that meet: the type in common holds every value of either exactly, or there is none."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from pipelines.align import align, unify
from pipelines.errors import Invalid

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]


def common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    return unify([pa.schema([("x", one)]), pa.schema([("x", other)])]).field(0).type


@pytest.mark.parametrize("kind", INTEGERS, ids=str)
def test_every_whole_number_fits_the_decimal_it_meets(kind: pa.DataType) -> None:
    bits = kind.bit_width
    ends = [-(1 << (bits - 1)), (1 << (bits - 1)) - 1] if pa.types.is_signed_integer(kind) else [0, (1 << bits) - 1]
    batch = pa.record_batch({"x": pa.array(ends, kind)})
    schema = pa.schema([("x", common(kind, pa.decimal128(5, 2)))])

    found = align(batch, schema)

    assert found.column("x").to_pylist() == [Decimal(end) for end in ends]
    assert common(pa.decimal128(5, 2), kind).equals(schema.field("x").type)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.int64(), pa.decimal128(38, 30)),
        (pa.decimal128(38, 0), pa.decimal128(38, 2)),
        (pa.decimal128(9, 2), pa.float64()),
        (pa.int64(), pa.float64()),
        (pa.int64(), pa.string()),
    ],
    ids=str,
)
def test_types_that_nothing_holds_both_of_do_not_meet(one: pa.DataType, other: pa.DataType) -> None:
    with pytest.raises(Invalid):
        common(one, other)
    with pytest.raises(Invalid):
        common(other, one)
