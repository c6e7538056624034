"""Values that nodes store, in the catalogue: read when a run begins, changed in the transaction that ends one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from repository.schema import stored

if TYPE_CHECKING:
    from pipelines.stored import Change

Owner = tuple[str, str]
"""An environment, and one of its flows; no flow stands for all of them."""
AT_ONCE = 200
"""So many rows a statement changes: databases bound the number of their parameters."""


def owner_of(where: str, environment: str, flow: str) -> Owner:
    """Whose values of a scope are meant."""
    return environment, flow if where == "flow" else ""


def read(connection: sa.Connection, owner: Owner, name: str) -> dict[str, dict[str, Any]]:
    """The values under a name."""
    wanted = sa.select(stored.c.key, stored.c.value).where(*_under(owner, name))
    return {row.key: row.value for row in connection.execute(wanted)}


def change(connection: sa.Connection, owner: Owner, made: Change, run: str, at: datetime) -> None:
    """Makes a change; the latest of several counts."""
    under = _under(owner, made.place.name)
    if made.replaces:
        connection.execute(sa.delete(stored).where(*under))
    for some in _some(list(made.values)):
        connection.execute(sa.delete(stored).where(*under, stored.c.key.in_(some)))
        rows = [
            _row(owner, made.place.name, key, made.values[key], run, at) for key in some if made.values[key] is not None
        ]
        if rows:
            connection.execute(sa.insert(stored), rows)


def lines(connection: sa.Connection, owner: Owner) -> list[dict[str, Any]]:
    """Per name how many values there are, and the run that changed one last."""
    of = (stored.c.environment == owner[0], stored.c.flow == owner[1])
    found: dict[str, dict[str, Any]] = {}
    wanted = sa.select(stored.c.name, stored.c.run, stored.c.at).where(*of).order_by(stored.c.at)
    for row in connection.execute(wanted):
        line = found.setdefault(row.name, {"name": row.name, "values": 0})
        line.update(values=line["values"] + 1, run=row.run, at=row.at)
    return list(found.values())


def forget(connection: sa.Connection, owner: Owner, names: Sequence[str] | None) -> int:
    """Forgets all values under some names, or all names; how many names there were."""
    there = [line["name"] for line in lines(connection, owner) if names is None or line["name"] in names]
    for name in there:
        connection.execute(sa.delete(stored).where(*_under(owner, name)))
    return len(there)


def _under(owner: Owner, name: str) -> tuple[sa.ColumnElement[bool], ...]:
    environment, flow = owner
    return stored.c.environment == environment, stored.c.flow == flow, stored.c.name == name


def _row(owner: Owner, name: str, key: str, value: Mapping[str, Any] | None, run: str, at: datetime) -> dict[str, Any]:
    return {
        "environment": owner[0],
        "flow": owner[1],
        "name": name,
        "key": key,
        "value": dict(value or {}),
        "run": run,
        "at": at,
    }


def _some(keys: Sequence[str]) -> Iterable[Sequence[str]]:
    return (keys[first : first + AT_ONCE] for first in range(0, len(keys), AT_ONCE))
