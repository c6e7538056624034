"""A named place to run: its runner, connections and variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SerializeAsAny

from pipelines.model import Model

if TYPE_CHECKING:
    from pipelines.scope import Scope


class Connection(Model):
    """An adapter's settings for one real system. Each adapter that needs one derives its own."""

    adapter: str
    """The adapter these settings are for."""

    def test(self, scope: Scope) -> str:
        """Reaches the system and says in a sentence what was found. `Unavailable` or `Invalid` say what to do."""
        return "needs no connection"


class Runner(Model):
    """What executes a segment's pipeline."""

    name: Literal["direct", "flink", "dataflow", "spark"] = "direct"
    """`direct` runs in this process on Beam's FnApiRunner; the others need the cluster that `options` names."""
    workers: int = Field(default=2, ge=1, le=256)
    """How many splits are worked on at the same time."""
    memory_bytes: int = Field(default=1 << 30, ge=1 << 26)
    """What a run may hold in memory for wide nodes and queries."""
    options: dict[str, str | int | bool] = Field(default_factory=dict)
    """Beam's pipeline options for this runner, by name."""


class Environment(Model):
    """A named place to run: hosted or on-premise, with its runner, connections and variables."""

    name: str = Field(default="local", alias="environment")
    """The environment's name: lower-case words joined by `-`."""
    runner: Runner = Runner()
    """What runs the flows placed here."""
    connections: Mapping[str, SerializeAsAny[Connection]] = Field(default_factory=dict)
    """Connections by name."""
    variables: Mapping[str, str | int | float | bool | None] = Field(default_factory=dict)
    """What `$name` stands for in every flow that runs here, where no parameter of the flow has that name."""
