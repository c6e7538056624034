"""Where a read by cursor goes on: the highest value read and, where a key is declared, the keys seen at that value.

A position is `{"at": value, "keys": [[…], …], "number": bool, "of": [table, column]}`; set by hand for a backfill it has
`again` (the records of its own value are read), perhaps `until` (the last value to read) and `then` (the position that
holds afterwards). One run reads the records above the last position up to
the highest value there is when it is planned. Records that share a boundary value but arrive later are told apart by
their keys, so that each is read exactly once; without a key, what arrives later at the boundary value is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipelines.node import Json

KEYS_MOST = 100_000
"""So many keys at one boundary value are kept in a position."""


def packed(value: object) -> Json:
    """A database's value as JSON: numbers and text as they are, bytes as hexadecimal digits."""
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def unpacked(value: Json) -> object:
    """The value that `packed` took."""
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value


def number_of(text: str) -> int | float | None:
    """A number that a person wrote; None: it is none."""
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def later(one: Json, other: Json) -> Json:
    """The position that has both behind it."""
    if one is None or other is None:
        return one if other is None else other
    if one["at"] == other["at"]:
        keys = {repr(key): key for key in [*one.get("keys", ()), *other.get("keys", ())]}
        whole = {**one, "keys": [keys[name] for name in sorted(keys)]}
        return {name: value for name, value in whole.items() if name != "again"}
    return max(one, other, key=_rank)


def _rank(position: Json) -> tuple[int, Decimal, str | bytes]:
    """Numbers below text below bytes, as SQLite orders them; other databases have one kind in a column."""
    value = unpacked(position["at"])
    if isinstance(value, (int, float)) or (position.get("number") and isinstance(value, str)):
        return 0, Decimal(value), ""
    if isinstance(value, bytes):
        return 2, Decimal(0), value
    return 1, Decimal(0), str(value)


@dataclass(frozen=True)
class Span:
    """Which values of the cursor a split reads; with nothing set, all records."""

    above: Json = None
    below: Json = None
    upto: Json = None
    at: Json = None
    only: Sequence[Json] | None = None
    """At the value `at`, just these keys."""
    without: Sequence[Json] | None = None
    """At the value `at`, all but these keys."""

    def to_json(self) -> Json:
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True)
class Reach:
    """What a read by cursor covers in one run: one open span for the bulk, and spans for the boundary values."""

    bulk: Span | None
    edges: tuple[Span, ...]
    position: Json


def reach(after: Json, at: Json, keys: Sequence[Json] | None, number: bool) -> Reach:
    """Cuts the records after a position into spans.

    Args:
        after: The last position; None: from the beginning.
        at: The highest value there is, packed.
        keys: The keys of the records with that value; None where no key is declared.
        number: Whether the packed value is a number, perhaps as text.
    """
    last = after["at"] if after else None
    if keys is None:
        edges = (Span(at=last),) if includes_its_value(after) else ()
        return Reach(Span(above=last, upto=at), edges, {"at": at, "number": number})
    known = after.get("keys") if after else None
    if after and known is None:  # the last run knew of no key: whatever had this value then has been read
        if last == at:
            return Reach(None, (), after)
        return Reach(Span(above=last, below=at), (Span(at=at, only=keys),), _position(at, keys, number))
    if last == at and known is not None:
        seen = {repr(key) for key in known}
        new = [key for key in keys if repr(key) not in seen]
        edges = (Span(at=at, only=new),) if new else ()
        return Reach(None, edges, _position(at, [*known, *new], number))
    ties = () if known is None else (Span(at=last, without=known or None),)
    return Reach(Span(above=last, below=at), (*ties, Span(at=at, only=keys)), _position(at, keys, number))


def set_back(first: Json, last: Json, then: Json, number: bool) -> Json:
    """The position of a backfill: from `first` on, and where there is a `last`, up to that and then on from `then`."""
    found = {"at": first, "number": number, "keys": [], "again": True}
    return found if last is None else {**found, "until": last, "then": then}


def includes_its_value(position: Json) -> bool:
    """Whether the records with the position's own value are to be read, all of them: so it was set by hand."""
    return bool(position and position.get("again"))


def _position(at: Json, keys: Sequence[Json], number: bool) -> Json:
    return {"at": at, "keys": list(keys), "number": number}
