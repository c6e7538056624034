"""Kafka's get and post are held to the suite that strangers import, on a real broker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adapters import kafka
from pipelines.conformance import GetConformance, PostConformance
from pipelines.conformance.examples import Records
from pipelines.conformance.nodes import NodeConformance
from pipelines.node import Example, Node
from pipelines.scope import Scope
from tests.adapters.kafka_room import Room as Topics
from tests.adapters.kafka_room import messages
from tests.adapters.orders import NEW, ROWS
from tests.parts import kafka as kafka_parts


class InKafka(NodeConformance):
    """Orders in a topic of their own on a real broker."""

    kafka: kafka_parts.Broker
    partitions = 2

    @pytest.fixture(autouse=True)
    def _kafka(self, kafka: kafka_parts.Broker) -> None:
        self.kafka = kafka

    def room(self, scope: Scope) -> Topics:
        return Topics(self.kafka, scope.project)

    def topic(self, scope: Scope) -> str:
        return str((scope.project / "topic").read_text())

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = NodeConformance.prepare(self, project, example)
        room = self.room(scope)
        (project / "topic").write_text(room.topic(self.partitions))
        return replace(scope, environment=room.scope.environment, flow=f"conformance-{self.topic(scope)}")

    def in_topic(self, node: Node, scope: Scope) -> Node:
        return node.model_copy(update={"topic": self.topic(scope)})

    def worlds(self, tmp_path: Path) -> list[tuple[Example, Node, Scope]]:
        return [(example, self.in_topic(node, scope), scope) for example, node, scope in super().worlds(tmp_path)]


class TestKafkaGet(InKafka, GetConformance):
    node = kafka.Get

    def samples(self) -> Sequence[Example]:
        config = {"connection": "events", "topic": "orders", "key": ["order_no"]}
        texts = [{"value": json.dumps(row)} for row in ROWS]
        placed = [{**row, "at": row["order_no"], "partition": 0, "offset": number} for number, row in enumerate(ROWS)]
        take = {"at": "key", "partition": "partition", "offset": "offset"}
        return (
            Example(config=config, gives={"out": ROWS}),
            Example(config={**config, "take": take}, gives={"out": placed}),
            Example(config={"connection": "events", "topic": "orders", "format": "text"}, gives={"out": texts}),
        )

    def prepare(self, project: Path, example: Example) -> Scope:
        scope = super().prepare(project, example)
        self.room(scope).send(self.topic(scope), [(row["order_no"], row, 0) for row in ROWS])
        return scope

    def grow(self, scope: Scope, example: Example) -> Records | None:
        self.room(scope).send(self.topic(scope), [(NEW["order_no"], NEW, 1)])
        if example.config.get("format") == "text":
            return [{"value": json.dumps(NEW)}]
        return [{**NEW, "at": "WEB-4", "partition": 1, "offset": 0} if "take" in example.config else NEW]


class TestKafkaPost(InKafka, PostConformance):
    node = kafka.Post
    partitions = 1

    def delivered(self, scope: Scope, example: Example) -> Records:
        found = messages(self.kafka, self.topic(scope))
        is_text = example.config.get("format") == "text"
        return [{"line": one.value} if is_text else json.loads(str(one.value)) for one in found]
