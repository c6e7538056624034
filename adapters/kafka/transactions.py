"""The transactions of a post: their name, their producer, and the token by which a publication is found again.

The token is committed in the transaction itself, as the metadata of an offset of the consumer group that has the
transaction's name: whoever comes later reads there what was committed last.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from adapters.kafka.client import LISTEN_SECONDS, QUIET, Admin, Faults, making, meant, passing, settings
from adapters.kafka.connection import Connection
from adapters.kafka.topics import Limits
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.scope import Scope

if TYPE_CHECKING:
    from confluent_kafka import KafkaException, Producer, TopicPartition

    from adapters.kafka.post import Post

MESSAGE_BYTES = 1_000_000
"""What a client takes at most where the topic does not tell."""
MOST_MESSAGE_BYTES = 1_000_000_000
BATCH_BYTES = 1 << 20
LOOK_SECONDS = 5.0
ASK_SECONDS = 1.0


def transaction_id(post: Post, scope: Scope, token: str) -> str:
    """What names the transactions of a post to the brokers."""
    node = token.rpartition("/")[2]
    return post.transaction_id or f"processflow-{scope.environment.name}-{scope.flow}-{node}"


class Line:
    """A producer, with what it hears of the brokers."""

    def __init__(self, post: Post, scope: Scope, name: str | None, limits: Limits, *, alone: bool = False) -> None:
        from confluent_kafka import Producer

        self.connection = scope.connection(post.connection, Connection)
        self.faults = Faults(self.connection)
        self._topic, self._name = post.topic, name or "…"
        size = limits.message_bytes or MESSAGE_BYTES
        own: dict[str, Any] = {
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.max.bytes": min(max(size, 1_000), MOST_MESSAGE_BYTES),
            "batch.size": min(size, BATCH_BYTES),
            "batch.num.messages": 1 if alone else 10_000,
            "queue.buffering.max.kbytes": max(64 << 10, 2 * size >> 10),
            "queue.buffering.max.messages": 200_000,
            "partitioner": {"murmur2": "murmur2_random", "crc32": "consistent_random", "fnv1a": "fnv1a_random"}[
                post.partitioner
            ],
            "compression.type": post.compression,
            "delivery.timeout.ms": int(self.connection.timeout_seconds * 1000),
            "request.timeout.ms": int(min(self.connection.timeout_seconds, 30) * 1000),
        }
        if name is not None:
            own |= {"transactional.id": name, "transaction.timeout.ms": post.transaction_seconds * 1000}
            own["delivery.timeout.ms"] = min(own["delivery.timeout.ms"], own["transaction.timeout.ms"])
            own["request.timeout.ms"] = min(own["request.timeout.ms"], own["delivery.timeout.ms"])
        with making(self.connection):
            self.producer: Producer = Producer({**settings(self.connection, scope, self.faults), **own}, logger=QUIET)

    def begin(self) -> None:
        """Opens a transaction; one that another has left open under the same name is undone."""
        self.call(self.producer.init_transactions, self.connection.timeout_seconds)
        self.call(self.producer.begin_transaction)

    def call(self, work: Any, *words: Any) -> Any:
        """Does something with the producer.

        Raises:
            Invalid: the brokers refuse it.
            Unavailable: nobody answers, or another producer has the transaction.
        """
        from confluent_kafka import KafkaException

        try:
            return work(*words)
        except KafkaException as fault:
            with suppress(KafkaException):  # it hears what went wrong meanwhile, and says it once more
                self.producer.poll(0)
            raise self.meant(fault) from None

    def listen(self, seconds: float) -> None:
        """Hears which records are delivered.

        Raises:
            Invalid: the brokers refuse who asks.
            Unavailable: another producer has the transaction.
        """
        self.call(self.producer.poll, seconds)
        self.faults.heed(patiently=True)

    def meant(self, fault: KafkaException) -> FlowError:
        """What a fault of a transaction means."""
        from confluent_kafka import KafkaError

        error, place = fault.args[0], f"Kafka at {self.connection.address}"
        if error.code() in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED):
            return Unavailable(
                f"{place}: another producer has taken over this transaction; where two flows publish under one "
                "`transaction_id`, give each its own"
            )
        if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            return Invalid(f"{place}: the brokers allow no transaction so long; lower `transaction_seconds`")
        return meant(error, self.connection, self.faults, topic=self._topic, group=self._name)

    def close(self) -> None:
        """Ends it; what is not committed is undone. Its own `close` would wait for brokers that are away, for ever."""
        from confluent_kafka import KafkaException

        # there may be none open, or nobody answers: then the brokers undo it when its time is up, or the next run does
        for work in (self.producer.purge, partial(self.producer.abort_transaction, LOOK_SECONDS)):
            with suppress(KafkaException):
                work()
        with suppress(KafkaException):  # what was purged is told as such, while there is still somebody to hear it
            self.producer.flush(LOOK_SECONDS)


def mark(post: Post, token: str) -> TopicPartition:
    """The offset that carries a token."""
    from confluent_kafka import TopicPartition

    return TopicPartition(post.topic, 0, 0, token)


def group_of(connection: Connection, scope: Scope, name: str) -> Any:
    """What tells a producer which group an offset is of."""
    from confluent_kafka import Consumer

    with making(connection):
        consumer = Consumer({**settings(connection, scope, Faults(connection)), "group.id": name}, logger=QUIET)
    try:
        return consumer.consumer_group_metadata()
    finally:
        consumer.close()


def is_committed(post: Post, scope: Scope, token: str) -> bool:
    """Whether the transaction with this token was committed; one that is still open under its name is undone first.

    Raises:
        Unavailable: nobody answers.
    """
    swept(post, scope, token)
    return last_token(post, scope, token) == token


def last_token(post: Post, scope: Scope, token: str) -> str:
    """The token that was committed last under the name of this post's transactions.

    Asked of a consumer: librdkafka 2.16's administrator's way to offsets ends the process where a coordinator moves.
    """
    from confluent_kafka import Consumer, KafkaError, KafkaException

    connection, name = scope.connection(post.connection, Connection), transaction_id(post, scope, token)
    faults = Faults(connection)
    own = {"group.id": name, "enable.auto.commit": False, "isolation.level": "read_committed"}
    with making(connection):
        consumer = Consumer({**settings(connection, scope, faults), **own}, logger=QUIET)
    until = time.monotonic() + connection.timeout_seconds
    try:
        while True:
            try:
                found = consumer.committed([mark(post, "")], timeout=ASK_SECONDS)[0]
            except KafkaException as fault:
                error = fault.args[0]
            else:
                error = found.error
            if error is None:
                return str(found.metadata or "")
            told = consumer.poll(LISTEN_SECONDS)  # why it may not ask comes as a message
            heard = told.error() if told is not None else None
            if heard is not None and heard.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                error = heard
            passes = error.code() == KafkaError._TIMED_OUT or error.code() in passing()
            if not passes or time.monotonic() > until:
                raise meant(error, connection, faults, topic=post.topic, group=name)
            faults.heed(patiently=True)
    finally:
        consumer.close()


def swept(post: Post, scope: Scope, token: str) -> None:
    """Undoes a transaction that was left open, so that nobody has to wait for its end; waits for one being committed."""
    from adapters.kafka import topics

    topics.reached(Admin(scope.connection(post.connection, Connection), scope))
    line = Line(post, scope, transaction_id(post, scope, token), Limits())
    try:
        line.call(line.producer.init_transactions, line.connection.timeout_seconds)
    finally:
        line.close()
