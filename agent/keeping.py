"""What a run's nodes recall and store, between the catalogue and the run's own folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipelines import stored
from pipelines.fetch import Fetch
from pipelines.job import Job
from pipelines.plan import Plan
from pipelines.stored import Change, Place, Recalls, Stores
from repository.project import Project

if TYPE_CHECKING:
    from repository.catalogue import Catalogue


def lay_down(job: Job, catalogue: Catalogue) -> None:
    """Fetches what the nodes of a run recall, as it is when the run begins."""
    for place in set(_recalled(job.plan)):
        if place.where != "run":
            values = catalogue.stored(job.scope.environment.name, job.plan.flow, place)
            stored.keep(job.scope, place, values)


def recall(job: Job, project: Project) -> bool:
    """The same for a look at what a flow would do; whether it recalls anything."""
    if all(place.where == "run" for place in _recalled(job.plan)):
        return False
    from repository.catalogue import Catalogue  # not wanted where flows are only checked

    project.prepare()
    catalogue = Catalogue(project.catalogue_url)
    try:
        lay_down(job, catalogue)
    finally:
        catalogue.close()
    return True


def changes(job: Job) -> list[Change]:
    """What the nodes of a run have stored that is to count behind its end."""
    nodes = [station.name for station in job.plan.posts() if isinstance(station.spec.config, Stores)]
    return list(stored.changes(job.scope, nodes))


def _recalled(plan: Plan) -> Iterator[Place]:
    for station in plan.stations.values():
        config = station.spec.config
        node = config.get if isinstance(config, Fetch) else config
        if isinstance(node, Recalls):
            yield node.recalled_from()
