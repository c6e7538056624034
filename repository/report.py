"""What the lake keeps of an ended run: the report of `processflow run --json` and what surrounds it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

NodeReport = TypedDict(
    "NodeReport",
    {
        "type": str,
        "in": int,
        "created": int,
        "out": Mapping[str, int],
        "filtered": int,
        "rejected": int,
        "delivered": int,
        "seconds": float,
        "status": str,
    },
    total=False,
)
"""A node's line of the ledger; `out` counts records per port."""


class RunReport(TypedDict, total=False):
    """An ended run, whatever its end. `started` and `ended` are ISO 8601 times with an offset."""

    run: str
    flow: str
    version: str
    status: str
    balanced: bool
    started: str
    ended: str
    seconds: float
    environment: str
    trigger: str
    replay_of: str | None
    delivery: Mapping[str, Any]
    error: str | None
    warnings: Sequence[Mapping[str, str]]
    parameters: Mapping[str, Any]
    nodes: Mapping[str, NodeReport]
