"""Avro's types and Arrow's, both ways.

A schema is taken apart for two readers. What decodes the bytes gets it without logical types, names and text, so that
it gives integers and bytes as they are written: `plain`, and `raw`, the Arrow types of that. The records have the types
that Avro's specification (https://avro.apache.org/docs/1.12.0/specification/) gives them: `kind`.

A union of null and one type is that type. Any other is an object with a key for each type, of which one is filled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.errors import Invalid
from pipelines.node import Json

MOST_TYPES = 10_000
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PRIMITIVES: Mapping[str, tuple[str, pa.DataType, pa.DataType]] = {
    "null": ("null", pa.null(), pa.null()),
    "boolean": ("boolean", pa.bool_(), pa.bool_()),
    "int": ("int", pa.int32(), pa.int32()),
    "long": ("long", pa.int64(), pa.int64()),
    "float": ("float", pa.float32(), pa.float32()),
    "double": ("double", pa.float64(), pa.float64()),
    "bytes": ("bytes", pa.binary(), pa.binary()),
    "string": ("bytes", pa.binary(), pa.string()),
}
_LOGICAL: Mapping[tuple[str, str], pa.DataType] = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}
_NAMES = {kind: name for name, (_, _, kind) in _PRIMITIVES.items()} | {
    pa.int8(): "int",
    pa.int16(): "int",
    pa.uint8(): "int",
    pa.uint16(): "int",
    pa.uint32(): "long",
    pa.float16(): "float",
}
_WRITTEN: Mapping[pa.DataType, Json] = {
    **_NAMES,
    **{kind: {"type": base, "logicalType": name} for (base, name), kind in _LOGICAL.items()},
}
_STAMPS = {"s": "millis", "ms": "millis", "us": "micros", "ns": "nanos"}


@dataclass(frozen=True)
class Taken:
    """A type taken apart."""

    plain: Json
    raw: pa.DataType
    kind: pa.DataType


@dataclass
class _Taking:
    """Goes through a schema: the named types so far, those that are open, and how many types there were."""

    named: dict[str, Json] = field(default_factory=dict)
    open: list[str] = field(default_factory=list)
    count: int = 0

    def take(self, schema: Json) -> Taken:
        self.count += 1
        if self.count > MOST_TYPES:
            raise Invalid(f"its schema unfolds to more than {MOST_TYPES:,} types")
        if isinstance(schema, list):
            return self._union(schema)
        if isinstance(schema, str):
            return self._by_name(schema)
        base = schema["type"]
        if not isinstance(base, str):
            return self.take(base)
        if base in ("record", "error"):
            return self._record(schema)
        if base in ("enum", "fixed"):
            self.named[schema["name"]] = schema
            return self._enum(schema) if base == "enum" else self._fixed(schema)
        if base == "array":
            items = self.take(schema["items"])
            return Taken({"type": "array", "items": items.plain}, pa.list_(items.raw), pa.list_(items.kind))
        if base == "map":
            return self._map(schema)
        return self._leaf(base, schema)

    def _by_name(self, name: str) -> Taken:
        if name in _PRIMITIVES:
            return Taken(*_PRIMITIVES[name])
        if name in self.open:
            raise Invalid(f"its type {name!r} holds itself, and columns have one depth; write it as text instead")
        return self.take(self.named[name])

    def _unique(self, kind: str) -> str:
        return f"{kind}{self.count}"

    def _record(self, schema: Json) -> Taken:
        name, unique = schema["name"], self._unique("record")
        if name in self.open:
            return self._by_name(name)
        self.named[name] = schema
        self.open.append(name)
        fields = {each["name"]: self.take(each["type"]) for each in schema["fields"]}
        self.open.pop()
        return _object(fields, unique)

    def _enum(self, schema: Json) -> Taken:
        plain = {"type": "enum", "name": self._unique("enum"), "symbols": schema["symbols"]}
        return Taken(plain, pa.string(), pa.string())

    def _fixed(self, schema: Json) -> Taken:
        size, logical = schema["size"], schema.get("logicalType")
        plain, raw = {"type": "fixed", "name": self._unique("fixed"), "size": size}, pa.binary(size)
        if logical == "decimal" and (kind := _decimal(schema)) is not None:
            return Taken(plain, raw, kind)
        if logical == "duration" and size == 12:
            return Taken(plain, raw, pa.month_day_nano_interval())
        return Taken(plain, raw, pa.string() if logical == "uuid" and size == 16 else raw)

    def _map(self, schema: Json) -> Taken:
        """A map is written like a list of pairs, and read as one."""
        values = self.take(schema["values"])
        pair = _object({"key": Taken("bytes", pa.binary(), pa.string()), "value": values}, self._unique("pair"))
        return Taken({"type": "array", "items": pair.plain}, pa.list_(pair.raw), pa.map_(pa.string(), values.kind))

    def _leaf(self, base: str, schema: Json) -> Taken:
        found, logical = self._by_name(base), schema.get("logicalType")
        if base == "bytes" and logical == "decimal" and (kind := _decimal(schema)) is not None:
            return Taken(found.plain, found.raw, kind)
        return Taken(found.plain, found.raw, _LOGICAL.get((base, str(logical)), found.kind))

    def _union(self, schema: Json) -> Taken:
        branches = [each for each in schema if _branch_name(each) != "null"]
        if len(branches) == len(schema) == 1:
            return self.take(branches[0])
        if not branches:
            return Taken(schema, pa.null(), pa.null())
        if len(branches) == 1:
            found = self.take(branches[0])
            plain = ["null" if _branch_name(each) == "null" else found.plain for each in schema]
            return Taken(plain, found.raw, found.kind)
        # A record of one field is written as that field, so each branch can be read as a record that tells its name.
        unique = self._unique("branch")
        fields = {_branch_name(each): self.take(each) for each in branches}
        wrapped = {name: _object({name: found}, f"{unique}_{at}") for at, (name, found) in enumerate(fields.items())}
        plain = ["null" if _branch_name(each) == "null" else wrapped[_branch_name(each)].plain for each in schema]
        whole = _object(fields, unique)
        return Taken(plain, whole.raw, whole.kind)


def _object(fields: Mapping[str, Taken], unique: str) -> Taken:
    return Taken(
        {"type": "record", "name": unique, "fields": [{"name": n, "type": t.plain} for n, t in fields.items()]},
        pa.struct([pa.field(name, each.raw) for name, each in fields.items()]),
        pa.struct([pa.field(name, each.kind) for name, each in fields.items()]),
    )


def _branch_name(schema: Json) -> str:
    if isinstance(schema, str):
        return schema.rpartition(".")[2]
    name: str = schema.get("name", schema["type"])
    return name.rpartition(".")[2]


def _decimal(schema: Json) -> pa.DataType | None:
    """None where precision or scale are none that there can be: then it is what it is written as."""
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision:
        return None
    if not 1 <= precision <= 76:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def taken_apart(schema: Json) -> Taken:
    """A schema of records, taken apart.

    Raises:
        Invalid: it is no schema of records, or one that columns cannot have.
    """
    import fastavro

    try:
        parsed = fastavro.parse_schema(schema)
        found = _Taking().take(parsed)
    except Invalid:
        raise
    except RecursionError:
        raise Invalid("its schema is nested too deeply") from None
    except Exception as fault:  # the parser raises whatever its own code runs into
        raise Invalid(f"its schema cannot be understood: {type(fault).__name__}: {fault}") from fault
    if not isinstance(found.plain, dict) or found.plain["type"] != "record":
        raise Invalid(f"it holds {_branch_name(schema)} values where records are wanted")
    return found


def avro_schema(schema: pa.Schema) -> Json:
    """The schema of records of these columns, every one of which may be null."""
    return _Making().record(pa.struct(list(schema)), "record")


@dataclass
class _Making:
    count: int = 0

    def record(self, kind: pa.DataType, name: str = "") -> Json:
        self.count += 1
        name = name or f"record_{self.count}"
        fields = [
            {"name": each.name, "type": self._nullable(each.type), "default": None}
            for each in (kind.field(index) for index in range(kind.num_fields))
        ]
        return {"type": "record", "name": name, "fields": fields}

    def _nullable(self, kind: pa.DataType) -> Json:
        return "null" if pa.types.is_null(kind) else ["null", self._of(kind)]

    def _of(self, kind: pa.DataType) -> Json:
        if kind in _WRITTEN:
            return _WRITTEN[kind]
        if pa.types.is_timestamp(kind):
            local = "" if kind.tz else "local-"
            return {"type": "long", "logicalType": f"{local}timestamp-{_STAMPS[kind.unit]}"}
        if pa.types.is_uint64(kind):
            return {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 0}
        if pa.types.is_decimal(kind):
            return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
        if pa.types.is_fixed_size_binary(kind):
            self.count += 1
            return {"type": "fixed", "name": f"fixed_{self.count}", "size": kind.byte_width}
        if pa.types.is_struct(kind):
            return self.record(kind)
        if pa.types.is_map(kind):
            return {"type": "map", "values": self._nullable(kind.item_type)}
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            return {"type": "array", "items": self._nullable(kind.value_type)}
        return {"type": "int", "logicalType": "time-millis"}  # seconds, the one type left that `unwritable` lets pass


def unwritable(column: pa.Field) -> str:
    """Why no value of this column goes into Avro, with what to do; empty: they go."""
    if not NAME.fullmatch(column.name):
        return f"Avro's names are letters, digits and _, which {column.name!r} is not; rename it with a map"
    kind = column.type
    if pa.types.is_dictionary(kind):
        return unwritable(pa.field(column.name, kind.value_type))
    if pa.types.is_interval(kind) or pa.types.is_duration(kind):
        return "Avro's durations are unlike it; make it a number or text with a map"
    if pa.types.is_union(kind) or isinstance(kind, pa.BaseExtensionType):
        return f"Avro has no type for {kind}; make it text with a map"
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return "Avro's times have microseconds; cast it to TIME with a map"
    if pa.types.is_map(kind) and not pa.types.is_string(kind.key_type):
        return f"Avro's maps have keys of text, not {kind.key_type}; cast them with a map"
    inner = (unwritable(_inner(kind, index)) for index in range(kind.num_fields))
    return next(filter(None, inner), "")


def _inner(kind: pa.DataType, index: int) -> pa.Field:
    """A child whose name matters in structs only."""
    child = kind.field(index)
    return child if pa.types.is_struct(kind) else child.with_name("item")
