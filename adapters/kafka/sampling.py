"""Looks at some messages of topics: the first and the last of each partition, to tell their columns."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.kafka import topics
from adapters.kafka.client import Admin
from adapters.kafka.connection import Connection
from adapters.kafka.reading import Partition, consuming
from pipelines.scope import Scope

EACH = 50
"""So many messages of either end of a partition are looked at."""
MOST_PARTITIONS = 16


def sampled(names: Sequence[str], connection: Connection, scope: Scope, *, each: int = EACH) -> list[bytes]:
    """The values of some messages that are committed; those without a value are left out."""
    admin = Admin(connection, scope)
    found = topics.described(admin, names)
    earliest, latest = (topics.offsets(admin, found, which) for which in ("earliest", "latest"))
    places = [place for place in sorted(earliest) if latest[place] > earliest[place]]
    values: list[bytes] = []
    if not places:
        return values
    with consuming(connection, scope) as (consumer, faults):
        for place in places[:: -(-len(places) // MOST_PARTITIONS)]:
            first, end = earliest[place], latest[place]
            middle = max(first + each, end - each)
            for start, stop in ((first, min(first + each, end)), (middle, end)):
                if start < stop:
                    split = {"topic": place[0], "partition": place[1], "first": start, "end": stop}
                    partition = Partition(consumer, faults, split, connection)
                    messages = (message for batch in partition.batches(each) for message in batch)
                    values += [value for message in messages if (value := message.value()) is not None]
    return values
