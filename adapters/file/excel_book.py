"""An Excel workbook (.xlsx, .xlsm) as it lies in its file: a ZIP archive of XML, of which only what is needed is read.

Sheets are streamed row by row, so that memory does not grow with them; the texts that cells share are held. No part may
have a document type, as it could define entities.
"""

from __future__ import annotations

import io
import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from adapters.file.format import File
from adapters.file.looks import HEAD_BYTES, seems
from adapters.file.source import UTF8, opened
from pipelines.errors import Invalid

CHUNK_BYTES = 1 << 16
MOST_TEXTS_BYTES = 512 << 20
"""What the texts that cells share may take."""
MOST_CELL_CHARACTERS = 1 << 20
DATES, TIMES, MOMENTS = "date", "time", "moment"
_BUILT_IN = {
    **dict.fromkeys([*range(14, 18), *range(27, 32), 36, *range(50, 59)], DATES),
    **dict.fromkeys([*range(18, 22), 32, 33, 34, 35, 45, 47], TIMES),
    22: MOMENTS,
}
"""The numbers of Excel's own formats that show a date or a time (ECMA-376 part 1, 18.8.30)."""
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?![hms]+\])[^]]*\]', re.IGNORECASE)
_ELAPSED = re.compile(r"\[[hms]+\]", re.IGNORECASE)


@dataclass(frozen=True)
class Sheet:
    """A sheet of a workbook."""

    name: str
    part: str
    is_hidden: bool


@dataclass(frozen=True)
class Book:
    """A workbook: its sheets, which styles show dates or times, and from when on days are counted."""

    archive: zipfile.ZipFile
    name: str
    sheets: tuple[Sheet, ...]
    styles: tuple[str, ...]
    counts_from_1904: bool
    texts_part: str | None

    def texts(self) -> list[str]:
        """The texts that cells share."""
        if self.texts_part is None:
            return []
        found: list[str] = []
        parts: list[str] = []
        size = 0
        in_phonetic = in_text = False

        def start(name: str, _attributes: Mapping[str, str]) -> None:
            nonlocal in_phonetic, in_text
            in_phonetic = in_phonetic or name == "rPh"
            in_text = name == "t" and not in_phonetic

        def end(name: str) -> None:
            nonlocal in_phonetic, in_text
            in_text = False
            if name == "rPh":
                in_phonetic = False
            elif name == "si":
                found.append(unescaped("".join(parts)))
                parts.clear()

        def take(text: str) -> None:
            nonlocal size
            if in_text:
                size += len(text)
                if size > MOST_TEXTS_BYTES:
                    raise Invalid(f"{self.name}: its texts take more than {MOST_TEXTS_BYTES >> 20} MiB")
                parts.append(text)

        self.parse(self.texts_part, start, end, take)
        return found

    def parse(
        self,
        part: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None] | None = None,
        take: Callable[[str], None] | None = None,
    ) -> None:
        """Reads a part to its end."""
        for _ in _events(self.archive, part, self.name, start, end, take):
            pass

    def stream(
        self,
        part: str,
        start: Callable[[str, dict[str, str]], None],
        end: Callable[[str], None],
        take: Callable[[str], None],
    ) -> Iterator[None]:
        """Reads a part piece by piece: once for each."""
        return _events(self.archive, part, self.name, start, end, take)


@contextmanager
def book_of(file: File) -> Iterator[Book]:
    """A file as a workbook.

    Raises:
        Invalid: it is none, cut short, damaged or encrypted.
    """
    with opened(file, UTF8) as reader:
        raw: Any = reader
        head = raw.read(HEAD_BYTES) or b""
        if not head.startswith(b"PK"):
            what = f"{file.name}: is no Excel workbook (.xlsx); it seems to be {seems(head)}"
            raise Invalid(f"{what}; save it as .xlsx, or set `format` to what it is")
        raw.seek(0)
        buffered = io.BufferedReader(raw, CHUNK_BYTES)
        try:
            with zipfile.ZipFile(buffered) as archive:
                yield _book(archive, file.name)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as fault:
            what = f"{file.name}: is cut short, damaged or encrypted: {fault}"
            raise Invalid(f"{what}; fetch it again, or save it without a password") from fault
        finally:
            buffered.detach()


