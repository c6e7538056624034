"""Tells a consumer group where reading goes on, so that others see its lag."""

from __future__ import annotations

import time

from adapters.kafka.client import LISTEN_SECONDS, QUIET, Faults, making, meant, passing, settings
from adapters.kafka.connection import Connection
from pipelines.errors import Unavailable
from pipelines.node import Json
from pipelines.scope import Scope


def committed(group: str, position: Json, connection: Connection, scope: Scope) -> None:
    """Commits the offsets of a position to a group that nobody is in.

    Raises:
        Invalid: the user may not.
        Unavailable: nobody answers, or consumers are in the group.
    """
    from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

    faults = Faults(connection)
    places = [
        TopicPartition(name, int(number), offset)
        for name, topic in position["topics"].items()
        for number, offset in topic["next"].items()
    ]
    own = {"group.id": group, "enable.auto.commit": False}
    with making(connection):
        consumer = Consumer({**settings(connection, scope, faults), **own}, logger=QUIET)
    until = time.monotonic() + connection.timeout_seconds
    taken = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)
    try:
        while True:
            try:
                consumer.commit(offsets=places, asynchronous=False)
                return
            except KafkaException as fault:
                error = fault.args[0]
            consumer.poll(LISTEN_SECONDS)
            if error.code() in taken:
                raise Unavailable(f"group {group!r} has consumers of its own; name another in `group`")
            faults.heed(patiently=True)
            if error.code() not in passing() or time.monotonic() > until:
                raise meant(error, connection, faults, group=group)
    finally:
        consumer.close()
