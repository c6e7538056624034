"""Lists the tables and views of a database with their columns, as a get would read them."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from pipelines.environment import Found
from pipelines.errors import Invalid
from pipelines.tables.get import Reader, TableGet


def discovered(reader: Reader, get: Callable[[str], TableGet], is_view: Callable[[str], bool]) -> list[Found]:
    """What a database has. A table whose columns cannot be read is among it, with the reason."""
    return [_found(reader, get(name), name, "view" if is_view(name) else "table") for name in reader.tables()]


def _found(reader: Reader, get: TableGet, name: str, kind: str) -> Found:
    try:
        columns = reader.columns(get, {})
    except Invalid as fault:
        return Found(name, kind, None, str(fault))
    return Found(name, kind, pa.schema([column.field() for column in columns]))
