"""The forms a change of one field of a YAML text can take, the one that keeps the text's style best first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.language.yamlrender import WIDTH, dashed, entry, inline, key_text, lines, literal
from pipelines.language.yamltext import At, Text, Tree, after_blank

Patch = list[tuple[int, int, str]]
"""Pieces of the text to replace: start, end, what comes there instead."""


def replacements(document: Text, at: At, tree: Tree, value: Any) -> Iterator[Patch]:
    """Ways to put a value in place of another, the one that keeps the style best first."""
    source, flow = document.source, _in_flow(document, at)
    start, gap = tree.start, ""
    old_quote = source[start : start + 1]
    like = old_quote if tree.style == "quoted" and isinstance(value, str) and "\n" not in value else ""
    if tree.empty:
        marked = (start > 0 and source[start - 1] in ":-") or not at
        gap = "" if not at else " " if marked else ": "
    many = isinstance(value, (dict, list)) and bool(value)
    one_line = [(start, tree.end, gap + inline(value, like, flow=flow)), (start, tree.end, gap + inline(value, '"'))]
    if flow or not at:
        if not at and many:
            yield [(start, tree.end, document_newline(source).join(lines(value)))]
        yield from ([patch] for patch in one_line)
        return
    yield from _block_replacements(document, at, tree, value, one_line[0])
    yield from ([patch] for patch in one_line)


def _block_replacements(
    document: Text, at: At, tree: Tree, value: Any, one_line: tuple[int, int, str]
) -> Iterator[Patch]:
    source, newline = document.source, document_newline(document.source)
    many = isinstance(value, (dict, list)) and bool(value)
    was_block = tree.style == "block" and bool(tree.children)
    indent = " " * (_column(document, at) + 2)
    head = _head_end(document, at)
    fits = document.position(tree.start)[1] + len(one_line[2]) <= WIDTH
    if many and (was_block or not fits):
        column = document.position(tree.start)[1] - 1
        if was_block or isinstance(at[-1], int):
            yield [(tree.start, tree.end, (newline + " " * column).join(lines(value)))]
        below = "".join(f"{newline}{indent}{line}" if line else newline for line in lines(value))
        if was_block:
            yield [(head, tree.end, below)]
        behind = _line_end(source, tree.end)
        yield [(head, tree.end, ""), (behind, behind, below)]
    text = literal(value)
    if text is not None:
        below = text[0] + "".join(f"{newline}{indent}{line}" if line else newline for line in text[1:])
        yield [(head, tree.end, f" {below}")]
    if was_block and not source[head : tree.start].strip():
        yield [(head, tree.end, " " + one_line[2].lstrip())]
    if was_block:
        above = len(source[: tree.start].rstrip(" ").removesuffix("\n").removesuffix("\r"))
        yield [(head, head, " " + one_line[2].lstrip()), (max(above, head), tree.end, "")]
    if tree.style == "block" and not tree.children:
        first_line = source[tree.start : _line_end(source, tree.start)]
        comment = first_line[first_line.index("#") - 1 :] if " #" in first_line else ""
        yield [(tree.start, tree.end, one_line[2] + comment)]


def insertions(document: Text, at: At, parent: Tree, value: Any, index: int) -> Iterator[Patch]:
    """Ways to put a new entry into a mapping or list."""
    name, siblings = at[-1], list(parent.children.items())
    if parent.style == "flow":
        yield from _flow_insertions(document, parent, name, value, index)
        return
    source, newline = document.source, document_newline(document.source)
    column = _column(document, (*at[:-1], siblings[0][0])) if siblings else 0
    wide = WIDTH - column
    forms = [entry(name, value, wide)] if isinstance(name, str) else [dashed(value, wide)]
    forms.append([f"{key_text(name)}: {inline(value, like(value))}" if isinstance(name, str) else f"- {inline(value)}"])
    pad = newline + " " * column
    for form in forms:
        text = pad.join(form) if all(form) else "".join(pad + line if line else newline for line in form)[len(pad) :]
        if index == 0:
            first = _entry_start(document, at[:-1], parent, 0)
            yield [(first, first, text + pad)]
            continue
        behind = _line_end(source, siblings[index - 1][1].end)
        yield [(behind, behind, pad + text)]
        if index < len(siblings):
            follows = _entry_start(document, at[:-1], parent, index)
            yield [(follows, follows, text + pad)]
        yield [(len(source), len(source), text if source.endswith(newline) else pad + text)]


def like(value: Any) -> str:
    """The quote that always works for text."""
    return '"' if isinstance(value, str) else ""


def _flow_insertions(document: Text, parent: Tree, name: str | int, value: Any, index: int) -> Iterator[Patch]:
    source, siblings = document.source, list(parent.children.items())
    for text in (inline(value), inline(value, like(value))):
        new = f"{key_text(name)}: {text}" if isinstance(name, str) else text
        if not siblings:
            inside = parent.end - 1
            yield [(inside, inside, new)]
        elif index == 0:
            key, child = siblings[0]
            first = parent.keys[key][0] if isinstance(key, str) else child.start
            yield [(first, first, new + ", ")]
        else:
            key, child = siblings[index - 1]
            begin = parent.keys[key][0] if isinstance(key, str) else child.start
            blank = source[source.rfind("\n", 0, begin) + 1 : begin]
            comma = after_blank(source, child.end)
            if not blank.strip() and "\n" in source[parent.start : begin]:
                pad = document_newline(source) + blank
                if source[comma] == ",":
                    behind = _line_end(source, comma)
                    yield [(behind, behind, f"{pad}{new},")]
                behind = _line_end(source, child.end)
                yield [(child.end, child.end, ","), (behind, behind, pad + new)]
            yield [(child.end, child.end, f", {new}")]
            yield [(child.end, child.end, f" , {new}")]


def removals(document: Text, at: At, parent: Tree) -> Iterator[Patch]:
    """Ways to take an entry out of its mapping or list."""
    source, name = document.source, at[-1]
    index = list(parent.children).index(name)
    start, end = _entry_start(document, at[:-1], parent, index), parent.children[name].end
    if parent.style == "flow":
        yield from _flow_removals(document, at, parent, index, start, end)
        return
    if len(parent.children) == 1:
        yield [(start, end, "{}" if isinstance(name, str) else "[]")]
        column = _column(document, at[:-1]) + 2 if len(at) > 1 else 0
        yield [(start, end, " " * column + ("{}" if isinstance(name, str) else "[]"))]
        return
    line = source.rfind("\n", 0, start) + 1
    behind = _line_end(source, end)
    following = _next_line(source, behind)
    if not source[line:start].strip(" \ufeff"):
        yield [(line + len(source[line:start]) - len(source[line:start].lstrip("\ufeff")), following, "")]
        if following == len(source):
            before = source[:line]
            yield [(len(before.rstrip("\r\n")), behind, "")]
    after = following
    while after < len(source) and source[after] == " ":
        after += 1
    yield [(start, after, "")]
    siblings = list(parent.children)
    if index + 1 < len(siblings):
        yield [(start, _entry_start(document, at[:-1], parent, index + 1), "")]
    yield [(start, end, "")]


def _flow_removals(document: Text, at: At, parent: Tree, index: int, start: int, end: int) -> Iterator[Patch]:
    source, siblings = document.source, list(parent.children.values())
    comma = after_blank(source, end)
    if source[comma] == ",":
        behind = comma + 1
        while source[behind] in " \t":
            behind += 1
        line = source.rfind("\n", 0, start) + 1
        if source[behind] in "\r\n" and not source[line:start].strip() and not source[end:comma].strip():
            yield [(line, _next_line(source, behind), "")]
        yield [(start, end, ""), (comma, behind if source[behind] not in "\r\n#" else comma + 1, "")]
    if index > 0:
        comma = after_blank(source, siblings[index - 1].end)
        if not source[comma + 1 : start].strip():
            yield [(comma, end, "")]
        yield [(comma, comma + 1, ""), (start, end, "")]
    yield [(start, end, "")]


def _in_flow(document: Text, at: At) -> bool:
    return any((tree := document.tree(at[:depth])) is not None and tree.style == "flow" for depth in range(len(at)))


def _entry_start(document: Text, at: At, parent: Tree, index: int) -> int:
    """Where an entry begins: its key, or its dash in a block list."""
    name, child = list(parent.children.items())[index]
    if isinstance(name, str):
        return parent.keys[name][0]
    if parent.style == "flow":
        return child.start
    if index == 0:
        return document.source.index("-", parent.start)
    return after_blank(document.source, parent.children[index - 1].end)


def _column(document: Text, at: At) -> int:
    """How far the entry at this place is indented."""
    parent = document.tree(at[:-1])
    if parent is None or not at:
        return 0
    return document.position(_entry_start(document, at[:-1], parent, list(parent.children).index(at[-1])))[1] - 1


def _head_end(document: Text, at: At) -> int:
    """The place behind the colon or dash that stands before a value."""
    parent = document.tree(at[:-1])
    if parent is None or isinstance(at[-1], int):
        start = _entry_start(document, at[:-1], parent, int(at[-1])) if parent is not None else 0
        return start + 1
    colon = after_blank(document.source, parent.keys[at[-1]][1])
    return colon + 1 if document.source[colon : colon + 1] == ":" else parent.keys[at[-1]][1]


def _line_end(source: str, offset: int) -> int:
    while offset < len(source) and source[offset] not in "\r\n":
        offset += 1
    return offset


def _next_line(source: str, line_end: int) -> int:
    if source[line_end : line_end + 2] == "\r\n":
        return line_end + 2
    return min(line_end + 1, len(source))


def document_newline(source: str) -> str:
    """The line break that the text uses."""
    first = _line_end(source, 0)
    return source[first : _next_line(source, first)] or "\n"
