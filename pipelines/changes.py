"""A source without a cursor, of which only what changed goes on: the node that the engine puts behind its get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import pyarrow as pa

from pipelines.flow import Flow, Link, NodeSpec
from pipelines.node import Get, Report, Schemas, Wide
from pipelines.scope import Scope
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox

DELETED = "deleted"
"""The port by which the keys leave of records that the source no longer has."""
BEHIND = "-changes"
"""How the node is called: as its get, and this."""


class Changes(Wide):
    """Lets the records of a get through that are new or have changed since the last run, and tells those that are gone.

    No flow's text names it: it stands behind a get with `changes_only`.
    """

    source: str
    """The get."""
    key: tuple[str, ...]
    """The columns that identify a record."""

    keeps_records: ClassVar[bool] = True

    def ports(self) -> tuple[str, ...]:
        return ("out", DELETED)

    def check(self, inputs: Schemas, scope: Scope, report: Report) -> Schemas:
        schema = inputs.get("")
        if schema is None or any(name not in schema.names for name in self.key):
            return {"out": schema, DELETED: None}
        for name in self.key:
            if pa.types.is_nested(schema.field(name).type):
                what = f"column {name!r} of the key of {self.source!r} is nested: {schema.field(name).type}"
                report(("key",), what, "name columns of single values")
        return {"out": schema, DELETED: pa.schema([schema.field(name) for name in self.key])}

    def partition_by(self, name: str, schemas: Mapping[str, pa.Schema]) -> tuple[str, ...] | None:
        return tuple(map(name_of, self.key))

    def remembered_key(self) -> tuple[str, ...]:
        return self.key

    def query(self, schemas: Mapping[str, pa.Schema], scope: Scope, sandbox: Sandbox) -> str:
        return "SELECT * FROM input"


def with_changes(flow: Flow) -> Flow:
    """The flow with a node behind each get of which only changes go on; what took from the get takes from that."""
    names = {name: f"{name}{BEHIND}" for name, spec in flow.nodes.items() if tells_changes(spec)}
    if not names:
        return flow
    nodes: dict[str, NodeSpec] = {}
    for name, spec in flow.nodes.items():
        inputs = tuple(_moved(link, names) for link in spec.inputs)
        nodes[name] = replace(spec, inputs=inputs, after=tuple(names.get(other, other) for other in spec.after))
        if name in names and names[name] not in flow.nodes:
            config = Changes(source=name, key=key_of_get(spec))
            nodes[names[name]] = NodeSpec(names[name], "changes", config, (Link(name),), snapshot=spec.snapshot)
    return replace(flow, nodes=nodes)


def written_as(spec: NodeSpec) -> str:
    """The node as a flow's text has it."""
    return spec.config.source if isinstance(spec.config, Changes) else spec.name


def _moved(link: Link, names: Mapping[str, str]) -> Link:
    return replace(link, node=names[link.node]) if link.node in names and link.port in ("out", DELETED) else link


def only_deleted(flow: Flow, spec: NodeSpec) -> bool:
    """Whether all records that come to a node are keys that a source no longer has."""
    return bool(spec.inputs) and all(_is_deleted(flow, link) for link in spec.inputs)


def _is_deleted(flow: Flow, link: Link) -> bool:
    source = flow.nodes.get(link.node)
    if source is None or isinstance(source.config, Changes):
        return source is not None and link.port == DELETED
    return only_deleted(flow, source)


def tells_changes(spec: NodeSpec) -> bool:
    """Whether a node is a get of which only changes go on, and says by which key."""
    return isinstance(spec.config, Get) and spec.config.changes_only and bool(key_of_get(spec))


def key_of_get(spec: NodeSpec) -> tuple[str, ...]:
    """The columns that identify a get's records; none where it names none."""
    key = getattr(spec.config, "key", None)
    return (key,) if isinstance(key, str) else tuple(key or ())
