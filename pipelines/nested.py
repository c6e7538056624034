"""A node that stands for the nodes of a flow. `pipelines.expand` puts those in its place before a flow is checked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from pipelines.node import Node


class Nested(Node):
    """Stands for the nodes of a flow, which take its place before the flow is checked."""

    @abstractmethod
    def body(self) -> str:
        """The name of the flow."""

    def given(self) -> Mapping[str, Any]:
        """Values for the parameters of the flow."""
        return {}

    def made(self) -> Mapping[str, str]:
        """Columns to expressions over what comes in: they are made before it goes into the flow."""
        return {}
