"""Several inputs as one: columns that meet by name or by place, types that hold every value."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest

from pipelines.align import align, unify
from pipelines.errors import Invalid
from transforms.merge import Merge

SHOP = pa.record_batch({"order_no": ["WEB-1"], "total": pa.array([90], pa.int32())})
MARKET = pa.record_batch({"no": ["MKT-1"], "amount": pa.array([7_000_000_000], pa.int64())})


def test_by_name_a_column_that_an_input_lacks_is_null() -> None:
    schema = unify([SHOP.schema, MARKET.schema])

    assert align(MARKET, schema).to_pylist() == [
        {"order_no": None, "total": None, "no": "MKT-1", "amount": 7_000_000_000}
    ]


def test_by_place_the_first_input_s_names_hold_and_types_widen() -> None:
    schema = unify([SHOP.schema, MARKET.schema], by_place=True)

    assert schema.names == ["order_no", "total"]
    assert schema.field("total").type.equals(pa.int64())
    assert align(MARKET, schema, by_place=True).to_pylist() == [{"order_no": "MKT-1", "total": 7_000_000_000}]
    assert align(SHOP, schema, by_place=True).to_pylist() == [{"order_no": "WEB-1", "total": 90}]


def test_by_place_inputs_must_have_as_many_columns() -> None:
    with pytest.raises(Invalid, match=r"one input has 2 \(order_no, total\), another 1 \(no\); make them the same"):
        unify([SHOP.schema, pa.schema([("no", pa.string())])], by_place=True)


def test_a_merge_by_place_needs_every_column_and_says_how_it_meets() -> None:
    merge = Merge(by_name=False)

    assert merge.meets_by_place()
    assert not Merge().meets_by_place()


def test_decimals_of_two_scales_meet_in_one_that_holds_both() -> None:
    one = pa.record_batch({"total": pa.array([Decimal("1.25")], pa.decimal128(10, 2))})
    other = pa.record_batch({"total": pa.array([Decimal("12345678.9")], pa.decimal128(12, 1))})

    schema = unify([one.schema, other.schema])

    assert align(one, schema).to_pylist() == [{"total": Decimal("1.25")}]
    assert align(other, schema).to_pylist() == [{"total": Decimal("12345678.9")}]


def test_text_and_number_do_not_meet() -> None:
    with pytest.raises(Invalid, match="make them one type with a map"):
        unify([SHOP.schema, pa.schema([("total", pa.string())])])
