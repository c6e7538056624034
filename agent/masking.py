"""Masks values so that the same value has the same mask, wherever it stands, and different ones have different masks."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from pipelines.errors import Invalid

FAR_DAYS = 3000


class Mask:
    """Masks for one test: letters become letters, digits digits, so that what read a value reads its mask."""

    def __init__(self, columns: Collection[str], salt: bytes) -> None:
        self._columns = {name.lower() for name in columns}
        self._salt = salt
        self._masks: dict[str, str] = {}
        self._taken: set[str] = set()
        self._days = 1 + int.from_bytes(hashlib.blake2b(b"days", key=salt, digest_size=4).digest()) % FAR_DAYS
        self.seen: set[str] = set()
        """The columns, in lower case, that were masked."""

    def record(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The record with its masked columns masked; null stays null."""
        found = {}
        for name, value in record.items():
            hidden = name.lower() in self._columns
            if hidden:
                self.seen.add(name.lower())
            found[name] = self.value(value, name) if hidden and value is not None else value
        return found

    def value(self, value: Any, column: str = "") -> Any:
        """The mask of a value, of its type."""
        if isinstance(value, bool):
            return value
        if isinstance(value, (datetime, date)):
            return value - timedelta(days=self._days)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (int, Decimal)):
            return type(value)(self._text(str(value)))
        if isinstance(value, float):
            return float(self._text(repr(value)))
        if isinstance(value, list):
            return [None if one is None else self.value(one, column) for one in value]
        if isinstance(value, dict):
            return {name: None if one is None else self.value(one, column) for name, one in value.items()}
        raise Invalid(
            f"column {column!r} holds {type(value).__name__}, which cannot be masked; leave it out with a map"
        )

    def _text(self, text: str) -> str:
        """A text of the same shape that no other text has; where a shape has too few texts, a longer one."""
        for attempt in range(200):
            known = self._masks.get(text)
            if known is not None:
                return known
            mask = self._shaped(text, attempt) + ("0" * (attempt // 100))
            if mask not in self._taken and (mask != text or not text.strip()):
                self._masks[text] = mask
                self._taken.add(mask)
        return self._masks.setdefault(text, f"{text[:0]}{len(self._masks)}{'0' * len(text)}")

    def _shaped(self, text: str, attempt: int) -> str:
        noise = hashlib.shake_128(self._salt + attempt.to_bytes(2) + text.encode()).digest(max(1, 2 * len(text)))
        made: list[str] = []
        for place, mark in enumerate(text):  # mark by mark: each stays of its kind
            number = int.from_bytes(noise[2 * place : 2 * place + 2])
            if mark in "0123456789":
                first = place == 0 or not made[-1].isdigit()
                made.append(str(1 + number % 9) if first and mark != "0" else mark if first else str(number % 10))
            elif mark.isalpha():
                letters = string.ascii_uppercase if mark.isupper() else string.ascii_lowercase
                made.append(letters[number % 26])
            else:
                made.append(mark)
        return "".join(made)
