"""What a node may know of the run it is in: parameters, connections, places, limits. Passed in, never global."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from pipelines.environment import Connection, Environment
from pipelines.errors import Invalid

C = TypeVar("C", bound=Connection)


@dataclass(frozen=True)
class Scope:
    """What a node may know of its run. Picklable; the same on every worker."""

    project: Path
    """The project folder; relative paths of a flow start here."""
    environment: Environment = field(default_factory=Environment)
    values: Mapping[str, object] = field(default_factory=dict)
    """What `$name` stands for in expressions: variables of the environment, parameters over them."""
    now: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    """The run's start: what `now()` gives, so that a replay gives the same."""
    flow: str = ""
    version: str = ""
    run: str = ""
    uses: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Per node that stands for a flow the values of that flow's parameters."""
    node: str = ""
    """The node that asks, once it runs."""
    seen: Mapping[str, pa.Schema] = field(default_factory=dict)
    """Per get the columns that the last run saw, where something asks for them."""
    staging: Path = Path()
    """A folder of this run's own, for spilled and staged files; gone when the run has ended."""

    def path(self, relative: str) -> Path:
        """A path of the flow, from the project folder."""
        return self.project / Path(relative).expanduser()

    def connection(self, name: str, kind: type[C]) -> C:
        """The connection called `name`, which must be of the adapter that asks."""
        found = self.environment.connections.get(name)
        if found is None:
            there = ", ".join(sorted(self.environment.connections)) or "none"
            raise Invalid(
                f"no connection is called {name!r} in environment {self.environment.name}; there are: {there}"
            )
        if not isinstance(found, kind):
            raise Invalid(f"connection {name!r} is of adapter {found.adapter!r}, which this node cannot use")
        return found

    @property
    def shared(self) -> Path:
        """A folder that all runs here have in common, for what they must agree on, such as limits."""
        return self.staging.parent.parent / "shared"

    def inside(self, node: str) -> Scope:
        """What a node sees, whose name may begin with that of a node which stands for a flow."""
        around = node.rpartition("/")[0]
        while around and around not in self.uses:
            around = around.rpartition("/")[0]
        if not around:
            return replace(self, node=node)
        return replace(self, node=node, values={**self.environment.variables, **self.uses[around]})

    def at(self, staging: Path) -> Scope:
        return replace(self, staging=staging)
