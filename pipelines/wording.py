"""Words a message about records: `{name}` stands for a column of the record, or for what is known of the run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal

import pyarrow as pa

from pipelines.scope import Scope

PLACE = re.compile(r"\{([A-Za-z_]\w*)\}")
OF_RUN = ("flow", "version", "run", "environment", "node", "count")
OF_DIGEST = (*OF_RUN, "table")
OF_RECORD = (*OF_RUN, "record")
REST = -1
"""Stands for the records that no message of their own is left for."""
CELL_CHARACTERS = 200
SUBJECT_CHARACTERS = 200
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]+")


@dataclass(frozen=True)
class Wording:
    """How a node words its messages."""

    to: tuple[str, ...]
    subject: str
    body: str
    digest: bool
    rows: int
    """So many records stand in a message at most."""
    messages: int
    """So many messages are sent in a run at most."""
    columns: tuple[str, ...] | None = None
    """The columns that are shown; None: all."""

    @property
    def is_personal(self) -> bool:
        """Whether a record says itself who is told."""
        return any(PLACE.search(one) for one in self.to)

    def keys(self, batch: pa.RecordBatch, seen: int) -> list[object]:
        """Per record the message that it belongs to: what is equal is one. `seen` records came before."""
        if self.is_personal:
            names = [name for name in batch.schema.names if any(name in named(one) for one in self.to)]
            records = batch.select(names).to_pylist()
            people = [tuple(filled(one, record) for one in self.to) for record in records]
            return list(people) if self.digest else [(*who, seen + row) for row, who in enumerate(people)]
        if self.digest:
            return [()] * batch.num_rows
        return [place if place < self.messages - 1 else REST for place in range(seen, seen + batch.num_rows)]

    def recipients(self, key: object) -> tuple[str, ...]:
        """Who gets the message of a key."""
        return key[: len(self.to)] if self.is_personal and isinstance(key, tuple) else self.to

    def message(self, first: Sequence[Mapping[str, object]], count: int, scope: Scope) -> tuple[str, str]:
        """Subject and body of a message about `count` records, of which these are the first."""
        of_run = {
            "flow": scope.flow, "version": scope.version, "run": scope.run, "environment": scope.environment.name,
            "node": scope.node, "count": f"{count:,}", "table": self._table(first, count),
        }  # fmt: skip
        values: dict[str, object] = {**scope.values, **of_run}
        if not self.digest and count == 1:
            values = {**values, "record": self._record(first[0]), **first[0]}
        elif not self.digest:  # what no message of its own is left for
            return f"{scope.flow}: {count:,} more records at {scope.node}", str(of_run["table"])
        subject = _CONTROL.sub(" ", filled(self.subject, values)).strip()[:SUBJECT_CHARACTERS]
        return subject, filled(self.body, values)

    def _shown(self, record: Mapping[str, object]) -> dict[str, object]:
        return {name: value for name, value in record.items() if self.columns is None or name in self.columns}

    def _record(self, record: Mapping[str, object]) -> str:
        return "\n".join(f"{name}: {written(value)}" for name, value in self._shown(record).items())

    def _table(self, first: Sequence[Mapping[str, object]], count: int) -> str:
        """The first records as lines of text, and how many more there are."""
        if not first:
            return ""
        head = list(self._shown(first[0]))
        cells = [head, *([_cell(record[name]) for name in head] for record in first)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        ]
        more = count - len(first)
        return "\n".join([*lines, *([f"… and {more:,} more"] if more > 0 else [])])


def named(text: str) -> Iterator[str]:
    """The names in braces of a text."""
    return (match[1] for match in PLACE.finditer(text))


def filled(text: str, values: Mapping[str, object]) -> str:
    """The text with its places filled; what is not known stays as it is, and so do braces in a value."""
    return PLACE.sub(lambda match: written(values[match[1]]) if match[1] in values else match[0], text)


def written(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(" ").replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def _cell(value: object) -> str:
    text = _CONTROL.sub(" ", written(value))
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…"
