"""Checks plain values against a model and tells what does not fit: the field, its line, what would be right.

Values are taken as a YAML author means them: a whole number where a number is wanted, a list for a tuple, and an
unquoted `1.10` or `0` where text is wanted is the text as it was typed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.errors import Problem
from pipelines.language.yamlrender import inline
from pipelines.language.yamltext import At, Text

M = TypeVar("M", bound=BaseModel)

KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "decimal_type": "a decimal number",
    "decimal_parsing": "a decimal number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "none_required": "nothing",
    "datetime_type": "a time such as 2026-01-31T08:00:00Z",
    "datetime_parsing": "a time such as 2026-01-31T08:00:00Z",
    "datetime_from_date_parsing": "a time such as 2026-01-31T08:00:00Z",
    "date_type": "a date such as 2026-01-31",
    "date_parsing": "a date such as 2026-01-31",
    "date_from_datetime_parsing": "a date such as 2026-01-31",
    "url_parsing": "an address such as https://example.com",
}
MAPPINGS = {kind for kind, words in KINDS.items() if words == "a mapping"}
"""What Pydantic's type errors say was wanted."""


@dataclass(frozen=True)
class Place:
    """Where values stand: `at` inside a document, its text where there is one, and how messages begin."""

    at: At = ()
    text: Text | None = None
    who: str = ""
    path: str = ""

    def problem(self, at: At, what: str, fix: str = "", *, key: bool = False, warning: bool = False) -> Problem:
        """A problem at `at`, counted from this place."""
        full = (*self.at, *at)
        said = f"{self.who}: {what}" if self.who else what
        if self.text is None:
            return Problem(self.path, 0, 0, said, fix, full, warning)
        return self.text.problem(full, said, fix, key=key, warning=warning)

    def inside(self, *at: str | int, who: str | None = None) -> Place:
        """A place further in."""
        return Place((*self.at, *at), self.text, self.who if who is None else who, self.path)


def checked(model: type[M], value: Any, place: Place) -> tuple[M | None, list[Problem]]:
    """The value as the model, or its problems."""
    while True:
        try:
            return model.model_validate_json(json.dumps(value)), []
        except ValidationError as fault:
            errors = fault.errors(include_url=False)
        as_text = _meant_as_text(value, errors)
        if not as_text:
            return None, list(_problems(model, value, errors, place))
        for at in as_text:
            written = place.text.written((*place.at, *at)) if place.text else None
            value = _with(value, at, written if written is not None else inline(_reach(value, at)))


def close(word: str, words: Sequence[str], otherwise: str = "") -> str:
    """A word of those that the given one was perhaps meant to be, as the end of a message."""
    found = get_close_matches(word, words, 1, 0.6)
    if found:
        return f'did you mean "{found[0]}"?'
    return otherwise or (f"there are: {', '.join(words)}" if words else "there are none")


def _meant_as_text(value: Any, errors: Sequence[ErrorDetails]) -> list[At]:
    """The numbers and booleans that stand where only text would be right."""
    by_place: dict[At, list[str]] = {}
    for error in errors:
        at, _ = _located(value, error)
        by_place.setdefault(at, []).append(error["type"])
    return [
        at
        for at, kinds in by_place.items()
        if "string_type" in kinds
        and all(kind in KINDS for kind in kinds)
        and isinstance(_reach(value, at), (int, float))
    ]


def _problems(model: type[BaseModel], value: Any, errors: Sequence[ErrorDetails], place: Place) -> Iterator[Problem]:
    groups = _grouped(value, errors)
    misspelt: set[At] = set()
    for at, found in groups.items():
        kinds = {error["type"] for error in found}
        if "extra_forbidden" in kinds:
            known = fields_at(model, at[:-1])
            misspelt.update((*at[:-1], name) for name in get_close_matches(str(at[-1]), known, 1))
            yield place.problem(at, f'unknown field "{_dotted(at)}"', close(str(at[-1]), known), key=True)
        elif "missing" not in kinds:
            what, fix = _sentence(at, _reach(value, at), found)
            examples = " or ".join(inline(item) for item in _schema_at(model, at, "examples")[:3])
            if examples and "string_pattern_mismatch" in kinds:
                what = f'"{_dotted(at)}" cannot be {_shown(_reach(value, at))}'
            yield place.problem(at, what, fix or (f"such as {examples}" if examples else ""))
    for at, found in groups.items():
        if at not in misspelt and "missing" in {error["type"] for error in found}:
            yield place.problem(at, f'the field "{_dotted(at)}" is missing')


def _grouped(value: Any, errors: Sequence[ErrorDetails]) -> dict[At, list[ErrorDetails]]:
    """Errors by place. Where each member of a union complains, that counts which the value comes closest to."""
    located = [(*_located(value, error), error) for error in errors]
    ranks: dict[At, dict[str, tuple[bool, int]]] = {}
    for at, union, error in located:
        if union is not None:
            place, member = union
            of_other_kind, misshapen = ranks.setdefault(place, {}).get(member, (False, 0))
            is_of_shape = error["type"] in ("extra_forbidden", "missing")
            ranks[place][member] = (of_other_kind or at == place, misshapen + is_of_shape)
    groups: dict[At, list[ErrorDetails]] = {}
    for at, union, error in located:
        if union is None or ranks[union[0]][union[1]] == min(ranks[union[0]].values()):
            groups.setdefault(at, []).append(error)
    return groups


