"""A tap that does what its config says, well or badly: `rows`, `schema`, `key`, and under `does` the bad days."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    given = {name: sys.argv[place + 1] for place, name in enumerate(sys.argv[:-1]) if name.startswith("--")}
    config = read(given["--config"])
    if "--discover" in sys.argv:
        stream = {
            "tap_stream_id": "orders", "stream": "orders", "key_properties": config.get("key", []), "metadata": [],
            "schema": {"type": "object", "properties": config["schema"]},
        }  # fmt: skip
        sys.stdout.write(json.dumps({"streams": [stream]}))
        return
    state = read(given["--state"]) if "--state" in given else {}
    catalog = read(given["--catalog"])
    (stream,) = (each for each in catalog["streams"] if each["metadata"][0]["metadata"]["selected"])
    rows = config["rows"][state.get("read", 0) :]
    say({"type": "SCHEMA", "stream": "orders", "schema": stream["schema"], "key_properties": stream["key_properties"]})
    for number, row in enumerate(rows, 1):
        text = (
            json.dumps(row) if isinstance(row, dict) else row
        )  # a text stands for itself: digits that json would not keep
        sys.stdout.write('{"type": "RECORD", "stream": "orders", "record": ' + text + "}\n")
        if number % config.get("state_every", 1) == 0:
            say({"type": "STATE", "value": {"read": state.get("read", 0) + number}})
    behave(config.get("does", ""), config)


def behave(does: str, config: dict[str, Any]) -> None:
    if does == "fails":
        sys.exit("ValueError: the key is " + config["token"])
    if does == "is silent":
        time.sleep(1000)
    if does == "babbles":
        sys.stdout.write("Hello, world\n")
    if does == "gives files":
        say({"type": "BATCH", "stream": "orders", "encoding": {"format": "jsonl"}, "manifest": []})
    if does == "ends without a line's end":
        sys.stdout.write('{"type": "STATE", "value": {"read": 77}}')


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def read(path: str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))
