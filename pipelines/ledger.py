"""Counts per node that must balance: what came in is what went out, was filtered or was rejected, and at both ends of a link."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counts:
    """What one node did in a run, or in a part of it. All are numbers of records."""

    taken: int = 0
    """Records that came in; for a get, what was read, the malformed included."""
    created: int = 0
    """Records made beyond those that came in: copies for further branches, elements of a list."""
    out: dict[str, int] = field(default_factory=dict)
    """Records that left, per port; `rejected` is not among them."""
    filtered: int = 0
    rejected: int = 0
    merged: int = 0
    """Records that went into others, as of a group into its sum."""
    pending: int = 0
    """Records staged, of which the target has not yet told the outcome."""
    delivered: int = 0
    """For a post: records that its target holds, by the target's own count where it has one."""
    batches: int = 0
    seconds: float = 0.0

    def add(self, other: Counts) -> None:
        for name in ("taken", "created", "filtered", "rejected", "merged", "pending", "delivered", "batches"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.seconds += other.seconds
        for port, rows in other.out.items():
            self.out[port] = self.out.get(port, 0) + rows

    def plain(self) -> dict[str, Any]:
        """As it stands in reports and in the elements of a pipeline."""
        return {
            "in": self.taken,
            "created": self.created,
            "out": dict(self.out),
            "filtered": self.filtered,
            "rejected": self.rejected,
            "merged": self.merged,
            "pending": self.pending,
            "delivered": self.delivered,
            "batches": self.batches,
            "seconds": self.seconds,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Counts:
        values = dict(plain)
        return cls(taken=values.pop("in"), out=dict(values.pop("out")), **values)


@dataclass
class Ledger:
    """The counts of all nodes, and of all links by their receiving end."""

    nodes: dict[str, Counts] = field(default_factory=dict)
    links: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """(node, port, next node) to the records that the next node took from there."""

    def of(self, node: str) -> Counts:
        return self.nodes.setdefault(node, Counts())

    def link(self, node: str, port: str, target: str, rows: int) -> None:
        key = (node, port, target)
        self.links[key] = self.links.get(key, 0) + rows

    def add(self, other: Ledger) -> None:
        for name, counts in other.nodes.items():
            self.of(name).add(counts)
        for (node, port, target), rows in other.links.items():
            self.link(node, port, target, rows)

    def plain(self) -> dict[str, Any]:
        return {
            "nodes": {name: counts.plain() for name, counts in self.nodes.items()},
            "links": [[*key, rows] for key, rows in self.links.items()],
        }

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any]) -> Ledger:
        nodes = {name: Counts.of(counts) for name, counts in plain["nodes"].items()}
        return cls(nodes, {(node, port, target): rows for node, port, target, rows in plain["links"]})


def total(ledgers: Iterable[Ledger]) -> Ledger:
    whole = Ledger()
    for ledger in ledgers:
        whole.add(ledger)
    return whole


def imbalances(
    ledger: Ledger,
    links: Iterable[tuple[str, str, str]],
    posts: Iterable[str] = (),
    nodes: Collection[str] | None = None,
    *,
    pending: bool = False,
) -> Iterator[str]:
    """Where the ledger does not balance, in words: per node, per link, and at `posts` against the target's own count.

    `nodes` narrows it to some; `pending`: staged records whose outcome is still to come are in order.
    """
    for name, counts in ledger.nodes.items():
        if nodes is None or name in nodes:
            yield from _node_imbalances(name, counts, pending)
    for name in posts:
        counts = ledger.of(name)
        if counts.delivered != sum(counts.out.values()):
            yield f"post {name!r}: {sum(counts.out.values())} records sent, but the target holds {counts.delivered}"
    for node, port, target in links:
        counts = ledger.of(node)
        sent = counts.rejected if port == "rejected" else counts.out.get(port, 0)
        came = ledger.links.get((node, port, target), 0)
        if sent != came:
            yield f"link {node}.{port} to {target}: {sent} records left and {came} arrived"


def _node_imbalances(name: str, counts: Counts, pending: bool) -> Iterator[str]:
    before = counts.taken + counts.created
    out = sum(counts.out.values())
    after = out + counts.filtered + counts.rejected + counts.merged + counts.pending
    if before != after:
        yield (
            f"node {name!r}: {counts.taken} in + {counts.created} created is not "
            f"{out} out + {counts.filtered} filtered + {counts.rejected} rejected"
            + (f" + {counts.merged} merged" if counts.merged else "")
            + (f" + {counts.pending} without an answer" if counts.pending else "")
            + f"; {abs(before - after)} records are {'missing' if before > after else 'too many'}"
        )
    elif counts.pending and not pending:
        yield f"node {name!r}: {counts.pending} records were staged and the target gave no outcome for them"
