"""Runs that read and write Kafka: positions, groups, rejects and replays, seen as a user sees them."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from agent.positions import told
from repository.catalogue import Catalogue
from tests.adapters.kafka_room import made, messages, send, settings
from tests.agent.projects import project, run_here
from tests.parts.kafka import Broker

FLOW = """flow: NAME
nodes:
  start: {type: start}
  orders: {type: kafka.get, from: start, connection: events, topic: FROM, columns: {id: BIGINT}, group: GROUP}
  kept: {type: kafka.post, from: orders, connection: events, topic: TO, key: id}
"""


def offsets(broker: Broker, group: str, topic: str, partitions: int) -> list[int]:
    consumer = Consumer({**broker.client(), "group.id": group})
    found = consumer.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=60)
    consumer.close()
    return [place.offset for place in found]


def room(broker: Broker, folder: Path) -> tuple[Any, str, str, str]:
    source, target, flow = made(broker, 2), made(broker), f"f-{uuid.uuid4().hex[:8]}"
    text = FLOW.replace("NAME", flow).replace("FROM", source).replace("TO", target).replace("GROUP", f"g-{flow}")
    environment = json.dumps({"environment": "local", "connections": {"events": settings(broker)}})
    return project(folder, text, {"environments/local.yaml": environment}), flow, source, target


def test_a_group_is_told_where_reading_goes_on_once_all_is_delivered(kafka: Broker, tmp_path: Path) -> None:
    home, flow, source, target = room(kafka, tmp_path)
    send(kafka, source, [(str(n), {"id": n}, n % 2) for n in range(10)])

    first = run_here(home, flow)
    after_first = offsets(kafka, f"g-{flow}", source, 2)
    send(kafka, source, [("x", {"id": 10}, 1)])
    second = run_here(home, flow)

    assert [first["status"], second["status"]] == ["done", "done"]
    assert after_first == [5, 5]
    assert offsets(kafka, f"g-{flow}", source, 2) == [5, 6]
    assert sorted(json.loads(str(one.value))["id"] for one in messages(kafka, target)) == list(range(11))
    position = Catalogue(home.catalogue_url).positions(flow, "local")["orders"]
    assert told(position) == f"{source} at 0:5 1:6"


def test_a_group_that_others_are_in_is_not_moved_and_the_run_says_so(kafka: Broker, tmp_path: Path) -> None:
    home, flow, source, target = room(kafka, tmp_path)
    send(kafka, source, [("a", {"id": 1}, 0)])
    other = Consumer({**kafka.client(), "group.id": f"g-{flow}", "auto.offset.reset": "earliest"})
    other.subscribe([source])
    while not other.assignment():
        other.poll(0.1)

    report = run_here(home, flow)
    other.close()

    assert report["status"] == "done"
    assert "has consumers of its own" in report["notes"][0]
    assert len(messages(kafka, target)) == 1


def test_a_message_that_is_no_record_is_a_reject_and_the_rest_goes_on(kafka: Broker, tmp_path: Path) -> None:
    home, flow, source, target = room(kafka, tmp_path)
    send(kafka, source, [("a", {"id": 1}, 0), ("b", "{oops", 0), ("c", {"id": 3}, 0)])

    report = run_here(home, flow)
    again = run_here(home, flow)

    assert (report["status"], report["balanced"]) == ("done_with_rejects", True)
    assert report["nodes"]["orders"]["rejected"] == 1
    assert (again["status"], again["nodes"]["orders"]["in"]) == ("done", 0)
    assert len(messages(kafka, target)) == 2
