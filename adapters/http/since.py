"""Asks an API for what is new: the last value that was read, as the API wants it written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from adapters.http.asking import Source
from adapters.http.templates import filled
from pipelines.errors import Invalid
from pipelines.model import Model

Written = Literal["plain", "date", "seconds", "milliseconds"]
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?")


class Cursor(Model):
    """What tells new records from those of earlier runs."""

    column: str
    """The column whose value grows with every change; records that do not lie above the last value read are left out,
    whatever the API gives."""
    parameter: str | None = None
    """The query's parameter for the last value; without it the API is asked for all, and what is new is found here."""
    start: Any = None
    """What the first run asks with: a value, or `$name`. Without it, nothing."""
    written: Written = "plain"
    """How a time is sent: `plain`: as `2026-01-31T08:00:00Z`; `date`: `2026-01-31`; `seconds` or `milliseconds` since
    1970."""


def asked(source: Source, cursor: Cursor, after: Any, values: Mapping[str, Any]) -> Source:
    """The source with the last value in its query."""
    value = filled(cursor.start, values) if after is None else sent(after["at"], cursor.written)
    if cursor.parameter is None or value is None:
        return source
    return replace(source, query={**source.query, cursor.parameter: value})


def sent(value: Any, how: Written) -> Any:
    """A kept value as it is sent."""
    time = _TIME.fullmatch(value) if isinstance(value, str) else None
    if time is None:
        if how in ("plain", "date"):
            return value
        raise Invalid(f"the cursor's last value is {value!r}, which is no time; leave out `written`")
    day, clock, fraction, zone = time.groups()
    if how == "date":
        return day
    fraction = (fraction or "").rstrip("0")
    text = f"{day}T{clock}{'.' + fraction if fraction else ''}"
    if how == "plain":
        return text + (zone or "")
    moment = datetime.fromisoformat(f"{day}T{clock}" + ("+00:00" if zone in (None, "Z") else str(zone)))
    since = int(moment.astimezone(UTC).timestamp())
    return since * 1000 + int((fraction or "0").ljust(3, "0")[:3]) if how == "milliseconds" else since
