"""YAML 1.2 text becomes plain values with places; what is wrong is told in plain words, all of it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pipelines.errors import Invalid
from pipelines.language.yamltext import LIMIT_BYTES, parse

HOSTILE = Path(__file__).parents[1] / "hostile" / "flows"


def problems(text: str | bytes) -> list[str]:
    with pytest.raises(Invalid) as caught:
        parse(text, "f.yaml")
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NO", "NO"), ("yes", "yes"), ("on", "on"), ("Off", "Off"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True),
        ("~", None), ("null", None), ("NULL", None), ("", None),
        ("12", 12), ("-7", -7), ("+3", 3), ("007", 7), ("0o17", 15), ("0x1F", 31), ("0b11", "0b11"), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-.inf", -math.inf), (".Inf", math.inf),
        ("2026-01-01", "2026-01-01"), ("12:30:00", "12:30:00"), ("1%", "1%"), ("quantity * unit_price", "quantity * unit_price"),
        ("'12'", "12"), ('"true"', "true"), ("https://erp.example/api", "https://erp.example/api"),
    ],
)  # fmt: skip
def test_an_unquoted_value_means_what_the_core_schema_says(written: str, meant: object) -> None:
    value = parse(f"a: {written}\nb: [{written}]\n").value

    assert value == {"a": meant, "b": [meant] if written else []}
    assert type(value["a"]) is type(meant)


def test_not_a_number_is_a_number() -> None:
    assert math.isnan(parse("a: .nan").value["a"])


def test_keys_are_text_as_they_were_typed() -> None:
    assert parse("{true: 1, 2024: 2, NO: 3}").value == {"true": 1, "2024": 2, "NO": 3}


def test_every_key_and_value_knows_its_line_and_column() -> None:
    text = parse("# c\na:\n  - x\n  - {b: 1, 'c d':   two}\nd: |\n  text\n")

    assert text.place(("a", 0)) == (3, 5)
    assert text.place(("a", 1, "c d")) == (4, 21)
    assert text.place(("a", 1, "c d"), key=True) == (4, 12)
    assert text.place(("d",)) == (5, 4)
    assert text.place(("a", 1, "missing")) == (4, 5)


def test_places_count_characters_behind_a_byte_order_mark() -> None:
    text = parse("\ufeffä: 1\nö: {x: 2}\n".encode(), "f.yaml")

    assert text.value == {"ä": 1, "ö": {"x": 2}}
    assert text.place(("ö", "x")) == (2, 8)
    assert text.written(("ö", "x")) == "2"


def test_all_doubled_keys_are_told_at_once() -> None:
    assert problems("a: 1\na: 2\nb: {c: 1, c: 2}\n") == [
        'f.yaml:2: the key "a" is there twice; it was first given in line 1',
        'f.yaml:3: the key "c" is there twice; it was first given in line 3',
    ]


def test_tags_aliases_and_merge_keys_are_told_together() -> None:
    assert problems("a: !!python/name:os.system x\nb: *nobody\nc: {<<: {d: 1}}\n") == [
        "f.yaml:1: the tag 'tag:yaml.org,2002:python/name:os.system' is not allowed; quote a value to make it text",
        "f.yaml:2: the alias *nobody names nothing before it",
        "f.yaml:3: merge keys (<<) are not part of YAML 1.2; write the keys out",
    ]


def test_an_alias_stands_for_its_value() -> None:
    assert parse("a: &x {y: [1, 2]}\nb: *x\n").value == {"a": {"y": [1, 2]}, "b": {"y": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b: c", "f.yaml:1: not YAML: a `: ` that does not belong here: a: b: c"),
        ("x: 1\na: {b", "f.yaml:2: not YAML: a `{` is not closed, or a comma is missing: a: {b; end it with `}`"),
        ("a: [b\nc: 1", "f.yaml:2: not YAML: a `[` is not closed, or a comma is missing (begun in line 1)"),
        ('a: "x', 'f.yaml:1: not YAML: a quote is not closed: a: "x; end the value with the quote it began with'),
        ("a: @x", "f.yaml:1: not YAML: a value may not begin with this character: a: @x; put the value in quotes"),
        ("a:\n\t- x", "f.yaml:2: not YAML: a tab is used to indent: - x; indent with spaces"),
        ("a: 1\nb", "f.yaml:2: not YAML: a key without `:`: b; write `key: value`"),
        ("- a\nb: 1", "f.yaml:2: not YAML: the indentation does not fit the list above (begun in line 1)"),
        ("a: 'b' c", "f.yaml:1: not YAML: something stands after a quoted value: a: 'b' c"),
        ('a: "\\q"', "f.yaml:1: not YAML: an escape that double quotes do not know"),
        ("a: ]", "f.yaml:1: not YAML: a value is missing, or begins with a bracket that was not opened"),
        ("a: &\n", "f.yaml:1: not YAML: a broken anchor or alias"),
        ("a: |3x\n b", "f.yaml:1: not YAML: a broken `|` or `>`"),
        ("--- a\n--- b", "f.yaml:2: a second document begins here; keep one document a file"),
        ("? [a]\n: 1", "f.yaml:1: a key must be a name"),
        ("a: &x [*x]", "f.yaml:1: the alias *x stands inside the value it names"),
        ("a: \x07", 'f.yaml:1: the character U+0007 is not allowed; in double quotes write "\\x07"'),
        ("a: x\u2028y", 'f.yaml:1: the character U+2028 is not allowed; in double quotes write "\\u2028"'),
        ("a: " + "9" * 5000, "f.yaml:1: a number of 5,000 digits; quote it to make it text"),
        ("[" * 5000, "f.yaml:1: values are nested more than 64 deep"),
        ("- " * 5000 + "x", "f.yaml:1: values are nested more than 64 deep"),
        (b"a: 1\nb: \xff", "f.yaml:2: byte 0xff is not UTF-8; save the file as UTF-8"),
        ("a: " + "x" * LIMIT_BYTES, "f.yaml: the text is 8,388,611 characters long; at most 8,388,608 are read"),
    ],
)
def test_what_is_no_yaml_is_told_with_its_place_in_plain_words(text: str | bytes, said: str) -> None:
    (problem,) = problems(text)

    assert problem.startswith(said)


@pytest.mark.parametrize("name", ["alias_bomb.yaml", "alias_ladder.yaml"])
def test_aliases_that_unfold_without_bound_are_refused(name: str) -> None:
    said = problems((HOSTILE / name).read_bytes())

    assert len(said) == 1
    assert "unfolded" in said[0]
