"""A change of one field leaves every other character of the text as it was."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import Invalid
from pipelines.language.yamledit import edit, insert, remove, rename, same
from pipelines.language.yamltext import At, parse
from tests.flow_language.yamltexts import KEYS, TREES, places, texts

SLOW = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
ORDERS = """\
# Orders of the shop.
flow: web-orders   # its name
nodes:
  # the one entry
  start:  {type: start, on: [a, 'b']}   # by hand
  orders: {type: file.get, from: start}
  shaped:
    type: map
    fields:
      total: "round(quantity * unit_price, 2)"   # cents
      # as the ERP wants it
      note: |
        first
        second

    from: orders
  tail:
  - 1 # one
  - b: 2
    c: 3
last: 'x'"""


def changed(value: Any, at: At, new: Any) -> Any:
    if not at:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[at[0]] = changed(copied[at[0]], at[1:], new)
    return copied


def field(text: str, at: At) -> tuple[int, int]:
    """Where a field's value may begin, behind its key or the item before it, and where it ends."""
    document = parse(text)
    parent, tree = document.tree(at[:-1]), document.tree(at)
    assert parent is not None
    assert tree is not None
    if isinstance(at[-1], str):
        return parent.keys[at[-1]][1], tree.end
    return (parent.children[at[-1] - 1].end if at[-1] else parent.start), tree.end


def notes(text: str) -> list[str]:
    return re.findall(r"# (?:note \d+|above|top)", text)


@SLOW
@given(st.data())
def test_a_text_means_the_values_it_was_typed_from(data: st.DataObject) -> None:
    text, value = data.draw(texts())

    assert same(parse(text).value, value)


@SLOW
@given(st.data())
def test_an_edit_changes_one_value_and_no_character_outside_it(data: st.DataObject) -> None:
    text, value = data.draw(texts())
    at = data.draw(places(value))
    new = data.draw(TREES)

    result = edit(text, at, new)

    assert same(parse(result).value, changed(value, at, new))
    head, tail = field(text, at)
    end = next((i for i in range(tail, len(text)) if text[i] in "\r\n"), len(text))
    assert result.startswith(text[:head])
    assert result.endswith(text[end:])
    assert text[tail:end].strip() in result[head:]


@SLOW
@given(st.data())
def test_an_inserted_key_changes_no_other_character(data: st.DataObject) -> None:
    text, value = data.draw(texts())
    at = data.draw(places(value))
    holder: Any = value
    for step in at[:-1]:
        holder = holder[step]
    new = data.draw(TREES)
    name = data.draw(KEYS.filter(lambda key: key not in holder)) if isinstance(holder, dict) else len(holder)

    result = insert(text, (*at[:-1], name), new)

    assert sum(1 for _ in notes(result)) == sum(1 for _ in notes(text))
    kept = iter(result)
    assert all(character in kept for character in text)


@SLOW
@given(st.data())
def test_a_removal_takes_the_field_out_and_nothing_else(data: st.DataObject) -> None:
    text, value = data.draw(texts())
    at = data.draw(places(value))
    document = parse(text)

    result = remove(text, at)

    left = parse(result)
    for key, child in document.root.children.items():
        if key != at[0]:
            kept = left.root.children[key]
            assert result[kept.start : kept.end] == text[child.start : child.end]
    above = [note for note in notes(text) if note in ("# above", "# top")]
    head, tail = field(text, at)
    if "#" not in text[head:tail]:
        assert [note for note in notes(result) if note in ("# above", "# top")] == above


@SLOW
@given(st.data())
def test_a_renamed_key_stays_in_its_place(data: st.DataObject) -> None:
    text, value = data.draw(texts())
    at = data.draw(places(value).filter(lambda at: isinstance(at[-1], str)))
    document = parse(text)
    parent = document.tree(at[:-1])
    assert parent is not None
    name = data.draw(KEYS.filter(lambda key: key not in parent.keys))

    result = rename(text, at, name)

    start, end = parent.keys[str(at[-1])]
    assert result.startswith(text[:start])
    assert result.endswith(text[end:])


@pytest.mark.parametrize(
    ("at", "value", "line", "becomes"),
    [
        (("flow",), "erp", "flow: web-orders   # its name", "flow: erp   # its name"),
        (("flow",), "a: b", "flow: web-orders   # its name", 'flow: "a: b"   # its name'),
        (("nodes", "start", "on", 1), "c d", "on: [a, 'b']", "on: [a, 'c d']"),
        (("nodes", "start", "on", 0), "c, d", "on: [a, 'b']", "on: [\"c, d\", 'b']"),
        (("nodes", "tail", 0), None, "- 1 # one", "- null # one"),
        (("last",), 5, "last: 'x'", "last: 5"),
        (("nodes", "shaped", "fields", "total"), "0", '"round(quantity * unit_price, 2)"', '"0"'),
    ],
)
def test_an_edit_keeps_comment_alignment_and_quotes(at: At, value: object, line: str, becomes: str) -> None:
    assert edit(ORDERS, at, value) == ORDERS.replace(line, becomes)


def test_text_of_several_lines_becomes_a_block() -> None:
    result = edit("sql:\n  query: select 1\n  from: a\n", ("sql", "query"), "select 1\nfrom x\n")

    assert result == "sql:\n  query: |\n    select 1\n    from x\n  from: a\n"


def test_a_new_node_goes_below_the_last_in_one_line() -> None:
    result = insert(ORDERS, ("nodes", "end"), {"type": "end", "from": ["shaped", "orders.rejected"]})

    assert result == ORDERS.replace("c: 3\n", "c: 3\n  end: {type: end, from: [shaped, orders.rejected]}\n")


def test_a_new_key_can_stand_between_others() -> None:
    result = insert(ORDERS, ("nodes", "early"), 1, index=1)

    assert result == ORDERS.replace("# by hand\n", "# by hand\n  early: 1\n")


def test_the_last_entry_of_a_mapping_leaves_an_empty_one() -> None:
    assert remove("a:\n  # kept\n  b: 1\nc: 2\n", ("a", "b")) == "a:\n  # kept\n  {}\nc: 2\n"


def test_windows_line_breaks_stay() -> None:
    result = insert("a: 1\r\nb:\r\n  c: 2\r\n", ("b", "d"), {"long": "x" * 120})

    assert result == "a: 1\r\nb:\r\n  c: 2\r\n  d:\r\n    long: " + "x" * 120 + "\r\n"


def test_a_value_that_an_alias_uses_is_not_changed_unseen() -> None:
    with pytest.raises(Invalid, match="an alias uses this value"):
        edit("a: &x [1]\nb: *x\n", ("a", 0), 2)


def test_what_an_alias_shows_is_not_changed_there() -> None:
    with pytest.raises(Invalid, match="written where its alias points"):
        edit("a: &x {y: 1}\nb: *x\n", ("b", "y"), 2)


def test_an_alias_itself_can_be_replaced() -> None:
    assert edit("a: &x [1]\nb: *x # same\n", ("b",), 2) == "a: &x [1]\nb: 2 # same\n"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda: remove("a: 1", ("b",)), "b is not there"),
        (lambda: rename("a: 1\nb: 2", ("a",), "b"), "b is there already"),
        (lambda: insert("a: 1", ("a",), 1), "a is there already"),
        (lambda: insert("a: 1", ("a", "b"), 1), "a cannot hold 'b'"),
        (lambda: insert("a: 1", ("x", "y"), 1), "x is not there"),
        (lambda: remove("a: 1", ()), "the whole document"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change: Any, what: str) -> None:
    with pytest.raises(Invalid, match=what):
        change()
