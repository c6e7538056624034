"""The columns that sources had, in the catalogue's database: kept with the end of a run, read, forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa

from repository.schema import seen


def keep(connection: sa.Connection, owner: tuple[str, str], columns: Mapping[str, str], run: str, at: datetime) -> None:
    """Keeps per node the columns of its source, for an environment's flow."""
    for node, text in columns.items():
        forget(connection, owner, [node])
        place = {"environment": owner[0], "flow": owner[1], "node": node}
        connection.execute(sa.insert(seen).values(**place, columns=text, run=run, at=at))


def read(connection: sa.Connection, owner: tuple[str, str]) -> dict[str, str]:
    """Per node the columns of its source."""
    wanted = sa.select(seen.c.node, seen.c.columns).where(seen.c.environment == owner[0], seen.c.flow == owner[1])
    return {row.node: row.columns for row in connection.execute(wanted)}


def forget(connection: sa.Connection, owner: tuple[str, str], nodes: Sequence[str] | None = None) -> int:
    """Forgets the columns of these nodes' sources, or of all; how many there were."""
    where = [seen.c.environment == owner[0], seen.c.flow == owner[1]]
    where += [] if nodes is None else [seen.c.node.in_(nodes)]
    return int(connection.execute(sa.delete(seen).where(*where)).rowcount)
