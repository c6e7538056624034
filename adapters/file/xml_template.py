"""A document's template: what is written once, and what is written for each record, column by column.

`{column}` stands for a value, in text and in attributes; `{column.field}` for one inside of it; `{{` is a brace. Where the value is
null its attribute is left out, and an element in which nothing but it stands. An element with the attribute `each="{column}"`
is written for each item of that list, and within it the fields of an item go before columns of the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from xml.parsers import expat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adapters.file.text import plain, text
from adapters.file.xml_records import TEXT, Steps

EACH = "each"
NIL = ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"'
NAME = re.compile(r"[^\W\d][\w.-]*")
_PLACE = re.compile(r"\{\{|\}\}|\{([^{}]+)\}")


@dataclass(frozen=True)
class Value:
    """A value's place: its column, then fields inside of it."""

    path: tuple[str, ...]


Piece = str | Value
"""What is written as it is, or a value."""


@dataclass
class Element:
    """An element: its name, its attributes and what is in it."""

    name: str
    attributes: list[tuple[str, list[Piece]]] = field(default_factory=list)
    inside: list[Piece | Element] = field(default_factory=list)
    each: Value | None = None
    when: Value | None = None
    """What it tells of: where that is null it is left out."""
    has_nil: bool = False
    """Whether an item that is null is written as an element that says so."""

    def values(self) -> Iterator[Value]:
        """The values that are needed from without."""
        if self.each is not None:
            yield self.each
        if self.when is not None:
            yield self.when
        pieces = [piece for _, each in self.attributes for piece in each] + self.inside
        for piece in pieces:
            if isinstance(piece, Value):
                yield piece
            elif isinstance(piece, Element):
                yield from piece.values()

    @property
    def only_value(self) -> Value | None:
        """The one value that is all that stands in it."""
        return self.inside[0] if len(self.inside) == 1 and isinstance(self.inside[0], Value) else None


@dataclass(frozen=True)
class Document:
    """A template taken apart: what stands before the records, a record, and what stands behind."""

    head: str
    record: Element
    tail: str


def pieces_of(text_with_places: str) -> list[Piece]:
    """Text with `{column}` in it."""
    found: list[Piece] = []
    behind, plain = 0, ""
    for match in _PLACE.finditer(text_with_places):
        plain += text_with_places[behind : match.start()] + ("" if match[1] else match[0][0])
        behind = match.end()
        if match[1]:
            found += [plain] if plain else []
            found.append(Value(tuple(match[1].split("."))))
            plain = ""
    plain += text_with_places[behind:]
    return [*found, plain] if plain else found


def plain_document(path: str, schema: pa.Schema, attribute_prefix: str) -> Document:
    """Without a template: an element for each column, nested ones within, lists repeated."""
    *around, name = path.split("/")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n' + "".join(f"<{each}>" for each in around) + "\n"
    tail = "".join(f"</{each}>" for each in reversed(around)) + "\n"
    return Document(head, _element(name, pa.struct(list(schema)), (), attribute_prefix), tail)


def _element(name: str, kind: pa.DataType, path: tuple[str, ...], prefix: str) -> Element:
    if not pa.types.is_struct(kind):
        return Element(name, inside=[Value(path)])
    found = Element(name, when=Value(path) if path else None)
    for each in kind:
        inner = (*path, each.name)
        if prefix and each.name.startswith(prefix):
            found.attributes.append((each.name.removeprefix(prefix), [Value(inner)]))
        elif each.name == TEXT and found.attributes and len(kind) == len(found.attributes) + 1:
            found.inside.append(Value(inner))
        elif pa.types.is_list(each.type) or pa.types.is_large_list(each.type):
            kind_of_item = each.type.value_type
            item = _element(each.name, kind_of_item, () if pa.types.is_struct(kind_of_item) else (each.name,), prefix)
            found.inside.append(replace(item, each=Value(inner), has_nil=True))
        else:
            found.inside.append(_element(each.name, each.type, inner, prefix))
    return found


def document_of(template: str, path: str) -> Document:
    """A template taken apart at the element that `path` leads to.

    Raises:
        ValueError: it is no well-formed XML, or has no such element.
    """
    return _Taking(template, Steps.of(path, {})).document()


class _Taking:
    """Goes through a template."""

    def __init__(self, template: str, steps: Steps) -> None:
        self._content = template.strip().encode() + b"\n"
        self._steps = steps
        self._path: list[str] = []
        self._open: list[Element] = []
        self._record: Element | None = None
        self._start = self._stop = 0

    def document(self) -> Document:
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.ordered_attributes = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take
        try:
            parser.Parse(self._content, True)
        except expat.ExpatError as fault:
            said = expat.errors.messages.get(fault.code, "")
            raise ValueError(f"line {fault.lineno} is no well-formed XML: {said}; correct it there") from fault
        if self._record is None:
            raise ValueError("it has no element at `records`; let that be the path to the one that stands for a record")
        head, tail = (_plain(each.decode()) for each in (self._content[: self._start], self._content[self._stop :]))
        return Document(head.rstrip(" \t"), self._record, tail.removeprefix("\n"))

    def _begin(self, name: str, attributes: list[str]) -> None:
        self._path.append(name.rpartition(":")[2])
        if not self._open and (self._record is not None or not self._steps.match(self._path)):
            return
        element = Element(name)
        for key, said in zip(attributes[::2], attributes[1::2], strict=True):
            pieces = pieces_of(said)
            if key == EACH and len(pieces) == 1 and isinstance(pieces[0], Value):
                element.each = pieces[0]
            else:
                element.attributes.append((key, pieces))
        if self._open:
            self._open[-1].inside.append(element)
        else:
            self._record, self._start = element, self._parser.CurrentByteIndex
        self._open.append(element)

    def _take(self, said: str) -> None:
        if self._open:
            self._open[-1].inside += pieces_of(said)

    def _end(self, _name: str) -> None:
        self._path.pop()
        if self._open:
            self._open.pop()
            if not self._open:
                place = self._parser.CurrentByteIndex
                closes = self._content[place : place + 2] == b"</"
                self._stop = self._content.index(b">", place) + 1 if closes else place


