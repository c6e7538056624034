"""How a flow would run, in words and as data: what `explain` prints."""

from __future__ import annotations

from typing import Any

from agent.prepare import Prepared
from pipelines.node import Get, Post, Start
from pipelines.plan import Station


def plain(prepared: Prepared) -> dict[str, Any]:
    """The plan as one document."""
    return {
        "flow": prepared.flow.name,
        "version": prepared.flow.version,
        "delivery": prepared.checked.delivery_report(),
        "phases": [
            [_plain(station) for station in prepared.plan.stations.values() if station.phase == phase]
            for phase in range(prepared.plan.phases)
        ],
    }


def _plain(station: Station) -> dict[str, Any]:
    return {
        "node": station.name,
        "type": station.spec.type,
        "columns": {field.name: str(field.type) for field in station.schema},
        "links": {port: list(targets) for port, targets in station.links.items()},
        "snapshots": dict(station.snapshots),
        "all_columns": station.wanted is None if isinstance(station.spec.config, Get) else None,
        "forwards": station.forwards or None,
    }


def explained(prepared: Prepared) -> str:
    """The plan in words: phases in order, and in each its nodes in the order in which a batch passes them."""
    lines = [f"{prepared.flow.name} {prepared.flow.version}"]
    for phase in range(prepared.plan.phases):
        stations = [station for station in prepared.plan.stations.values() if station.phase == phase]
        count = "1 node" if len(stations) == 1 else f"{len(stations)} nodes"
        lines.append(f"phase {phase + 1} of {prepared.plan.phases}: one pass over each batch, {count}")
        lines += [line for station in stations for line in _lines(station)]
        staged = [s.name for s in stations if isinstance(s.spec.config, Post) and s.spec.config.staged]
        if staged:
            lines.append(f"  then, when everything has arrived and the ledger balances: publish {', '.join(staged)}")
    lines += _idle(prepared)
    delivery = prepared.checked.delivery_report()
    lines.append(f"delivery: {delivery['label']}")
    lines += [f"  {reason}" for reason in delivery["reasons"]]
    return "\n".join(lines)


def _idle(prepared: Prepared) -> list[str]:
    """The nodes that stand in the text and do not run."""
    specs = [spec for spec in prepared.flow.nodes.values() if spec.name not in prepared.plan.stations]
    told = [
        f"{spec.name} (disabled)" if spec.disabled else spec.name
        for spec in specs
        if not isinstance(spec.config, Start)
    ]
    return ["does not run: " + ", ".join(told)] if told else []


def _lines(station: Station) -> list[str]:
    to = "; ".join(
        (f"{port} to " if port != "out" else "to ") + ", ".join(targets) for port, targets in station.links.items()
    )
    after = f" after {', '.join(station.spec.after)}" if station.spec.after else ""
    lines = [f"  {station.name} ({station.spec.type}){after}{' ' + to if to else ''}"]
    if isinstance(station.spec.config, Get):
        read = "all columns" if station.wanted is None else "columns " + ", ".join(station.schema.names)
        lines.append(f"    reads {read}")
    if station.forwards:
        lines.append(f"    takes the records of {station.forwards} without looking at them, where both systems agree")
    if station.borrows is not None:
        lines.append(f"    waits for its input {station.borrows}, which is lent to all workers where it is small")
    return lines
