"""Refusals, crashes and locks: the part of the contract about one transaction."""

from __future__ import annotations

from datetime import time
from decimal import Decimal

import pyarrow as pa
import pytest

from pipelines.errors import Unavailable
from pipelines.records import with_ids
from pipelines.sql.sandbox import Sandbox
from tests.adapters.table_room import ORDERS, Room, TableRoom, batch_of


class TablePublications(TableRoom):
    """What a refusal, a crash or a lock leaves."""

    def test_one_record_refused_in_a_thousand_is_rejected_and_the_rest_arrive(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, who VARCHAR NOT NULL, total DECIMAL(10,2) CHECK (total <> 13))",
            "INSERT INTO orders VALUES (5500, 'there', 1)",
        )
        rows = [(n, None if n == 700 else f"w{n}", Decimal(13 if n == 4200 else 1)) for n in range(6000)]
        rows[5999] = (3, "twice", Decimal(1))

        delivery = room.deliver(batch_of(ORDERS, rows[:3000]), batch_of(ORDERS, rows[3000:]), table="orders", key="id")

        rejects = sorted(delivery.rejects)
        assert [(row, code) for row, code, _ in rejects] == [
            (700, "refused"), (4200, "refused"), (5500, "refused"), (5999, "refused"),
        ]  # fmt: skip
        assert rejects[0][2].startswith(f"700: {self.words['not null']}")
        assert self.words["check"] in rejects[1][2]
        assert rejects[3][2].startswith("3: ")
        assert room.sql("SELECT count(*), min(who) FROM orders WHERE id IN (699, 700, 701, 5500)") == [(3, "there")]
        assert room.sql("SELECT count(*) FROM orders") == [(5997,)]
        assert len(delivery.delivered) == len(delivery.keys) == 5996
        assert delivery.keys[:2] == ["0", "1"]

    def test_a_record_that_refers_to_nothing_is_refused(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE people (id BIGINT PRIMARY KEY)",
            "CREATE TABLE orders (id BIGINT, person BIGINT REFERENCES people (id))",
            "INSERT INTO people VALUES (1)",
        )
        batch = batch_of({"id": pa.int64(), "person": pa.int64()}, [(10, 1), (11, 2), (12, None)])

        delivery = room.deliver(batch, table="orders", key="id")

        assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused")]
        assert "oreign" in delivery.rejects[0][2].replace("FOREIGN", "Foreign")
        assert room.sql("SELECT id FROM orders ORDER BY id") == [(10,), (12,)]

    def test_a_record_that_others_refer_to_is_not_deleted(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE people (id BIGINT PRIMARY KEY)",
            "CREATE TABLE orders (id BIGINT, person BIGINT REFERENCES people (id))",
            "INSERT INTO people VALUES (1), (2), (3)",
            "INSERT INTO orders VALUES (7, 2)",
        )

        delivery = room.deliver(
            batch_of({"id": pa.int64()}, [(1,), (2,), (3,)]), table="people", mode="delete", key="id"
        )

        assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused")]
        assert room.sql("SELECT id FROM people") == [(2,)]

    def test_nothing_shows_before_the_commit_and_dropping_the_connection_leaves_the_target(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT)", "INSERT INTO people VALUES (1)")
        post, batch = room.post(table="people", mode="replace"), batch_of({"id": pa.int64()}, [(2,)])
        publication = post.publish(room.stage([batch], post), batch.schema, room.scope, "t1")
        assert len(list(publication.settle())) == 1

        publication.abandon()

        assert room.sql("SELECT id FROM people") == [(1,)]
        assert not post.is_published(room.scope, "t1")

    def test_a_publication_made_twice_shows_once(self, room: Room) -> None:
        post, batch = room.post(table="people"), batch_of({"id": pa.int64()}, [(1,), (2,)])
        parts = room.stage([batch], post)
        first = post.publish(parts, batch.schema, room.scope, "t1")
        list(first.settle())
        first.commit()
        first.commit()

        again = post.publish(parts, batch.schema, room.scope, "t1")
        again.commit()

        assert post.is_published(room.scope, "t1")
        assert not post.is_published(room.scope, "t2")
        assert room.sql("SELECT count(*) FROM people") == [(2,)]

    def test_a_commit_in_another_process_loads_what_was_staged(self, room: Room) -> None:
        post, batch = room.post(table="people"), batch_of({"id": pa.int64()}, [(1,), (2,)])
        parts = room.stage([batch], post)

        post.publish(parts, batch.schema, room.scope, "t1").commit()

        assert room.sql("SELECT count(*) FROM people") == [(2,)]

    def test_what_an_abandoned_writer_staged_is_removed(self, room: Room) -> None:
        batch = batch_of({"id": pa.int64()}, [(1,)])
        writer = room.post(table="people").open(batch.schema, room.scope, Sandbox())
        writer.put(with_ids(batch, pa.array([0], pa.int64())))

        writer.abandon()

        assert [path for path in (room.folder / "staging").rglob("*") if path.is_file()] == []

    def test_a_locked_database_is_unavailable_and_later_it_is_not(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT)")
        post, batch = room.post(table="people"), batch_of({"id": pa.int64()}, [(1,)])
        parts = room.stage([batch], post)

        with self.locked(room.path), pytest.raises(Unavailable, match="locked"):
            list(post.publish(parts, batch.schema, room.scope, "t1").settle())
        post.publish(parts, batch.schema, room.scope, "t1").commit()

        assert room.sql("SELECT count(*) FROM people") == [(1,)]

    def test_types_for_a_table_to_be_made_may_be_declared(self, room: Room) -> None:
        batch = batch_of({"id": pa.int64(), "who": pa.string()}, [(1, "a")])

        room.deliver(batch, table="people", columns={"id": "SMALLINT", "who": "VARCHAR(20)"})

        assert room.sql("SELECT id, who FROM people") == [(1, "a")]

    def test_names_with_quotes_spaces_and_key_words_are_only_names(self, room: Room) -> None:
        batch = batch_of(
            {'se"lect': pa.int64(), "from; drop": pa.string(), "$x": pa.time64("us")}, [(1, "a", time(1, 2, 3))]
        )

        room.deliver(batch, table='ta"ble; --', mode="upsert", key='se"lect')

        reading = room.read(table='ta"ble; --', key='se"lect', cursor='se"lect')
        assert reading.rows == batch.to_pylist()
