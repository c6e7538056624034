"""Reads XML as values: an element is an object of its attributes and elements, one that is repeated a list, a leaf text.

Documents with a document type are refused: entities can grow without bounds and read files.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from pipelines.errors import Invalid, Unavailable

MOST_DEPTH = 200
TEXT = "text"
"""The key of an element's own text where it has attributes or elements too."""


def parsed(text: str, address: str) -> dict[str, Any]:
    """The document as `{root: …}`; names lose their prefixes.

    Raises:
        Unavailable: it ends before its root does.
        Invalid: it is no XML, or has a document type.
    """
    reader = _Reader(address)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.take
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as fault:
        kind = Unavailable if fault.code in _CUT_SHORT else Invalid
        raise kind(f"{address}: the answer is no whole XML: {fault}") from fault
    return reader.root


_CUT_SHORT = {
    expat.errors.codes[each] for each in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN)
}


class _Reader:
    """Builds values while the parser goes through the text."""

    def __init__(self, address: str) -> None:
        self.root: dict[str, Any] = {}
        self._address = address
        self._open: list[tuple[dict[str, Any], list[str]]] = [(self.root, [])]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MOST_DEPTH:
            raise Invalid(f"{self._address}: the answer is nested deeper than {MOST_DEPTH} elements")
        plain = {_local(key): value for key, value in attributes.items() if not key.startswith("xmlns")}
        self._open.append((plain, []))

    def take(self, text: str) -> None:
        self._open[-1][1].append(text)

    def end(self, name: str) -> None:
        inner, texts = self._open.pop()
        text = "".join(texts).strip()
        value: Any = inner
        if not inner:
            value = text or None
        elif text:
            inner.setdefault(TEXT, text)
        around, key = self._open[-1][0], _local(name)
        if key not in around:
            around[key] = value
        elif isinstance(around[key], list):
            around[key].append(value)
        else:
            around[key] = [around[key], value]

    def refuse(self, *_: Any) -> None:
        raise Invalid(f"{self._address}: the answer has a document type, which is refused: it may hold entities")


def _local(name: str) -> str:
    return name.rpartition(":")[2]
