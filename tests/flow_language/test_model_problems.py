"""What does not fit a model is told in plain words, and a secret's value in none."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from pipelines.language.modelproblems import Place, checked
from pipelines.language.yamltext import parse
from pipelines.model import Model
from pipelines.secrets import Secret


class Page(Model):
    by: Literal["page"]
    size: int = 10


class Token(Model):
    by: Literal["cursor"]
    start: str


class Basic(Model):
    basic: dict[str, str | Secret]


class Bearer(Model):
    bearer: Secret


class Call(Model):
    path: str = "/"
    key: str | list[str] | None = None
    paging: Annotated[Page | Token, Field(discriminator="by")] | None = None
    auth: Basic | Bearer | None = None
    password: Secret | None = None
    share: float = 1
    price: Decimal = Decimal(1)
    pair: tuple[int, int] = (1, 2)
    method: Literal["GET", "PUT"] = "GET"
    many: dict[str, list[int]] = Field(default_factory=dict)


def told(text: str) -> list[str]:
    located = parse(text, "f.yaml")
    _, wrong = checked(Call, located.value, Place(text=located))
    return [str(problem) for problem in wrong]


def test_values_are_taken_as_an_author_means_them() -> None:
    located = parse("path: 1.10\nkey: 2024\nshare: 1\nprice: 12.50\npair: [1, 2]\nmany: {a: [1]}\n")

    call, wrong = checked(Call, located.value, Place(text=located))

    assert wrong == []
    assert call is not None
    assert (call.path, call.key, call.share, call.price, call.pair) == ("1.10", "2024", 1.0, Decimal("12.5"), (1, 2))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path: [a]", 'f.yaml:1: "path" must be text, not [a]'),
        ("path:", 'f.yaml:1: "path" must be text, not empty'),
        ("key: {a: b}", 'f.yaml:1: "key" must be text or a list, not {a: b}'),
        ("key: [a, {b: c}]", 'f.yaml:1: "key[1]" must be text, not {b: c}'),
        ("share: '1'", 'f.yaml:1: "share" must be a number, not "1"'),
        ("method: POT", 'f.yaml:1: "method" cannot be "POT"; did you mean "PUT"?'),
        ("method: 7", 'f.yaml:1: "method" cannot be 7; it is one of: GET, PUT'),
        ("paging: {by: pag}", "f.yaml:1: \"paging\" must be one with 'by' of 'page', 'cursor', not {by: pag}"),
        ("paging:\n  by: page\n  size: 1.5", 'f.yaml:3: "paging.size" must be a whole number, not 1.5'),
        ("paging:\n  by: cursor", 'f.yaml:1: the field "paging.start" is missing'),
        ("paging: {by: page, sise: 5}", 'f.yaml:1: unknown field "paging.sise"; did you mean "size"?'),
        ("pair: [1]", 'f.yaml:1: the field "pair[1]" is missing'),
        ("many: {a: [1, x]}", 'f.yaml:1: "many.a[1]" must be a whole number, not "x"'),
        (
            "auth: {bearer: tok-123}",
            'f.yaml:1: "auth.bearer" is a secret, which is only ever named; write {secret: NAME}',
        ),
        ("password: hunter2", 'f.yaml:1: "password" is a secret, which is only ever named; write {secret: NAME}'),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(text: str, said: str) -> None:
    assert told(text) == [said]


@pytest.mark.parametrize(
    "text", ["password: hunter2", "auth: {bearer: hunter2}", "password: {secret: A, value: hunter2}"]
)
def test_no_message_repeats_what_stands_where_a_secret_belongs(text: str) -> None:
    said: Any = told(text)

    assert said
    assert "hunter2" not in "".join(said)
