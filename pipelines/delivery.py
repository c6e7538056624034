"""What a flow promises of the records it delivers: the weakest of its posts' labels, with the reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.flow import Flow, NodeSpec
from pipelines.language.flowlinks import live
from pipelines.messages import is_told_last
from pipelines.node import Get, Post, Wide
from pipelines.publishing import repeated

LABELS = ("exactly once", "effectively once", "at least once", "at most once")
"""From the strongest to the weakest."""
NOTHING = "delivers nothing"


@dataclass(frozen=True)
class Delivery:
    """A flow's label and why; per post its own."""

    label: str = NOTHING
    reasons: tuple[str, ...] = ()
    posts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Per post its label and the reason for it."""

    def __str__(self) -> str:
        return "; ".join((self.label, *self.reasons))

    def as_data(self) -> dict[str, Any]:
        """As `run --json` gives it."""
        posts = {name: {"label": label, "reason": reason} for name, (label, reason) in self.posts.items()}
        return {"label": self.label, "reasons": list(self.reasons), "posts": posts}


def delivery(flow: Flow) -> Delivery:
    """The delivery label of a flow.

    A get may weaken it too, where it has a method `delivery` like a post's: one that cannot read the same again.
    """
    posts: dict[str, tuple[str, str]] = {}
    ends: dict[str, tuple[str, str]] = {}
    runs = live(flow)
    again = repeated(flow, runs)
    for spec in flow.nodes.values():
        if spec.name not in runs:
            continue
        own = getattr(spec.config, "delivery", None)
        if own is not None and isinstance(spec.config, (Get, Post)):
            found = _weakened(own(), again.get(spec.name))
            if isinstance(spec.config, Post):
                posts[spec.name] = found
            if not is_told_last(spec.config):
                ends[spec.name] = found
    if not posts:
        return Delivery()
    if not set(ends) & set(posts):  # a flow that only tells
        ends.update(posts)
    label = max((label for label, _ in ends.values()), key=_weakness)
    reasons = [f"{name}: {reason}" for name, (own, reason) in ends.items() if own == label and reason]
    return Delivery(label, (*reasons, *_repeats(flow, posts)), posts)


def _weakened(own: tuple[str, str], why: str | None) -> tuple[str, str]:
    return own if why is None or _weakness(own[0]) >= _weakness("at least once") else ("at least once", why)


def _weakness(label: str) -> int:
    return LABELS.index(label) if label in LABELS else len(LABELS)


def _repeats(flow: Flow, posts: Mapping[str, object]) -> Iterator[str]:
    """What the next run will deliver a second time: it is no fault of this run, but whoever reads the label asks it."""
    for name in posts:
        post = flow.nodes[name]
        if getattr(post.config, "mode", None) != "append":
            continue
        for source in sources(flow, post, new_only=True):
            if _reads_all_again(source):
                yield f"{name}: appends, and {source.name} reads everything in each run, so the next run adds it again"


def _reads_all_again(source: NodeSpec) -> bool:
    return not any(getattr(source.config, name, None) for name in ("cursor", "once"))


def sources(flow: Flow, spec: NodeSpec, *, new_only: bool = False) -> list[NodeSpec]:
    """The gets whose records reach a node, in the order of the text; with `new_only` those that may reach it in each run
    anew, not through a node that remembers what it has let through."""
    reached, waiting = {spec.name}, [spec]
    while waiting:
        here = waiting.pop()
        if new_only and isinstance(here.config, Wide) and here.config.remembered_key():
            continue
        for link in here.inputs:
            source = flow.nodes.get(link.node)
            if source is not None and source.name not in reached and not source.disabled:
                reached.add(source.name)
                waiting.append(source)
    return [node for name, node in flow.nodes.items() if name in reached and isinstance(node.config, Get)]
