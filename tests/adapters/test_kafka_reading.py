"""Topics are read between offsets and times, each partition in its order."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from pipelines.conformance.gets import records
from pipelines.errors import Invalid
from pipelines.node import Want
from tests.adapters import kafka_room
from tests.adapters.kafka_room import Room
from tests.parts.kafka import Broker

EARLY = 1_700_000_000_000


@pytest.fixture
def room(kafka: Broker, tmp_path: Path) -> Room:
    return Room(kafka, tmp_path)


def orders(count: int, first: int = 0) -> list[tuple[str, dict[str, Any]]]:
    return [(f"k{number}", {"id": number, "total": number / 4}) for number in range(first, first + count)]


class TestReading:
    def test_all_partitions_are_read_each_in_its_order_as_a_split(self, room: Room) -> None:
        topic = room.topic(partitions=3)
        room.send(topic, orders(300))
        get = room.get(topic, take=["partition", "offset"])

        plan = get.plan(room.scope, None, Want())
        found = room.read(topic, take=["partition", "offset"])

        assert len(plan.splits) == 3
        assert sorted(record["id"] for record in found) == list(range(300))
        for number in range(3):
            offsets = [record["offset"] for record in found if record["partition"] == number]
            assert offsets == list(range(len(offsets)))

    def test_several_topics_are_read_as_one(self, room: Room) -> None:
        one, other = room.topic(), room.topic()
        room.send(one, orders(2))
        room.send(other, orders(2, 2))

        found = records(room.chunks(room.get([one, other], take="topic")))  # type: ignore[arg-type]

        assert sorted((record["id"], record["topic"]) for record in found) == sorted(
            [(0, one), (1, one), (2, other), (3, other)]
        )

    def test_what_a_message_has_beside_its_value_is_told_in_columns(self, room: Room) -> None:
        topic = room.topic()
        headers = [("trace-id", b"t1"), ("trace-id", b"t2"), ("empty", None)]
        room.send(topic, [("k", {"id": 1}), (None, {"id": 2})], headers=headers, timestamp=EARLY)
        take = {"k": "key", "at": "timestamp", "on": "topic", "p": "partition", "o": "offset", "h": "headers",
                "trace": "header:trace-id", "none": "header:other"}  # fmt: skip

        first, second = room.read(topic, take=take)

        listed = [{"name": name, "value": None if value is None else value.decode()} for name, value in headers]
        assert first == {"id": 1, "k": "k", "at": datetime.fromtimestamp(EARLY / 1000, UTC), "on": topic, "p": 0, "o": 0,
                         "h": listed, "trace": "t2", "none": None}  # fmt: skip
        assert second["k"] is None

    def test_keys_that_are_no_text_are_set_aside_unless_read_as_bytes(self, room: Room) -> None:
        topic = room.topic()
        room.send(topic, [(b"\xff", {"id": 1}), ("k", {"id": 2})])

        found, bad = room.told(room.get(topic, take="key"))
        raw = room.read(topic, take="key", key_format="bytes")

        assert found == [{"id": 2, "key": "k"}]
        assert [one.code for one in bad] == ["key"]
        assert [record["key"] for record in raw] == [b"\xff", b"k"]

    def test_what_is_no_record_is_set_aside_with_its_place(self, room: Room) -> None:
        topic = room.topic()
        room.send(topic, [("a", {"id": 1}), ("b", "{oops"), ("c", '{"id": "x"}'), ("d", b"\xff\xfe"), ("e", {"id": 5})])

        found, bad = room.told(room.get(topic, columns={"id": "BIGINT"}))

        assert found == [{"id": 1}, {"id": 5}]
        assert [(one.ordinal, one.code) for one in bad] == [(1, "json"), (2, "type"), (3, "encoding")]
        assert bad[1].message.startswith(f"{topic} partition 0 offset 2: column 'id': ")
        assert bad[0].text == "{oops"

    def test_numbers_keep_their_digits(self, room: Room) -> None:
        topic = room.topic()
        room.send(topic, [(None, '{"a": 12345678901234567890.123456789012345678, "b": 0.1}')])

        found = room.read(topic, columns={"a": "DECIMAL(38,18)", "b": "DECIMAL(9,3)"})

        assert [str(found[0]["a"]), str(found[0]["b"])] == ["12345678901234567890.123456789012345678", "0.100"]

    def test_texts_and_bytes_are_read_as_they_are(self, room: Room) -> None:
        topic = room.topic()
        odd = ["", "ñ 🎈", "a\x00b", " x "]
        room.send(topic, [(None, text) for text in odd])

        texts = room.read(topic, format="text")
        raw = room.read(topic, format="bytes")

        assert [record["value"] for record in texts] == odd
        assert [record["value"] for record in raw] == [text.encode() for text in odd]

    def test_tombstones_are_rejected_kept_or_left_out(self, room: Room) -> None:
        topic = room.topic()
        room.send(topic, [("a", {"id": 1}), ("a", None), ("b", {"id": 2})])

        found, bad = room.told(room.get(topic, take="key"))
        kept = room.read(topic, take="key", tombstones="keep")
        dropped = room.read(topic, take="key", tombstones="drop")

        assert [one.code for one in bad] == ["tombstone"]
        assert kept == [{"id": 1, "key": "a"}, {"id": None, "key": "a"}, {"id": 2, "key": "b"}]
        assert dropped == [kept[0], kept[2]] == found

    def test_messages_of_a_megabyte_are_read_in_small_batches(self, room: Room) -> None:
        topic = room.topic(max_message_bytes="16000000")
        room.send(topic, [(None, "x" * 4_000_000) for _ in range(30)])

        chunks = room.chunks(room.get(topic, format="text"))

        assert sum(chunk.batch.num_rows for chunk in chunks) == 30
        assert max(chunk.batch.nbytes for chunk in chunks) <= 32 << 20

    def test_a_topic_without_messages_needs_declared_columns(self, room: Room) -> None:
        topic = room.topic()

        problems = room.problems(room.get(topic))
        found = room.read(topic, columns={"id": "BIGINT"})

        assert problems == [
            "columns: there is no message, so its columns are not known; give `columns` with their types"
        ]
        assert found == []

    def test_an_unknown_topic_is_a_problem_that_names_the_near_one(self, room: Room) -> None:
        topic = room.topic(name=f"{room.topic()}-orders")

        problems = room.problems(room.get(topic.replace("orders", "order")))

        assert f"did you mean {topic!r}?" in problems[0]


class TestBounds:
    def test_a_run_begins_and_ends_at_offsets_and_times(self, room: Room) -> None:
        topic = room.topic()
        for number in range(6):
            room.send(topic, [(None, {"id": number})], timestamp=EARLY + number * 1000)

        def ids(**config: Any) -> list[int]:
            return [record["id"] for record in room.read(topic, columns={"id": "BIGINT"}, **config)]

        moment = datetime.fromtimestamp(EARLY / 1000 + 2, UTC).isoformat()
        assert ids(start={"0": 4}) == [4, 5]
        assert ids(start={"0": 1}, until={"0": 3}) == [1, 2]
        assert ids(start=moment) == [2, 3, 4, 5]
        assert ids(until=moment) == [0, 1]
        assert ids(start="latest") == []
        room.with_values(since=datetime.fromtimestamp(EARLY / 1000 + 5, UTC))
        assert ids(start="$since") == [5]

    def test_behind_the_latest_only_what_comes_later_is_read(self, room: Room) -> None:
        topic = room.topic(partitions=2)
        room.send(topic, orders(10))
        position = room.position(topic, start="latest")

        room.send(topic, orders(3, 10))

        assert sorted(record["id"] for record in room.read(topic, position, start="latest")) == [10, 11, 12]

    def test_a_partition_that_was_added_is_read_from_its_beginning(self, room: Room) -> None:
        from confluent_kafka.admin import NewPartitions

        topic = room.topic()
        room.send(topic, orders(2))
        position = room.position(topic)
        admin = AdminClient(room.broker.client())
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result()

        room.send(topic, [("x", {"id": 7, "total": 0.5}, 1)])

        assert [record["id"] for record in room.read(topic, position, columns={"id": "BIGINT"})] == [7]

    def test_records_that_were_deleted_unread_stop_a_run_or_are_told(self, room: Room) -> None:
        topic = room.topic()
        room.send(topic, orders(4))
        position = room.position(topic, until={"0": 1})
        admin = AdminClient(room.broker.client())
        place = TopicPartition(topic, 0, 3)
        admin.delete_records([place])[place].result()

        with pytest.raises(Invalid, match="offset 1 to 2 were deleted before they were read") as fault:
            room.position(topic, position)
        plan = room.get(topic, lost="go_on").plan(room.scope, position, Want())

        assert "lost: go_on" in str(fault.value)
        assert "offset 1 to 2 were deleted" in plan.note
        assert [record["id"] for record in room.read(topic, position, lost="go_on")] == [3]

    def test_a_topic_made_anew_stops_a_run_or_is_read_from_its_beginning(self, room: Room) -> None:
        topic = room.topic()
        room.send(topic, orders(2))
        position = room.position(topic)
        kafka_room.deleted(room.broker, topic)
        remade(room, topic)
        room.send(topic, orders(3, 5))

        with pytest.raises(Invalid, match="was deleted and made anew"):
            room.position(topic, position)

        assert [record["id"] for record in room.read(topic, position, lost="go_on")] == [5, 6, 7]

    def test_a_backfill_reads_a_span_of_time_and_then_goes_on(self, room: Room) -> None:
        topic = room.topic()
        for number in range(5):
            room.send(topic, [(None, {"id": number})], timestamp=EARLY + number * 1000)
        get = room.get(topic, columns={"id": "BIGINT"})
        now = room.position(topic)
        first, last = (datetime.fromtimestamp(EARLY / 1000 + each, UTC).isoformat() for each in (1, 2))

        span = get.position_at(room.scope, first, last, now)
        since = get.position_at(room.scope, last, None, now)

        assert [record["id"] for record in records(room.chunks(get, span))] == [1, 2]
        assert get.plan(room.scope, span, Want()).position == now
        assert [record["id"] for record in records(room.chunks(get, since))] == [2, 3, 4]


def remade(room: Room, topic: str) -> None:
    """A deleted topic made anew, once the broker has forgotten it."""
    from confluent_kafka import KafkaException

    for attempt in range(200):
        try:
            room.topic(name=topic)
            return
        except KafkaException:
            if attempt == 199:
                raise
