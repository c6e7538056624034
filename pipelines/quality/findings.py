"""Rules over all records of a node, checked once everything has passed it and before anything is published."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import pyarrow as pa

from pipelines.node import Part
from pipelines.scope import Scope


@dataclass(frozen=True)
class Finding:
    """What a rule over all records found."""

    rule: str
    passed: bool
    observed: Any
    message: str
    severity: Literal["error", "warning", "info"] = "error"
    """What a broken rule does: `error` fails the run before anything is published, the others are only logged."""

    @property
    def stops(self) -> bool:
        """Whether the run must not go on."""
        return not self.passed and self.severity == "error"


@runtime_checkable
class WholeRules(Protocol):
    """A transform whose steps have `close() -> Sequence[Part]`, and which judges all parts of a run together."""

    def verify(self, parts: Sequence[Part], schema: pa.Schema, scope: Scope) -> Iterator[Finding]:
        """One finding for each rule, in the order of the text."""
