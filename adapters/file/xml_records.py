"""Records of an XML document, parsed piece by piece: only one record at a time is held.

An element is an object of its attributes and elements, one that is repeated a list, a leaf its text; names lose their prefixes.
A document type is refused, whatever it says: entities can grow without bounds and read files.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from adapters.file.looks import HEAD_BYTES, seems
from adapters.file.quotes import RECORD_LIMIT_BYTES
from adapters.file.source import Reader, read_fully
from pipelines.errors import Invalid

CHUNK_BYTES = 1 << 16
TEXT_BYTES = 64 << 10
MOST_DEPTH = 200
TEXT = "text"
"""The key of an element's own text where it has attributes or elements too."""
NIL = "http://www.w3.org/2001/XMLSchema-instance nil"
SEPARATOR = " "
Tree = Any
"""A text, an object of trees, a list of trees, or None where an element says that it is nil."""


@dataclass(frozen=True)
class Steps:
    """A path to the records: names from the root on, each as the parser says it; `*` is any."""

    steps: tuple[tuple[str | None, str], ...]
    """Namespace (None: any) and local name."""
    anywhere: bool

    @classmethod
    def of(cls, path: str, namespaces: Mapping[str, str]) -> Steps:
        """`orders/order`, `*/o:order`, or `//order` for any depth. Raises `ValueError`."""
        anywhere = path.startswith("//")
        found: list[tuple[str | None, str]] = []
        for step in path.removeprefix("//").split("/"):
            prefix, colon, name = step.rpartition(":")
            if not name or (colon and prefix not in namespaces):
                said = f"prefix {prefix!r} is not among `namespaces`" if name else "a step is empty"
                raise ValueError(f"{path!r}: {said}; write it as orders/order, */order or //order")
            found.append((namespaces[prefix] if colon else None, name))
        return cls(tuple(found), anywhere)

    def match(self, path: Sequence[str]) -> bool:
        """Whether the elements that are open, with the one that opens, are a record's."""
        count = len(self.steps)
        if len(path) < count or (len(path) > count and not self.anywhere):
            return False
        return all(
            name in ("*", local(said)) and space in (None, said.rpartition(SEPARATOR)[0])
            for (space, name), said in zip(self.steps, path[-count:], strict=True)
        )


@dataclass
class Record:
    """A record: its first line, what is in it, its raw text (cut at 64 KiB), and why it cannot be read, if so."""

    line: int
    tree: Tree
    raw: bytes
    fault: str = ""


class _Open:
    """An element that is open. There is one for each element of a document, so it is as small as can be."""

    __slots__ = ("attributes", "inner", "is_nil", "name", "texts")

    def __init__(
        self, name: str, inner: dict[str, Tree], is_nil: bool = False, attributes: frozenset[str] = frozenset()
    ) -> None:
        self.name = name
        self.inner = inner
        self.texts: list[str] = []
        self.is_nil = is_nil
        self.attributes = attributes


class NotWellFormed(Invalid):
    """A document is none."""


@lru_cache(maxsize=4_096)
def local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition(SEPARATOR)[2]


_PREFIX = re.compile(r"(</?|\s)(?!xmlns:)[^\W\d][\w.-]*:(?=[^\W\d][\w.-]*[\s/>=])")


def plain_names(raw: str) -> str:
    """A record's own text, its names without the prefixes that stand for namespaces declared around it."""
    return _TAG.sub(lambda tag: _PREFIX.sub(r"\1", tag[0]), raw)


_TAG = re.compile(r"<[^!?][^>]*>")


