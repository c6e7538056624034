"""Finding records by key: the part of the contract about lookups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.conformance.nodes import Reported
from pipelines.errors import Invalid
from pipelines.finding import Finds, Hits
from pipelines.sql.sandbox import Sandbox
from tests.adapters.table_room import SHARED, Room, TableRoom, batch_of

COMPARED: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int8": (pa.int8(), [-128, 0, 127]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1, 5]),
    "uint32": (pa.uint32(), [0, 2**32 - 1, 7]),
    "float64": (pa.float64(), [0.1, -1.7976931348623157e308, 5e-324]),
    "boolean": (pa.bool_(), [True, False, True]),
    "money": (pa.decimal128(12, 2), [Decimal("-9999999999.99"), Decimal("0.10"), Decimal("0.00")]),
    "exact": (pa.decimal128(38, 9), [Decimal("-99999999999999999999999999999.999999999"), Decimal("1e-9"), Decimal(0)]),
    "text": (pa.string(), ["", "it's \\ $x %s ?", "\U0001f600 e\u0301"]),
    "bytes": (pa.binary(), [b"", b"\x00'\xff", b"\\x41"]),
    "date": (pa.date32(), [date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29)]),
    "time": (pa.time64("us"), [time(0), time(23, 59, 59, 999_999), time(12, 0, 0, 1)]),
    "moment": (
        pa.timestamp("us"),
        [datetime.fromisoformat(text) for text in ("0001-01-01", "9999-12-31 23:59:59.999999", "2024-01-01")],
    ),
    "instant": (
        pa.timestamp("us", "UTC"),
        [datetime(2024, 3, 31, 1, 30, tzinfo=UTC), datetime(1969, 1, 1, tzinfo=UTC), None],
    ),
}
"""Values at the ends of each type."""
CUSTOMERS = (
    "CREATE TABLE customers (id BIGINT, code VARCHAR, share DOUBLE, name VARCHAR)",
    "INSERT INTO customers VALUES (1, 'a', 0.1, 'Ann'), (2, 'A', 0.2, 'Abe'), (3, 'a ', 0.25, 'Amy'), (4, NULL, NULL, 'Nil'), "
    "(5, 'it''s \\', 1.5, 'Ist'), (5, 'other', 1e300, 'Ost'), (5, 'third', -0.0, 'Dri')",
)


def found(
    room: Room, keys: pa.RecordBatch, on: dict[str, str], wanted: Sequence[str] = ("name",), **config: Any
) -> Hits:
    sandbox = Sandbox()
    try:
        hits: Hits = room.get(**config).find(keys, on, wanted, room.scope, sandbox, lambda: None)
        return hits
    finally:
        sandbox.close()


def pairs(hits: Hits) -> list[tuple[int, Any]]:
    """Rows of the keys with what was found for them."""
    return sorted(zip(hits.keys.to_pylist(), hits.batch.column(0).to_pylist(), strict=True))


class TableFinds(TableRoom):
    """Keys, and what equals them."""

    def test_records_are_found_by_a_key_that_is_exactly_theirs(self, room: Room) -> None:
        room.sql(*CUSTOMERS)
        texts = batch_of({"c": pa.string()}, [("a",), ("A",), ("a ",), ("it's \\",), ("b",), ("' OR '1'='1",)])
        numbers = batch_of({"id": pa.int32()}, [(9,), (2,), (4,)])
        shares = batch_of({"share": pa.float64()}, [(0.1,), (1e300,), (0.3,)])

        assert isinstance(room.get(table="customers"), Finds)
        assert pairs(found(room, texts, {"c": "code"}, table="customers")) == [
            (0, "Ann"),
            (1, "Abe"),
            (2, "Amy"),
            (3, "Ist"),
        ]
        assert pairs(found(room, numbers, {"id": "id"}, table="customers")) == [(1, "Abe"), (2, "Nil")]
        assert pairs(found(room, shares, {"share": "share"}, table="customers")) == [(0, "Ann"), (1, "Ost")]

    def test_a_key_of_several_columns_is_one(self, room: Room) -> None:
        room.sql(*CUSTOMERS)
        keys = batch_of({"id": pa.int64(), "code": pa.string()}, [(1, "a"), (1, "A"), (5, "other")])

        hits = found(room, keys, {"id": "id", "code": "code"}, ["name", "id"], table="customers")

        assert pairs(hits) == [(0, "Ann"), (2, "Ost")]
        assert hits.batch.schema == pa.schema([("name", pa.string()), ("id", pa.int64())])

    def test_a_key_that_several_records_have_is_told_by_two(self, room: Room) -> None:
        room.sql(*CUSTOMERS)

        hits = found(room, batch_of({"id": pa.int64()}, [(5,), (1,)]), {"id": "id"}, table="customers")

        assert hits.keys.to_pylist().count(0) == 2
        assert hits.keys.to_pylist().count(1) == 1

    def test_a_value_that_the_column_cannot_hold_finds_nothing(self, room: Room) -> None:
        room.sql("CREATE TABLE small (n INTEGER, name VARCHAR)", "INSERT INTO small VALUES (7, 'seven')")
        wide = batch_of({"n": pa.decimal128(30, 2)}, [(Decimal("1e20"),), (Decimal("7.00"),), (Decimal("7.50"),)])

        assert pairs(found(room, wide, {"n": "n"}, table="small")) == [(1, "seven")]

    def test_a_view_a_query_and_a_condition_are_looked_up_in_with_their_parameters(self, room: Room) -> None:
        room.sql(*CUSTOMERS, "CREATE VIEW seen AS SELECT id, name FROM customers WHERE id < 3")
        keys = batch_of({"id": pa.int64()}, [(1,), (3,), (4,)])
        room.values["least"] = 3

        assert pairs(found(room, keys, {"id": "id"}, table="seen")) == [(0, "Ann")]
        assert pairs(found(room, keys, {"id": "id"}, table="customers", where="id >= $least")) == [
            (1, "Amy"),
            (2, "Nil"),
        ]
        query = "SELECT id AS nr, name FROM customers WHERE id >= $least"
        assert pairs(found(room, keys, {"id": "nr"}, query=query)) == [(1, "Amy"), (2, "Nil")]

    def test_more_keys_than_one_statement_takes_are_all_found(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE many (n BIGINT)",
            "INSERT INTO many WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < 99) "
            "SELECT a.n * 100 + b.n FROM r a, r b",
        )
        keys = pa.record_batch({"n": pa.array(range(5_000, 12_500))})

        hits = found(room, keys, {"n": "n"}, ["n"], table="many")

        assert sorted(hits.keys.to_pylist()) == list(range(5_000))
        assert hits.batch.column(0).to_pylist() == keys.column(0).take(hits.keys).to_pylist()

    def test_one_record_that_does_not_fit_its_column_spoils_only_its_own_key(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE notes (n BIGINT, code VARCHAR)",
            "INSERT INTO notes VALUES (1, '10'), (2, 'x'), (3, '30')",
        )
        keys = batch_of({"n": pa.int64()}, [(1,), (2,), (3,)])

        hits = found(room, keys, {"n": "n"}, ["code"], table="notes", columns={"code": "INTEGER"})

        assert pairs(hits) == [(0, 10), (2, 30)]
        assert [(row, code) for row, (code, _) in hits.faults.items()] == [(1, "type")]
        assert "column 'code'" in hits.faults[1][1]

    def test_what_is_wrong_with_the_question_is_no_fault_of_a_key(self, room: Room) -> None:
        room.sql("CREATE TABLE notes (n BIGINT)")
        keys = batch_of({"n": pa.int64()}, [(1,), (2,)])

        with pytest.raises(Invalid):
            found(room, keys, {"n": "n"}, ["n"], table="notes", where="no_such_column = 1")

    def test_a_key_that_cannot_be_compared_is_a_problem(self, room: Room) -> None:
        room.sql(*CUSTOMERS)
        get, told = room.get(table="customers", columns={"code": "INTEGER"}), []

        def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
            told.append((at, what))

        keys = pa.schema([("code", pa.int32()), ("nr", pa.int32())])
        schema = get.check_find(keys, {"code": "code", "nr": "number"}, room.scope, report)

        assert schema is not None
        assert schema.field("code").type == pa.int32()
        assert told == [
            (("columns", "code"), "a key is compared as the database has it"),
            (("on",), "there is no column 'number'"),
        ]

    def test_a_value_of_each_type_finds_its_own_record_or_is_refused_before(self, room: Room) -> None:
        batch = batch_of(
            {name: kind for name, (kind, _) in COMPARED.items()}, zip(*(v for _, v in COMPARED.values()), strict=True)
        )
        room.deliver(batch, table="everything")
        get, refused = room.get(table="everything"), []
        for name in COMPARED:
            keys = pa.RecordBatch.from_arrays([batch.column(name).drop_null().unique()], names=[name])
            report = Reported()
            try:
                get.check_find(keys.schema, {name: name}, room.scope, report)
            except Invalid as fault:
                report.append(str(fault))
            if report:
                assert re.search("more than one way|one type with a map", report[0])
                refused.append(name)
                continue
            hits = found(room, keys, {name: name}, [name], table="everything")

            assert not hits.faults
            assert set(hits.keys.to_pylist()) == set(range(keys.num_rows)), name

        assert {"int8", "int64", "float64", "text", "bytes"}.isdisjoint(refused)

    @SHARED
    @given(texts=st.lists(st.text(max_size=8), min_size=1, max_size=8, unique=True), other=st.text(max_size=8))
    def test_any_text_finds_itself_and_nothing_else(self, texts: list[str], other: str) -> None:
        texts = [text.replace("\0", "") or "-" for text in texts]
        with self.new_room() as room:
            batch = batch_of({"t": pa.string()}, [(text,) for text in dict.fromkeys(texts)])
            room.deliver(batch, table="texts")
            asked = list(dict.fromkeys([*texts, other, f"{texts[0]} ", texts[-1].swapcase()]))

            hits = found(
                room, batch_of({"t": pa.string()}, [(text,) for text in asked]), {"t": "t"}, ["t"], table="texts"
            )

            assert pairs(hits) == [(row, text) for row, text in enumerate(asked) if text in texts]
