"""Bad days between Kafka and Kafka: lines cut, brokers killed, runs killed. Each record arrives once."""

from __future__ import annotations

import json
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from repository.catalogue import Catalogue
from repository.project import Project
from tests.adapters import kafka_room
from tests.adapters.kafka_room import made, messages
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, project, run_here
from tests.parts import sharing
from tests.parts.kafka import Broker
from tests.parts.proxy import Proxy

RECORDS = 3_000
FLOW = """flow: NAME
settings: {batch_rows: 500, retry: {attempts: 20, first_seconds: 0.05, most_seconds: 2}}
nodes:
  start: {type: start}
  orders: {type: kafka.get, from: start, connection: events, topic: FROM, columns: {id: BIGINT, text: VARCHAR}}
  kept: {type: kafka.post, from: orders, connection: events, topic: TO, key: id}
"""
CLIENT = rb".{5}\x00.processflow"
"""How a request goes on behind its kind: version, number and the client's name."""
FETCH, PRODUCE, BEGIN, COMMIT = (
    kind + CLIENT for kind in (rb"\x00\x01\x00", rb"\x00\x00\x00", rb"\x00\x16\x00", rb"\x00\x1a\x00")
)


@dataclass
class Scene:
    """A flow between two topics of a broker, whose line goes through a proxy."""

    broker: Broker
    proxy: Proxy
    made: Project
    flow: str
    source: str
    target: str

    def send(self, first: int, count: int) -> None:
        rows = [(str(n), {"id": n, "text": f"{n}-" + "x" * 300}) for n in range(first, first + count)]
        kafka_room.send(self.broker, self.source, rows)

    def run(self) -> dict[str, Any]:
        return run_here(self.made, self.flow)

    def assert_whole(self, count: int) -> None:
        """Each record is there once, as it was, and nothing is left of the runs."""
        found = [json.loads(str(one.value)) for one in messages(self.broker, self.target)]
        times = Counter(record["id"] for record in found)
        assert len(times) == count, sorted({*range(count)} ^ times.keys())[:5]
        assert set(times.values()) == {1}
        assert all(record["text"] == f"{record['id']}-" + "x" * 300 for record in found)
        assert leftovers(self.made) == []
        assert Catalogue(self.made.catalogue_url).runs(status="running") == []


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[tuple[Broker, Proxy]]:
    port = sharing.free_port()
    with Proxy(port) as proxy, sharing.alone(partial(Broker.behind, port=port, seen_port=proxy.port)) as broker:
        yield broker, proxy


@pytest.fixture
def scene(behind_proxy: tuple[Broker, Proxy], tmp_path: Path) -> Iterator[Scene]:
    broker, proxy = behind_proxy
    source, target = made(broker, 3), made(broker, 2)
    flow = f"f-{uuid.uuid4().hex[:8]}"
    text = FLOW.replace("NAME", flow).replace("FROM", source).replace("TO", target)
    connection = {"adapter": "kafka", "servers": f"127.0.0.1:{proxy.port}", "timeout_seconds": 60}
    environment = json.dumps({"environment": "local", "connections": {"events": connection}})
    found = Scene(
        broker, proxy, project(tmp_path, text, {"environments/local.yaml": environment}), flow, source, target
    )
    found.send(0, RECORDS)
    yield found
    proxy.back()


@pytest.mark.parametrize(
    ("word", "heard"),
    [(FETCH, False), (FETCH, True), (PRODUCE, False), (PRODUCE, True), (BEGIN, True), (COMMIT, False), (COMMIT, True)],
)
def test_a_line_that_is_cut_costs_and_doubles_nothing(scene: Scene, word: bytes, heard: bool) -> None:
    cuts = scene.proxy.cuts
    scene.proxy.cut_at(word, heard=heard)

    report = scene.run()

    assert scene.proxy.cuts == cuts + 1
    assert (report["status"], report["balanced"]) == ("done", True), report["error"]
    scene.assert_whole(RECORDS)


@pytest.mark.parametrize("word", [FETCH, PRODUCE, COMMIT])
def test_a_broker_that_is_killed_and_started_again_costs_and_doubles_nothing(scene: Scene, word: bytes) -> None:
    def restart() -> None:
        scene.broker.end(signal.SIGKILL)
        scene.broker.start()

    done = scene.proxy.done
    scene.proxy.do_at(word, restart)

    report = scene.run()

    assert scene.proxy.done == done + 1
    assert (report["status"], report["balanced"]) == ("done", True), report["error"]
    scene.assert_whole(RECORDS)


PUBLICATION = "adapters.kafka.publishing:KafkaPublication"


@pytest.mark.parametrize(
    ("place", "when"),
    [
        ("adapters.kafka.reading:Maker.__call__", "before"),
        ("adapters.kafka.sending:Sending.__call__", "after"),
        ("pipelines.journal:save_settled", "after"),
        (f"{PUBLICATION}.commit", "before"),
        (f"{PUBLICATION}.commit", "after"),
    ],
)
def test_a_run_that_is_killed_is_finished_or_read_again(scene: Scene, place: str, when: str) -> None:
    assert killed_at(scene.made.folder, scene.flow, place, when, 1)
    scene.send(RECORDS, 50)

    scene.run()

    scene.assert_whole(RECORDS + 50)


def test_a_broker_that_is_away_ends_the_run_and_the_next_one_delivers(scene: Scene) -> None:
    text = (scene.made.folder / f"flows/{scene.flow}.yaml").read_text()
    impatient = text.replace("attempts: 20, first_seconds: 0.05", "attempts: 2, first_seconds: 0.01")
    (scene.made.folder / f"flows/{scene.flow}.yaml").write_text(impatient)
    environment = scene.made.folder / "environments/local.yaml"
    environment.write_text(environment.read_text().replace('"timeout_seconds": 60', '"timeout_seconds": 5'))
    scene.proxy.cut_at(PRODUCE, then_refuse=True)
    first = scene.run()
    scene.proxy.back()
    environment.write_text(environment.read_text().replace('"timeout_seconds": 5', '"timeout_seconds": 60'))

    second = scene.run()

    assert first["status"] == "failed"
    assert second["status"] == "done"
    scene.assert_whole(RECORDS)