class Parser:
    """Goes through one document."""

    def __init__(
        self,
        name: str,
        steps: Steps,
        *,
        attribute_prefix: str,
        encoding: str | None,
        wanted: Collection[str] | None = None,
        raw_bytes: int = TEXT_BYTES,
    ) -> None:
        """`wanted` are the record's keys to build (None: all), `raw_bytes` how much of its text to keep."""
        self._name = name
        self._steps = steps
        self._prefix = attribute_prefix
        self._wanted = wanted
        self._raw_bytes = raw_bytes
        self._path: list[str] = []
        self._open: list[_Open] = []
        self._skipping = 0
        self._found: list[Record] = []
        self._window = bytearray()
        self._offset = 0
        self._start = 0
        self._line = 0
        self._fault = ""
        self._expat = parser = expat.ParserCreate(encoding, SEPARATOR)
        parser.buffer_text = True
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._take
        parser.StartDoctypeDeclHandler = self._refuse

    def records(self, reader: Reader) -> Iterator[list[Record]]:
        """The records, those of each piece together.

        Raises:
            Invalid: it is no well-formed XML, cut short, or has a document type.
        """
        head = b""
        try:
            while chunk := read_fully(reader, CHUNK_BYTES, self._name):
                head = head or chunk[:HEAD_BYTES]
                self._window += chunk
                self._expat.Parse(chunk, False)
                found, self._found = self._found, []
                self._trim()
                yield found
            self._expat.Parse(b"", True)
        except expat.ExpatError as fault:
            raise self._not_well_formed(fault, head) from fault
        except (LookupError, ValueError) as fault:
            raise Invalid(f"{self._name}: its encoding is not known here: {fault}; set `encoding`") from fault
        yield self._found

    def _not_well_formed(self, fault: expat.ExpatError, head: bytes) -> Invalid:
        what = seems(head)
        if what not in ("XML", "text in UTF-16"):
            return Invalid(f"{self._name}: is no XML; it seems to be {what}; set `format` to what it is")
        place = f"{self._name} line {fault.lineno} column {fault.offset + 1}"
        said = expat.errors.messages.get(fault.code, "it is damaged")
        if fault.code in _CUT_SHORT and self._path:
            said = f"ends before </{local(self._path[0])}>"
            return NotWellFormed(f"{place}: {said}: it is cut short; fetch it again, nothing of it was delivered")
        return NotWellFormed(f"{place}: is no well-formed XML: {said}; mend it, nothing of it was delivered")

    def _refuse(self, name: str, *_: object) -> None:
        if name.lower() == "html":
            raise Invalid(f"{self._name}: is no XML; it seems to be {seems(b'<html')}; fetch it again")
        what = f"{self._name} line {self._expat.CurrentLineNumber}: has a document type, which is refused"
        raise Invalid(f"{what}: it may define entities that never end or read files; take `<!DOCTYPE …>` away")

    def _trim(self) -> None:
        """Lets go of what lies before the record that is open."""
        keep = self._start if self._open or self._skipping else self._offset + len(self._window)
        if self._offset + len(self._window) - keep > RECORD_LIMIT_BYTES:
            self._give_up(f"takes more than {RECORD_LIMIT_BYTES >> 20} MiB")
        if keep > self._offset and not self._fault:
            del self._window[: keep - self._offset]
            self._offset = keep
        elif self._fault:
            del self._window[TEXT_BYTES:]

    def _give_up(self, fault: str) -> None:
        """The record that is open cannot be read: nothing more of it is held."""
        self._fault = self._fault or fault
        for each in self._open:
            each.inner.clear()
            each.texts.clear()

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if self._open:
            if self._skipping or self._fault or not self._is_wanted(name):
                self._skipping += 1
                return
            if len(self._open) > MOST_DEPTH:
                self._give_up(f"is nested deeper than {MOST_DEPTH} elements")
        elif self._steps.match(self._path):
            self._start, self._line, self._fault = self._expat.CurrentByteIndex, self._expat.CurrentLineNumber, ""
        else:
            return
        self._open.append(self._attributed(name, attributes) if attributes else _Open(local(name), {}))

    def _attributed(self, name: str, attributes: dict[str, str]) -> _Open:
        inner = {self._prefix + local(key): value for key, value in attributes.items() if key != NIL}
        if not self._open and self._wanted is not None:
            inner = {key: value for key, value in inner.items() if key in self._wanted}
        return _Open(local(name), inner, attributes.get(NIL) in ("true", "1"), frozenset(inner))

    def _is_wanted(self, name: str) -> bool:
        return len(self._open) > 1 or self._wanted is None or local(name) in self._wanted

    def _take(self, text: str) -> None:
        if self._open and not self._skipping and not self._fault:
            self._open[-1].texts.append(text)

    def _end(self, _name: str) -> None:
        self._path.pop()
        if self._skipping:
            self._skipping -= 1
            return
        if not self._open:
            return
        closed = self._open.pop()
        value = self._value(closed)
        if not self._open:
            self._found.append(Record(self._line, value, self._raw(), self._fault))
            self._fault = ""
            return
        around, key = self._open[-1].inner, closed.name
        if key in self._open[-1].attributes:
            self._give_up(f"has both an attribute and an element {key!r}; set `attribute_prefix`, such as '@'")
        if key not in around:
            around[key] = value
        elif isinstance(around[key], list):
            around[key].append(value)
        else:
            around[key] = [around[key], value]

    def _value(self, closed: _Open) -> Tree:
        """What an element says; of one with others in it, white space between them says nothing."""
        texts = closed.texts
        text = texts[0] if len(texts) == 1 else "".join(texts)
        if not closed.inner:
            return None if closed.is_nil else text if self._open or text.strip() else {}
        if text.strip():
            closed.inner.setdefault(TEXT, text.strip())
        return closed.inner

    def _raw(self) -> bytes:
        """The record's text as it stands; the parser is at its closing tag."""
        if self._fault:
            return bytes(self._window[:TEXT_BYTES])
        start, place = self._start - self._offset, self._expat.CurrentByteIndex - self._offset
        # Of an element that closes itself the parser is behind it.
        stop = self._window.find(b">", place) + 1 if self._window[place : place + 2] == b"</" else place
        return bytes(self._window[start : min(stop or len(self._window), start + self._raw_bytes)])


_CUT_SHORT = {
    expat.errors.codes[each]
    for each in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_UNCLOSED_CDATA_SECTION,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
}
