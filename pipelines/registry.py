"""Finds node types by name: a file's place is its registration, a stranger's entry point gets nothing less.

`transforms/filter.py` gives `filter`; `adapters/sqlite.py` (or the folder `adapters/file/`) gives `file.get` and
`file.post`. Strangers name a module in the entry point groups `processflow.transforms` and `processflow.adapters`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from importlib import metadata
from types import ModuleType

from pipelines.environment import Connection
from pipelines.errors import Bug, Invalid, Problem
from pipelines.nested import Nested
from pipelines.node import Get, Node, Post, Start, Transform, Wide

TRANSFORMS = "processflow.transforms"
ADAPTERS = "processflow.adapters"


@cache
def _modules(room: str, group: str) -> dict[str, str]:
    """Module paths by node or adapter name, without importing any."""
    found = {point.name: point.value for point in metadata.entry_points(group=group)}
    package = importlib.import_module(room)
    found.update({entry.name: f"{room}.{entry.name}" for entry in pkgutil.iter_modules(package.__path__)})
    return dict(sorted(found.items()))


@cache
def adapters() -> tuple[str, ...]:
    """The names of all adapters, sorted."""
    return tuple(_modules("adapters", ADAPTERS))


@cache
def _adapter(name: str) -> ModuleType:
    return _imported(f"adapter {name!r}", _modules("adapters", ADAPTERS)[name])


def _imported(who: str, path: str) -> ModuleType:
    """A module of ours or of a stranger, whose fault must not look like one of ours."""
    try:
        return importlib.import_module(path)
    except Exception as fault:  # a stranger's module may raise anything
        what = f"{who}: its module {path} cannot be imported ({fault})"
        raise Invalid(Problem("", 0, 0, what, "mend or uninstall the package it comes from")) from fault


@cache
def broken() -> dict[str, Problem]:
    """The node types and adapters that cannot be imported, by name, and why."""
    found: dict[str, Problem] = {}
    for name in _modules("transforms", TRANSFORMS):
        try:
            node_type(name)
        except Invalid as fault:
            found[name] = fault.problems[0]
    for name in adapters():
        try:
            _adapter(name)
        except Invalid as fault:
            found[name] = fault.problems[0]
    return found


@cache
def names() -> tuple[str, ...]:
    """The names of all node types, sorted, transforms first; imports the adapters, not their drivers."""
    verbs = list(_modules("transforms", TRANSFORMS))
    ends = [f"{name}.{end.lower()}" for name in adapters() for end in ("Get", "Post") if _has(name, end)]
    return (*verbs, *ends)


def _has(adapter: str, end: str) -> bool:
    try:
        return hasattr(_adapter(adapter), end)
    except Invalid:  # told by `broken`, and where a flow uses it
        return False


@cache
def node_type(name: str) -> type[Node]:
    """The node type called `name`."""
    adapter, dot, end = name.partition(".")
    if dot and adapter in adapters() and end in ("get", "post"):
        found = getattr(_adapter(adapter), end.capitalize(), None)
        if found is not None:
            return _checked(name, found)
    elif not dot and name in _modules("transforms", TRANSFORMS):
        module = _imported(f"node type {name!r}", _modules("transforms", TRANSFORMS)[name])
        return _checked(name, _only_node(name, module))
    close = get_close_matches(name, names(), 1)
    fix = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names())}"
    raise Invalid(f"no node type is called {name!r}; {fix}")


def node_types() -> dict[str, type[Node]]:
    """All node types by name, but for those that are broken."""
    return {name: node_type(name) for name in names() if name not in broken()}


def connection_type(adapter: str) -> type[Connection] | None:
    """The settings model of an adapter's connections; None where it needs none."""
    if adapter not in adapters():
        close = get_close_matches(adapter, adapters(), 1)
        fix = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(adapters())}"
        raise Invalid(f"no adapter is called {adapter!r}; {fix}")
    found: type[Connection] | None = getattr(_adapter(adapter), "Connection", None)
    return found


def _only_node(name: str, module: ModuleType) -> type[Node]:
    own = [item for item in _classes(module) if item.__module__ == module.__name__]
    if len(own) != 1:
        raise Bug(f"{module.__name__}: a node type's file defines one node, this one {len(own)}: {own}")
    return own[0]


def _classes(module: ModuleType) -> Iterator[type[Node]]:
    for item in vars(module).values():
        if isinstance(item, type) and issubclass(item, Node) and not item.__name__.startswith("_"):
            yield item


def _checked(name: str, found: type[Node]) -> type[Node]:
    if not issubclass(found, (Start, Transform, Wide, Get, Post, Nested)):
        raise Bug(f"{name}: {found!r} is none of Start, Transform, Wide, Get, Post, Nested")
    return found
