"""What an answer to a post means for its records: delivered, refused or unavailable, and what it tells of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from adapters.http.answers import written
from adapters.http.places import HEADER, JmesPath, found_at, steps
from adapters.http.retrying import RETRIED, message_of, reason_of, shortened, told_by
from pipelines.model import Model

if TYPE_CHECKING:
    from adapters.http.client import Answer

Status = Annotated[int, Field(ge=100, le=599)] | Annotated[str, Field(pattern=r"^[1-5]xx$")]


class Outcomes(Model):
    """What an answer means."""

    delivered: list[Status] = Field(default=["2xx"], examples=[["2xx", 409]])
    """Statuses of a record that has arrived: numbers, or `2xx` for all of them."""
    unavailable: list[Status] = Field(default=sorted(RETRIED))
    """Statuses after which the request is made again. All others refuse the record."""
    refused_when: JmesPath | None = Field(default=None, examples=["errors[0]", "status == 'error'"])
    """What is true, or there at all, in an answer (JMESPath) that refuses the record although its status says otherwise."""
    message: JmesPath | None = Field(default=None, examples=["error.text"])
    """Where the answer (JMESPath) says why it refuses; without it the usual places are looked at."""


class Results(Model):
    """Where an answer to many records tells of each."""

    from_: JmesPath = Field(alias="from", examples=["items", "@"])
    """Where the list of results stands (JMESPath)."""
    key: JmesPath | None = None
    """Where a result holds the record's `key`; without it results are in the order of the records."""
    status: JmesPath | None = None
    """Where a result holds its status, taken as that of an answer of its own; other words are looked up in `words`."""
    words: dict[str, int] = Field(default_factory=dict, examples=[{"created": 201, "failed": 422}])
    """What words in place of a status mean."""
    refused_when: JmesPath | None = Field(default=None, examples=["error"])
    """What is true, or there at all, in a result that refuses its record."""
    message: JmesPath | None = None
    """Where a result says why it refuses."""


HALVED = frozenset({400, 413, 422})
DELIVERED, REFUSED, UNAVAILABLE = "delivered", "refused", "unavailable"


@dataclass(frozen=True)
class Verdict:
    """What became of one record."""

    kind: str
    message: str = ""
    told: tuple[str | None, ...] = ()
    """What the answer tells of it: a text for each column of `response`."""


class Judge:
    """Reads answers as a post's fields say."""

    def __init__(self, outcomes: Outcomes, results: Results | None, response: Mapping[str, str]) -> None:
        self._outcomes = outcomes
        self._results = results
        self._places = tuple(response.values())
        self._delivered = _statuses(outcomes.delivered)
        self._unavailable = _statuses(outcomes.unavailable) - self._delivered
        self._reads = results is not None or outcomes.refused_when is not None or bool(response)

    @property
    def retried(self) -> frozenset[int]:
        """Statuses after which a request is made again."""
        return self._unavailable

    def refuses_list(self, answer: Answer) -> bool:
        """Whether an answer refuses a whole list for one of its records, or for its size."""
        return answer.status in HALVED and answer.status not in self._delivered

    def verdicts(self, answer: Answer, keys: Sequence[str | None]) -> list[Verdict]:
        """What an answer means for each of the records that it answers."""
        document = _document(answer) if self._reads else None
        whole = self._whole(answer, document)
        if self._results is None or whole.kind != DELIVERED:
            return [whole] * len(keys)
        return self._each(self._results, answer, document, keys)

    def _whole(self, answer: Answer, document: Any) -> Verdict:
        outcomes = self._outcomes
        refused = _holds(outcomes.refused_when, document)
        if answer.status in self._delivered and not refused:
            return Verdict(DELIVERED, told=self._told(document, answer))
        place = outcomes.message
        said = found_at(place, _document(answer)) if place is not None else None
        told = shortened(told_by(said)) if said is not None else message_of(answer)
        kind = UNAVAILABLE if answer.status in self._unavailable and not refused else REFUSED
        return Verdict(kind, f"answered {reason_of(answer.status)}" + (f": {told}" if told else ""))

    def _each(self, how: Results, answer: Answer, document: Any, keys: Sequence[str | None]) -> list[Verdict]:
        found = found_at(how.from_, document)
        items: Sequence[Any] = found if isinstance(found, list) else []
        if how.key is None:
            told: Mapping[Any, Any] = dict(enumerate(items))
            asked: Iterable[Any] = range(len(keys))
        else:
            told = {_text(found_at(how.key, item)): item for item in items}
            asked = keys
        return [self._one(how, answer, told.get(each, _nothing)) for each in asked]

    def _one(self, how: Results, answer: Answer, item: Any) -> Verdict:
        if item is _nothing:
            place = how.from_
            return Verdict(REFUSED, f"the answer's list at {place!r} says nothing of this record; it may have arrived")
        status = answer.status if how.status is None else self._status(how, found_at(how.status, item))
        if status in self._delivered and not _holds(how.refused_when, item):
            return Verdict(DELIVERED, told=self._told(item, answer))
        said = found_at(how.message, item) if how.message is not None else item
        kind = UNAVAILABLE if status in self._unavailable and not _holds(how.refused_when, item) else REFUSED
        reason = "" if how.status is None else f"answered {reason_of(status)}: "
        return Verdict(kind, reason + shortened(told_by(said)))

    def _status(self, how: Results, found: Any) -> int:
        if isinstance(found, bool):
            return 200 if found else 422
        word = _text(found)
        if word in how.words:
            return how.words[str(word)]
        try:
            return int(str(word)[:3])  # some write `200 OK`
        except ValueError:
            return 422

    def _told(self, document: Any, answer: Answer) -> tuple[str | None, ...]:
        return tuple(
            answer.headers.get(place.removeprefix(HEADER)) if place.startswith(HEADER) else _text(_at(place, document))
            for place in self._places
        )


_nothing = object()


def _at(place: str, document: Any) -> Any:
    """What stands at a place; names alone are followed without a JMESPath being worked out."""
    names = steps(place)
    if names is None:
        return found_at(place, document)
    for name in names:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def _holds(place: str | None, document: Any) -> bool:
    """Whether something that is not false, empty or null stands at a place."""
    return place is not None and bool(found_at(place, document))


def _text(value: Any) -> str | None:
    """A value of an answer as a column holds it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return format(value, "f") if isinstance(value, Decimal) else written(value)


def _document(answer: Answer) -> Any:
    """The answer's JSON; None where it has none: a record that has arrived is not refused for a strange answer."""
    try:
        return json.loads(answer.body, parse_float=Decimal) if answer.body else None
    except (ValueError, RecursionError):
        return None


def _statuses(wanted: Iterable[int | str]) -> frozenset[int]:
    found: set[int] = set()
    for each in wanted:
        found |= {each} if isinstance(each, int) else set(range(int(each[0]) * 100, int(each[0]) * 100 + 100))
    return frozenset(found)
