"""What every adapter for a database's tables must do; each test file derives a class from `TableContract`."""

from __future__ import annotations

import json
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.environment import Environment
from pipelines.errors import Invalid, Unavailable
from pipelines.node import Outcome, SplitPlan, Want
from pipelines.records import with_ids
from pipelines.sandbox import Sandbox
from pipelines.scope import Scope

SHARED = settings(max_examples=12, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])


@dataclass(frozen=True)
class Room:
    """One adapter with a database in a folder."""

    adapter: ModuleType
    folder: Path
    execute: Callable[[Path, str], list[tuple[Any, ...]]]
    locked: Callable[[Path], AbstractContextManager[None]]
    values: dict[str, object] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return self.folder / "shop.db"

    @property
    def scope(self) -> Scope:
        settings = {"adapter": self.adapter.__name__.rpartition(".")[2], "path": "shop.db"}
        if "lock_seconds" in self.adapter.Connection.model_fields:
            settings["lock_seconds"] = 0.05
        environment = Environment(environment="local", connections={"shop": self.adapter.Connection(**settings)})
        return Scope(self.folder, environment, self.values, staging=self.folder / "staging")

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for statement in statements:
            rows = self.execute(self.path, statement)
        return rows

    def get(self, **config: Any) -> Any:
        return self.adapter.Get(connection="shop", **config)

    def post(self, **config: Any) -> Any:
        return self.adapter.Post(connection="shop", **config)

    def problems(self, node: Any, schema: pa.Schema | None = None) -> list[str]:
        found: list[str] = []

        def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
            found.append(f"{at[0]}: {what}; {fix}")

        node.check({"": schema} if schema is not None else {}, self.scope, report)
        return found

    def schema(self, get: Any) -> pa.Schema:
        def report(at: tuple[str | int, ...], what: str, fix: str = "", *, warning: bool = False) -> None:
            raise AssertionError(f"{at}: {what}; {fix}")

        found = get.check({}, self.scope, report)["out"]
        assert found is not None
        return found

    def read(self, position: Any = None, want: Want | None = None, **config: Any) -> Reading:
        get, want = self.get(**config), want or Want()
        schema = self.schema(get)
        return Reading.of(get, get.plan(self.scope, position, want), schema, self.scope, want)

    def stage(self, batches: Sequence[pa.RecordBatch], post: Any, writers: int = 1) -> list[Any]:
        opened = [post.open(batches[0].schema, self.scope, Sandbox()) for _ in range(writers)] if batches else []
        first = 0
        for number, batch in enumerate(batches):
            ids = pa.array(range(first, first + batch.num_rows), pa.int64())
            assert opened[number % writers].put(with_ids(batch, ids)).pending == batch.num_rows
            first += batch.num_rows
        return [part for writer in opened for part in writer.close()]

    def deliver(self, *batches: pa.RecordBatch, token: str = "t1", writers: int = 1, **config: Any) -> Delivery:
        post = self.post(**config)
        schema = batches[0].schema
        publication = post.publish(self.stage(batches, post, writers), schema, self.scope, token)
        found = Delivery(list(publication.settle()))
        publication.commit()
        return found


@dataclass(frozen=True)
class Reading:
    plan: SplitPlan
    table: pa.Table
    ordinals: list[tuple[int, int]]
    malformed: list[tuple[str, str, str]]

    @classmethod
    def of(cls, get: Any, plan: SplitPlan, schema: pa.Schema, scope: Scope, want: Want) -> Reading:
        batches, ordinals, malformed = [], [], []
        for number, split in enumerate(plan.splits):
            payload = json.loads(json.dumps(split.payload))
            for chunk in get.read(payload, schema, scope, want):
                batches.append(chunk.batch)
                assert chunk.batch.num_rows <= want.batch_rows
                places = range(chunk.first, chunk.first + chunk.batch.num_rows)
                listed = chunk.ordinals.to_pylist() if chunk.ordinals is not None else list(places)
                ordinals += [(number, ordinal) for ordinal in listed]
                if chunk.malformed:
                    malformed += zip(
                        chunk.malformed.texts, chunk.malformed.codes, chunk.malformed.messages, strict=True
                    )
            assert all(0 <= ordinal < split.room for place, ordinal in ordinals if place == number)
        return cls(plan, pa.Table.from_batches(batches, schema), ordinals, malformed)

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.table.to_pylist()
        return found


