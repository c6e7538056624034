"""Changes one field of a YAML text; every character outside that field stays as it was.

Each change is tried in the forms that keep the text's style best, one after the other. The first whose text reads back
as exactly the changed value is taken, so that a change either does what was asked or is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pipelines.errors import Invalid
from pipelines.language.yamlpatches import Patch, insertions, removals, replacements
from pipelines.language.yamlrender import inline, key_text
from pipelines.language.yamltext import At, Text, Tree, parse


def edit(text: str, at: At, value: Any) -> str:
    """The text with `value` at this place; a key that its mapping does not have is added at the end."""
    document = parse(text)
    tree = document.tree(at)
    if tree is None:
        _refuse_alias(document, at)
        return insert(text, at, value)
    return _first_right(document, at, _changed(document.value, at, value), replacements(document, at, tree, value))


def insert(text: str, at: At, value: Any, index: int | None = None) -> str:
    """The text with a new key, or a new item of a list, at this place; `index` orders a key among its siblings."""
    document = parse(text)
    parent, name = _parent(document, at)
    if parent.value is None:
        return edit(text, at[:-1], {name: value} if isinstance(name, str) else [value])
    if not isinstance(parent.value, dict if isinstance(name, str) else list):
        raise Invalid(document.problem(at[:-1], f"{_spoken(at[:-1])} cannot hold {name!r}"))
    if isinstance(name, str) and name in parent.value:
        raise Invalid(document.problem(at, f"{_spoken(at)} is there already"))
    size = len(parent.value)
    index = min(size, name if isinstance(name, int) else size if index is None else index)
    expected = _grown(document.value, at, value, index)
    return _first_right(document, at, expected, insertions(document, at, parent, value, index))


def remove(text: str, at: At) -> str:
    """The text without the key or item at this place, and without the comment behind it on its line."""
    document = parse(text)
    parent, name = _parent(document, at)
    if name not in parent.children:
        raise Invalid(document.problem(at, f"{_spoken(at)} is not there"))
    expected = _copied(document.value)
    holder = _reach(expected, at[:-1])
    del holder[name]
    return _first_right(document, at, expected, removals(document, at, parent))


def rename(text: str, at: At, name: str) -> str:
    """The text with another name for the key at this place, which stays where it is."""
    document = parse(text)
    parent, old = _parent(document, at)
    if not isinstance(old, str) or old not in parent.keys:
        raise Invalid(document.problem(at, f"{_spoken(at)} is not there"))
    if name != old and name in parent.keys:
        raise Invalid(document.problem((*at[:-1], name), f"{_spoken((*at[:-1], name))} is there already"))
    expected = _copied(document.value)
    holder = _reach(expected, at[:-1])
    items = [(name if key == old else key, item) for key, item in holder.items()]
    holder.clear()
    holder.update(items)
    start, end = parent.keys[old]
    like = document.source[start] if document.source[start] in "'\"" else ""
    forms = (inline(name, like), key_text(name), inline(name, '"'))
    return _first_right(document, at, expected, ([(start, end, form)] for form in forms))


def _first_right(document: Text, at: At, expected: Any, patches: Iterable[Patch]) -> str:
    for patch in patches:
        text = document.source
        for start, end, new in sorted(patch, reverse=True):
            text = text[:start] + new + text[end:]
        try:
            if same(parse(text).value, expected):
                return text
        except Invalid:
            continue
    why = "an alias uses this value" if "*" in document.source else "its place does not allow it"
    raise Invalid(document.problem(at, f"{_spoken(at)} cannot be changed alone: {why}", "edit the text by hand"))


def same(one: Any, other: Any) -> bool:
    """Whether two trees are alike: the same types, values and order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(item, other[key]) for key, item in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def _parent(document: Text, at: At) -> tuple[Tree, str | int]:
    if not at:
        raise Invalid(document.problem(at, "the whole document has no name or place", "name a field"))
    parent = document.tree(at[:-1])
    if parent is None:
        _refuse_alias(document, at[:-1])
        raise Invalid(document.problem(at[:-1], f"{_spoken(at[:-1])} is not there"))
    if parent.style == "alias":
        _refuse_alias(document, at)
    return parent, at[-1]


def _refuse_alias(document: Text, at: At) -> None:
    for depth in range(len(at) + 1):
        tree = document.tree(at[:depth])
        if tree is not None and tree.style == "alias":
            raise Invalid(document.problem(at, f"{_spoken(at)} is written where its alias points", "edit it there"))


def _copied(value: Any) -> Any:
    """A copy in which nothing is shared, not even what aliases stand for."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _changed(root: Any, at: At, value: Any) -> Any:
    if not at:
        return value
    copied = _copied(root)
    _reach(copied, at[:-1])[at[-1]] = value
    return copied


def _grown(root: Any, at: At, value: Any, index: int) -> Any:
    copied = _copied(root)
    holder = _reach(copied, at[:-1])
    if isinstance(holder, list):
        holder.insert(index, value)
        return copied
    items = list(holder.items())
    items.insert(index, (at[-1], value))
    holder.clear()
    holder.update(items)
    return copied


def _reach(root: Any, at: At) -> Any:
    for step in at:
        root = root[step]
    return root


def _spoken(at: At) -> str:
    return ".".join(str(step) for step in at) or "the document"
