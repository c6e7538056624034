"""Where reading of topics goes on: by topic its identity, and by partition the offset of the next record.

A position is `{"topics": {name: {"id": …, "as_of": …, "next": {"0": 17, …}}}}`. Set by hand for a backfill it is
`{"cursor": {"at": time, "again": true}}`, perhaps with `until` (the last time to read) and `then` (the position that
holds afterwards).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipelines.errors import Invalid
from pipelines.node import Json


def later(one: Json, other: Json) -> Json:
    """The position that has both behind it."""
    if one is None or other is None:
        return one if other is None else other
    if "topics" not in one or "topics" not in other:
        return max(one, other, key=lambda position: ("topics" in position, repr(position)))
    names = sorted({*one["topics"], *other["topics"]})
    return {"topics": {name: _later_topic(one["topics"].get(name), other["topics"].get(name)) for name in names}}


def _later_topic(one: Json, other: Json) -> Json:
    if one is None or other is None:
        return one if other is None else other
    if one["id"] != other["id"]:  # the topic was made anew in between
        return max(one, other, key=lambda topic: (topic["as_of"], topic["id"]))
    partitions = sorted({*one["next"], *other["next"]}, key=int)
    following = {number: max(one["next"].get(number, 0), other["next"].get(number, 0)) for number in partitions}
    return {"id": one["id"], "as_of": max(one["as_of"], other["as_of"]), "next": following}


def milliseconds(text: object, values: Mapping[str, Any]) -> int:
    """A time as Kafka wants it; `$name` is a parameter or variable.

    Raises:
        Invalid: it is no time.
    """
    value = text
    if isinstance(text, str) and text.startswith("$"):
        if text[1:] not in values:
            raise Invalid(f"{text} is no parameter or variable; there are: {', '.join(sorted(values)) or 'none'}")
        value = values[text[1:]]
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as fault:
            raise Invalid(f"{value!r} is no time; write one such as 2026-01-31T08:00:00Z") from fault
    if not isinstance(value, datetime):
        raise Invalid(f"{value!r} is no time; write one such as 2026-01-31T08:00:00Z")
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
