"""What brokers tell of topics: their partitions, identity, settings, and where they begin and end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from pipelines.errors import FlowError, Invalid
from pipelines.scope import Scope
from pipelines.tables.relation import suggestion

if TYPE_CHECKING:
    from confluent_kafka import KafkaError

PLAIN_MESSAGE_BYTES = 1_048_588
"""What a topic takes at most where nothing else is set."""


@dataclass(frozen=True)
class Topic:
    """A topic as the brokers describe it."""

    name: str
    id: str
    """Another where a topic of the same name was made anew; empty where the brokers tell of none."""
    partitions: Sequence[int] = ()


@dataclass(frozen=True)
class Limits:
    """What a topic takes; None where the user may not see it."""

    message_bytes: int | None = None
    is_compacted: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)


def names(admin: Admin) -> list[str]:
    """The topics that can be seen, those of Kafka itself left out."""
    from confluent_kafka import KafkaException

    from adapters.kafka.client import meant

    reached(admin)
    try:
        found = admin.client.list_topics(timeout=admin.timeout_seconds).topics
    except KafkaException as fault:
        raise meant(fault.args[0], admin.connection, admin.faults) from None
    return sorted(name for name in found if not name.startswith("__"))


def reached(admin: Admin) -> Any:
    """The cluster, once a broker has answered."""
    return admin.asked(admin.client.describe_cluster(request_timeout=admin.timeout_seconds))


def tested(connection: Connection, scope: Scope) -> str:
    """What a cluster has, in a sentence."""
    admin = Admin(connection, scope)
    brokers = len(reached(admin).nodes)
    count = len(names(admin))
    tls = ", encrypted" if connection.security.tls else ""
    some, topics = "broker" if brokers == 1 else "brokers", "topic" if count == 1 else "topics"
    note = ""
    if connection.registry is not None:
        from adapters.kafka.registry import Schemas

        note = f"; schema registry with {len(Schemas(connection, scope).subjects())} subjects"
    return f"Kafka at {connection.address}{tls}, {brokers} {some} with {count} {topics}{note}"


def described(admin: Admin, wanted: Sequence[str]) -> list[Topic]:
    """Topics by their names.

    Raises:
        Invalid: there is no such topic, or it may not be seen.
    """
    from confluent_kafka import TopicCollection

    asked = admin.client.describe_topics(TopicCollection(list(wanted)), request_timeout=admin.timeout_seconds)
    found = []
    for name in wanted:
        told = admin.asked(asked[name], lambda error, name=name: _missing(error, name, admin))  # type: ignore[misc]
        identity = "" if told.topic_id is None else str(told.topic_id)
        found.append(Topic(name, identity, sorted(partition.id for partition in told.partitions)))
    return found


def _missing(error: KafkaError, name: str, admin: Admin) -> FlowError | None:
    from confluent_kafka import KafkaError

    if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return Invalid(
            f"Kafka at {admin.connection.address}: there is no topic {name!r}; {suggestion(name, names(admin))}"
        )
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        user = admin.connection.security.user or "ANONYMOUS"
        return Invalid(
            f"Kafka at {admin.connection.address}: the user {user!r} may not see the topic {name!r}; allow it with kafka-acls "
            f"--add --allow-principal User:{user} --operation Read --topic {name} (to post: Write)"
        )
    return None


Places = dict[tuple[str, int], int]
"""By topic and partition an offset."""


def offsets(admin: Admin, topics: Sequence[Topic], at: str | int, *, committed: bool = True) -> Places:
    """For each partition the offset of its `earliest` record, the one behind its `latest`, or that of the first record
    of a time in milliseconds (where there is none: the one behind the latest).
    """
    from confluent_kafka import IsolationLevel, TopicPartition
    from confluent_kafka.admin._listoffsets import OffsetSpec

    spec = {"earliest": OffsetSpec.earliest, "latest": OffsetSpec.latest}
    asked = spec[at]() if isinstance(at, str) else OffsetSpec.for_timestamp(at)  # type: ignore[no-untyped-call]
    places = [TopicPartition(topic.name, partition) for topic in topics for partition in topic.partitions]
    if not places:
        return {}
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    futures = admin.client.list_offsets(
        dict.fromkeys(places, asked), isolation_level=level, request_timeout=admin.timeout_seconds
    )
    found = {(place.topic, place.partition): admin.asked(future).offset for place, future in futures.items()}
    if not isinstance(at, str) and any(offset < 0 for offset in found.values()):
        ends = offsets(admin, topics, "latest", committed=committed)
        found = {place: ends[place] if offset < 0 else offset for place, offset in found.items()}
    return found


def limits(admin: Admin, topic: str) -> Limits:
    """What a topic takes, as far as the user may see it."""
    from confluent_kafka import KafkaError
    from confluent_kafka.admin._config import ConfigResource

    hidden = Invalid("not to be seen")

    def may_not(error: KafkaError) -> FlowError | None:
        codes = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
        return hidden if error.code() in codes else None

    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    asked = admin.client.describe_configs([resource], request_timeout=admin.timeout_seconds)
    try:
        told = {name: str(entry.value) for name, entry in admin.asked(asked[resource], may_not).items()}
    except Invalid as fault:
        if fault is not hidden:
            raise
        return Limits()
    size = int(told.get("max.message.bytes") or PLAIN_MESSAGE_BYTES)
    return Limits(size, "compact" in told.get("cleanup.policy", ""), told)
