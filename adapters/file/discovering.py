"""What files a connection has, with their columns as `file.get` would read them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from adapters.file.finding import FORMATS, find, suffix_of
from adapters.file.searching import file_of
from pipelines.environment import Found
from pipelines.errors import FlowError
from pipelines.scope import Scope

if TYPE_CHECKING:
    from adapters.file.connection import Connection
    from adapters.file.stores.store import Store

MOST_FILES = 1_000
OPENED_FILES = 100
"""Of so many files the heads are read; of further ones only names are told."""


def discovered(connection: Connection, scope: Scope) -> list[Found]:
    """The files whose suffix tells a format, by name."""
    return sorted(_found(connection.store(scope)), key=lambda each: each.name)


def local_files(path: str, scope: Scope) -> list[Found]:
    """The files of the project that a path means, by name.

    Raises:
        Invalid: there are none.
    """
    from adapters.file.get import Get

    found: list[Found] = []
    for file in find(scope.project, path)[:MOST_FILES]:
        name = (
            file.path.relative_to(scope.project).as_posix()
            if file.path.is_relative_to(scope.project)
            else str(file.path)
        )
        if suffix_of(file.path) not in FORMATS:
            continue
        get = Get(path=name)
        try:
            columns = get.reader([file]).schema([file], get) if len(found) < OPENED_FILES else None
            found.append(Found(name, "file", columns))
        except FlowError as fault:
            found.append(Found(name, "file", None, f"cannot be read: {fault}"))
    return found


def _found(store: Store) -> Iterator[Found]:
    from adapters.file.get import Get

    opened = 0
    for entry in islice(store.list("", None), MOST_FILES):
        file = file_of(store, entry)
        names = entry.path.split("/")
        if suffix_of(file.path) not in FORMATS or any(name.startswith((".", "_")) for name in names):
            continue
        note = f"{entry.size_bytes} bytes"
        opened += 1
        if opened > OPENED_FILES:
            yield Found(entry.path, "file", None, note)
            continue
        get = Get(path=entry.path)
        try:
            yield Found(entry.path, "file", get.reader([file]).schema([file], get), note)
        except FlowError as fault:
            yield Found(entry.path, "file", None, f"{note}; cannot be read: {fault}")