@dataclass(frozen=True)
class Delivery:
    outcomes: list[tuple[pa.RecordBatch, Outcome]]

    @property
    def rejects(self) -> list[tuple[int, str, str]]:
        return [
            (batch.column("__rid")[row].as_py(), code, message)
            for batch, outcome in self.outcomes
            if outcome.rejects is not None
            for row, code, message in zip(
                outcome.rejects.rows.to_pylist(), outcome.rejects.codes, outcome.rejects.messages, strict=True
            )
        ]

    @property
    def delivered(self) -> list[dict[str, Any]]:
        return [row for _, outcome in self.outcomes for row in outcome.out["out"].batch.to_pylist()]

    @property
    def keys(self) -> list[Any]:
        return [key for _, outcome in self.outcomes for key in outcome.receipts.keys.to_pylist()]


def batch_of(schema: dict[str, pa.DataType], rows: Iterable[Sequence[Any]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(list(values), kind) for values, kind in zip(columns, schema.values(), strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(schema.items())))


ORDERS = {"id": pa.int64(), "who": pa.string(), "total": pa.decimal128(10, 2)}
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint32": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "float32": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "float64": (pa.float64(), st.floats(allow_nan=False)),
    "boolean": (pa.bool_(), st.booleans()),
    "money": (pa.decimal128(12, 2), st.decimals("-9999999999.99", "9999999999.99", places=2)),
    "exact": (pa.decimal128(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    "text": (pa.string(), st.text(max_size=20)),
    "bytes": (pa.binary(), st.binary(max_size=20)),
    "date": (pa.date32(), st.dates()),
    "time": (pa.time64("us"), st.times()),
    "moment": (pa.timestamp("us"), st.datetimes()),
    "instant": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(UTC))),
    "fine": (pa.timestamp("ns"), st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1))),  # noqa: DTZ001
    "second": (pa.timestamp("s"), st.datetimes().map(lambda moment: moment.replace(microsecond=0))),
    "word": (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["red", "green"])),
    "list": (pa.list_(pa.int64()), st.lists(st.integers(-5, 5) | st.none(), max_size=3)),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.integers(0, 9), "b": st.text("xyz\"'\\", max_size=3)}),
    ),
}
ALL_TYPES = {name: kind for name, (kind, _) in VALUES.items()}
RECORDS = st.lists(st.tuples(*(st.none() | values for _, values in VALUES.values())), max_size=12)