def _book(archive: zipfile.ZipFile, name: str) -> Book:
    main = _related(archive, "", name).get("officeDocument", ["xl/workbook.xml"])[0]
    if main not in archive.namelist():
        raise Invalid(f"{name}: is a ZIP archive but no Excel workbook; it has {', '.join(archive.namelist()[:5])}")
    targets = _related(archive, main, name, by_id=True)
    kinds = _related(archive, main, name)
    sheets: list[Sheet] = []
    is_1904 = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal is_1904
        if tag == "workbookPr":
            is_1904 = attributes.get("date1904", "0") in ("1", "true", "on")
        elif tag == "sheet":
            part = targets.get(next((value for key, value in attributes.items() if key.endswith(":id")), ""), [""])[0]
            if part in kinds.get("worksheet", ()):
                sheets.append(Sheet(attributes.get("name", ""), part, attributes.get("state", "visible") != "visible"))

    for _ in _events(archive, main, name, start, None, None):
        pass
    styles = kinds.get("styles", [])
    texts = kinds.get("sharedStrings", [])
    return Book(
        archive,
        name,
        tuple(sheets),
        styles_of(archive, styles[0], name) if styles else (),
        is_1904,
        next(iter(texts), None),
    )


def _related(archive: zipfile.ZipFile, part: str, name: str, *, by_id: bool = False) -> dict[str, list[str]]:
    """The parts that a part refers to: by the kind of relation, or by its id."""
    folder, base = posixpath.split(part)
    found: dict[str, list[str]] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag == "Relationship" and attributes.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/" + folder, attributes.get("Target", ""))).lstrip("/")
            key = attributes.get("Id", "") if by_id else attributes.get("Type", "").rpartition("/")[2]
            found.setdefault(key, []).append(target)

    relations = posixpath.join(folder, "_rels", f"{base}.rels")
    if relations in archive.namelist():
        for _ in _events(archive, relations, name, start, None, None):
            pass
    return found


def styles_of(archive: zipfile.ZipFile, part: str, name: str) -> tuple[str, ...]:
    """What each style of cells shows: dates, times, moments, or nothing of these."""
    custom: dict[int, str] = {}
    found: list[str] = []
    in_cells = False

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal in_cells
        if tag == "numFmt":
            custom[int(attributes.get("numFmtId", 0))] = shown_kind(attributes.get("formatCode", ""))
        elif tag in ("cellXfs", "cellStyleXfs"):
            in_cells = tag == "cellXfs"
        elif tag == "xf" and in_cells:
            number = int(attributes.get("numFmtId", 0))
            found.append(custom.get(number, _BUILT_IN.get(number, "")))

    def end(tag: str) -> None:
        nonlocal in_cells
        in_cells = in_cells and tag != "cellXfs"

    for _ in _events(archive, part, name, start, end, None):
        pass
    return tuple(found)


def shown_kind(code: str) -> str:
    """What a format's code shows: a date, a time of day, both, or none (a time that has elapsed is a number of days)."""
    if _ELAPSED.search(code):
        return ""
    letters = set(_LITERAL.sub("", code.partition(";")[0]).lower().replace("general", ""))
    has_time = bool(letters & {"h", "s"})
    has_date = bool(letters & {"d", "y"}) or ("m" in letters and not has_time)
    if has_date:
        return MOMENTS if has_time else DATES
    return TIMES if has_time else ""


def _events(
    archive: zipfile.ZipFile,
    part: str,
    name: str,
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None] | None,
    take: Callable[[str], None] | None,
) -> Iterator[None]:
    """Parses a part; its elements are told by their names without prefix."""
    parser = expat.ParserCreate()

    def first(tag: str, attributes: dict[str, str]) -> None:
        """Sees whether names have prefixes: without, the parser calls who takes them itself, which is much quicker."""
        has_prefixes = ":" in tag
        parser.StartElementHandler = _plainly(start) if has_prefixes else start
        if end is not None:
            parser.EndElementHandler = _plainly(end) if has_prefixes else end
        parser.StartElementHandler(tag, attributes)

    def refuse(*_: object) -> None:
        raise Invalid(f"{name}: {part} has a document type, which is refused: it may define entities")

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = first
    if take is not None:
        parser.CharacterDataHandler = take
    try:
        with archive.open(part) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                parser.Parse(chunk, False)
                yield
            parser.Parse(b"", True)
            yield
    except KeyError as fault:
        raise Invalid(f"{name}: has no part {part}; it is damaged") from fault
    except (expat.ExpatError, zlib.error, EOFError, ValueError, LookupError) as fault:
        raise Invalid(f"{name}: {part} is damaged: {fault}; fetch it again") from fault


def _plainly(handler: Callable[..., None]) -> Callable[..., None]:
    """A handler that is told names without their prefixes."""
    return lambda tag, *attributes: handler(tag.rpartition(":")[2], *attributes)


_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


def unescaped(text: str) -> str:
    """A text with the characters that XML cannot hold, which Excel writes as `_x0001_`."""
    if "_x" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
