"""Avro in topics: by the schema of a file, and by those of a registry whose id stands before each value."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from pipelines.errors import Invalid, Unavailable
from tests.adapters.kafka_room import Room, messages
from tests.parts import registry as registry_parts
from tests.parts.kafka import Broker
from tests.parts.registry import Registry

ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "who", "type": ["null", "string"], "default": None},
        {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["NEW", "OLD"]}},
    ],
}
ROWS: list[dict[str, Any]] = [
    {"id": 1, "who": "ä 🎈", "total": Decimal("12.50"), "at": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
     "day": date(1969, 12, 31), "tags": ["a", "b"], "kind": "NEW"},
    {"id": 2, "who": None, "total": Decimal("-9999999999.99"), "at": datetime(1, 1, 1, tzinfo=UTC),
     "day": date(9999, 12, 31), "tags": [], "kind": "OLD"},
]  # fmt: skip


def encoded(schema: Any, record: dict[str, Any], number: int | None = None) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return (b"" if number is None else b"\x00" + number.to_bytes(4, "big")) + out.getvalue()


def decoded(schema: Any, data: bytes | None) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(data or b""), fastavro.parse_schema(schema), None)


@pytest.fixture
def room(kafka: Broker, tmp_path: Path) -> Room:
    (tmp_path / "order.avsc").write_text(json.dumps(ORDER))
    return Room(kafka, tmp_path)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv(registry_parts.SECRET, registry_parts.PASSWORD)
    with registry_parts.serving() as found:
        yield found


@pytest.fixture
def registered(kafka: Broker, registry: Registry, tmp_path: Path) -> Room:
    return Room(kafka, tmp_path, registry=asking(registry))


def asking(registry: Registry) -> dict[str, Any]:
    return {"url": registry.url, "user": registry_parts.USER, "password": {"secret": registry_parts.SECRET}}


def test_values_are_read_by_the_schema_of_a_file_with_their_exact_types(room: Room) -> None:
    topic = room.topic()
    room.send(topic, [(None, encoded(ORDER, row)) for row in ROWS])

    found = room.read(topic, format="avro", schema_file="order.avsc")
    some = room.read(topic, format="avro", schema_file="order.avsc", columns=["total", "id"], take="offset")

    assert found == ROWS
    assert some == [{"total": row["total"], "id": row["id"], "offset": offset} for offset, row in enumerate(ROWS)]


def test_a_value_that_is_no_record_is_set_aside(room: Room) -> None:
    topic = room.topic()
    whole = encoded(ORDER, ROWS[0])
    room.send(topic, [(None, whole), (None, whole[:-3]), (None, whole + b"x"), (None, b""), (None, whole)])

    found, bad = room.told(room.get(topic, format="avro", schema_file="order.avsc"))

    assert [record["id"] for record in found] == [1, 1]
    assert [(one.ordinal, one.code) for one in bad] == [(1, "avro"), (2, "avro"), (3, "avro")]


def test_what_is_written_by_a_file_s_schema_is_read_by_others(room: Room) -> None:
    topic = room.topic()
    batch = pa.RecordBatch.from_pylist(ROWS)

    room.put(topic, batch, format="avro", schema_file="order.avsc", key="id")

    assert [decoded(ORDER, one.raw) for one in messages(room.broker, topic)] == ROWS


def test_a_record_that_the_schema_does_not_take_is_rejected(room: Room) -> None:
    topic = room.topic()
    rows = [
        ROWS[0],
        {**ROWS[0], "id": None},
        {**ROWS[0], "kind": "GONE"},
        {**ROWS[0], "total": Decimal("12345678901.00")},
    ]

    outcome = room.put(topic, pa.RecordBatch.from_pylist(rows), format="avro", schema_file="order.avsc")[0]

    assert outcome.rejects is not None
    assert outcome.rejects.rows.to_pylist() == [1, 2, 3]
    assert list(outcome.rejects.codes) == ["avro", "avro", "type"]
    assert len(messages(room.broker, topic)) == 1


def test_columns_and_schemas_that_do_not_go_together_are_problems(room: Room) -> None:
    topic = room.topic()
    more = pa.schema([("id", pa.int64()), ("extra", pa.string())])
    strange = pa.schema([("span", pa.duration("s"))])

    problems = [
        room.problems(room.post(topic, format="avro", schema_file="order.avsc"), more),
        room.problems(room.post(topic, format="avro"), strange),
        room.problems(room.get(topic, format="avro")),
        room.problems(room.get(topic, format="avro", schema_file="none.avsc")),
    ]

    words = [
        "is not in the schema",
        "make it a number or text",
        "schema of the messages is not known",
        "none.avsc: No such",
    ]
    assert all(word in found[0] for word, found in zip(words, problems, strict=True))


def test_each_value_is_read_by_the_schema_whose_id_it_has(registered: Room, registry: Registry) -> None:
    topic = registered.topic()
    older = {**ORDER, "fields": ORDER["fields"][:2]}
    one, two = (registry.keep(f"{topic}-value", json.dumps(schema)) for schema in (older, ORDER))
    old, new = {"id": 7, "who": "x"}, ROWS[0]
    sent = [
        encoded(older, old, one),
        encoded(ORDER, new, two),
        encoded(older, old, one),
        encoded(ORDER, new, 99),
        b"{}",
    ]
    registered.send(topic, [(None, value) for value in sent])

    found, bad = registered.told(registered.get(topic, format="avro"))

    empty = dict.fromkeys(list(new)[2:])
    assert found == [{**old, **empty}, new, {**old, **empty}]
    assert [(one.ordinal, one.code) for one in bad] == [(3, "schema"), (4, "schema")]


def test_what_is_written_leaves_its_schema_in_the_registry(registered: Room, registry: Registry) -> None:
    topic = registered.topic()
    rows = [{"id": 1, "total": Decimal("1.50")}, {"id": 2, "total": None}]

    registered.put(topic, rows, format="avro", key="id")

    assert list(registry.subjects) == [f"{topic}-value"]
    assert registered.read(topic, format="avro") == rows


def test_a_schema_that_does_not_go_with_the_one_before_stops_the_run(registered: Room) -> None:
    topic = registered.topic()
    registered.put(topic, [{"id": 1}], format="avro")

    with pytest.raises(Invalid, match="does not go with those before it"):
        registered.put(topic, [{"id": "one"}], token="r2/post", format="avro")

    assert len(messages(registered.broker, topic)) == 1


def test_a_registry_that_cannot_be_asked_says_what_to_do(
    kafka: Broker, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Room(kafka, tmp_path, registry={**asking(registry), "url": "http://127.0.0.1:9"})
    monkeypatch.setenv("WRONG", "open sesame")
    wrong = Room(kafka, tmp_path, registry={**asking(registry), "password": {"secret": "WRONG"}})

    with pytest.raises(Unavailable, match="check `url` of `registry`"):
        away.scope.environment.connections["events"].test(away.scope)
    with pytest.raises(Invalid, match="check `user` and `password`") as fault:
        wrong.scope.environment.connections["events"].test(wrong.scope)

    assert "sesame" not in str(fault.value)
