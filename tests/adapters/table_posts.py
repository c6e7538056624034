"""Delivering to a table: the part of the contract about modes, types and keys."""

from __future__ import annotations

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tests.adapters.table_room import ALL_TYPES, ORDERS, SHARED, Room, TableRoom, batch_of


class TablePosts(TableRoom):
    """What is in the table afterwards."""

    @SHARED
    @given(st.data())
    def test_what_a_post_wrote_a_get_reads_equal(self, data: st.DataObject) -> None:
        batch = batch_of(ALL_TYPES, data.draw(self.records))
        with self.new_room() as room:
            delivery = room.deliver(batch, table="all types")

            reading = room.read(table="all types")

        assert delivery.rejects == []
        assert reading.malformed == []
        for name, kind in ALL_TYPES.items():
            given, found = batch.column(name), reading.table[name].combine_chunks()
            if pa.types.is_nested(kind) and pa.types.is_string(found.type):
                assert self.nested_as_text
                found = [None if text is None else json.loads(text) for text in found.to_pylist()]
                assert found == given.to_pylist()
            else:
                expected = given.dictionary_decode() if pa.types.is_dictionary(kind) else given
                assert found.cast(expected.type).equals(expected), (name, found.type, found, expected)

    @SHARED
    @given(
        st.lists(
            st.lists(st.tuples(st.integers(1, 6), st.text("ab", max_size=2)), min_size=1, max_size=8),
            min_size=1,
            max_size=4,
        )
    )
    def test_an_upsert_leaves_the_last_record_of_each_key(self, deliveries: list[list[tuple[int, str]]]) -> None:
        expected: dict[int, str] = {}
        with self.new_room() as room:
            for number, rows in enumerate(deliveries):
                batches = [batch_of({"id": pa.int64(), "who": pa.string()}, [row]) for row in rows]
                delivery = room.deliver(*batches, table="people", mode="upsert", key="id", token=str(number), writers=2)
                expected.update(rows)
                assert len(delivery.delivered) == len(rows)

            found = room.sql("SELECT id, who FROM people")

        assert len(found) == len(expected)
        assert dict(found) == expected

    def test_batches_of_several_writers_arrive_in_the_order_of_the_source(self, room: Room) -> None:
        batches = [batch_of({"n": pa.int64()}, [(number,)]) for number in range(9)]

        room.deliver(*batches, table="numbers", writers=3)

        assert [row["n"] for row in room.read(table="numbers").rows] == list(range(9))

    def test_a_record_without_its_key_is_rejected(self, room: Room) -> None:
        batch = batch_of(ORDERS, [(1, "a", None), (None, "b", None)])

        upserted = room.deliver(batch, table="orders", mode="upsert", key="id")
        deleted = room.deliver(batch, table="orders", mode="delete", key="id", token="t2")

        assert [(row, code) for row, code, _ in upserted.rejects] == [(1, "key_null")]
        assert [(row, code) for row, code, _ in deleted.rejects] == [(1, "key_null")]
        assert room.sql("SELECT count(*) FROM orders") == [(0,)]

    def test_an_upsert_by_several_columns_updates_only_what_it_delivers(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE stock (place VARCHAR, item VARCHAR, n BIGINT, note VARCHAR DEFAULT 'new', PRIMARY KEY (place, item))",
            "INSERT INTO stock VALUES ('a', 'x', 1, 'old')",
        )
        schema = {"place": pa.string(), "item": pa.string(), "n": pa.int64(), "ignored": pa.string()}
        batch = batch_of(schema, [("a", "x", 2, ""), ("a", "y", 3, "")])

        delivery = room.deliver(
            batch, table="stock", mode="upsert", key=["place", "item"], columns=["place", "item", "n"]
        )

        assert room.sql("SELECT * FROM stock ORDER BY item") == [("a", "x", 2, "old"), ("a", "y", 3, "new")]
        assert delivery.keys == ["a|x", "a|y"]
        assert delivery.delivered[0]["ignored"] == ""

    def test_a_delete_takes_the_keys_away_and_minds_no_missing_one(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE people (id BIGINT, who VARCHAR)",
            "INSERT INTO people VALUES (1, 'a'), (2, 'b'), (2, 'c'), (3, 'd')",
        )

        delivery = room.deliver(batch_of({"id": pa.int64()}, [(2,), (9,)]), table="people", mode="delete", key="id")

        assert room.sql("SELECT id FROM people ORDER BY id") == [(1,), (3,)]
        assert delivery.rejects == []

    def test_a_replacement_takes_the_place_of_all_records(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT PRIMARY KEY)", "INSERT INTO people VALUES (1), (2)")

        room.deliver(batch_of({"id": pa.int64()}, [(2,), (3,)]), table="people", mode="replace")

        assert room.sql("SELECT id FROM people ORDER BY id") == [(2,), (3,)]

    def test_a_replacement_by_nothing_empties_the_table(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT)", "INSERT INTO people VALUES (1)")
        post = room.post(table="people", mode="replace")

        publication = post.publish([], pa.schema([("id", pa.int64())]), room.scope, "t1")
        outcomes = list(publication.settle())
        publication.commit()

        assert outcomes == []
        assert room.sql("SELECT count(*) FROM people") == [(0,)]

    def test_a_table_that_is_missing_is_made_even_for_no_records(self, room: Room) -> None:
        publication = room.post(table="people").publish([], pa.schema(list(ORDERS.items())), room.scope, "t1")
        publication.commit()

        assert room.schema(room.get(table="people")) == pa.schema(list(ORDERS.items()))
