"""Records written by hand in a flow's tests: as batches of a schema, and compared with what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa

from pipelines.errors import Invalid


def batch_of(records: Sequence[Mapping[str, Any]], schema: pa.Schema, place: str) -> pa.RecordBatch:
    """The records as a batch; a column that a record does not name is null there.

    Raises:
        Invalid: an unknown column, or a value that is none of the column's type.
    """
    unknown = {name for record in records for name in record} - set(schema.names)
    if unknown:
        raise Invalid(f"{place}: no column {min(unknown)!r}; there are: {', '.join(schema.names)}")
    columns = [_column([record.get(field.name) for record in records], field, place) for field in schema]
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    return pa.RecordBatch.from_arrays(columns, schema=nullable)


def _column(values: list[Any], field: pa.Field, place: str) -> pa.Array:
    try:
        return pa.array([_plain(value, field.type) for value in values], field.type)
    except (pa.ArrowException, TypeError, ValueError, ArithmeticError) as fault:
        shown = next((value for value in values if value is not None), None)
        raise Invalid(f"{place}: column {field.name!r} is {field.type}, {shown!r} is not ({fault})") from fault


def _plain(value: Any, kind: pa.DataType) -> Any:
    """A value as YAML gives it, as Arrow takes it for this type."""
    if value is None:
        return None
    if pa.types.is_decimal(kind):
        return round(Decimal(str(value)), kind.scale)
    if pa.types.is_timestamp(kind) and isinstance(value, str):
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if kind.tz and moment.tzinfo else moment.replace(tzinfo=UTC if kind.tz else None)
    if pa.types.is_time(kind) and isinstance(value, str):
        return time.fromisoformat(value)
    if pa.types.is_date(kind) and isinstance(value, str):
        return date.fromisoformat(value)
    if pa.types.is_string(kind) and not isinstance(value, str):
        return str(value)
    if pa.types.is_struct(kind) and isinstance(value, Mapping):
        return {name: _plain(part, kind.field(name).type) for name, part in _known(value, kind).items()}
    if pa.types.is_list(kind) and isinstance(value, list):
        return [_plain(part, kind.value_type) for part in value]
    return value


def _known(value: Mapping[str, Any], kind: pa.StructType) -> Mapping[str, Any]:
    """A struct's fields, all of which the type must have: Arrow would leave the others out in silence."""
    names = [field.name for field in kind]
    unknown = [name for name in value if name not in names]
    if unknown:
        raise ValueError(f"no field {unknown[0]!r}; there are: {', '.join(names)}")
    return value


def same_value(expected: Any, found: Any) -> bool:
    """Whether a value that came is the one that a test names: numbers by value, times by instant, the rest as text."""
    if expected is None or found is None:
        return expected is None and found is None
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        return all(name in found and same_value(value, found[name]) for name, value in expected.items())
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(map(same_value, expected, found))
    if isinstance(expected, bool) or isinstance(found, bool):
        return expected is found
    if isinstance(expected, (int, float)) and isinstance(found, (int, float, Decimal)):
        return Decimal(str(expected)) == Decimal(str(found))
    if isinstance(found, (datetime, date)):
        return _moment(str(expected)) == _moment(found.isoformat())
    if isinstance(found, time):
        return time.fromisoformat(str(expected)) == found
    return str(expected) == str(found)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
