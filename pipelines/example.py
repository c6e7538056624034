"""What an example of a node type is: its fields, what comes in and what leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Example:
    """A use of a node type that is documentation, a sample in the studio and a test at once."""

    config: Mapping[str, Any]
    """The node's fields, as in a flow file, without `type` and `from`."""
    records: Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Mapping[str, Any]]] = ()
    """What comes in; for a node with named inputs, per input."""
    gives: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """What leaves, per port. For a post: `out`, what was delivered."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """DuckDB types of the incoming columns, where the values do not tell them."""
    says: str = ""
    """A sentence about it."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Text files that lie in the project folder, by path."""