def _located(value: Any, error: ErrorDetails) -> tuple[At, tuple[At, str] | None]:
    """The place in the value, and the first union on the way with its member: Pydantic mixes members' names in."""
    at: list[str | int] = []
    union: tuple[At, str] | None = None
    last = len(error["loc"]) - 1
    for index, step in enumerate(error["loc"]):
        inside = (isinstance(value, Mapping) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        )
        if inside:
            at.append(step)
            value = value[step]
        elif index == last and error["type"] == "missing":
            at.append(step)
        elif union is None and step != "[key]":
            union = (tuple(at), str(step))
    return tuple(at), union


def _sentence(at: At, value: Any, errors: Sequence[ErrorDetails]) -> tuple[str, str]:
    name = f'"{_dotted(at)}"' if at else "this"
    if any(error.get("ctx", {}).get("class_name") == "Secret" for error in errors):
        return f"{name} is a secret, which is only ever named", "write {secret: NAME}"
    is_in_the_open = isinstance(value, str) and any(error["type"] in MAPPINGS for error in errors)
    shown = "text" if is_in_the_open else _shown(value)  # it may be a secret, written where its name belongs
    wanted = [word for error in errors if (word := _wanted(error))]
    for error in errors:
        choices = error.get("ctx", {}).get("expected") if error["type"] in ("literal_error", "enum") else None
        if choices and not isinstance(value, (Mapping, list)):
            words = [word.strip("'") for word in choices.replace(" or ", ", ").split(", ")]
            if len(wanted) == 1:
                return f"{name} cannot be {shown}", close(str(value), words, f"it is one of: {', '.join(words)}")
    if wanted:
        *most, last = dict.fromkeys(wanted)
        choice = f"{', '.join(most)} or {last}" if most else last
        return f"{name} must be {choice}, not {shown}", ""
    said = errors[0]["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{name}: {said}" if said else f"{name} cannot be {shown}", ""


def _wanted(error: ErrorDetails) -> str:
    kind, given = error["type"], error.get("ctx", {})
    words = {
        "literal_error": "one of {expected}",
        "enum": "one of {expected}",
        "greater_than_equal": "at least {ge}",
        "greater_than": "more than {gt}",
        "less_than_equal": "at most {le}",
        "less_than": "less than {lt}",
        "string_pattern_mismatch": "text of the form {pattern}",
        "string_too_short": "text of at least {min_length} characters",
        "string_too_long": "text of at most {max_length} characters",
        "too_short": "at least {min_length} long",
        "too_long": "at most {max_length} long",
        "union_tag_invalid": "one with {discriminator} of {expected_tags}",
        "union_tag_not_found": "a mapping that says {discriminator}",
        "finite_number": "a finite number",
        "multiple_of": "a multiple of {multiple_of}",
    }
    return KINDS.get(kind) or (words[kind].format(**given) if kind in words else "")


def _shown(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, (Mapping, list)):
        text = inline(value)
        name = "a mapping" if isinstance(value, Mapping) else "a list"
        return text if len(text) <= 40 else name
    text = inline(value, '"') if isinstance(value, str) else inline(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def fields_at(model: type[BaseModel], at: At) -> list[str]:
    """The fields that a mapping at this place of a model's value may have."""
    return _schema_at(model, at, "properties")


def _schema_at(model: type[BaseModel], at: At, keyword: str) -> list[Any]:
    """What the model's JSON Schema says under a keyword at this place, all alternatives together."""
    schema = model.model_json_schema(by_alias=True)
    ends = [schema]
    for step in at:
        inner: list[dict[str, Any]] = []
        for end in _members(ends, schema):
            named = [end.get("properties", {}).get(step), end.get("additionalProperties")]
            candidates = named if isinstance(step, str) else [end.get("items")]
            inner.extend(item for item in candidates if isinstance(item, dict))
        ends = inner
    found = [item for end in _members(ends, schema) for item in end.get(keyword, ())]
    return [item for index, item in enumerate(found) if item not in found[:index]]


def _members(ends: Sequence[dict[str, Any]], root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for end in ends:
        if "$ref" in end:
            yield from _members([root["$defs"][end["$ref"].rpartition("/")[2]]], root)
        yield end
        for joint in ("anyOf", "oneOf", "allOf"):
            yield from _members(end.get(joint, ()), root)


def _dotted(at: At) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in at).removeprefix(".")


def _reach(value: Any, at: At) -> Any:
    for step in at:
        if isinstance(value, Mapping) and step not in value:
            return None
        value = value[step]
    return value


def _with(value: Any, at: At, new: Any) -> Any:
    if not at:
        return new
    copied: Any = dict(value) if isinstance(value, Mapping) else list(value)
    copied[at[0]] = _with(copied[at[0]], at[1:], new)
    return copied
