"""Topics of a test's own on a broker, and the gets and posts that use them as the engine does."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from adapters.kafka import Connection, Get, Post
from pipelines.conformance.gets import records
from pipelines.conformance.nodes import NOW, Reported
from pipelines.environment import Environment
from pipelines.node import Chunk, Outcome, Want
from pipelines.records import with_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import borrowed
from tests.parts.kafka import SECRET, USER, Broker

WAIT_SECONDS = 60
Sent = tuple[str | bytes | None, Any, int] | tuple[str | bytes | None, Any]
"""Key and value of a message (what is no text or bytes is written as JSON), and its partition."""


@dataclass(frozen=True)
class Found:
    """A message as it lies in a topic."""

    partition: int
    offset: int
    key: str | None
    value: str | None
    raw: bytes | None
    headers: list[tuple[str, bytes | None]]
    time: int


@dataclass(frozen=True)
class Bad:
    """A message that was set aside."""

    ordinal: int
    code: str
    message: str
    text: str


def settings(broker: Broker, **also: Any) -> dict[str, Any]:
    """A connection's settings, as an environment file has them."""
    if not broker.secure:
        return {"adapter": "kafka", "servers": broker.address, **also}
    security = {"user": USER, "password": {"secret": SECRET}, "tls": {"ca": str(broker.folder / "ca.pem")}}
    return {"adapter": "kafka", "servers": f"localhost:{broker.ports['TLS']}", "security": security, **also}


def made(broker: Broker, partitions: int = 1, name: str | None = None, **config: str) -> str:
    """A new topic's name."""
    name = name or f"t-{uuid.uuid4().hex[:12]}"
    # a broker deletes what is older than a week by its own time, whenever it was sent
    settings = {"retention.ms": "-1", **{key.replace("_", "."): value for key, value in config.items()}}
    topic = NewTopic(name, partitions, 1, config=settings)
    admin = AdminClient(broker.client())  # what is asked ends with it
    admin.create_topics([topic], operation_timeout=WAIT_SECONDS)[name].result()
    until = time.monotonic() + WAIT_SECONDS
    while not _is_known(admin, name):  # the controller has it, the broker hears of it
        assert time.monotonic() < until
    return name


def _is_known(admin: AdminClient, name: str) -> bool:
    try:
        admin.describe_topics(TopicCollection([name]))[name].result()
    except KafkaException:
        return False
    return True


def deleted(broker: Broker, name: str) -> None:
    admin = AdminClient(broker.client())
    admin.delete_topics([name], operation_timeout=WAIT_SECONDS)[name].result()


def identity(broker: Broker, name: str) -> str:
    admin = AdminClient(broker.client())
    return str(admin.describe_topics(TopicCollection([name]))[name].result().topic_id)


def send(broker: Broker, topic: str, messages: Iterable[Sent], **words: Any) -> None:
    """Writes messages and waits until they are there."""
    failed: list[Any] = []
    producer = Producer({**broker.client(), "message.max.bytes": 16_000_000})
    for key, value, *partition in messages:
        data = value if value is None or isinstance(value, str | bytes) else json.dumps(value)
        place = {"partition": partition[0]} if partition else {}
        producer.produce(
            topic, data, key, on_delivery=lambda error, _: failed.append(error) if error else None, **place, **words
        )
        producer.poll(0)
    assert not producer.flush(WAIT_SECONDS)
    assert not failed, failed


def messages(broker: Broker, topic: str, *, committed: bool = True) -> list[Found]:
    """All messages of a topic, by partition."""
    level = "read_committed" if committed else "read_uncommitted"
    own = {"group.id": "tests", "enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": level}
    consumer = Consumer({**broker.client(), **own, "auto.offset.reset": "earliest"})
    partitions = consumer.list_topics(topic, WAIT_SECONDS).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    found, open_ones = [], set(partitions)
    while open_ones:
        for message in consumer.consume(1_000, 0.2):
            if (error := message.error()) is not None:
                assert error.name() == "_PARTITION_EOF", error
                open_ones.discard(message.partition())
                continue
            found.append(_found(message))
    consumer.close()
    return sorted(found, key=lambda one: (one.partition, one.offset))


