"""Topics are written whole or not at all; what is refused is set aside."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from pipelines.errors import Unavailable
from tests.adapters.kafka_room import Room, messages
from tests.parts.kafka import Broker

EARLY = 1_700_000_000_000


@pytest.fixture
def room(kafka: Broker, tmp_path: Path) -> Room:
    return Room(kafka, tmp_path)


class TestTransactions:
    def test_records_are_read_once_they_are_committed_and_aborted_ones_never(self, room: Room) -> None:
        topic = room.topic()
        producer = Producer({**room.broker.client(), "transactional.id": topic})
        producer.init_transactions(60)
        for number, end in ((1, "commit"), (2, "abort"), (3, "")):
            producer.begin_transaction()
            producer.produce(topic, json.dumps({"id": number}))
            assert not producer.flush(60)
            if end:
                getattr(producer, f"{end}_transaction")(60)
        columns = {"id": "BIGINT"}

        before = room.read(topic, columns=columns)
        all_of_them = room.read(topic, columns=columns, include_uncommitted=True)
        position = room.position(topic)
        producer.commit_transaction(60)

        assert [record["id"] for record in before] == [1]
        assert [record["id"] for record in all_of_them] == [1, 2, 3]
        assert [record["id"] for record in room.read(topic, position, columns=columns)] == [3]

    def test_a_topic_that_ends_in_marks_of_transactions_is_read_to_its_end(self, room: Room) -> None:
        topic = room.topic()
        for number in range(3):
            room.put(topic, [{"id": number}], token=f"r{number}/post")

        position = room.position(topic)

        assert position["topics"][topic]["next"] == {"0": 6}
        assert [record["id"] for record in room.read(topic)] == [0, 1, 2]
        assert room.read(topic, position) == []

    def test_nobody_who_reads_committed_records_sees_a_publication_before_its_commit(self, room: Room) -> None:
        topic = room.topic(partitions=2)
        post = room.post(topic, key="id")
        batch = pa.RecordBatch.from_pylist([{"id": number} for number in range(100)])
        publication = post.publish(staged(room, batch), batch.schema, room.scope, "r1/post")

        settled = list(publication.settle())
        before = len(messages(room.broker, topic))
        sent = len(messages(room.broker, topic, committed=False))
        publication.commit()

        assert (before, sent, len(messages(room.broker, topic))) == (0, 100, 100)
        assert sum(outcome.out["out"].batch.num_rows for _, outcome in settled) == 100

    def test_one_that_comes_later_shuts_out_one_that_lingers(self, room: Room) -> None:
        topic = room.topic()
        batch = pa.RecordBatch.from_pylist([{"id": 1}])
        lingers, comes = (
            room.post(topic).publish(staged(room, batch), batch.schema, room.scope, token)
            for token in ("r1/post", "r2/post")
        )
        list(lingers.settle())

        list(comes.settle())
        comes.commit()
        with pytest.raises(Unavailable, match="another producer has taken over"):
            lingers.commit()
        lingers.abandon()

        post = room.post(topic)
        assert len(messages(room.broker, topic)) == 1
        assert post.is_published(room.scope, "r2/post")
        assert not post.is_published(room.scope, "r1/post")

    def test_a_sweep_undoes_what_was_left_open(self, room: Room) -> None:
        topic = room.topic()
        batch = pa.RecordBatch.from_pylist([{"id": 1}])
        post = room.post(topic)
        left = post.publish(staged(room, batch), batch.schema, room.scope, "r1/post")
        list(left.settle())
        room.send(topic, [(None, {"id": 2})])
        behind = room.read(topic, columns={"id": "BIGINT"})

        post.sweep(room.scope, "r1/post")

        assert behind == []
        assert [record["id"] for record in room.read(topic)] == [2]
        left.abandon()

    def test_without_a_transaction_records_are_there_as_well(self, room: Room) -> None:
        topic = room.topic()

        room.put(topic, [{"id": 1}, {"id": 2}], transaction=False)

        assert [one.value for one in messages(room.broker, topic)] == ['{"id":1}', '{"id":2}']
        assert room.post(topic, transaction=False).delivery()[0] == "at least once"


def staged(room: Room, batch: pa.RecordBatch) -> Any:
    from pipelines.records import with_ids
    from pipelines.tables.spool import SpoolWriter

    writer = SpoolWriter(room.scope.staging / "spool")
    writer.put(with_ids(batch, pa.array(range(batch.num_rows), pa.int64())))
    return writer.close()


class TestWriting:
    def test_receipts_name_where_each_record_lies(self, room: Room) -> None:
        topic = room.topic(partitions=3)
        rows = [{"id": number, "name": f"n{number}"} for number in range(200)]

        outcome = room.put(topic, rows, key="id")[0]

        receipts = outcome.receipts
        assert receipts is not None
        assert receipts.ids is not None
        lie = {
            f"{one.partition}:{one.offset}": json.loads(str(one.value))["id"] for one in messages(room.broker, topic)
        }
        assert [lie[place] for place in receipts.ids.to_pylist()] == list(range(200))
        assert receipts.keys is not None
        assert receipts.keys.to_pylist() == [str(number) for number in range(200)]

    def test_keys_choose_the_partitions_that_kafkas_own_clients_would(self, room: Room) -> None:
        topic = room.topic(partitions=4)

        room.put(topic, [{"id": f"key-{number}"} for number in range(8)], key="id")

        # murmur2 of the key as Kafka's Java client computes it, its sign taken off, modulo 4
        assert {one.key: one.partition for one in messages(room.broker, topic)} == {
            f"key-{number}": murmur2(f"key-{number}".encode()) % 4 for number in range(8)
        }

    def test_key_headers_time_and_partition_come_from_columns(self, room: Room) -> None:
        topic = room.topic(partitions=2)
        at = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
        rows = [{"a": 1, "b": "x", "at": at, "p": 1, "t": "tr"}, {"a": 2, "b": "y", "at": at, "p": 0, "t": None}]
        headers = {"source": "shop", "trace": "{t}", "both": "{a}-{b}", "run": "$env"}
        room.with_values(env="plant-1")

        room.put(topic, rows, key=["a", "b"], headers=headers, timestamp="at", partition="p", columns=["a"])

        second, first = messages(room.broker, topic)
        assert (first.partition, first.key, first.value) == (1, '{"a":1,"b":"x"}', '{"a":1}')
        assert first.time == int(at.timestamp() * 1000)
        assert first.headers == [("source", b"shop"), ("trace", b"tr"), ("both", b"1-x"), ("run", b"plant-1")]
        assert second.headers == [("source", b"shop"), ("both", b"2-y"), ("run", b"plant-1")]

    def test_headers_that_were_read_are_written_again(self, room: Room) -> None:
        one, other = room.topic(), room.topic()
        headers = [("trace", b"t1"), ("trace", b"t2"), ("none", None)]
        room.send(one, [("k", {"id": 1})], headers=headers)
        read = room.chunks(room.get(one, take=["key", "headers"]))[0].batch

        room.put(other, read, key="key", headers="headers", columns="id")

        assert messages(room.broker, other)[0].headers == headers

    def test_a_record_that_is_too_large_is_rejected_and_the_others_are_delivered(self, room: Room) -> None:
        topic = room.topic(max_message_bytes="2000")
        rows = [
            {"id": 1, "text": "x"},
            {"id": 2, "text": "x" * 5_000},
            *({"id": n, "text": "y" * 900} for n in range(3, 60)),
        ]

        outcome = room.put(topic, rows, key="id")[0]

        assert outcome.rejects is not None
        assert outcome.rejects.rows.to_pylist() == [1]
        assert list(outcome.rejects.codes) == ["too_large"]
        assert "the topic takes 2,000 at most" in outcome.rejects.messages[0]
        assert len(messages(room.broker, topic)) == 58

    def test_records_that_the_broker_refuses_are_rejected_and_the_others_are_delivered(self, room: Room) -> None:
        topic = room.topic(message_timestamp_after_max_ms="3600000")
        soon, late = datetime.now(UTC), datetime(2999, 1, 1, tzinfo=UTC)
        rows = [{"id": number, "at": late if number in (3, 40) else soon} for number in range(60)]

        outcome = room.put(topic, rows, key="id", timestamp="at")[0]

        assert outcome.rejects is not None
        assert outcome.rejects.rows.to_pylist() == [3, 40]
        assert set(outcome.rejects.codes) == {"refused"}
        assert len(messages(room.broker, topic)) == 58

    @pytest.mark.parametrize("transaction", [True, False])
    def test_all_refused_leave_nothing_and_are_all_told(self, room: Room, transaction: bool) -> None:
        topic = room.topic(cleanup_policy="compact")

        outcome = room.put(topic, [{"id": 1}, {"id": 2}], transaction=transaction)[0]

        assert outcome.rejects is not None
        assert list(outcome.rejects.codes) == ["key", "key"]
        assert messages(room.broker, topic) == []

    def test_what_cannot_be_written_is_rejected_with_its_reason(self, room: Room) -> None:
        topic = room.topic()
        rows = [{"id": 1, "x": 1.5}, {"id": None, "x": 1.0}, {"id": 3, "x": float("nan")}]

        outcome = room.put(topic, rows, key="id")[0]

        assert outcome.rejects is not None
        assert dict(zip(outcome.rejects.rows.to_pylist(), outcome.rejects.codes, strict=True)) == {
            1: "key",
            2: "no_text",
        }
        assert [one.value for one in messages(room.broker, topic)] == ['{"id":1,"x":1.5}']

    def test_a_partition_that_is_not_there_is_a_reject(self, room: Room) -> None:
        topic = room.topic(partitions=2)
        rows = [{"id": 1, "p": 1}, {"id": 2, "p": 7}, {"id": 3, "p": None}, {"id": 4, "p": 0}]

        outcome = room.put(topic, rows, key="id", partition="p")[0]

        assert outcome.rejects is not None
        assert list(outcome.rejects.codes) == ["partition", "partition"]
        assert len(messages(room.broker, topic)) == 2

    def test_a_delete_sends_the_key_without_a_value(self, room: Room) -> None:
        topic = room.topic(cleanup_policy="compact")
        room.put(topic, [{"id": 1, "x": 1}, {"id": 2, "x": 2}], key="id", mode="upsert")

        room.put(topic, [{"id": 1, "x": None}], key="id", mode="delete", token="r2/post")

        assert [(one.key, one.value) for one in messages(room.broker, topic)] == [
            ("1", '{"id":1,"x":1}'),
            ("2", '{"id":2,"x":2}'),
            ("1", None),
        ]

    def test_more_than_may_be_under_way_is_sent_all_the_same(self, room: Room) -> None:
        topic = room.topic()
        batch = pa.record_batch({"text": pa.array(["x" * 200_000] * 600)})

        outcome = room.put(topic, batch, format="text")[0]

        assert outcome.out["out"].batch.num_rows == 600
        assert len(messages(room.broker, topic)) == 600

    @pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd", "snappy"])
    def test_compressed_messages_are_read_back(self, room: Room, compression: str) -> None:
        topic = room.topic()

        room.put(topic, [{"id": number} for number in range(50)], compression=compression)

        assert [record["id"] for record in room.read(topic)] == list(range(50))


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key: MurmurHash2 of Austin Appleby with the seed of org.apache.kafka.common.utils.Utils."""
    mask, m, length = 0xFFFFFFFF, 0x5BD1E995, len(data)
    h = 0x9747B28C ^ length
    for place in range(0, length - length % 4, 4):
        k = int.from_bytes(data[place : place + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[length - length % 4 :]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF
