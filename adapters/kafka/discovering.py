"""Lists topics with the columns that a sample of their records has."""

from __future__ import annotations

import pyarrow as pa

from adapters.kafka import topics
from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from adapters.kafka.formats import inferred_values
from adapters.kafka.sampling import sampled
from pipelines.environment import Found
from pipelines.errors import Invalid
from pipelines.scope import Scope

EACH = 20


def discovered(connection: Connection, scope: Scope) -> list[Found]:
    """The topics that can be seen."""
    return [_found(name, connection, scope) for name in topics.names(Admin(connection, scope))]


def _found(name: str, connection: Connection, scope: Scope) -> Found:
    try:
        values = sampled([name], connection, scope, each=EACH)
    except Invalid as fault:
        return Found(name, "topic", None, str(fault))
    if not values:
        return Found(name, "topic", None, "no message yet")
    try:
        columns = inferred_values(values, None)
    except Invalid as fault:
        return Found(name, "topic", None, str(fault))
    if columns is not None:
        return Found(name, "topic", columns, "json")
    form = "text" if all(_is_text(value) for value in values) else "bytes"
    kind = pa.string() if form == "text" else pa.binary()
    return Found(name, "topic", pa.schema([pa.field("value", kind)]), form)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
