"""How an API hands out its records page by page: the fields, and what is asked after a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self
from urllib.parse import quote, urljoin

from pydantic import Field, model_validator

from adapters.http.places import HEADER, JmesPath, found_at
from pipelines.errors import Invalid
from pipelines.model import Model

LINK = re.compile(r"<([^>]*)>([^<]*)")


class Paging(Model):
    """How an API hands out its records page by page."""

    by: Literal["page", "offset", "cursor", "next", "link"]
    """`page`: by number; `offset`: by how many to leave out; both end at an empty page, or where `total` or `more` say so.
    `cursor`: each answer names the value to ask with for the next page; `next`: each answer holds the next page's address;
    `link`: so does its header `Link` (RFC 8288)."""
    parameter: str | None = None
    """The query's parameter for the page, offset or cursor."""
    size_parameter: str | None = None
    """The query's parameter for how many records a page has."""
    size: int | None = Field(default=None, ge=1)
    """So many records a page is asked to have."""
    first: int | None = Field(default=None, ge=0)
    """The first page's number; without it 1. The first offset; without it 0."""
    from_: JmesPath | None = Field(default=None, alias="from", examples=["meta.next", "data[-1].id"])
    """Where in the answer (JMESPath) the next cursor or the next address stands; null or missing at the last page. A
    cursor may stand in a header: `header:X-Next`."""
    more: JmesPath | None = Field(default=None, examples=["has_more"])
    """Where in the answer (JMESPath) it says whether there are more pages: true or false."""
    total: JmesPath | None = Field(default=None, examples=["meta.total", "header:X-Total-Count"])
    """Where in the first answer (JMESPath, or a header) the number of all records stands: pages are then fetched side by
    side. For `page` and `offset`."""
    place: Literal["query", "body"] = "query"
    """Whether the parameters stand in the query or in the body of the request, there by a path such as `variables.after`."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.by in ("page", "offset", "cursor") and self.parameter is None:
            raise ValueError(f"paging by {self.by} needs `parameter`: the name of what is sent")
        if self.by in ("cursor", "next") and self.from_ is None:
            raise ValueError(f"paging by {self.by} needs `from`: where the answer tells the next page")
        if self.by not in ("page", "offset") and (self.total is not None or self.first is not None):
            raise ValueError(f"paging by {self.by} knows no `total` and no `first`")
        if self.by == "offset" and self.total is not None and self.size is None:
            raise ValueError("paging by offset with `total` needs `size`")
        return self


@dataclass(frozen=True)
class Ask:
    """What is asked for one page."""

    query: Mapping[str, Any]
    body: Any = None
    address: str | None = None
    """A whole address that an answer gave, instead of path and query."""
    number: int = 0
    """The page's place among all, from 0."""
    start: int = 0
    """How many records are before it, for `offset`."""


@dataclass(frozen=True)
class Told:
    """What a page told: how many records it had, and what its answer says."""

    count: int
    document: Any
    headers: Mapping[str, str]
    address: str


def page_asked(paging: Paging | None, plain: Ask, number: int, start: int | None = None, cursor: Any = None) -> Ask:
    """What is asked for a page: its number or its start, by what counts."""
    if paging is None:
        return plain
    added: dict[str, Any] = {}
    start = number * (paging.size or 0) if start is None else start
    if paging.size_parameter is not None and paging.size is not None:
        added[paging.size_parameter] = paging.size
    if paging.by == "page":
        added[str(paging.parameter)] = number + (1 if paging.first is None else paging.first)
    elif paging.by == "offset":
        added[str(paging.parameter)] = start + (paging.first or 0)
    elif paging.by == "cursor" and cursor is not None:
        added[str(paging.parameter)] = cursor
    if paging.place == "body":
        body = plain.body
        for path, value in added.items():
            body = _with(body, path.split("."), value)
        return replace(plain, body=body, number=number, start=start)
    return replace(plain, query={**plain.query, **added}, number=number, start=start)


def next_asked(paging: Paging | None, plain: Ask, asked: Ask, told: Told) -> Ask | None:
    """What is asked after a page; None: it was the last."""
    if paging is None or (paging.more is not None and not found_at(paging.more, told.document)):
        return None
    if paging.by in ("page", "offset"):
        if told.count == 0:
            return None
        return page_asked(paging, plain, asked.number + 1, asked.start + told.count)
    if paging.by == "link":
        there = linked(told.headers.get("Link", ""))
        return None if there is None else _next_address(asked, told, there)
    found = _at(str(paging.from_), told)
    if found is None or found == "" or found is False:
        return None
    if paging.by == "cursor":
        return page_asked(paging, plain, asked.number + 1, None, found)
    if not isinstance(found, str):
        raise Invalid(f"{told.address}: what stands at {paging.from_!r} is no address: {found!r:.80}")
    return _next_address(asked, told, found)


def identity(ask: Ask) -> str:
    """What tells a page from the others: asked for again, pages go round in a circle."""
    return ask.address or f"{sorted((name, str(value)) for name, value in ask.query.items())} {ask.body!r}"


def total_of(paging: Paging, told: Told) -> int | None:
    """How many records there are, where the answer tells."""
    found = None if paging.total is None else _at(paging.total, told)
    try:
        return None if found is None or isinstance(found, bool) else int(found)
    except (TypeError, ValueError):
        raise Invalid(f"{told.address}: what stands at {paging.total!r} is no number: {found!r:.80}") from None


def linked(header: str) -> str | None:
    """The address of the next page in a header `Link`."""
    for there, about in LINK.findall(header):
        relations = re.findall(r"""(?:^|;)\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))""", about, re.IGNORECASE)
        if any("next" in (quoted or bare).lower().split() for quoted, bare in relations):
            return str(there)
    return None


def _next_address(asked: Ask, told: Told, there: str) -> Ask:
    whole = urljoin(told.address, there)
    if there.startswith("?"):
        whole = told.address + there
    clean = quote(whole.partition("#")[0], safe="%/:?[]@!$&'()*+,;=~")  # what an address may not hold as it is
    return replace(asked, address=clean, number=asked.number + 1)


def _at(place: str, told: Told) -> Any:
    if place.startswith(HEADER):
        return told.headers.get(place.removeprefix(HEADER))
    return found_at(place, told.document)


def _with(body: Any, path: list[str], value: Any) -> Any:
    """The body with a value at a place of it."""
    inner = dict(body) if isinstance(body, Mapping) else {}
    inner[path[0]] = value if len(path) == 1 else _with(inner.get(path[0]), path[1:], value)
    return inner
