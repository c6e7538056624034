"""Connections to Kafka: what they say when they cannot be made, how they are encrypted, what a user may do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from pydantic import ValidationError

from adapters.kafka import Connection
from pipelines.errors import FlowError, Invalid, Unavailable
from pipelines.node import Want
from tests.adapters import kafka_room
from tests.adapters.kafka_room import Room, messages
from tests.parts import sharing
from tests.parts.kafka import PASSWORD, SECRET, USER, Broker
from tests.parts.proxy import Proxy

CANARY = "open sesame"


@pytest.fixture
def room(kafka: Broker, tmp_path: Path) -> Room:
    return Room(kafka, tmp_path)


@pytest.fixture
def secured(secured_kafka: Broker, tmp_path: Path) -> Room:
    return Room(secured_kafka, tmp_path)


def connection(settings: Mapping[str, Any]) -> Connection:
    return Connection.model_validate_json(json.dumps({"adapter": "kafka", "timeout_seconds": 20, **settings}))


def allow(broker: Broker, kind: ResourceType, name: str, *operations: AclOperation, user: str = USER) -> None:
    admin = AdminClient(broker.client())
    rules = [
        AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{user}", "*", operation, AclPermissionType.ALLOW)
        for operation in operations
    ]
    for future in admin.create_acls(rules).values():
        future.result()


def places(broker: Broker) -> dict[str, str]:
    return {name: f"localhost:{port}" for name, port in broker.ports.items()}


@pytest.mark.parametrize(
    ("listener", "security", "error", "words"),
    [
        ("TLS", {"password": {"secret": "WRONG"}}, Invalid, "check user 'tester', its password"),
        ("TLS", {"user": "nobody-here"}, Invalid, "check user 'nobody-here'"),
        ("TLS", {"mechanism": "SCRAM-SHA-256"}, Invalid, "supported mechanisms: SCRAM-SHA-512"),
        ("TLS", {"tls": True}, Invalid, "certificate"),
        ("TLS", {"tls": {"ca": "none.pem"}}, Invalid, "there is no file"),
        ("TLS", {"tls": False}, Unavailable, "a listener that wants TLS or a password needs `security`"),
        ("SCRAM", {}, Unavailable, "speaks no TLS"),
        ("MUTUAL", {"user": None, "password": None}, Unavailable, "certificate"),
    ],
)
def test_a_connection_that_cannot_be_made_says_why_at_once(
    secured: Room,
    monkeypatch: pytest.MonkeyPatch,
    listener: str,
    security: dict[str, Any],
    error: type[FlowError],
    words: str,
) -> None:
    monkeypatch.setenv("WRONG", CANARY)
    ca = {"ca": str(secured.broker.folder / "ca.pem")}
    given = {"user": USER, "password": {"secret": SECRET}, "tls": ca, **security}

    with pytest.raises(error) as fault:
        connection({"servers": places(secured.broker)[listener], "security": given}).test(secured.scope)

    assert words in str(fault.value)
    assert CANARY not in str(fault.value)
    assert PASSWORD not in str(fault.value)


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        ("no-such-host.invalid:9092", "resolve 'no-such-host.invalid:9092'"),
        (["127.0.0.1:9", "127.0.0.1:10"], "Connection refused"),
    ],
)
def test_servers_that_are_not_there_are_told_at_once(room: Room, servers: Any, words: str) -> None:
    with pytest.raises(Unavailable, match=words) as fault:
        connection({"servers": servers}).test(room.scope)

    assert "check the connection's `servers`" in str(fault.value)


def test_a_server_that_says_nothing_is_away_after_its_time(room: Room) -> None:
    port = int(room.broker.address.partition(":")[2])
    with Proxy(port) as proxy:
        proxy.hang()

        with pytest.raises(Unavailable, match="no broker answers"):
            connection({"servers": f"127.0.0.1:{proxy.port}", "timeout_seconds": 1}).test(room.scope)


def test_addresses_that_brokers_advertise_and_nobody_reaches_are_told(room: Room) -> None:
    port, nobody = sharing.free_port(), sharing.free_port()
    made = lambda folder: Broker.behind(folder, port, nobody)  # noqa: E731 - one broker for one test
    with sharing.alone(made):
        given = connection({"servers": f"127.0.0.1:{port}", "timeout_seconds": 3})

        with pytest.raises(Unavailable, match=f"127.0.0.1:{nobody} failed: Connection refused"):
            given.discover(room.scope)


def test_a_password_or_certificate_is_shown_as_the_listener_wants(secured: Room) -> None:
    folder = secured.broker.folder
    ca = {"ca": str(folder / "ca.pem")}
    user = {"user": USER, "password": {"secret": SECRET}}
    own = {**ca, "certificate": str(folder / f"{USER}.pem"), "key": str(folder / f"{USER}.key")}
    listeners = {"TLS": {**user, "tls": ca}, "SCRAM": user, "MUTUAL": {"tls": own}}

    for listener, security in listeners.items():
        told = connection({"servers": places(secured.broker)[listener], "security": security}).test(secured.scope)

        assert ("encrypted" in told) == (listener != "SCRAM")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"servers": "kafka://host:9092"}, "host:port"),
        ({"servers": "user:pw@host:9092"}, "who asks in `security`"),
        ({"servers": ""}, "names no broker"),
        ({"servers": "h:1", "security": {"user": "u"}}, "belong together"),
        (
            {"servers": "h:1", "security": {"user": "u", "password": {"secret": "P"}, "mechanism": "PLAIN"}},
            "in the open",
        ),
        ({"servers": "h:1", "security": {"tls": {"certificate": "c.pem"}}}, "belong together"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        connection(settings)


def test_a_user_is_told_which_right_is_missing(secured: Room) -> None:
    topic = kafka_room.made(secured.broker)
    post = secured.post(topic, key="id", transaction_id=topic)
    schema = pa.schema([("id", pa.int64())])

    unseen = secured.problems(post, schema)
    allow(secured.broker, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    with pytest.raises(Invalid) as no_name:
        secured.put(topic, [{"id": 1}], key="id", transaction_id=topic)
    allow(secured.broker, ResourceType.TRANSACTIONAL_ID, topic, AclOperation.WRITE, AclOperation.DESCRIBE)
    with pytest.raises(Invalid) as no_group:
        secured.put(topic, [{"id": 1}], key="id", transaction_id=topic)
    allow(secured.broker, ResourceType.GROUP, topic, AclOperation.READ)
    with pytest.raises(Invalid) as no_write:
        secured.put(topic, [{"id": 1}], key="id", transaction_id=topic)
    allow(secured.broker, ResourceType.TOPIC, topic, AclOperation.WRITE, AclOperation.READ)
    secured.put(topic, [{"id": 1}], key="id", transaction_id=topic)

    assert f"--operation Read --topic {topic}" in unseen[0]
    assert f"--transactional-id {topic}" in str(no_name.value)
    assert f"--operation Read --group {topic}" in str(no_group.value)
    assert f"--topic {topic} (to post: --operation Write)" in str(no_write.value)
    assert secured.read(topic) == [{"id": 1}]


def test_a_user_who_may_only_describe_is_told_so_when_it_reads(secured: Room) -> None:
    topic = kafka_room.made(secured.broker)
    kafka_room.send(secured.broker, topic, [(None, {"id": 1})])
    allow(secured.broker, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)

    with pytest.raises(Invalid, match=f"--operation Read --topic {topic}"):
        secured.chunks(secured.get(topic, format="text"))


def test_discover_lists_topics_with_the_columns_of_a_sample(kafka: Broker, tmp_path: Path) -> None:
    with sharing.alone(Broker.made) as broker:
        room = Room(broker, tmp_path)
        names = {kind: room.topic(name=f"{kind}-{uuid.uuid4().hex[:6]}") for kind in ("json", "text", "bytes", "none")}
        room.send(names["json"], [("k", {"id": 1, "tags": ["a"], "at": "2026-01-02T03:04:05Z"})])
        room.send(names["text"], [(None, "a line")])
        room.send(names["bytes"], [(None, b"\xff\x00")])

        found = {each.name: each for each in room.scope.environment.connections["events"].discover(room.scope)}
        told = room.scope.environment.connections["events"].test(room.scope)

    assert set(found) == set(names.values())
    assert {each.kind for each in found.values()} == {"topic"}
    assert found[names["json"]].columns == pa.schema(
        [("id", pa.int64()), ("tags", pa.list_(pa.string())), ("at", pa.timestamp("us", "UTC"))]
    )
    assert found[names["text"]].columns == pa.schema([("value", pa.string())])
    assert found[names["bytes"]].columns == pa.schema([("value", pa.binary())])
    assert found[names["none"]].columns is None
    assert found[names["none"]].note == "no message yet"
    assert told.endswith("1 broker with 4 topics")


def test_nobody_learns_the_password_from_what_is_kept(secured: Room) -> None:
    topic = kafka_room.made(secured.broker)
    for operation in (AclOperation.READ, AclOperation.WRITE):
        allow(secured.broker, ResourceType.TOPIC, topic, operation)
    kafka_room.send(secured.broker, topic, [(None, {"id": 1})])
    get = secured.get(topic)

    plan = get.plan(secured.scope, None, Want())

    kept = repr([plan, secured.scope, get, secured.post(topic).target(secured.scope)])
    assert PASSWORD not in kept
    assert len(messages(secured.broker, topic)) == 1
