"""Users of PostgreSQL who may not do all: told before anything runs, with the statement that helps, which does."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import Invalid
from tests.adapters.table_room import Room, batch_of
from tests.parts.postgres import Server, schema_of

COLUMNS = {"id": pa.int64(), "who": pa.string()}
BATCH = batch_of(COLUMNS, [(1, "Ann"), (2, "Bob")])
OPEN = ("GRANT USAGE, CREATE ON SCHEMA {schema} TO {user}",)


@dataclass(frozen=True)
class Guest:
    """A user without rights in the schema of a room."""

    host: Room
    user: str

    @cached_property
    def room(self) -> Room:
        given = self.host.settings
        assert given is not None
        return replace(
            self.host, settings=lambda path: {**given(path), "user": self.user, "password": {"secret": "GUEST"}}
        )

    def sql(self, *statements: str) -> None:
        self.host.sql(*(text.format(schema=schema_of(self.host.path), user=self.user) for text in statements))

    def grant(self, problem: str) -> None:
        """Does what a problem says."""
        statement = problem.rpartition("; ")[2]
        assert re.match(r"grant|alter role", statement), problem
        self.host.sql(statement.partition(", or another")[0])


@pytest.fixture
def guest(postgres_room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    monkeypatch.setenv("GUEST", "guest")
    made = Guest(postgres_room, f"guest_{secrets.token_hex(6)}")
    made.sql(
        "CREATE TABLE orders (id bigint PRIMARY KEY, who text)",
        "INSERT INTO orders VALUES (7, 'Eve')",
        "CREATE ROLE {user} LOGIN PASSWORD 'guest'",
    )
    yield made
    made.sql("DROP OWNED BY {user}", "DROP ROLE {user}")


@pytest.mark.parametrize(
    "config",
    [
        {"table": "orders"}, {"table": "orders", "columns": ["id"]},
        {"table": "orders", "columns": ["id"], "key": ["id"], "cursor": "id"},
    ],
)  # fmt: skip
def test_a_table_that_may_not_be_read_is_told_and_what_is_told_helps(guest: Guest, config: dict[str, Any]) -> None:
    closed = guest.room.problems(guest.room.get(**config))
    assert "may not look into schema" in closed[0]
    guest.grant(closed[0].removesuffix("; "))

    problems = guest.room.problems(guest.room.get(**config))

    assert len(problems) == 1
    assert f"table: user '{guest.user}' may not read table 'orders'; grant select on" in problems[0]
    guest.grant(problems[0])
    assert len(guest.room.read(**config).rows) == 1


def test_some_columns_are_enough_where_no_others_are_read(guest: Guest) -> None:
    guest.sql(*OPEN, "GRANT SELECT (id) ON orders TO {user}")

    assert guest.room.read(table="orders", columns=["id"]).rows == [{"id": 7}]
    assert "may not read table 'orders'" in guest.room.problems(guest.room.get(table="orders"))[0]


def test_a_query_of_what_may_not_be_read_is_told_before_it_runs(guest: Guest) -> None:
    guest.sql(*OPEN)

    problems = guest.room.problems(guest.room.get(query="SELECT count(*) AS n FROM orders"))

    assert len(problems) == 1
    assert f"permission denied for table orders; have its owner grant it to user '{guest.user}'" in problems[0]


@pytest.mark.parametrize("mode", ["append", "replace", "upsert", "delete"])
def test_all_that_a_delivery_lacks_is_told_at_once_and_what_is_told_is_enough(guest: Guest, mode: str) -> None:
    guest.sql("GRANT USAGE ON SCHEMA {schema} TO {user}")
    config: dict[str, Any] = {"table": "orders", "mode": mode, **({"key": ["id"]} if mode != "append" else {})}
    needed = {"append": "insert into", "replace": "insert into or delete from",
              "upsert": "read or insert into or update", "delete": "read or delete from"}  # fmt: skip

    problems = guest.room.problems(guest.room.post(**config), BATCH.schema)

    assert len(problems) == 2
    assert "may not make the table _processflow_publications, which tells what has been published" in problems[0]
    assert f"user '{guest.user}' may not {needed[mode]} table 'orders'; grant" in problems[1]
    for problem in problems:
        guest.grant(problem)
    assert guest.room.problems(guest.room.post(**config), BATCH.schema) == []
    batch = BATCH if mode != "append" else batch_of(COLUMNS, [(3, "Cid")])
    assert guest.room.deliver(batch, **config).rejects == []


def test_sequences_references_and_triggers_need_rights_of_their_own(guest: Guest) -> None:
    guest.sql(
        *OPEN,
        "CREATE TABLE lines (n serial, id bigint REFERENCES orders, who text)",
        "GRANT INSERT ON lines TO {user}",
    )
    post = guest.room.post(table="lines")
    batch = batch_of(COLUMNS, [(7, "Ann")])

    problems = guest.room.problems(post, batch.schema)

    assert [problem.partition("' may ")[2].partition(";")[0] for problem in problems] == [
        "not read table 'lines'",
        f"not read {schema_of(guest.host.path)}.orders, to which 'lines' refers",
        "not use lines_n_seq, which numbers the records of 'lines'",
    ]
    for problem in problems:
        guest.grant(problem)
    assert guest.room.deliver(batch, table="lines").rejects == []
    assert guest.host.sql("SELECT n, id, who FROM lines") == [(1, 7, "Ann")]


def test_a_table_of_publications_that_is_anothers_is_told(guest: Guest) -> None:
    guest.host.deliver(BATCH, table="orders")
    guest.sql("GRANT USAGE ON SCHEMA {schema} TO {user}", "GRANT INSERT ON orders TO {user}")

    problems = guest.room.problems(guest.room.post(table="orders"), BATCH.schema)

    assert len(problems) == 1
    assert "may not read or insert into table '_processflow_publications'; grant select, insert on" in problems[0]
    guest.grant(problems[0])
    assert guest.room.problems(guest.room.post(table="orders"), BATCH.schema) == []


def test_a_user_whose_transactions_only_read_is_told_so(guest: Guest) -> None:
    guest.sql(*OPEN, "GRANT ALL ON orders TO {user}", "ALTER ROLE {user} SET default_transaction_read_only = on")
    post = guest.room.post(table="orders")

    problems = guest.room.problems(post, BATCH.schema)

    assert len(problems) == 1
    assert "takes no writes of this user: default_transaction_read_only is on; alter role" in problems[0]
    with pytest.raises(Invalid, match="it is a standby, or default_transaction_read_only is on"):
        guest.room.deliver(BATCH, table="orders")
    guest.grant(problems[0])
    assert guest.room.problems(post, BATCH.schema) == []


def test_a_right_taken_away_after_the_check_ends_the_delivery_with_what_to_grant(guest: Guest) -> None:
    guest.sql(*OPEN, "GRANT INSERT ON orders TO {user}")
    assert guest.room.problems(guest.room.post(table="orders"), BATCH.schema) == []
    guest.sql("REVOKE INSERT ON orders FROM {user}")

    with pytest.raises(Invalid, match="permission denied for table orders; have its owner grant it to user 'guest_"):
        guest.room.deliver(BATCH, table="orders")


def test_a_standby_is_read_and_takes_no_writes(postgres: Server, postgres_room: Room) -> None:
    room = postgres_room
    room.sql(
        "CREATE TABLE orders (id bigint, who text)", "INSERT INTO orders SELECT n, 'Eve' FROM generate_series(1, 9) n"
    )
    schema = schema_of(room.path)

    with postgres.standby() as standby:
        there = replace(room, settings=lambda path: standby.settings(schema))
        problems = there.problems(there.post(table="orders"), BATCH.schema)

        assert len(there.read(table="orders").rows) == 9
        assert len(problems) == 1
        assert "the server is a standby, which takes no writes; name the primary" in problems[0]
        with pytest.raises(Invalid, match="it is a standby"):
            there.deliver(BATCH, table="orders")
