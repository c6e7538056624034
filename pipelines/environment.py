"""A named place to run: its runner, connections and variables."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, SerializeAsAny

from pipelines.errors import Invalid
from pipelines.model import Model

if TYPE_CHECKING:
    import pyarrow as pa

    from pipelines.scope import Scope


@dataclass(frozen=True)
class Found:
    """Something of an outside system that a node can read or write: a table, a topic, a file, an endpoint."""

    name: str
    """As a node names it: a table's name, a path, `GET /orders`."""
    kind: str
    """`table`, `view`, `topic`, `file`, `endpoint`."""
    columns: pa.Schema | None = None
    """Its columns; None where they cannot be told without reading."""
    note: str = ""
    """A sentence about it."""


class Connection(Model):
    """An adapter's settings for one real system. Each adapter that needs one derives its own."""

    adapter: str
    """The adapter these settings are for."""

    def test(self, scope: Scope) -> str:
        """Reaches the system and says in a sentence what was found. `Unavailable` or `Invalid` say what to do."""
        return "needs no connection"

    def discover(self, scope: Scope) -> Sequence[Found]:
        """What the system has to read or write, with its columns. `Invalid`: this kind of system cannot tell."""
        raise Invalid(f"a connection of adapter {self.adapter!r} cannot tell what its system has")


class Runner(Model):
    """What executes a segment's pipeline."""

    name: Literal["direct", "flink", "dataflow", "spark"] = "direct"
    """`direct` runs in this process on Beam's FnApiRunner; the others need the cluster that `options` names."""
    workers: int = Field(default=2, ge=1, le=256)
    """How many splits are worked on at the same time."""
    memory_bytes: int = Field(default=1 << 30, ge=1 << 26)
    """What a run may hold in memory for wide nodes and queries."""
    made_records: int = Field(default=1_000_000_000, ge=1)
    """How many records a join may make where it has no `limit` of its own."""
    options: dict[str, str | int | bool] = Field(default_factory=dict)
    """Beam's pipeline options for this runner, by name."""


def _networks(value: bool | list[str]) -> bool | list[str]:
    for text in value if isinstance(value, list) else ():
        try:
            ipaddress.ip_network(text)
        except ValueError as fault:
            raise ValueError(f"{text!r} is no network; write one such as 10.1.0.0/16") from fault
    return value


class Reach(Model):
    """What an environment lets its connections reach."""

    private_addresses: Annotated[bool | list[str], AfterValidator(_networks)] = True
    """Whether HTTP connections may reach addresses that are not of the public internet (loopback, private and link-local
    networks), or those of which networks, such as `[10.1.0.0/16]`."""


class Environment(Reach):
    """A named place to run: hosted or on-premise, with its runner, connections and variables."""

    name: str = Field(default="local", alias="environment")
    """The environment's name: lower-case words joined by `-`."""
    runner: Runner = Runner()
    """What runs the flows placed here."""
    connections: Mapping[str, SerializeAsAny[Connection]] = Field(default_factory=dict)
    """Connections by name."""
    variables: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    """What `$name` stands for in every flow that runs here, where no parameter of the flow has that name."""
