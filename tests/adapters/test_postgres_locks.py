"""Locks on PostgreSQL: whoever waits in vain is told who holds what it waits for, and of nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.environment import Environment
from pipelines.errors import Unavailable
from pipelines.node import Want
from pipelines.scope import Scope
from tests.adapters.table_room import Room, batch_of
from tests.parts.postgres import Server, schema_of

COLUMNS = {"id": pa.int64(), "who": pa.string()}
BATCH = batch_of(COLUMNS, [(1, "Ann"), (2, "Bob")])


class Patient(Room):
    """A room whose connection waits long enough for somebody to look."""

    @property
    def scope(self) -> Scope:
        assert self.settings is not None
        connection = self.adapter.Connection(**{**self.settings(self.path), "lock_seconds": 0.8})
        environment = Environment(environment="local", connections={"shop": connection})
        return Scope(self.folder, environment, self.values, staging=self.folder / "staging")


@pytest.fixture
def room(postgres_room: Room) -> Room:
    values = {
        name: getattr(postgres_room, name) for name in ("adapter", "folder", "execute", "locked", "values", "settings")
    }
    made = Patient(**values)
    made.sql("CREATE TABLE people (id bigint PRIMARY KEY, who text)", "INSERT INTO people VALUES (1, 'Eve')")
    return made


@contextmanager
def session(server: Server, path: Path, program: str, *statements: str) -> Iterator[int]:
    """Another session with an open transaction that has run some statements; its process."""
    words: dict[str, Any] = {"application_name": program, "options": f"-c search_path={schema_of(path)}"}
    with closing(server.connect(**words)) as connection:
        connection.execute("BEGIN")
        for statement in statements:
            connection.execute(statement)
        yield connection.info.backend_pid


@pytest.mark.parametrize("mode", ["append", "upsert", "replace"])
def test_a_delivery_that_waits_in_vain_is_told_of_the_holder_and_of_no_bystander(
    postgres: Server, room: Room, mode: str
) -> None:
    config: dict[str, Any] = {"table": "people", "mode": mode, "key": ["id"]}
    with (
        session(postgres, room.path, "bystander", "SELECT * FROM people"),
        session(postgres, room.path, "holder", "LOCK TABLE people IN SHARE MODE") as pid,
        pytest.raises(Unavailable, match="locked by another session") as fault,
    ):
        room.deliver(BATCH, **config)

    assert f"held by process {pid} (user tester, holder, in its transaction since 2" in str(fault.value)
    assert "idle in transaction)" in str(fault.value)
    assert "bystander" not in str(fault.value)


def test_a_record_that_another_session_is_changing_names_that_session(postgres: Server, room: Room) -> None:
    with (
        session(postgres, room.path, "changer", "UPDATE people SET who = 'x' WHERE id = 1") as pid,
        pytest.raises(Unavailable, match=f"held by process {pid} .*changer"),
    ):
        room.deliver(BATCH, table="people", mode="upsert", key=["id"])


def test_a_read_of_a_table_that_is_being_altered_names_who_alters_it(postgres: Server, room: Room) -> None:
    get = room.get(table="people")
    with (
        session(postgres, room.path, "altering", "ALTER TABLE people ADD COLUMN note text") as pid,
        pytest.raises(Unavailable, match=f"held by process {pid} .*altering"),
    ):
        get.plan(room.scope, None, Want())

    assert len(room.read(table="people").rows) == 1


def test_a_guest_who_may_not_see_when_others_began_is_told_the_process(
    postgres: Server, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUEST", "guest")
    schema, user = schema_of(room.path), f"guest_{schema_of(room.path)}"
    room.sql(f"CREATE ROLE {user} LOGIN PASSWORD 'guest'", f"GRANT ALL ON SCHEMA {schema} TO {user}",
             f"GRANT ALL ON people TO {user}")  # fmt: skip
    settings = {**postgres.settings(schema), "user": user, "password": {"secret": "GUEST"}}
    guest = replace(room, settings=lambda path: dict(settings))

    with (
        session(postgres, room.path, "holder", "LOCK TABLE people IN SHARE MODE") as pid,
        pytest.raises(Unavailable, match=rf"held by process {pid} \(user tester[^)]*\)"),
    ):
        guest.deliver(batch_of(COLUMNS, [(3, "Cid")]), table="people")
    room.sql(f"DROP OWNED BY {user}", f"DROP ROLE {user}")
