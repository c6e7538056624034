"""What is told before a run: the part of the contract about problems."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.errors import Invalid
from tests.adapters.table_room import Room, TableRoom


class TableChecks(TableRoom):
    """Problems, connections, names."""

    def test_every_fault_of_a_get_is_reported_with_what_was_meant(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id BIGINT, updated_at BIGINT)")
        get = room.get(table="events", columns=["id", "idd"], key="i_d", cursor="updatedat", where="nope > 1")

        problems = room.problems(get)

        assert [problem.split(":")[0] for problem in problems] == ["columns", "key", "cursor", "where"]
        assert "did you mean 'updated_at'?" in problems[2]
        assert "nope" in problems[3]

    def test_a_missing_table_is_a_problem_that_names_the_nearest(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id BIGINT)")

        assert room.problems(room.get(table="event")) == ["table: there is no table 'event'; did you mean 'events'?"]

    def test_an_unknown_parameter_is_a_problem(self, tmp_path: Path) -> None:
        room = self.room_at(tmp_path, since=1)
        room.sql("CREATE TABLE events (id BIGINT)")

        problems = room.problems(room.get(table="events", where="id > $sinc"))

        assert len(problems) == 1
        assert "$sinc is no parameter or variable; did you mean 'since'?" in problems[0]

    def test_a_get_needs_a_table_or_a_query(self, room: Room) -> None:
        assert len(room.problems(room.get())) == 1
        assert len(room.problems(room.get(table="a", query="SELECT 1"))) == 1

    def test_every_fault_of_a_post_is_reported(self, room: Room) -> None:
        room.sql("CREATE TABLE orders (id BIGINT NOT NULL, who VARCHAR NOT NULL, n BIGINT)")
        schema = pa.schema([("id", pa.int64()), ("whom", pa.string()), ("n", pa.string())])

        problems = room.problems(room.post(table="orders", mode="upsert"), schema)

        assert "mode: mode 'upsert' needs `key`; name the columns that identify a record" in problems
        assert (
            "table: table 'orders' has no column 'whom'; did you mean 'who'?; or leave it out, or set `add_columns`"
            in problems
        )
        assert f"table: column 'n': string does not fit {self.words['BIGINT']}; cast it with a map" in problems
        assert "table: column 'who' of table 'orders' is not null; deliver it too" in problems

    def test_a_post_to_a_missing_table_is_a_problem_only_where_it_is_not_made(self, room: Room) -> None:
        room.sql("CREATE TABLE orders (id BIGINT)")
        schema = pa.schema([("id", pa.int64())])

        assert room.problems(room.post(table="order", create=False), schema) == [
            "table: there is no table 'order'; did you mean 'orders'?"
        ]
        assert room.problems(room.post(table="order"), schema) == []

    def test_a_connection_says_what_it_found(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id BIGINT)")
        connection = room.scope.environment.connections["shop"]

        assert " with 1 table or view" in connection.test(room.scope)
        assert self.adapter.tables(connection, room.scope) == [("events", pa.schema([("id", pa.int64())]))]

    def test_nodes_survive_pickling(self, room: Room) -> None:
        get, post = room.get(table="a", columns={"x": "date"}), room.post(table="a", key=["x"], mode="delete")

        assert pickle.loads(pickle.dumps(get)) == get
        assert pickle.loads(pickle.dumps(post)) == post

    def test_two_spellings_of_a_table_are_one_target(self, room: Room) -> None:
        address = room.post(table="Orders").target(room.scope)

        assert address == room.post(table="orders").target(room.scope)
        assert address.endswith("#orders")


class TableFiles(TableRoom):
    """Databases that are files."""

    def test_a_missing_database_is_a_problem_that_names_it(self, room: Room) -> None:
        problems = room.problems(room.get(table="events"))

        assert len(problems) == 1
        assert "shop.db: there is no such file" in problems[0]

    def test_a_file_that_is_no_database_is_invalid(self, room: Room) -> None:
        room.path.write_bytes(b"order_id;total\n" * 4096)

        with pytest.raises(Invalid, match=r"is no .* database"):
            room.scope.environment.connections["shop"].test(room.scope)

    def test_the_target_is_named_by_its_path(self, room: Room) -> None:
        assert room.post(table="orders").target(room.scope).endswith(f":{room.path.resolve()}#orders")
