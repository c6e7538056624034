"""Types of XML's elements, as some records tell them, and elements brought to types as JSON says them.

Of an element that is there several times in any record there is a list in each; one with attributes or elements is an object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from adapters.file.infer import BIG_INTEGER, TIMESTAMP, TIMESTAMP_UTC
from adapters.file.jsonhead import DATE, MOST_DEPTH, MOST_KEYS, TIME, common
from adapters.file.types import duckdb_name
from adapters.file.xml_records import TEXT, Tree

WHOLE = re.compile(r"-?(0|[1-9]\d{0,37})")
NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


@dataclass
class Seen:
    """What has been seen of an element in some records."""

    leaf: pa.DataType = field(default_factory=pa.null)
    inner: dict[str, Seen] = field(default_factory=dict)
    is_repeated: bool = False

    def see(self, tree: Tree, depth: int = 1) -> None:
        """Takes an element, or several, into account."""
        if isinstance(tree, list):
            self.is_repeated = True
            for each in tree:
                self.see(each, depth)
        elif isinstance(tree, dict):
            if depth > MOST_DEPTH or len(self.inner.keys() | tree.keys()) > MOST_KEYS:
                self.leaf = pa.string()
                return
            for name, each in tree.items():
                self.inner.setdefault(name, Seen()).see(each, depth + 1)
        elif tree is not None:
            self.leaf = common(self.leaf, kind_of(tree))

    def kind(self) -> pa.DataType:
        """The type that holds all of it; null where nothing was said."""
        single = self.leaf if not self.inner else self._object()
        return pa.list_(single) if self.is_repeated else single

    def _object(self) -> pa.DataType:
        inner = {name: each.kind() for name, each in self.inner.items()}
        if not pa.types.is_null(self.leaf):
            inner.setdefault(TEXT, self.leaf)
        if len({name.casefold() for name in inner}) < len(inner):
            return pa.string()
        return pa.struct(
            [pa.field(name, pa.string() if pa.types.is_null(kind) else kind) for name, kind in inner.items()]
        )


def kind_of(text: str) -> pa.DataType:
    """The type of a text; of white space none."""
    text = text.strip()
    if not text:
        return pa.null()
    if text in ("true", "false"):
        return pa.bool_()
    if WHOLE.fullmatch(text):
        return pa.int64() if -(1 << 63) <= int(text) < 1 << 63 else BIG_INTEGER
    if NUMBER.fullmatch(text):
        return pa.float64()
    if DATE.fullmatch(text):
        return pa.date32()
    time = TIME.fullmatch(text)
    if time is None:
        return pa.string()
    return TIMESTAMP_UTC if time[2] else TIMESTAMP


def whole(tree: Tree) -> Tree:
    """A record as an object, also where it is nothing but a text."""
    return tree if isinstance(tree, dict) else {} if tree is None else {TEXT: tree}


class Shape:
    """The type of records, ready for many of them."""

    def __init__(self, schema: pa.Schema) -> None:
        self._leaves = {
            field.name: bool(pa.types.is_string(field.type)) for field in schema if not pa.types.is_nested(field.type)
        }
        self._kinds = {field.name: field.type for field in schema}
        self._others = [field for field in schema if pa.types.is_nested(field.type)]

    def __call__(self, record: Tree) -> dict[str, Any]:
        """A record as JSON of the type. Raises `Misshapen`."""
        tree = whole(record)
        found: dict[str, Any] = {}
        for name, is_text in self._leaves.items():
            value = tree.get(name)
            if type(value) is str:
                found[name] = value if is_text else value.strip() or None
            else:
                found[name] = shaped(value, self._kinds[name], name)
        for each in self._others:
            found[each.name] = shaped(tree[each.name], each.type, each.name) if each.name in tree else None
        return found


class Misshapen(ValueError):
    """An element is not what its column's type says."""


def shaped(tree: Tree, kind: pa.DataType, path: str = "") -> Any:
    """An element as JSON of a type.

    Raises:
        Misshapen: it is an object where a value is wanted, or there several times where once.
    """
    if pa.types.is_list(kind):
        items = tree if isinstance(tree, list) else [tree]
        return [shaped(each, kind.value_type, f"{path}[]") for each in items]
    if isinstance(tree, list):
        what = f"element {path!r} is there {len(tree)} times"
        raise Misshapen(f"{what}; declare it under `columns` as {duckdb_name(kind)}[]")
    if tree is None:
        return None
    if pa.types.is_struct(kind):
        return _object(tree, kind, path)
    if isinstance(tree, dict):
        if not tree:
            return "" if pa.types.is_string(kind) else None
        what = f"element {path!r} has {', '.join(map(repr, tree))} in it where there should be {duckdb_name(kind)}"
        raise Misshapen(f"{what}; declare it as STRUCT(…)")
    return tree if pa.types.is_string(kind) else tree.strip() or None


def _object(tree: Tree, kind: pa.DataType, path: str) -> Any:
    if isinstance(tree, str):
        names = [each.name for each in kind]
        if tree.strip() and TEXT not in names:
            what = f"element {path!r} is the text {tree.strip()[:80]!r}"
            raise Misshapen(f"{what} where there should be an object with {', '.join(names)}")
        tree = {TEXT: tree} if tree.strip() else {}
    start = f"{path}." if path else ""
    return {
        each.name: shaped(tree[each.name], each.type, f"{start}{each.name}") if each.name in tree else None
        for each in kind
    }