def _plain(said: str) -> str:
    """What is written once, which has no values."""
    pieces = pieces_of(said)
    value = next((piece for piece in pieces if isinstance(piece, Value)), None)
    if value is not None:
        raise ValueError(
            f"{{{'.'.join(value.path)}}} stands outside of the record's element; take it away, or write {{{{"
        )
    return "".join(str(piece) for piece in pieces)


def placed(element: Element, kinds: Mapping[str, pa.DataType]) -> Iterator[tuple[Value, pa.DataType | None, bool]]:
    """The values that an element writes, each with its type (None: there is no such column), and what is to be repeated but is
    no list."""
    if element.each is not None:
        kind = _kind_at(element.each, kinds)
        if kind is None or not pa.types.is_list(kind):
            yield element.each, kind, True
            return
        item = kind.value_type
        fields = {each.name: each.type for each in item} if pa.types.is_struct(item) else {}
        kinds = {**kinds, element.each.path[-1]: item, **fields}
    for piece in [piece for _, said in element.attributes for piece in said] + element.inside:
        if isinstance(piece, Value):
            yield piece, _kind_at(piece, kinds), False
        elif isinstance(piece, Element):
            yield from placed(piece, kinds)


def _kind_at(value: Value, kinds: Mapping[str, pa.DataType]) -> pa.DataType | None:
    kind = kinds.get(value.path[0])
    for name in value.path[1:]:
        if kind is None or not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            return None
        kind = kind.field(name).type
    return kind


@dataclass(frozen=True)
class Scope:
    """The values that can be named: of columns, and of the item that is being written."""

    columns: Mapping[str, pa.Array]
    rows: int

    def at(self, value: Value) -> pa.Array:
        """A value's array. Raises `KeyError`: there is none."""
        found = self.columns[value.path[0]]
        for name in value.path[1:]:
            found = pc.struct_field(found, name)
        return found

    def within(self, element: Element) -> tuple[Scope, pa.ListArray]:
        """What can be named for each item of an element's list, and the lists."""
        assert element.each is not None
        lists = plain(self.at(element.each))
        items, parents = lists.flatten(), pc.list_parent_indices(lists)
        wanted = {value.path[0] for value in Element("", inside=element.inside, attributes=element.attributes).values()}
        columns = {name: column.take(parents) for name, column in self.columns.items() if name in wanted}
        columns[element.each.path[-1]] = items
        if pa.types.is_struct(items.type):
            columns |= dict(zip([each.name for each in items.type], items.flatten(), strict=True))
        return Scope(columns, len(items)), lists


def written(element: Element, scope: Scope) -> pa.StringArray:
    """An element for each row; of one that is repeated all together."""
    if element.each is None:
        return _once(element, scope, scope.at(element.when) if element.when else None)
    inner, lists = scope.within(element)
    items = _once(element, inner, lists.flatten())
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    return pc.binary_join(pa.ListArray.from_arrays(offsets, items), "")


def _once(element: Element, scope: Scope, told: pa.Array | None) -> pa.StringArray:
    """An element for each row, left out where what it tells of is null."""
    pieces: list[pa.Array | str] = [f"<{element.name}"]
    for name, said in element.attributes:
        pieces.append(_attribute(name, said, scope))
    pieces.append(">")
    pieces += [_part(piece, scope) for piece in element.inside]
    pieces.append(f"</{element.name}>")
    whole = _joined(pieces, scope.rows)
    only = element.only_value
    told = scope.at(only) if told is None and only is not None else told
    if told is None:
        return whole
    return pc.if_else(told.is_valid(), whole, f"<{element.name}{NIL}/>" if element.has_nil else "")


def _part(piece: Piece | Element, scope: Scope) -> pa.Array | str:
    if isinstance(piece, str):
        return escaped(pa.array([piece]))[0].as_py()
    return pc.fill_null(escaped(text(scope.at(piece))), "") if isinstance(piece, Value) else written(piece, scope)


def _attribute(name: str, said: Sequence[Piece], scope: Scope) -> pa.Array | str:
    values = [
        escaped(pa.array([piece]), quotes=True)[0].as_py()
        if isinstance(piece, str)
        else escaped(text(scope.at(piece)), quotes=True)
        for piece in said
    ]
    if len(values) == 1 and isinstance(values[0], pa.Array):
        return pc.fill_null(pc.binary_join_element_wise(f' {name}="', values[0], '"', ""), "")
    return _joined(
        [f' {name}="', *(each if isinstance(each, str) else pc.fill_null(each, "") for each in values), '"'], scope.rows
    )


def _joined(pieces: Sequence[pa.Array | str], rows: int) -> pa.StringArray:
    if not any(isinstance(piece, pa.Array) for piece in pieces):
        return pa.repeat(pa.scalar("".join(map(str, pieces))), rows)
    operands = [pa.scalar(piece) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*operands, "")


_MARKS = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;"))
_QUOTED = (*_MARKS, ('"', "&quot;"), ("\n", "&#10;"), ("\t", "&#9;"))


def escaped(values: pa.StringArray, *, quotes: bool = False) -> pa.StringArray:
    """Texts as XML; in quotes also what an attribute would lose."""
    for sign, name in _QUOTED if quotes else _MARKS:
        if pc.any(pc.match_substring(values, sign)).as_py():
            values = pc.replace_substring(values, sign, name)
    return values
