"""Which offsets a run reads: from where the last one ended, or as `start` says, to what is there now or `until`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.kafka import topics
from adapters.kafka.client import Admin
from adapters.kafka.positions import milliseconds
from adapters.kafka.topics import Places, Topic
from pipelines.errors import Invalid
from pipelines.node import Json, Split, SplitPlan
from pipelines.scope import Scope

if TYPE_CHECKING:
    from adapters.kafka.get import Get

MESSAGE_BYTES = 500
"""What a message is taken to weigh before any is seen."""


@dataclass(frozen=True)
class Bounds:
    """What the brokers hold of some topics."""

    topics: Sequence[Topic]
    earliest: Places
    latest: Places

    @classmethod
    def of(cls, admin: Admin, names: Sequence[str], *, committed: bool) -> Bounds:
        found = topics.described(admin, names)
        earliest, latest = (
            topics.offsets(admin, found, which, committed=committed) for which in ("earliest", "latest")
        )
        return cls(found, earliest, latest)


class Planner:
    """Plans one get."""

    def __init__(self, get: Get, scope: Scope, admin: Admin) -> None:
        self._get = get
        self._scope = scope
        self._admin = admin
        self._bounds = Bounds.of(admin, get.topics, committed=not get.include_uncommitted)
        self._notes: list[str] = []

    def plan(self, position: Json) -> SplitPlan:
        """The splits, one a partition, and the position behind them."""
        again = (position or {}).get("cursor")
        if again is not None:
            starts = self._at(milliseconds(again["at"], {}))
            ends = self._at(milliseconds(again["until"], {}) + 1) if "until" in again else self._ends()
        else:
            starts, ends = self._starts(position), self._ends()
        splits = []
        for place in sorted(starts):
            first, end = starts[place], ends[place]
            if end > first:
                split = {"topic": place[0], "partition": place[1], "first": first, "end": end}
                splits.append(Split(split, end - first, (end - first) * MESSAGE_BYTES))
        reached = again["then"] if again and "until" in again else self._behind(starts, ends)
        return SplitPlan(tuple(splits), reached, "; ".join(self._notes))

    def _behind(self, starts: Places, ends: Places) -> Json:
        as_of = int(self._scope.now.timestamp() * 1000)
        found: dict[str, Any] = {}
        for topic in self._bounds.topics:
            following = {
                str(number): max(starts[topic.name, number], ends[topic.name, number]) for number in topic.partitions
            }
            found[topic.name] = {"id": topic.id, "as_of": as_of, "next": following}
        return {"topics": found}

    def _at(self, moment: int) -> Places:
        return topics.offsets(self._admin, self._bounds.topics, moment, committed=not self._get.include_uncommitted)

    def _ends(self) -> Places:
        until = self._get.until
        if until is None:
            return self._bounds.latest
        asked = _named(until) if isinstance(until, Mapping) else None
        if asked is None:
            found = self._at(milliseconds(until, self._scope.values))
        else:
            found = {place: asked.get(place[1], latest) for place, latest in self._bounds.latest.items()}
        return {place: min(end, self._bounds.latest[place]) for place, end in found.items()}

    def _starts(self, position: Json) -> Places:
        known = (position or {}).get("topics", {})
        fresh = [topic for topic in self._bounds.topics if topic.name not in known]
        found = self._first_starts(fresh) if fresh else {}
        for topic in self._bounds.topics:
            if topic.name in known:
                found |= self._next(topic, known[topic.name])
        return found

    def _first_starts(self, fresh: Sequence[Topic]) -> Places:
        """Where a topic begins that was never read: as `start` says."""
        start, bounds = self._get.start, self._bounds
        own = {(topic.name, number) for topic in fresh for number in topic.partitions}
        if start in ("earliest", "latest"):
            found = bounds.earliest if start == "earliest" else bounds.latest
        elif isinstance(start, Mapping):
            asked = _named(start)
            found = {place: asked.get(place[1], first) for place, first in bounds.earliest.items()}
            for place in own:
                found[place] = self._within(place, found[place])
        else:
            found = self._at(milliseconds(start, self._scope.values))
        return {place: offset for place, offset in found.items() if place in own}

    def _next(self, topic: Topic, known: Json) -> Places:
        """Where a topic goes on."""
        if known["id"] and topic.id and known["id"] != topic.id:
            what = f"topic {topic.name!r} was deleted and made anew since the last run, so that its offsets mean other records"
            self._told(what)
            return {(topic.name, number): self._bounds.earliest[topic.name, number] for number in topic.partitions}
        found = {}
        for number in topic.partitions:
            place = topic.name, number
            offset = known["next"].get(str(number))  # a partition that was added is read from its beginning
            found[place] = self._bounds.earliest[place] if offset is None else self._within(place, offset)
        return found

    def _within(self, place: tuple[str, int], offset: int) -> int:
        """The offset, where the partition still has it."""
        first, end = self._bounds.earliest[place], self._bounds.latest[place]
        if offset < first:
            self._told(
                f"{_said(place)}: the records from offset {offset} to {first - 1} were deleted before they were read"
            )
            return first
        if offset > end:
            self._told(f"{_said(place)}: it was read to offset {offset} and now ends at {end}: it lost records")
            return end
        return offset

    def _told(self, what: str) -> None:
        if self._get.lost == "fail":
            raise Invalid(
                f"{what}; to go on with the records that there are, set `lost: go_on`, or let it begin anew with "
                f"`processflow positions reset {self._scope.flow}`"
            )
        self._notes.append(what)


def _named(offsets: Mapping[Any, int]) -> dict[int, int]:
    return {int(number): offset for number, offset in offsets.items()}


def _said(place: tuple[str, int]) -> str:
    return f"topic {place[0]!r} partition {place[1]}"
