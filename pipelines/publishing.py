"""When posts publish: at the end of the run, where no later node waits for them, and in the order that risks least.

What fails, is refused or is cancelled before that leaves no target touched, and the next run reads the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipelines.flow import Flow
from pipelines.language.flowlinks import order
from pipelines.messages import Tells, is_told_last
from pipelines.node import Node, Post
from pipelines.plan import Plan, Station


def due(plan: Plan, phase: int) -> list[Station]:
    """The staged posts that publish when a phase ends, in their order."""
    last = plan.phases - 1
    found = [station for station in plan.posts() if is_staged(station.spec.config)]
    return sorted(
        (station for station in found if (station.phase if is_awaited(plan, station) else last) == phase),
        key=lambda station: risk(station.spec.config),
    )


def is_staged(config: Node) -> bool:
    """Whether a node is a post whose records show only once it publishes."""
    return isinstance(config, Post) and config.staged


def is_awaited(plan: Plan, station: Station) -> bool:
    """Whether another node needs what a post has published: it takes from it, or is to run after it."""
    return any(station.links.values()) or _is_named(
        station.name, (other.spec.after for other in plan.stations.values())
    )


def adds(config: Node) -> bool:
    """Whether delivering the same records in another run leaves more than delivering them once."""
    return isinstance(config, Post) and getattr(config, "mode", "append") == "append"


def risk(config: Node) -> tuple[bool, bool, bool]:
    """Posts that may do it again come first, then those whose target may still refuse; those that only tell come last."""
    return is_told_last(config), adds(config), not (isinstance(config, Post) and config.keeps_ids)


def repeated(flow: Flow, runs: Iterable[str]) -> dict[str, str]:
    """The posts that may have published when the run fails for good, so that the next run delivers again; and why."""
    names = set(runs)
    adding = [name for name in order(flow) if name in names and _adds_staged(flow.nodes[name].config)]
    tellers = [name for name in order(flow) if name in names and is_told_last(flow.nodes[name].config)]
    fatal = [name for name in tellers if _may_end_the_run(flow.nodes[name].config)]
    adding = [name for name in adding if name not in tellers]
    found: dict[str, str] = {}
    ends: list[str] = []
    for name in adding:
        waiting = [spec.name for spec, _ in flow.consumers(name) if spec.name in names]
        waiting += [spec.name for spec in flow.nodes.values() if spec.name in names and name in spec.after]
        if waiting:
            found[name] = (
                f"{waiting[0]} waits for it: where the run fails for good behind it, the next one adds it again"
            )
        elif fatal:
            found[name] = f"it publishes before {fatal[0]}: where that fails for good, the next run adds it again"
        elif _may_refuse(flow.nodes[name].config):
            ends.append(name)
    for name in ends[:-1]:
        found[name] = f"it publishes before {ends[-1]}: where that is refused for good, the next run adds it again"
    return found


def _adds_staged(config: Node) -> bool:
    return is_staged(config) and adds(config)


def _may_end_the_run(config: Node) -> bool:
    return isinstance(config, Tells) and config.may_fail()


def _may_refuse(config: Node) -> bool:
    return isinstance(config, Post) and config.keeps_ids


def _is_named(name: str, afters: Iterable[Sequence[str]]) -> bool:
    return any(name in after for after in afters)
