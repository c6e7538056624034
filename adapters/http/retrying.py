"""What an answer says of itself: whether to ask again, when, and what went wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters.http.client import Answer

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
"""What may work later."""
MOST_BODY_BYTES = 1 << 29
SHOWN_CHARACTERS = 300
_TOLD = ("message", "detail", "error_description", "error", "title", "reason", "errors", "description", "msg")
"""Where APIs tell what is wrong (`detail` and `title` by RFC 9457)."""


def pause_asked(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that `Retry-After` asks to wait: it gives seconds or a date (RFC 9110, 10.2.3). None: it asks nothing."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - now, 0.0)
    except (TypeError, ValueError, OverflowError):
        return None


def reason_of(status: int) -> str:
    """`404 Not Found`."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def said_of(method: str, answer: Answer) -> str:
    """An answer that is none that was wanted, in a sentence."""
    told = message_of(answer)
    return f"{answer.address}: answered {method} with {reason_of(answer.status)}" + (f": {told}" if told else "")


def message_of(answer: Answer) -> str:
    """What the API itself says went wrong, in one line; empty where it says nothing."""
    if not answer.body:
        return ""
    text = answer.body[: 1 << 16].decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        kind = answer.headers.get("Content-Type", "")
        text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL) if "html" in kind else text
    else:
        text = told_by(found)
    return shortened(text)


def told_by(value: Any) -> str:
    """The message in an answer that is JSON."""
    if isinstance(value, dict):
        for name in _TOLD:
            if value.get(name):
                return told_by(value[name])
    if isinstance(value, list) and value:
        return "; ".join(told_by(each) for each in value[:5])
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def shortened(text: str) -> str:
    """One line, not too long."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"
