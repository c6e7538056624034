"""Reading a table by cursor, run after run: the part of the contract about positions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.node import Want
from tests.adapters.table_room import SHARED, Reading, Room, TableRoom


class TableCursors(TableRoom):
    """Positions, ties, and what arrives meanwhile."""

    @SHARED
    @given(
        st.lists(
            st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=6),
            min_size=1,
            max_size=5,
        ),
        st.sampled_from(["id", ["id", "who"]]),
    )
    def test_reading_by_cursor_with_ties_gives_each_record_exactly_once(
        self, runs: list[list[tuple[int, bool]]], key: str | list[str]
    ) -> None:
        at, number, position = 0, 0, None
        seen: list[int] = []
        with self.new_room() as room:
            room.sql("CREATE TABLE events (id INTEGER, who VARCHAR, moved INTEGER)")
            for run in runs:
                rows = []
                for step, has_name in run:
                    at, number = at + step, number + 1
                    name = "'x'" if has_name else "NULL"
                    rows.append(f"({number}, {name}, {at})")
                if rows:
                    room.sql(f"INSERT INTO events VALUES {', '.join(rows)}")

                reading = room.read(position, table="events", cursor="moved", key=key)
                position = json.loads(json.dumps(reading.plan.position))
                seen += [row["id"] for row in reading.rows]

        assert sorted(seen) == list(range(1, number + 1))

    def test_without_a_key_what_arrives_later_at_the_same_cursor_value_is_not_read(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id INTEGER, moved INTEGER)", "INSERT INTO events VALUES (1, 5)")
        first = room.read(table="events", cursor="moved")
        room.sql("INSERT INTO events VALUES (2, 5), (3, 6)")

        second = room.read(first.plan.position, table="events", cursor="moved")

        assert [row["id"] for row in second.rows] == [3]

    def test_records_that_arrive_between_plan_and_read_are_read_once(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id INTEGER, moved INTEGER)", "INSERT INTO events VALUES (1, 5), (2, 6)")
        get = room.get(table="events", cursor="moved", key="id")
        schema, plan = room.schema(get), get.plan(room.scope, None, Want())
        room.sql("INSERT INTO events VALUES (3, 6), (4, 7)")

        first = Reading.of(get, plan, schema, room.scope, Want())
        second = room.read(plan.position, table="events", cursor="moved", key="id")

        assert sorted(row["id"] for row in first.rows) == [1, 2]
        assert sorted(row["id"] for row in second.rows) == [3, 4]

    def test_records_without_a_cursor_value_are_counted_in_the_note(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE events (id INTEGER, moved INTEGER)", "INSERT INTO events VALUES (1, NULL), (2, 5), (3, NULL)"
        )

        reading = room.read(table="events", cursor="moved")

        assert [row["id"] for row in reading.rows] == [2]
        assert reading.plan.note == "2 records without moved are not read"

    @pytest.mark.parametrize("kind", ["TIMESTAMP", "DECIMAL(12,3)", "VARCHAR", "DOUBLE", "BIGINT", "DATE"])
    def test_a_cursor_of_any_type_goes_on_where_it_was(self, room: Room, kind: str) -> None:
        texts = {
            "TIMESTAMP": ["'2024-01-01 10:00:00.123456'", "'2024-01-01 10:00:00.123457'"],
            "DECIMAL(12,3)": ["9.125", "10.125"],
            "VARCHAR": ["'a''b'", "'c'"],
            "DOUBLE": ["0.1", "0.30000000000000004"],
            "BIGINT": ["9007199254740993", "9007199254740994"],
            "DATE": ["'2024-01-31'", "'2024-02-01'"],
        }[kind]
        room.sql(f"CREATE TABLE events (id INTEGER, moved {kind})", f"INSERT INTO events VALUES (1, {texts[0]})")
        first = room.read(table="events", cursor="moved", key="id")
        room.sql(f"INSERT INTO events VALUES (2, {texts[0]}), (3, {texts[1]})")

        second = room.read(json.loads(json.dumps(first.plan.position)), table="events", cursor="moved", key="id")
        third = room.read(second.plan.position, table="events", cursor="moved", key="id")

        assert [row["id"] for row in first.rows] == [1]
        assert sorted(row["id"] for row in second.rows) == [2, 3]
        assert third.rows == []

    def test_a_key_that_is_declared_later_reads_nothing_twice(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id INTEGER, moved INTEGER)", "INSERT INTO events VALUES (1, 5)")
        first = room.read(table="events", cursor="moved")
        same = room.read(first.plan.position, table="events", cursor="moved", key="id")
        room.sql("INSERT INTO events VALUES (2, 6)")

        second = room.read(same.plan.position, table="events", cursor="moved", key="id")
        room.sql("INSERT INTO events VALUES (3, 6)")
        third = room.read(second.plan.position, table="events", cursor="moved", key="id")

        assert [[row["id"] for row in reading.rows] for reading in (same, second, third)] == [[], [2], [3]]

    def test_another_cursor_reads_from_the_beginning_and_says_so(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id INTEGER, moved INTEGER)", "INSERT INTO events VALUES (1, 500), (2, 600)")
        first = room.read(table="events", cursor="moved")

        second = room.read(first.plan.position, table="events", cursor="id")

        assert [row["id"] for row in second.rows] == [1, 2]
        assert second.plan.note == "another cursor than in the last run: read from the beginning"

    def test_a_look_at_some_records_leaves_the_position_where_it_was(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id INTEGER, moved INTEGER)", "INSERT INTO events VALUES (1, 5)")
        first = room.read(table="events", cursor="moved")
        room.sql("INSERT INTO events VALUES (2, 6), (3, 7)")

        look = room.read(first.plan.position, Want(rows=1), table="events", cursor="moved")

        assert [row["id"] for row in look.rows] == [2]
        assert look.plan.position == first.plan.position

    def test_the_later_of_two_positions_does_not_depend_on_their_order(self, room: Room) -> None:
        get = room.get(table="events", cursor="moved", key="id")
        nine = {"at": "9", "keys": [["1"]], "number": True}
        ten = {"at": "10", "keys": [["2"]], "number": True}
        tie = {"at": "10", "keys": [["3"]], "number": True}

        assert get.later(nine, ten) == get.later(ten, nine) == ten
        assert get.later(None, nine) == get.later(nine, None) == nine
        assert get.later(ten, tie) == get.later(tie, ten) == {"at": "10", "keys": [["2"], ["3"]], "number": True}
