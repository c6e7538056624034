"""A flow as data: nodes and links, parameters, settings, tests. It runs nothing and knows no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.model import Model
from pipelines.node import Node

Snapshot = Literal["auto", "none", "sample", "all"]


@dataclass(frozen=True)
class Link:
    """What joins two nodes: from a port of one to an input of another."""

    node: str
    port: str = "out"
    into: str = ""
    """The input's name where the node has named inputs (`join`, `sql`); else empty."""

    def __str__(self) -> str:
        return self.node if self.port == "out" else f"{self.node}.{self.port}"


class Retry(Model):
    """How often an unavailable system is asked again, and how long between."""

    attempts: int = Field(default=5, ge=1, le=100)
    """How often at most, the first time included."""
    first_seconds: float = Field(default=0.2, ge=0)
    """The wait before the second attempt; it doubles with each."""
    most_seconds: float = Field(default=30.0, ge=0)
    """The longest wait between two attempts."""

    def pause_seconds(self, failed: int) -> float:
        """How long to wait after the `failed`th attempt in a row."""
        return min(self.most_seconds, self.first_seconds * 2.0 ** (failed - 1))


class RejectPolicy(Model):
    """When rejects stop a run."""

    fail_above: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^\d+(\.\d+)?%$")] | None = Field(
        default=None, examples=[100, "1%"]
    )
    """A count, or a share of the node's input such as `1%`, above which the run fails before anything is published."""

    def limit(self, taken: int) -> float | None:
        """The number of rejects allowed of `taken` records; None: any."""
        if self.fail_above is None:
            return None
        if isinstance(self.fail_above, int):
            return self.fail_above
        return float(self.fail_above.rstrip("%")) / 100 * taken


class Parameter(Model):
    """A value that whoever starts the flow may give."""

    type: str = Field(default="string", examples=["timestamp", "integer", "decimal(18,2)"])
    """A DuckDB type; the value is cast to it."""
    default: Any = None
    """What holds when nothing is given; without it the parameter must be given."""
    description: str = ""
    """What it is for."""
    required: bool = False
    """Whether it must be given."""


class Settings(Model):
    """What holds for the whole flow where a node says nothing else."""

    snapshots: Snapshot = "auto"
    """Which records each port keeps in the data log."""
    rejects: RejectPolicy = RejectPolicy()
    """When rejects stop the run."""
    retry: Retry = Retry()
    """How unavailable systems are retried."""
    timeout_seconds: float | None = Field(default=None, gt=0)
    """After this the run is cancelled."""
    keep_days: int | None = Field(default=None, ge=1)
    """So many days the data logs of its runs are kept: `processflow retention` removes older ones. Null: for ever."""
    batch_rows: int = Field(default=65_536, ge=1, le=1_048_576)
    """The most records in one batch."""


class FlowTest(Model):
    """A test that lives in the flow: given these records at these nodes, those come out there."""

    name: str
    """A sentence that can be false."""
    given: Mapping[str, list[dict[str, Any]]] = Field(default_factory=dict)
    """What each get gives instead of reading."""
    then: Mapping[str, list[dict[str, Any]]] = Field(default_factory=dict)
    """What arrives at a node or a port (`node`, `node.port`): for a post, what it would deliver."""
    parameters: Mapping[str, Any] = Field(default_factory=dict)
    """Values for the flow's parameters."""
    now: str | None = None
    """What `now()` gives: an ISO 8601 time."""


@dataclass(frozen=True)
class NodeSpec:
    """One node of a flow: what it is (`config`) and how it stands in the flow."""

    name: str
    type: str
    config: Node
    inputs: tuple[Link, ...] = ()
    after: tuple[str, ...] = ()
    environment: str | None = None
    snapshot: Snapshot | None = None
    retry: Retry | None = None
    rejects: RejectPolicy | None = None
    description: str = ""
    disabled: bool = False


@dataclass(frozen=True)
class Use:
    """A flow whose nodes are in the place of the node that stood for it: their names begin with that node's and a slash."""

    parameters: Mapping[str, Parameter] | None = None
    """What `$name` stands for in it; None: what it stands for around it."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values for them; text that begins with `$` names one of those around it."""
    ports: Mapping[str, tuple[Link, ...]] = field(default_factory=dict)
    """Where the records leave now that left by each of its ports."""


@dataclass(frozen=True)
class Flow:
    """What a person designs: nodes and links. `version` names the text it came from."""

    name: str
    nodes: Mapping[str, NodeSpec]
    description: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    settings: Settings = field(default_factory=Settings)
    tests: tuple[FlowTest, ...] = ()
    version: str = ""
    uses: Mapping[str, Use] = field(default_factory=dict)
    """The flows whose nodes are among these, by the node that stood for each; an outer one before those in it."""

    def leaving(self, place: str) -> tuple[Link, ...]:
        """Where records leave now that leave `node` or `node.port` in the text."""
        node, _, port = place.partition(".")
        return self.uses[node].ports.get(port or "out", ()) if node in self.uses else (Link(node, port),)

    def consumers(self, node: str, port: str | None = None) -> list[tuple[NodeSpec, Link]]:
        """The nodes a port (or any port) feeds, with the link, in the order of the text."""
        return [
            (spec, link)
            for spec in self.nodes.values()
            if not spec.disabled
            for link in spec.inputs
            if link.node == node and port in (None, link.port)
        ]
