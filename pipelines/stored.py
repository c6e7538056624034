"""Values that are stored by one node and recalled by another: as text that DuckDB reads back as it was, by name.

What a node stores counts from the end of its run on, in the transaction that moves the positions; in between it lies in the
run's own folder. What a node recalls lies there too: it was fetched when the run began.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import pyarrow as pa

from pipelines import journal
from pipelines.scope import Scope
from pipelines.sql.literals import name_of
from pipelines.sql.sandbox import Sandbox

Where = Literal["run", "flow", "environment"]
Values = Mapping[str, str | None]
"""A record: each column's value as text."""
KEY_MOST = 1_000
"""So many letters a key has at most."""


@dataclass(frozen=True)
class Place:
    """Where values are stored: those of one run, of one flow in an environment, or of all its flows."""

    where: Where
    name: str


@dataclass(frozen=True)
class Change:
    """What becomes of stored values: the value of each key that changes, None where it is forgotten."""

    place: Place
    values: Mapping[str, Values | None]
    replaces: bool = False
    """Whether all other keys are forgotten."""


@runtime_checkable
class Stores(Protocol):
    """A node that stores values."""

    def stored_in(self) -> Place:
        """Where."""


@runtime_checkable
class Recalls(Protocol):
    """A node that recalls values."""

    def recalled_from(self) -> Place:
        """Where from."""


def texts(batch: pa.RecordBatch, sandbox: Sandbox) -> list[dict[str, str | None]]:
    """The records with each value as text."""
    items = ", ".join(f"CAST({name_of(name)} AS VARCHAR) AS {name_of(name)}" for name in batch.schema.names)
    found: list[dict[str, str | None]] = sandbox.prepare(items, batch.schema)(batch).to_pylist()
    return found


def key_of(values: Values, key: Sequence[str]) -> str:
    """What tells a record's values from others under the same name; the same for all where there is no key."""
    return json.dumps([values[name] for name in key], ensure_ascii=False)


def keep(scope: Scope, place: Place, values: Mapping[str, Values]) -> None:
    """Lays values down for the nodes of a run that recall them."""
    journal.write(_path(scope, place), dict(values), durable=True)


def kept(scope: Scope, place: Place) -> dict[str, dict[str, str | None]]:
    """The values that the nodes of a run may recall, in the order of their keys."""
    found = journal.read(_path(scope, place)) or {}
    return dict(sorted(found.items()))


def changed(values: Mapping[str, Values], change: Change) -> dict[str, Values]:
    """What is stored after a change."""
    found = {} if change.replaces else dict(values)
    for key, value in change.values.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def save_change(scope: Scope, node: str, change: Change) -> None:
    """Writes down what a node stores, until its run ends."""
    journal.write(_folder(scope) / "changes" / node, change, durable=True)


def changes(scope: Scope, nodes: Sequence[str]) -> Iterator[Change]:
    """What the nodes of a run have stored that counts behind its end, in their order."""
    for node in nodes:
        change = journal.read(_folder(scope) / "changes" / node)
        if isinstance(change, Change) and change.place.where != "run":
            yield change


def _path(scope: Scope, place: Place) -> Path:
    return _folder(scope) / place.where / place.name


def _folder(scope: Scope) -> Path:
    return scope.staging / "stored"