def _found(message: Any) -> Found:
    key, value = message.key(), message.value()
    return Found(
        message.partition(),
        message.offset(),
        None if key is None else key.decode("utf-8", "replace"),
        None if value is None else value.decode("utf-8", "replace"),
        value,
        message.headers() or [],
        message.timestamp()[1],
    )


class Room:
    """A scope that knows a broker as `events`."""

    def __init__(self, broker: Broker, folder: Path, **also: Any) -> None:
        self.broker = broker
        connection = Connection.model_validate_json(json.dumps(settings(broker, **also)))
        environment = Environment(connections={"events": connection})
        staging = folder / "staging"
        self.scope = Scope(folder, environment, now=NOW, flow=uuid.uuid4().hex, version="1", run="r1", staging=staging)

    def with_values(self, **values: object) -> Room:
        self.scope = replace(self.scope, values=values)
        return self

    def topic(self, partitions: int = 1, name: str | None = None, **config: str) -> str:
        return made(self.broker, partitions, name, **config)

    def send(self, topic: str, messages: Iterable[Sent], **words: Any) -> None:
        send(self.broker, topic, messages, **words)

    def get(self, topic: str, **config: Any) -> Get:
        return Get.model_validate_json(json.dumps({"connection": "events", "topic": topic, **config}))

    def post(self, topic: str, **config: Any) -> Post:
        return Post.model_validate_json(json.dumps({"connection": "events", "topic": topic, **config}))

    def schema(self, get: Get) -> pa.Schema:
        report = Reported()
        found = get.check({}, self.scope, report)["out"]
        assert not report, report
        assert found is not None
        return found

    def chunks(self, get: Get, position: Any = None, want: Want | None = None) -> list[Chunk]:
        want = want or Want()
        schema = self.schema(get)
        return [
            chunk
            for split in get.plan(self.scope, position, want).splits
            for chunk in get.read(split.payload, schema, self.scope, want)
        ]

    def read(self, topic: str, position: Any = None, **config: Any) -> list[dict[str, Any]]:
        return records(self.chunks(self.get(topic, **config), position))

    def told(self, get: Get) -> tuple[list[dict[str, Any]], list[Bad]]:
        """The records, and what was set aside."""
        chunks = self.chunks(get)
        some = [chunk.malformed for chunk in chunks if chunk.malformed is not None]
        bad = [
            Bad(*each) for one in some for each in zip(one.ordinals, one.codes, one.messages, one.texts, strict=True)
        ]
        return records(chunks), bad

    def position(self, topic: str, position: Any = None, **config: Any) -> Any:
        """Where reading goes on, as the catalogue would keep it."""
        return json.loads(json.dumps(self.get(topic, **config).plan(self.scope, position, Want()).position))

    def problems(self, node: Get | Post, schema: pa.Schema | None = None) -> list[str]:
        report = Reported()
        node.check({} if schema is None else {"": schema}, self.scope, report)
        return list(report)

    def put(
        self, topic: str, rows: Sequence[dict[str, Any]] | pa.RecordBatch, token: str = "r1/post", **config: Any
    ) -> list[Outcome]:
        """Delivers records; what became of each batch."""
        post = self.post(topic, **config)
        batch = rows if isinstance(rows, pa.RecordBatch) else pa.RecordBatch.from_pylist(list(rows))
        problems = self.problems(post, batch.schema)
        assert not problems, problems
        given = with_ids(batch, pa.array(range(batch.num_rows), pa.int64()))
        with borrowed(self.scope) as sandbox:
            writer = post.open(given.schema, self.scope, sandbox)
            writer.put(given)
            parts = writer.close()
        publication = post.publish(parts, batch.schema, self.scope, token)
        try:
            found = [outcome for _, outcome in publication.settle()]
            publication.commit()
        except BaseException:
            publication.abandon()
            raise
        return found
