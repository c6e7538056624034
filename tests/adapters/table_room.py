"""One adapter with a database in a folder, and what a test does with it: read, deliver, check, look."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from pipelines.environment import Environment
from pipelines.node import Outcome, SplitPlan, Want
from pipelines.records import with_ids
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox

SHARED = settings(max_examples=12, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])


@dataclass(frozen=True)
class Room:
    """One adapter with a database in a folder."""

    adapter: ModuleType
    folder: Path
    execute: Callable[[Path, str], list[tuple[Any, ...]]]
    locked: Callable[[Path], AbstractContextManager[None]]
    values: dict[str, object] = field(default_factory=dict)
    settings: Callable[[Path], dict[str, Any]] | None = None
    """The settings of the connection; None: those of a database in a file."""

    @property
    def path(self) -> Path:
        return self.folder / "shop.db"

    @property
    def scope(self) -> Scope:
        name = self.adapter.__name__.rpartition(".")[2]
        settings = self.settings(self.path) if self.settings else {"adapter": name, "path": "shop.db"}
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


class TableRoom:
    """What the parts of the contract share: rooms made from the adapter and the database that a test file gives."""

    adapter: ModuleType
    nested_as_text = False
    settings: Callable[[Path], dict[str, Any]] | None = None
    records = RECORDS
    words: ClassVar[Mapping[str, str]] = {
        "BIGINT": "BIGINT",
        "not null": "NOT NULL constraint failed: orders.who",
        "check": "CHECK constraint failed",
    }
    """What the adapter's system says."""

    @staticmethod
    def execute(path: Path, sql: str) -> list[tuple[Any, ...]]: ...

    @staticmethod
    def locked(path: Path) -> AbstractContextManager[None]: ...

    def room_at(self, folder: Path, **values: object) -> Room:
        return Room(self.adapter, folder, self.execute, self.locked, values, self.settings)

    @contextmanager
    def new_room(self) -> Iterator[Room]:
        with tempfile.TemporaryDirectory() as folder:
            yield self.room_at(Path(folder))

    @pytest.fixture
    def room(self, tmp_path: Path) -> Room:
        return self.room_at(tmp_path)
