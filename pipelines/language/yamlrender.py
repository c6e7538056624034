"""Plain values as YAML text: in one line where it fits, else in blocks; text is quoted only where it must be."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from pipelines.errors import Bug
from pipelines.language.yamltext import FORBIDDEN, scalar

WIDTH = 120
PLAIN = re.compile(r"(?:[^\W]|[$/(^]|\.\w|\./)(?:.*[^\s:])?")
UNSAFE = re.compile(r": |:$| #|\t|\n|\r")
UNSAFE_IN_FLOW = re.compile(r"[,\[\]{}]|:(?![\w/])|: ")


def inline(value: Any, like: str = "", *, flow: bool = True) -> str:
    """The value in one line. `like`: the quote to use where the value is text; `flow`: whether `,` and `]` would end it."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key_text(key)}: {inline(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, str):
        return _text(value, like, flow)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    if isinstance(value, (int, float)):
        return repr(value)
    raise Bug(f"{type(value).__name__} {value!r} is not a plain value")


def key_text(name: str) -> str:
    """A key as it is written before its colon."""
    return name if _is_plain(name, flow=True) and len(name) <= 128 and name != "<<" else _quoted(name, "")


def lines(value: Any, width: int = WIDTH) -> list[str]:
    """The value as the lines of a block, not indented."""
    if isinstance(value, Mapping) and value:
        return [line for key, item in value.items() for line in entry(key, item, width)]
    if isinstance(value, (list, tuple)) and value:
        return [line for item in value for line in dashed(item, width)]
    return literal(value) or [inline(value, flow=False)]


def entry(key: str, value: Any, width: int = WIDTH, *, open_up: bool = False) -> list[str]:
    """A key and its value; `open_up` writes a mapping or list as a block even where one line would do."""
    head = f"{key_text(key)}:"
    body = _block(value, width - 2, len(head) + 1, open_up)
    if body is None:
        return [f"{head} {inline(value, flow=False)}"]
    if isinstance(value, str):
        return [f"{head} {body[0]}", *(f"  {line}" if line else line for line in body[1:])]
    return [head, *(f"  {line}" if line else line for line in body)]


def dashed(value: Any, width: int = WIDTH, *, open_up: bool = False) -> list[str]:
    """An item of a block list."""
    body = _block(value, width - 2, 2, open_up)
    first, *rest = body if body is not None else [inline(value, flow=False)]
    return [f"- {first}", *(f"  {line}" if line else line for line in rest)]


def literal(value: Any) -> list[str] | None:
    """Text of several lines as `|` and the lines below it; None where that would not give the same text."""
    if not isinstance(value, str) or "\n" not in value.rstrip("\n") or FORBIDDEN.search(value) or "\r" in value:
        return None
    body = value.removesuffix("\n").split("\n")
    blank = any(line and not line.strip() for line in body)
    if blank or not body[0] or not body[-1] or body[0][0] in " \t":
        return None
    return ["|" if value.endswith("\n") else "|-", *body]


def _block(value: Any, width: int, taken: int, open_up: bool) -> list[str] | None:
    """The lines of a value that does not stand in one line; None where it does."""
    if isinstance(value, str):
        text = literal(value)
        return text if text is None else [text[0], *text[1:]]
    if not isinstance(value, (Mapping, list, tuple)) or not value:
        return None
    if not open_up and not _has_lines(value) and taken + len(inline(value)) <= width:
        return None
    return lines(value, width)


def _has_lines(value: Any) -> bool:
    """Whether some text in it reads better as a block."""
    if isinstance(value, Mapping):
        return any(_has_lines(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return any(_has_lines(item) for item in value)
    return literal(value) is not None


def _text(value: str, like: str, flow: bool) -> str:
    if not like and _is_plain(value, flow):
        return value
    return _quoted(value, like)


def _is_plain(value: str, flow: bool) -> bool:
    if not PLAIN.fullmatch(value) or UNSAFE.search(value) or FORBIDDEN.search(value):
        return False
    return not (flow and UNSAFE_IN_FLOW.search(value)) and scalar(value) == value


def _quoted(value: str, like: str) -> str:
    special = FORBIDDEN.search(value) or re.search(r"[\t\n\r]", value)
    if not special and (like == "'" or (not like and ('"' in value or "\\" in value))):
        return "'" + value.replace("'", "''") + "'"
    text = json.dumps(value, ensure_ascii=False)
    return FORBIDDEN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
