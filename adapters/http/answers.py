"""Takes an answer apart: its kind, its text, the records in it as texts of JSON, exactly as they were written."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from email.message import Message
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from adapters.http.places import found_at, steps
from adapters.http.retrying import shortened
from pipelines.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from adapters.http.client import Answer

Format = Literal["json", "jsonl", "csv", "xml"]
_KINDS: tuple[tuple[str, Format], ...] = (
    (r"ndjson|jsonl|json-?lines|json-seq", "jsonl"),
    (r"json|javascript", "json"),
    (r"csv|tab-separated", "csv"),
    (r"xml", "xml"),
)


@dataclass(frozen=True)
class Page:
    """One answer, taken apart."""

    kind: Format
    text: str
    document: Any
    """The whole answer, where it is JSON or XML."""
    records: Sequence[Any]
    """Its records: of JSON and XML as values, of JSON lines as texts; of CSV none, only reading tells."""
    address: str
    headers: Mapping[str, str]

    @cached_property
    def count(self) -> int:
        """How many records it has; of CSV without its header."""
        if self.kind != "csv":
            return len(self.records)
        return max(sum(1 for row in csv.reader(io.StringIO(self.text, newline="")) if row) - 1, 0)

    def samples(self) -> Sequence[Any]:
        """Its records as values, for a look at them."""
        if self.kind != "jsonl":
            return self.records
        found = []
        for line in self.records:
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError):
                continue
        return found


def page_of(answer: Answer, wanted: Format | None, records: str | None, encoding: str | None = None) -> Page:
    """An answer taken apart.

    Raises:
        Unavailable: it is cut short, and may be whole when it is asked for again.
        Invalid: it is of another kind than was wanted, or has no records where they should be.
    """
    kind, charset = kind_of(answer.headers.get("Content-Type", ""))
    form: Format = wanted or kind or "json"
    text = text_of(answer.body, encoding or charset)
    if not text.strip():
        return Page(form, "", None, (), answer.address, answer.headers)
    if form == "csv":
        if kind in ("json", "xml") or _is_html(answer):
            raise _other_kind(answer, form, text)
        return Page(form, text, None, (), answer.address, answer.headers)
    if form == "jsonl":
        lines = [line for line in text.split("\n") if line.strip()]
        return Page(form, text, None, lines, answer.address, answer.headers)
    document = _parsed(answer, form, kind, text)
    return Page(form, text, document, _records(document, records, answer.address), answer.address, answer.headers)


def _parsed(answer: Answer, form: Format, kind: Format | None, text: str) -> Any:
    if form == "xml":
        from adapters.http.xml import parsed

        if _is_html(answer):
            raise _other_kind(answer, form, text)
        return parsed(text, answer.address)
    try:
        return json.loads(text, parse_float=Decimal)
    except RecursionError:
        raise Invalid(f"{answer.address}: the answer is nested too deeply") from None
    except ValueError as fault:
        if kind == "json":
            raise Unavailable(f"{answer.address}: the answer is no whole JSON: {fault}") from fault
        raise _other_kind(answer, form, text) from fault


def _other_kind(answer: Answer, form: Format, text: str) -> Invalid:
    said = answer.headers.get("Content-Type") or "something without a Content-Type"
    return Invalid(
        f"{answer.address}: answered {shortened(said)} where {form} is wanted: {shortened(text[:200])!r}; correct the "
        f"path, or set `format`"
    )


def _is_html(answer: Answer) -> bool:
    return "html" in answer.headers.get("Content-Type", "").lower()


def kind_of(content_type: str) -> tuple[Format | None, str | None]:
    """The format that a Content-Type names, and its charset."""
    header = Message()
    header["Content-Type"] = content_type
    charset = header.get_content_charset()
    main = content_type.partition(";")[0].lower()
    return next((kind for pattern, kind in _KINDS if re.search(pattern, main)), None), charset


def text_of(body: bytes, charset: str | None) -> str:
    """The body as text: by its byte-order mark, its charset, or as UTF-8. Bytes that are none stay, as lone surrogates."""
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if body.startswith(mark):
            charset = name
    try:
        return body.decode(charset or "utf-8", "surrogateescape")
    except (LookupError, UnicodeDecodeError):
        return body.decode("utf-8", "surrogateescape")


def _records(document: Any, path: str | None, address: str) -> Sequence[Any]:
    """The records of a document: what stands at `path`, a list or one object; without a path the document, if a list."""
    if path is None:
        if isinstance(document, list):
            return document
        keys = ", ".join(map(str, document)) if isinstance(document, Mapping) else ""
        what = f"is an object with {keys or 'nothing'}" if isinstance(document, Mapping) else "is no list"
        raise Invalid(
            f"{address}: the answer {shortened(what)}; name the list's place by `records`, or `records: '@'` where the "
            f"object itself is the record"
        )
    found = found_at(path, document)
    if isinstance(found, list):
        return found
    if isinstance(found, Mapping):
        return [found]
    if found is None and _is_there(document, path):
        return []
    keys = ", ".join(map(str, document)) if isinstance(document, Mapping) else type(document).__name__
    raise Invalid(f"{address}: nothing stands at `records`: {path!r}; the answer has {shortened(keys) or 'nothing'}")


def _is_there(document: Any, path: str) -> bool:
    """Whether a path that is nothing but names leads to a null; of others nobody can tell, so it is taken for one."""
    names = steps(path)
    for name in names or ():
        if document is None:
            return True
        if not isinstance(document, Mapping) or name not in document:
            return False
        document = document[name]
    return True


def texts_of(page: Page) -> list[str]:
    """The records of a page as JSON, one a line; numbers with their digits as they were written, in quotes."""
    if page.kind == "jsonl":
        return list(page.records)
    return [written(record) for record in page.records]


def written(record: Any) -> str:
    """A value as JSON; decimals keep their digits, as texts."""
    return json.dumps(record, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return format(value, "f") if isinstance(value, Decimal) and abs(value.adjusted()) < 400 else str(value)
