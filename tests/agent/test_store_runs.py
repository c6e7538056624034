"""Runs between files on servers: each file once, delivered once, also where the run is killed on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repository.project import Project
from tests.adapters.file.store_room import Room, on_s3, on_sftp
from tests.agent.kills import killed_at
from tests.agent.projects import leftovers, processflow, project, report, run_here

FLOW = """flow: nightly
settings: {retry: {attempts: 2, first_seconds: 0.01}}
nodes:
  start: {type: start}
  orders: {type: file.get, from: start, connection: lake, path: "in/*.csv", once: true, columns: {id: BIGINT}}
  kept: {type: file.post, from: orders, connection: lake, path: out/orders.csv}
"""
STORES = {"s3": "adapters.file.stores.s3:S3", "sftp": "adapters.file.stores.sftp:Sftp"}


@pytest.fixture(params=["s3", "sftp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def room(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    server = request.getfixturevalue(kind)
    return on_s3(server, tmp_path) if kind == "s3" else on_sftp(server, tmp_path)


def made(room: Room, folder: Path) -> Project:
    text = json.dumps({"environment": "local", "connections": {"lake": room.settings}})
    return project(folder, FLOW, {"environments/local.yaml": text})


def ids(room: Room) -> list[str]:
    return sorted(room.files().get("out/orders.csv", b"").decode().split()[1:])


def test_each_file_is_delivered_once(room: Room, tmp_path: Path) -> None:
    nightly = made(room, tmp_path)
    room.put("in/a.csv", b"id\n1\n2\n")

    first = run_here(nightly, "nightly")
    second = run_here(nightly, "nightly")
    room.put("in/b.csv", b"id\n3\n")
    third = run_here(nightly, "nightly")

    assert [each["status"] for each in (first, second, third)] == ["done"] * 3
    assert [each["nodes"]["kept"]["delivered"] for each in (first, second, third)] == [2, 0, 1]
    assert ids(room) == ["1", "2", "3"]
    assert leftovers(nightly) == []


@pytest.mark.parametrize(
    ("step", "when"),
    [("stage", "before"), ("stage", "after"), ("finish", "before"), ("finish", "after")],
)
def test_a_run_killed_while_it_delivers_leaves_each_record_once(
    step: str, when: str, kind: str, room: Room, tmp_path: Path
) -> None:
    nightly = made(room, tmp_path)
    room.put("in/a.csv", b"id\n1\n2\n")
    room.put("out/orders.csv", b"id\n0\n")

    assert killed_at(tmp_path, "nightly", f"{STORES[kind]}.{step}", when, 1)
    shown = ids(room)
    room.put("in/b.csv", b"id\n3\n")
    after = run_here(nightly, "nightly")

    assert shown == (["0", "1", "2"] if (step, when) == ("finish", "after") else ["0"])
    assert after["status"] == "done"
    assert ids(room) == ["0", "1", "2", "3"]
    assert room.pending() == []
    assert leftovers(nightly) == []


def test_a_run_that_fails_behind_an_upload_leaves_nothing_in_the_store(room: Room, tmp_path: Path) -> None:
    nightly = made(room, tmp_path)
    room.put("in/a.csv", b"id\n1\nx\n")
    text = FLOW.replace("once: true", "once: true, rejects: {fail_above: 0}")
    (tmp_path / "flows" / "nightly.yaml").write_text(text)

    done = run_here(nightly, "nightly")

    assert done["status"] == "failed"
    assert list(room.files()) == ["in/a.csv"]
    assert room.pending() == []


def test_the_command_tells_what_a_connection_has_and_what_is_wrong_without_its_secrets(
    room: Room, tmp_path: Path
) -> None:
    made(room, tmp_path)
    room.put("in/a.csv", b"id,name\n1,x\n")

    tested = processflow(tmp_path, "connections", "test", "lake")
    found = json.loads(processflow(tmp_path, "connections", "discover", "lake", "--json").stdout)
    ran = report(tmp_path, "nightly")

    assert tested.returncode == 0
    assert tested.stdout.startswith("lake: ")
    assert found == [
        {"name": "in/a.csv", "kind": "file", "columns": {"id": "BIGINT", "name": "VARCHAR"}, "note": "12 bytes"}
    ]
    assert (ran["status"], ran["balanced"]) == ("done", True)
