"""Every format is delivered to stores and read from them as on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import Invalid
from tests.adapters.file.post_room import batch, post
from tests.adapters.file.store_room import Room
from tests.adapters.file.test_stores import delivered, rows

FORMATS: list[dict[str, Any]] = [
    {"path": "out/orders.avro"},
    {"path": "out/orders.xml", "records": "orders/order"},
    {"path": "out/orders.txt", "format": "fixed", "layout": {"id": 6, "name": 20}},
    {"path": "out/orders.xlsx"},
]


@pytest.mark.parametrize("fields", FORMATS, ids=lambda fields: fields["path"])
def test_a_file_of_a_format_is_made_grows_and_is_replaced(fields: dict[str, Any], room: Room, tmp_path: Path) -> None:
    one, two, three = ([{"id": number, "name": f"n{number}" * 3}] for number in (1, 2, 3))
    grows = not fields["path"].endswith(".xlsx")

    delivered(post(connection="lake", **fields), [batch(one)], room.scope(tmp_path, "r1"))
    if grows:
        delivered(post(connection="lake", **fields), [batch(two)], room.scope(tmp_path, "r2"))
    assert rows(room.scope(tmp_path), **fields) == [*one, *two] if grows else one
    delivered(post(connection="lake", mode="replace", **fields), [batch(three)], room.scope(tmp_path, "r3"))

    assert rows(room.scope(tmp_path), **fields) == three
    assert (list(room.files()), room.pending()) == ([fields["path"]], [])


def test_many_blocks_of_a_file_in_a_store_are_read_in_ranges(room: Room, tmp_path: Path) -> None:
    records = [{"id": number, "name": f"name {number % 97}"} for number in range(50_000)]
    delivered(post(connection="lake", path="a.avro"), [batch(records)], room.scope(tmp_path, "r1"))

    assert rows(room.scope(tmp_path), path="a.avro", split_bytes=50_000) == records


def test_a_workbook_in_a_store_is_not_added_to(room: Room, tmp_path: Path) -> None:
    told: list[str] = []
    delivered(post(connection="lake", path="a.xlsx"), [batch([{"id": 1}])], room.scope(tmp_path, "r1"))

    node, records = post(connection="lake", path="a.xlsx"), batch([{"id": 2}])
    node.check({"": records.schema}, room.scope(tmp_path, "r2"), lambda at, what, *_, **__: told.append(what))

    assert told == ["a workbook is there, and what else it holds would be lost"]
    with pytest.raises(Invalid, match="what else it holds would be lost"):
        delivered(node, [records], room.scope(tmp_path, "r2"))
    assert rows(room.scope(tmp_path), path="a.xlsx") == [{"id": 1}]
