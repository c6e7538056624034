"""The page on Kafka says of connections and flows what is so: its examples run against a real broker."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from adapters.kafka import Connection
from tests.adapters.kafka_room import messages, send, settings
from tests.agent.projects import project, run_here
from tests.parts import sharing
from tests.parts.kafka import Broker

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "kafka.md").read_text("utf-8")
CONNECTION, FLOW = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def test_the_connection_of_the_page_is_one() -> None:
    found = Connection.model_validate_json(json.dumps(yaml.safe_load(CONNECTION)["connections"]["events"]))

    assert found.security.user == "processflow"
    assert found.security.mechanism == "SCRAM-SHA-512"


def test_the_flow_of_the_page_runs(tmp_path: Path) -> None:
    with sharing.alone(Broker.made) as broker:
        from tests.adapters.kafka_room import made

        made(broker, 2, name="orders")
        made(broker, 2, name="paid-orders")
        rows = [(str(n), {"id": n, "status": "paid" if n % 2 else "new", "total": n / 4}) for n in range(10)]
        send(broker, "orders", rows, headers=[("trace-id", b"t1")])
        environment = json.dumps({"environment": "local", "connections": {"events": settings(broker)}})
        home = project(tmp_path, FLOW, {"environments/local.yaml": environment})

        report = run_here(home, "paid-orders")
        found = messages(broker, "paid-orders")

    assert (report["status"], report["balanced"]) == ("done", True)
    assert sorted(json.loads(str(one.value))["id"] for one in found) == [1, 3, 5, 7, 9]
    assert found[0].headers == [("source", b"shop"), ("trace-id", b"t1")]
