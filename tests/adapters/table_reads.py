"""Reading a table, view or query whole: the part of the contract about splits, columns and parameters."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa

from pipelines.node import Want
from tests.adapters.table_room import Reading, Room, TableRoom


class TableReads(TableRoom):
    """Splits, columns, conditions."""

    def test_a_large_table_is_cut_into_splits_that_give_each_record_once_and_the_same_again(self, room: Room) -> None:
        room.sql(
            f"CREATE TABLE many (n {self.words.get('row', 'INTEGER')})",
            "WITH RECURSIVE r(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM r WHERE n < 511) "
            "INSERT INTO many SELECT a.n * 1024 + b.n * 2 + c.n FROM r a, r b, (SELECT 0 AS n UNION ALL SELECT 1) c",
        )
        get = room.get(table="many")
        plan = get.plan(room.scope, None, Want())

        reading = Reading.of(get, plan, room.schema(get), room.scope, Want(batch_rows=50_000))
        again = Reading.of(get, plan, room.schema(get), room.scope, Want(batch_rows=65_536))

        assert len(plan.splits) > 1
        assert sorted(reading.table["n"].to_pylist()) == list(range(512 * 1024))
        assert reading.ordinals == again.ordinals
        assert len(set(reading.ordinals)) == 512 * 1024
        assert reading.table.equals(again.table)

    def test_records_added_after_the_plan_are_left_for_the_next_run(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id INTEGER)", "INSERT INTO events VALUES (1), (2)")
        get = room.get(table="events")
        schema, plan = room.schema(get), get.plan(room.scope, None, Want())
        room.sql("INSERT INTO events VALUES (3)")

        reading = Reading.of(get, plan, schema, room.scope, Want())

        assert [row["id"] for row in reading.rows] == [1, 2]

    def test_an_empty_table_has_a_schema_and_no_records(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id BIGINT, moved DATE)")

        reading = room.read(table="events")

        assert reading.rows == []
        assert reading.table.schema == pa.schema([("id", pa.int64()), ("moved", pa.date32())])

    def test_only_the_wanted_columns_and_rows_are_read(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE events (id BIGINT, who VARCHAR)", "INSERT INTO events VALUES (1, 'a'), (2, 'b'), (3, 'c')"
        )
        get = room.get(table="events")
        want = Want(frozenset({"who"}), rows=2, batch_rows=1)
        schema = pa.schema([("who", pa.string())])

        reading = Reading.of(get, get.plan(room.scope, None, want), schema, room.scope, want)

        assert reading.rows == [{"who": "a"}, {"who": "b"}]

    def test_a_parameter_in_where_is_bound_and_never_pasted(self, tmp_path: Path) -> None:
        room = self.room_at(tmp_path, who="x' OR '1' = '1", unused=1)
        room.sql(
            "CREATE TABLE events (id BIGINT, who VARCHAR)",
            "INSERT INTO events VALUES (1, 'x'), (2, 'x'' OR ''1'' = ''1')",
        )

        reading = room.read(table="events", where="who = $who -- a comment with $nothing")

        assert [row["id"] for row in reading.rows] == [2]

    def test_times_and_decimals_are_bound_as_the_columns_have_them(self, tmp_path: Path) -> None:
        room = self.room_at(tmp_path, since=datetime(2024, 1, 2), price=Decimal("1.10"), day=date(2024, 1, 3))  # noqa: DTZ001
        room.sql(
            "CREATE TABLE events (id BIGINT, moved TIMESTAMP, price DECIMAL(10,2), day DATE)",
            "INSERT INTO events VALUES (1, '2024-01-01 23:00:00', 1.10, '2024-01-03'), "
            "(2, '2024-01-02 01:00:00', 1.10, '2024-01-03'), (3, '2024-01-02 01:00:00', 1.2, '2024-01-03')",
        )

        reading = room.read(table="events", where="moved > $since AND price = $price AND day = $day")

        assert [row["id"] for row in reading.rows] == [2]

    def test_a_query_is_read_with_its_parameters(self, tmp_path: Path) -> None:
        room = self.room_at(tmp_path, least=2)
        room.sql(
            "CREATE TABLE events (id BIGINT, who VARCHAR)", "INSERT INTO events VALUES (1, 'a'), (2, 'b'), (3, 'b')"
        )
        query = "SELECT who, count(*) AS n FROM events WHERE id >= $least GROUP BY who; "

        reading = room.read(query=query, key="who")

        assert reading.rows == [{"who": "b", "n": 2}]

    def test_a_view_is_read_by_cursor(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE events (id BIGINT, moved BIGINT)",
            "INSERT INTO events VALUES (1, 5), (2, 6)",
            "CREATE VIEW recent AS SELECT * FROM events",
        )
        first = room.read(table="recent", cursor="moved", key="id")
        room.sql("INSERT INTO events VALUES (3, 6)")

        second = room.read(first.plan.position, table="recent", cursor="moved", key="id")

        assert [row["id"] for row in [*first.rows, *second.rows]] == [1, 2, 3]

    def test_columns_are_read_as_the_types_declared_and_misfits_are_malformed(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE events (id BIGINT, code VARCHAR, n DOUBLE)",
            "INSERT INTO events VALUES (1, '007', 2), (2, 'x', 3), (3, '8', 1.5)",
        )

        reading = room.read(table="events", columns={"id": "VARCHAR", "code": "INTEGER", "n": "INTEGER"})

        assert reading.rows == [{"id": "1", "code": 7, "n": 2}]
        assert [code for _, code, _ in reading.malformed] == ["type", "type"]
        assert "column 'code'" in reading.malformed[0][2]
        assert "'x'" in reading.malformed[0][2] or ": x is" in reading.malformed[0][2]
        assert "column 'n'" in reading.malformed[1][2]
        assert json.loads(reading.malformed[1][0])["n"] == 1.5

    def test_a_get_cannot_write(self, room: Room) -> None:
        room.sql("CREATE TABLE events (id BIGINT)", "INSERT INTO events VALUES (1)")

        problems = room.problems(room.get(query="DELETE FROM events RETURNING id"))
        stacked = room.problems(room.get(query="SELECT 1 AS a) AS q; DELETE FROM events; --"))

        assert [problem.split(":")[0] for problem in [*problems, *stacked]] == ["query", "query"]
        assert room.sql("SELECT count(*) FROM events") == [(1,)]
