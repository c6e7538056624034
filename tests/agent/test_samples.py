"""Records that a flow's tests write by hand take the types of their columns, however deep."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest

from agent.samples import batch_of
from pipelines.errors import Invalid

LINE = pa.struct([("article", pa.string()), ("price", pa.decimal128(10, 2)), ("due", pa.date32())])
ORDERS = pa.schema([("id", pa.int64()), ("lines", pa.list_(LINE))])


def test_values_inside_lists_and_structs_take_their_types() -> None:
    given = [{"id": 7, "lines": [{"article": 12, "price": 14.99, "due": "1998-06-30"}, {"price": 10}]}]

    batch = batch_of(given, ORDERS, "here")

    assert batch.to_pylist()[0]["lines"] == [
        {"article": "12", "price": Decimal("14.99"), "due": date(1998, 6, 30)},
        {"article": None, "price": Decimal("10.00"), "due": None},
    ]


def test_a_field_that_a_struct_does_not_have_is_told() -> None:
    with pytest.raises(Invalid, match=r"here: column 'lines' .*no field 'prize'; there are: article, price, due"):
        batch_of([{"id": 7, "lines": [{"prize": 14.99}]}], ORDERS, "here")
