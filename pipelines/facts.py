"""What a worker reports of its part of a phase: counts and names, never records. Plain values, so that any engine carries them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.ledger import Ledger
from pipelines.node import Json, Part

Plain = dict[str, Any]


@dataclass
class Facts:
    """What a worker, or all workers of a phase together, have done."""

    ledger: Ledger = field(default_factory=Ledger)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    """Per post what was staged."""
    whole: dict[str, list[Part]] = field(default_factory=dict)
    """Per node what its rules over all records need."""
    pieces: list[Plain] = field(default_factory=list)
    """Pieces of the data log."""
    receipts: dict[str, list[Plain]] = field(default_factory=dict)
    """Per staged post the pieces that hold its receipts: they count once it is published."""
    spills: list[Plain] = field(default_factory=list)
    """Batches for later phases: `node`, `port`, `path`, `rows`."""
    positions: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, list[Plain]] = field(default_factory=dict)
    """Per node that remembers, the files of keys that it has let through."""

    warnings: list[Plain] = field(default_factory=list)
    """What went wrong without ending anything: `node`, `message`."""

    def add(self, other: Facts, later: Callable[[str, Json, Json], Json]) -> None:
        """Takes in what another worker did; `later` joins two positions of a get."""
        self.ledger.add(other.ledger)
        for mine, theirs in ((self.parts, other.parts), (self.whole, other.whole)):
            for node, parts in theirs.items():
                mine.setdefault(node, []).extend(parts)
        for node, pieces in other.receipts.items():
            self.receipts.setdefault(node, []).extend(pieces)
        for node, files in other.keys.items():
            self.keys.setdefault(node, []).extend(files)
        self.pieces.extend(other.pieces)
        self.warnings.extend(other.warnings)
        self.spills.extend(other.spills)
        for node, position in other.positions.items():
            self.positions[node] = later(node, self.positions.get(node), position)

    def plain(self) -> Plain:
        return {
            "ledger": self.ledger.plain(),
            "parts": _parts_plain(self.parts),
            "whole": _parts_plain(self.whole),
            "pieces": self.pieces,
            "receipts": self.receipts,
            "spills": self.spills,
            "positions": self.positions,
            "keys": self.keys,
            "warnings": self.warnings,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Facts:
        return cls(
            Ledger.of_plain(plain["ledger"]),
            _parts_of(plain["parts"]),
            _parts_of(plain["whole"]),
            list(plain["pieces"]),
            dict(plain["receipts"]),
            list(plain["spills"]),
            dict(plain["positions"]),
            dict(plain.get("keys", {})),
            list(plain.get("warnings", ())),
        )


def _parts_plain(parts: Mapping[str, Sequence[Part]]) -> dict[str, list[list[Any]]]:
    return {node: [[part.payload, part.rows, part.bytes] for part in some] for node, some in parts.items()}


def _parts_of(plain: Mapping[str, Sequence[Sequence[Any]]]) -> dict[str, list[Part]]:
    return {node: [Part(payload, rows, size) for payload, rows, size in some] for node, some in plain.items()}
