"""YAML 1.2 text as a tree of plain values in which every key and value knows its place.

PyYAML's parser gives the events; what they mean is decided here, by the core schema of YAML 1.2 (chapter 10.3 of
https://yaml.org/spec/1.2.2/): `NO`, `on` and `2026-01-01` are text. Keys are always text. Tags, several documents,
merge keys and aliases that unfold without bound are problems, all of them collected.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import yaml

from pipelines.errors import Invalid, Problem
from pipelines.language.yamlwords import syntax_problem

LIMIT_BYTES = 8 << 20
LIMIT_VALUES = 200_000
"""The most values in a text, aliases unfolded."""
LIMIT_DEPTH = 64
LIMIT_DIGITS = 1_000

At = tuple[str | int, ...]
"""The place of a value inside a document, such as `("nodes", "erp", "from", 0)`."""

Style = Literal["plain", "quoted", "block", "flow", "alias"]
"""`block` and `flow` collections; `plain`, `quoted` and `block` scalars; an alias stands for an anchored value."""

NULL = re.compile(r"(?:null|Null|NULL|~)?")
BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML does not allow, and the line breaks of YAML 1.1 (NEL, LS, PS), which the parser would turn into spaces."""


@dataclass
class Tree:
    """One value of the text: `start` to `end` are its characters, without what is blank around it."""

    value: Any
    start: int
    end: int
    style: Style
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For a mapping: where each key is."""
    children: dict[str | int, Tree] = field(default_factory=dict)
    """The values of a mapping by key, of a list by index."""
    size: int = 1
    """How many values it is, aliases unfolded."""
    depth: int = 1

    @property
    def empty(self) -> bool:
        """Whether nothing is written: the value of `key:`."""
        return self.start == self.end


@dataclass(frozen=True)
class Text:
    """A YAML text that was read: its value, and the place of everything in it."""

    path: str
    source: str
    root: Tree

    @property
    def value(self) -> Any:
        """The whole as plain values: dict, list, str, int, float, bool, None."""
        return self.root.value

    def tree(self, at: At) -> Tree | None:
        """The value at this place, if it is there."""
        found: Tree | None = self.root
        for step in at:
            found = found.children.get(step) if found is not None else None
        return found

    def written(self, at: At) -> str | None:
        """An unquoted value as its author typed it, such as `1.10`; None for anything else."""
        tree = self.tree(at)
        return self.source[tree.start : tree.end] if tree is not None and tree.style == "plain" else None

    def place(self, at: At, key: bool = False) -> tuple[int, int]:
        """Line and column, from 1, of a value (or of its key); of what is nearest above it where it is not there."""
        tree, place = self.root, self.root.start
        for depth, step in enumerate(at):
            child = tree.children.get(step)
            if child is None:
                break
            last = depth == len(at) - 1
            named = tree.keys.get(step) if isinstance(step, str) else None
            place = named[0] if named and (key or not last or child.children or child.empty) else child.start
            tree = child
        return self.position(place)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, of a character."""
        line = bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def problem(self, at: At, what: str, fix: str = "", *, key: bool = False, warning: bool = False) -> Problem:
        """A problem at a place of this text."""
        line, column = self.place(at, key)
        return Problem(self.path, line, column, what, fix, at, warning)

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(found.end() for found in re.finditer(r"\r\n|\r|\n", self.source))]


def parse(source: str | bytes, path: str = "") -> Text:
    """The tree of a YAML text.

    Raises:
        Invalid: with every problem, in the order of the text.
    """
    text = source if isinstance(source, str) else decoded(source, path)
    if len(text) > LIMIT_BYTES:
        raise Invalid(
            Problem(path, 0, 0, f"the text is {len(text):,} characters long; at most {LIMIT_BYTES:,} are read")
        )
    reading = _Reading(text, path)
    root = reading.document()
    if reading.problems:
        raise Invalid(sorted(reading.problems, key=lambda problem: (problem.line, problem.column)))
    return Text(path, text, root)