class TableContract:
    """Derive, and give the adapter and what the tests do to its database beside it."""

    adapter: ModuleType
    nested_as_text = False

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]: ...

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]: ...

    def room_at(self, folder: Path, **values: object) -> Room:
        return Room(self.adapter, folder, self.execute, self.locked, values)

    @contextmanager
    def new_room(self) -> Iterator[Room]:
        with tempfile.TemporaryDirectory() as folder:
            yield self.room_at(Path(folder))

    @pytest.fixture
    def room(self, tmp_path: Path) -> Room:
        return self.room_at(tmp_path)

    # reading

    @SHARED
    @given(RECORDS)
    def test_what_a_post_wrote_a_get_reads_equal(self, rows: list[tuple[Any, ...]]) -> None:
        batch = batch_of(ALL_TYPES, rows)
        with self.new_room() as room:
            delivery = room.deliver(batch, table="all types")

            reading = room.read(table="all types")

        assert delivery.rejects == []
        assert reading.malformed == []
        for name, kind in ALL_TYPES.items():
            given, found = batch.column(name), reading.table[name].combine_chunks()
            if pa.types.is_nested(kind) and self.nested_as_text:
                found = [None if text is None else json.loads(text) for text in found.to_pylist()]
                assert found == given.to_pylist()
            else:
                expected = given.dictionary_decode() if pa.types.is_dictionary(kind) else given
                assert found.cast(expected.type).equals(expected), (name, found.type, found, expected)

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

    def test_a_large_table_is_cut_into_splits_that_give_each_record_once_and_the_same_again(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE many (n INTEGER)",
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

    # checking

    def test_a_missing_database_is_a_problem_that_names_it(self, room: Room) -> None:
        problems = room.problems(room.get(table="events"))

        assert len(problems) == 1
        assert "shop.db: there is no such file" in problems[0]

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
        assert "table: table 'orders' has no column 'whom'; did you mean 'who'?; or leave it out" in problems
        assert "table: column 'n': string does not fit BIGINT; cast it with a map" in problems
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

        assert "shop.db with 1 table or view" in connection.test(room.scope)
        assert self.adapter.tables(connection, room.scope) == [("events", pa.schema([("id", pa.int64())]))]

    def test_a_file_that_is_no_database_is_invalid(self, room: Room) -> None:
        room.path.write_bytes(b"order_id;total\n" * 4096)

        with pytest.raises(Invalid, match=r"is no .* database"):
            room.scope.environment.connections["shop"].test(room.scope)

    def test_nodes_survive_pickling(self, room: Room) -> None:
        get, post = room.get(table="a", columns={"x": "date"}), room.post(table="a", key=["x"], mode="delete")

        assert pickle.loads(pickle.dumps(get)) == get
        assert pickle.loads(pickle.dumps(post)) == post

    def test_two_spellings_of_a_table_are_one_target(self, room: Room) -> None:
        address = room.post(table="Orders").target(room.scope)

        assert address == room.post(table="orders").target(room.scope)
        assert address.endswith(f":{room.path.resolve()}#orders")

    # delivering

    @SHARED
    @given(
        st.lists(
            st.lists(st.tuples(st.integers(1, 6), st.text("ab", max_size=2)), min_size=1, max_size=8),
            min_size=1,
            max_size=4,
        )
    )
    def test_an_upsert_leaves_the_last_record_of_each_key(self, deliveries: list[list[tuple[int, str]]]) -> None:
        expected: dict[int, str] = {}
        with self.new_room() as room:
            for number, rows in enumerate(deliveries):
                batches = [batch_of({"id": pa.int64(), "who": pa.string()}, [row]) for row in rows]
                delivery = room.deliver(*batches, table="people", mode="upsert", key="id", token=str(number), writers=2)
                expected.update(rows)
                assert len(delivery.delivered) == len(rows)

            found = room.sql("SELECT id, who FROM people")

        assert len(found) == len(expected)
        assert dict(found) == expected

    def test_batches_of_several_writers_arrive_in_the_order_of_the_source(self, room: Room) -> None:
        batches = [batch_of({"n": pa.int64()}, [(number,)]) for number in range(9)]

        room.deliver(*batches, table="numbers", writers=3)

        assert [row["n"] for row in room.read(table="numbers").rows] == list(range(9))

    def test_one_record_refused_in_a_thousand_is_rejected_and_the_rest_arrive(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE orders (id BIGINT PRIMARY KEY, who VARCHAR NOT NULL, total DECIMAL(10,2) CHECK (total <> 13))",
            "INSERT INTO orders VALUES (5500, 'there', 1)",
        )
        rows = [(n, None if n == 700 else f"w{n}", Decimal(13 if n == 4200 else 1)) for n in range(6000)]
        rows[5999] = (3, "twice", Decimal(1))

        delivery = room.deliver(batch_of(ORDERS, rows[:3000]), batch_of(ORDERS, rows[3000:]), table="orders", key="id")

        rejects = sorted(delivery.rejects)
        assert [(row, code) for row, code, _ in rejects] == [
            (700, "refused"), (4200, "refused"), (5500, "refused"), (5999, "refused"),
        ]  # fmt: skip
        assert rejects[0][2].startswith("700: NOT NULL constraint failed: orders.who")
        assert "CHECK constraint failed" in rejects[1][2]
        assert rejects[3][2].startswith("3: ")
        assert room.sql("SELECT count(*), min(who) FROM orders WHERE id IN (699, 700, 701, 5500)") == [(3, "there")]
        assert room.sql("SELECT count(*) FROM orders") == [(5997,)]
        assert len(delivery.delivered) == len(delivery.keys) == 5996
        assert delivery.keys[:2] == ["0", "1"]

    def test_a_record_that_refers_to_nothing_is_refused(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE people (id BIGINT PRIMARY KEY)",
            "CREATE TABLE orders (id BIGINT, person BIGINT REFERENCES people (id))",
            "INSERT INTO people VALUES (1)",
        )
        batch = batch_of({"id": pa.int64(), "person": pa.int64()}, [(10, 1), (11, 2), (12, None)])

        delivery = room.deliver(batch, table="orders", key="id")

        assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused")]
        assert "oreign" in delivery.rejects[0][2].replace("FOREIGN", "Foreign")
        assert room.sql("SELECT id FROM orders ORDER BY id") == [(10,), (12,)]

    def test_a_record_that_others_refer_to_is_not_deleted(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE people (id BIGINT PRIMARY KEY)",
            "CREATE TABLE orders (id BIGINT, person BIGINT REFERENCES people (id))",
            "INSERT INTO people VALUES (1), (2), (3)",
            "INSERT INTO orders VALUES (7, 2)",
        )

        delivery = room.deliver(
            batch_of({"id": pa.int64()}, [(1,), (2,), (3,)]), table="people", mode="delete", key="id"
        )

        assert [(row, code) for row, code, _ in delivery.rejects] == [(1, "refused")]
        assert room.sql("SELECT id FROM people") == [(2,)]

    def test_a_record_without_its_key_is_rejected(self, room: Room) -> None:
        batch = batch_of(ORDERS, [(1, "a", None), (None, "b", None)])

        upserted = room.deliver(batch, table="orders", mode="upsert", key="id")
        deleted = room.deliver(batch, table="orders", mode="delete", key="id", token="t2")

        assert [(row, code) for row, code, _ in upserted.rejects] == [(1, "key_null")]
        assert [(row, code) for row, code, _ in deleted.rejects] == [(1, "key_null")]
        assert room.sql("SELECT count(*) FROM orders") == [(0,)]

    def test_an_upsert_by_several_columns_updates_only_what_it_delivers(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE stock (place VARCHAR, item VARCHAR, n BIGINT, note VARCHAR DEFAULT 'new', PRIMARY KEY (place, item))",
            "INSERT INTO stock VALUES ('a', 'x', 1, 'old')",
        )
        schema = {"place": pa.string(), "item": pa.string(), "n": pa.int64(), "ignored": pa.string()}
        batch = batch_of(schema, [("a", "x", 2, ""), ("a", "y", 3, "")])

        delivery = room.deliver(
            batch, table="stock", mode="upsert", key=["place", "item"], columns=["place", "item", "n"]
        )

        assert room.sql("SELECT * FROM stock ORDER BY item") == [("a", "x", 2, "old"), ("a", "y", 3, "new")]
        assert delivery.keys == ["a|x", "a|y"]
        assert delivery.delivered[0]["ignored"] == ""

    def test_a_delete_takes_the_keys_away_and_minds_no_missing_one(self, room: Room) -> None:
        room.sql(
            "CREATE TABLE people (id BIGINT, who VARCHAR)",
            "INSERT INTO people VALUES (1, 'a'), (2, 'b'), (2, 'c'), (3, 'd')",
        )

        delivery = room.deliver(batch_of({"id": pa.int64()}, [(2,), (9,)]), table="people", mode="delete", key="id")

        assert room.sql("SELECT id FROM people ORDER BY id") == [(1,), (3,)]
        assert delivery.rejects == []

    def test_a_replacement_takes_the_place_of_all_records(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT PRIMARY KEY)", "INSERT INTO people VALUES (1), (2)")

        room.deliver(batch_of({"id": pa.int64()}, [(2,), (3,)]), table="people", mode="replace")

        assert room.sql("SELECT id FROM people ORDER BY id") == [(2,), (3,)]

    def test_a_replacement_by_nothing_empties_the_table(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT)", "INSERT INTO people VALUES (1)")
        post = room.post(table="people", mode="replace")

        publication = post.publish([], pa.schema([("id", pa.int64())]), room.scope, "t1")
        outcomes = list(publication.settle())
        publication.commit()

        assert outcomes == []
        assert room.sql("SELECT count(*) FROM people") == [(0,)]

    def test_a_table_that_is_missing_is_made_even_for_no_records(self, room: Room) -> None:
        publication = room.post(table="people").publish([], pa.schema(list(ORDERS.items())), room.scope, "t1")
        publication.commit()

        assert room.schema(room.get(table="people")) == pa.schema(list(ORDERS.items()))

    def test_nothing_shows_before_the_commit_and_dropping_the_connection_leaves_the_target(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT)", "INSERT INTO people VALUES (1)")
        post, batch = room.post(table="people", mode="replace"), batch_of({"id": pa.int64()}, [(2,)])
        publication = post.publish(room.stage([batch], post), batch.schema, room.scope, "t1")
        assert len(list(publication.settle())) == 1

        publication.abandon()

        assert room.sql("SELECT id FROM people") == [(1,)]
        assert not post.is_published(room.scope, "t1")

    def test_a_publication_made_twice_shows_once(self, room: Room) -> None:
        post, batch = room.post(table="people"), batch_of({"id": pa.int64()}, [(1,), (2,)])
        parts = room.stage([batch], post)
        first = post.publish(parts, batch.schema, room.scope, "t1")
        list(first.settle())
        first.commit()
        first.commit()

        again = post.publish(parts, batch.schema, room.scope, "t1")
        again.commit()

        assert post.is_published(room.scope, "t1")
        assert not post.is_published(room.scope, "t2")
        assert room.sql("SELECT count(*) FROM people") == [(2,)]

    def test_a_commit_in_another_process_loads_what_was_staged(self, room: Room) -> None:
        post, batch = room.post(table="people"), batch_of({"id": pa.int64()}, [(1,), (2,)])
        parts = room.stage([batch], post)

        post.publish(parts, batch.schema, room.scope, "t1").commit()

        assert room.sql("SELECT count(*) FROM people") == [(2,)]

    def test_what_an_abandoned_writer_staged_is_removed(self, room: Room) -> None:
        batch = batch_of({"id": pa.int64()}, [(1,)])
        writer = room.post(table="people").open(batch.schema, room.scope, Sandbox())
        writer.put(with_ids(batch, pa.array([0], pa.int64())))

        writer.abandon()

        assert [path for path in (room.folder / "staging").rglob("*") if path.is_file()] == []

    def test_a_locked_database_is_unavailable_and_later_it_is_not(self, room: Room) -> None:
        room.sql("CREATE TABLE people (id BIGINT)")
        post, batch = room.post(table="people"), batch_of({"id": pa.int64()}, [(1,)])
        parts = room.stage([batch], post)

        with self.locked(room.path), pytest.raises(Unavailable, match="locked"):
            list(post.publish(parts, batch.schema, room.scope, "t1").settle())
        post.publish(parts, batch.schema, room.scope, "t1").commit()

        assert room.sql("SELECT count(*) FROM people") == [(1,)]

    def test_types_for_a_table_to_be_made_may_be_declared(self, room: Room) -> None:
        batch = batch_of({"id": pa.int64(), "who": pa.string()}, [(1, "a")])

        room.deliver(batch, table="people", columns={"id": "SMALLINT", "who": "VARCHAR(20)"})

        assert room.sql("SELECT id, who FROM people") == [(1, "a")]

    def test_names_with_quotes_spaces_and_key_words_are_only_names(self, room: Room) -> None:
        batch = batch_of(
            {'se"lect': pa.int64(), "from; drop": pa.string(), "$x": pa.time64("us")}, [(1, "a", time(1, 2, 3))]
        )

        room.deliver(batch, table='ta"ble; --', mode="upsert", key='se"lect')

        reading = room.read(table='ta"ble; --', key='se"lect', cursor='se"lect')
        assert reading.rows == batch.to_pylist()
