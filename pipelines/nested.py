"""A node that stands for the nodes of a flow. `pipelines.expand` puts those in its place before a flow is checked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.node import Node


@dataclass(frozen=True)
class Turns:
    """How the records of a loop go round."""

    until: str | None = None
    """Records for which this is true leave."""
    at_most: int | None = None
    timeout_seconds: float | None = None


class Nested(Node):
    """Stands for the nodes of a flow, which take its place before the flow is checked."""

    @abstractmethod
    def body(self) -> str | Mapping[str, Any]:
        """The name of the flow, or its nodes as a flow file has them."""

    def turns(self) -> Turns | None:
        """How its records go round; None: they pass once."""
        return None

    def faults(self) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
        """What is wrong with its own fields: where, what, and what would be right."""
        yield from ()

    def given(self) -> Mapping[str, Any]:
        """Values for the parameters of the flow."""
        return {}

    def made(self) -> Mapping[str, str]:
        """Columns to expressions over what comes in: they are made before it goes into the flow."""
        return {}
