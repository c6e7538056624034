"""Sources that are told how far they were read, for others who watch: Kafka, for the lag of a consumer group."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

from pipelines.errors import FlowError
from pipelines.job import Job
from pipelines.node import Json
from pipelines.scope import Scope


class Told(ABC):
    """A get that tells its system where reading goes on. Nothing is ever read by what was told."""

    @abstractmethod
    def tell(self, scope: Scope, position: Json) -> None:
        """Everything before `position` is delivered or rejected: says so. Called again it does no harm."""


def tell(job: Job, positions: Mapping[str, Json]) -> Iterator[str]:
    """Tells all sources of a run that has ended well; gives a sentence for each that could not be told."""
    for station in job.plan.gets():
        config = station.spec.config
        if isinstance(config, Told) and positions.get(station.name) is not None:
            try:
                config.tell(job.scope, positions[station.name])
            except FlowError as fault:
                yield f"{station.name}: all is delivered, but its source could not be told: {fault}"
