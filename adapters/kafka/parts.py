"""What a message has beside its value, as columns: key, time, place and headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.node import Report
from pipelines.tables.relation import suggestion

if TYPE_CHECKING:
    from confluent_kafka import Message

    from adapters.kafka.get import Get

HEADER = "header:"
HEADERS = pa.list_(pa.struct([pa.field("name", pa.string()), pa.field("value", pa.string())]))
TYPES = {
    "timestamp": pa.timestamp("ms", "UTC"),
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "headers": HEADERS,
}
Faults = dict[int, tuple[str, str]]
"""By message its reject code and reason."""


def taken(get: Get) -> dict[str, str]:
    """The columns by name, and what of the message they hold."""
    if isinstance(get.take, dict):
        return get.take
    names = [get.take] if isinstance(get.take, str) else list(get.take or ())
    return {name.removeprefix(HEADER): name for name in names}


def part_schema(get: Get) -> pa.Schema:
    """The columns and their types."""
    key = pa.string() if get.key_format == "text" else pa.binary()
    kinds = {**TYPES, "key": key}
    return pa.schema([pa.field(name, kinds.get(part, pa.string())) for name, part in taken(get).items()])


def check_take(get: Get, value: pa.Schema, report: Report) -> None:
    """Reports what a message does not have, and columns that are there twice."""
    there = ["key", *TYPES, "header:NAME"]
    for name, part in taken(get).items():
        if part not in there and not (part.startswith(HEADER) and part != HEADER):
            report(("take", name), f"a message has no {part!r}", suggestion(part, there))
        elif name in value.names:
            what = f"column {name!r} is in the value too"
            report(("take", name), what, f"call it otherwise, such as {{message_{name}: {part}}}")


def column(part: str, field: pa.Field, messages: Sequence[Message], faults: Faults) -> pa.Array:
    """One part of all messages; where it is no text a fault is added, and null stands there."""
    if part == "offset":
        return pa.array([message.offset() for message in messages], pa.int64())
    if part == "timestamp":
        return pa.array([_time(message.timestamp()) for message in messages], field.type)
    if part == "key":
        return _texts([message.key() for message in messages], field.type, "key", faults)
    if part == "headers":
        return pa.array([_headers(message, number, faults) for number, message in enumerate(messages)], HEADERS)
    if part.startswith(HEADER):
        name = part.removeprefix(HEADER)
        return _texts([_header(message, name) for message in messages], field.type, part, faults)
    value: Any = messages[0].topic() if part == "topic" else messages[0].partition()
    return pa.repeat(pa.scalar(value, field.type), len(messages))


def _time(stamp: tuple[int, int]) -> int | None:
    return stamp[1] if stamp[0] else None  # 0: the message has none


def _header(message: Message, name: str) -> bytes | None:
    found = [value for header, value in _pairs(message) if header == name]
    return found[-1] if found else None


def _headers(message: Message, number: int, faults: Faults) -> list[dict[str, str | None]]:
    found = []
    for name, value in _pairs(message):
        try:
            found.append({"name": name, "value": None if value is None else value.decode()})
        except UnicodeDecodeError:
            faults.setdefault(number, ("header", f"header {name!r} is no UTF-8; leave `headers` out of `take`"))
    return found


def _pairs(message: Message) -> list[tuple[str, bytes | None]]:
    found: Any = message.headers()  # a list, whatever else its stubs allow
    return found or []


def _texts(values: Sequence[bytes | None], kind: pa.DataType, what: str, faults: Faults) -> pa.Array:
    raw = pa.array(values, pa.binary())
    if pa.types.is_binary(kind):
        return raw
    try:
        return raw.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(value, number, what, faults) for number, value in enumerate(values)], pa.string())


def _text(value: bytes | None, number: int, what: str, faults: Faults) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        fix = "; set `key_format: bytes`" if what == "key" else ""
        faults.setdefault(number, (what.partition(":")[0], f"its {what} is no UTF-8{fix}"))
        return None