def scalar(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means by the core schema of YAML 1.2."""
    if NULL.fullmatch(text):
        return None
    if BOOLEAN.fullmatch(text):
        return text[0] in "tT"
    if INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if FLOAT.fullmatch(text):
        return float(text.replace(".i", "i").replace(".I", "i").replace(".n", "n").replace(".N", "n"))
    return text


def after_blank(text: str, start: int) -> int:
    """The place of the first character from `start` that is neither blank nor part of a comment."""
    place = start
    while place < len(text):
        if text[place] in " \t\r\n\ufeff":
            place += 1
        elif text[place] == "#" and (place == 0 or text[place - 1] in " \t\r\n"):
            place = next((i for i in range(place, len(text)) if text[i] in "\r\n"), len(text))
        else:
            break
    return place


def decoded(source: bytes, path: str) -> str:
    """The text of a file's bytes, which must be UTF-8."""
    try:
        return source.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = source.count(b"\n", 0, fault.start) + 1
        what = f"byte 0x{source[fault.start]:02x} is not UTF-8"
        raise Invalid(Problem(path, line, 0, what, "save the file as UTF-8")) from fault


class _Reading:
    """One pass over the events of a text, which builds the tree and collects problems."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self.problems: list[Problem] = []
        self.anchors: dict[str, Tree | None] = {}
        self.shift = 1 if text.startswith("\ufeff") else 0
        self.places = Text(path, text, Tree(None, 0, 0, "plain"))
        self.values = 0

    def begins(self, event: Any) -> int:
        """The place of an event's first character."""
        return int(event.start_mark.index) + self.shift

    def ends(self, event: Any) -> int:
        """The place behind an event's last character."""
        return int(event.end_mark.index) + self.shift

    def report(self, offset: int, what: str, fix: str = "") -> None:
        line, column = self.places.position(offset)
        self.problems.append(Problem(self.path, line, column, what, fix))

    def document(self) -> Tree:
        """The first document's tree; problems tell whether it may be used."""
        for found in FORBIDDEN.finditer(self.text, self.shift):
            code = f"U+{ord(found[0]):04X}"
            self.report(
                found.start(), f"the character {code} is not allowed", f"in double quotes write {_escape(found[0])}"
            )
            if len(self.problems) == 20:
                break
        if self.problems:
            return self.places.root
        events: Iterator[Any] = yaml.parse(
            self.text[self.shift :], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        )
        try:
            return self._first(events)
        except yaml.YAMLError as fault:
            self.problems.append(syntax_problem(fault, self.path, self.text, self.shift))
        except _Stop:
            pass  # the problem that stopped the reading is among the others
        return self.places.root

    def _first(self, events: Iterator[Any]) -> Tree:
        root = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                offset = self.begins(event)
                if event.tags:
                    self.report(offset, "a %TAG directive is not allowed", "take it out")
                if root is not None:
                    self.report(offset, "a second document begins here", "keep one document a file")
                    break
                root = self.tree(next(events), events, 1)
        return root or self.places.root

    def tree(self, event: Any, events: Iterator[Any], depth: int) -> Tree:
        """The value that begins with this event."""
        start = self.begins(event)
        self.count(1, start)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, start)
        if event.tag is not None:
            self.report(start, f"the tag {event.tag!r} is not allowed", "quote a value to make it text")
        if depth > LIMIT_DEPTH:
            self.report(start, f"values are nested more than {LIMIT_DEPTH} deep")
            raise _Stop
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            made = self.scalar(event, start)
        elif isinstance(event, yaml.MappingStartEvent):
            made = self.mapping(event, events, start, depth)
        else:
            made = self.sequence(event, events, start, depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = made
        return made

    def count(self, values: int, offset: int) -> None:
        self.values += values
        if self.values > LIMIT_VALUES:
            self.report(offset, f"there are more than {LIMIT_VALUES:,} values, aliases unfolded")
            raise _Stop

    def alias(self, event: Any, start: int) -> Tree:
        end = self.ends(event)
        known = self.anchors.get(event.anchor)
        if known is None:
            inside = "stands inside the value it names" if event.anchor in self.anchors else "names nothing before it"
            self.report(start, f"the alias *{event.anchor} {inside}")
            return Tree(None, start, end, "alias")
        self.count(known.size - 1, start)
        return Tree(known.value, start, end, "alias", size=known.size, depth=known.depth)

    def scalar(self, event: Any, start: int) -> Tree:
        end = self.ends(event)
        if event.style in ("|", ">"):
            return Tree(event.value, start, start + len(self.text[start:end].rstrip()), "block")
        if event.style in ("'", '"'):
            return Tree(event.value, start, end, "quoted")
        if event.tag is not None:
            return Tree(event.value, start, end, "plain")
        if len(event.value) > LIMIT_DIGITS and INTEGER.fullmatch(event.value):
            self.report(start, f"a number of {len(event.value):,} digits", "quote it to make it text")
            return Tree(0, start, end, "plain")
        return Tree(scalar(event.value), start, end, "plain")

    def mapping(self, event: Any, events: Iterator[Any], start: int, depth: int) -> Tree:
        made = Tree({}, start, start, "flow" if event.flow_style else "block")
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.tree(event, events, depth + 1)
            child = self.tree(next(events), events, depth + 1)
            if child.empty:
                child.start = child.end = self._colon(key.end)
            name = self._name(key, made)
            made.value[name] = child.value
            made.keys[name] = (key.start, key.end)
            self._adopt(made, name, child)
        if made.style == "flow":
            made.end = self.ends(event)
        return made

    def sequence(self, event: Any, events: Iterator[Any], start: int, depth: int) -> Tree:
        made = Tree([], start, start, "flow" if event.flow_style else "block")
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            child = self.tree(event, events, depth + 1)
            made.value.append(child.value)
            self._adopt(made, len(made.value) - 1, child)
        if made.style == "flow":
            made.end = self.ends(event)
        return made

    def _adopt(self, parent: Tree, name: str | int, child: Tree) -> None:
        parent.children[name] = child
        parent.size += child.size
        parent.depth = max(parent.depth, child.depth + 1)
        parent.end = max(parent.end, child.end)
        if parent.depth > LIMIT_DEPTH:
            self.report(child.start, f"values are nested more than {LIMIT_DEPTH} deep, aliases unfolded")
            raise _Stop

    def _colon(self, key_end: int) -> int:
        """Where the value of a key is that has none: after its colon, or after the key where it has no colon either."""
        place = after_blank(self.text, key_end)
        return place + 1 if self.text[place : place + 1] == ":" else key_end

    def _name(self, key: Tree, mapping: Tree) -> str:
        if key.children or key.style == "flow" or key.value is None:
            self.report(key.start, "a key must be a name", "write a name, in quotes where it is unusual")
            return f"\0{key.start}"
        name = key.value if isinstance(key.value, str) else self.text[key.start : key.end]
        if name == "<<" and key.style == "plain":
            self.report(key.start, "merge keys (<<) are not part of YAML 1.2", "write the keys out")
        if name in mapping.keys:
            line, _ = self.places.position(mapping.keys[name][0])
            self.report(key.start, f'the key "{name}" is there twice', f"it was first given in line {line}")
            return f"\0{key.start}"
        return name


class _Stop(Exception):
    """Ends a reading that would go on without bound."""


def _escape(character: str) -> str:
    code = ord(character)
    return f'"\\x{code:02x}"' if code < 256 else f'"\\u{code:04x}"'
