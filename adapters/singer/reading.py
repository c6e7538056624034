"""Turns a tap's messages into records: those of one stream, with the state that stands behind each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from adapters.file.jsonfaults import Careful, exact
from adapters.file.lines import Fault, Piece, cut_text
from pipelines.errors import Invalid
from pipelines.node import Chunk, Json, Malformed
from pipelines.sql.sandbox import Sandbox

LINE = pa.schema([pa.field("line", pa.string())])
RECORD = "json_extract(line, '$.record')::VARCHAR AS record"
PIECE_BYTES = 16 << 20
BEHIND = "number"
"""States cannot be compared; so each has a number, and the larger one has the others behind it."""


class Messages:
    """Reads what a tap says (https://hub.meltano.com/singer/spec): SCHEMA, RECORD, STATE and what others have added.

    Args:
        names: What the stream is called.
        first: The number of the state before the first.
        most_rows: So many records at most become one chunk.
    """

    def __init__(self, names: set[str], schema: pa.Schema, sandbox: Sandbox, first: int, most_rows: int) -> None:
        self._names = names
        self._sandbox = sandbox
        self._careful = Careful(schema, sandbox)
        self._number = first
        self._most_rows = most_rows
        self._lines: list[bytes] = []
        self._bytes = self._given = 0
        self._state: Json = None

    def __call__(self, lines: Iterable[bytes | None]) -> Iterator[Chunk]:
        """The records as chunks, each with the state that was told when all of its records had come.

        An empty chunk is given while the tap says nothing, so that a run can be stopped meanwhile.
        """
        for line in lines:
            if line is None:
                yield self._chunk()
                continue
            self._take(line)
            if len(self._lines) >= self._most_rows or self._bytes >= PIECE_BYTES:
                yield self._chunk()
        yield self._chunk()

    def _take(self, line: bytes) -> None:
        """Notes a message. A state is noted with the records that came before it."""
        if not line.strip():
            return
        message = self._message(line)
        kind = message.get("type")
        if kind == "RECORD" and message.get("stream") in self._names:
            self._lines.append(line)
            self._bytes += len(line)
        elif kind == "STATE":
            self._state = message.get("value")
            self._number += 1
        elif kind == "BATCH":
            raise Invalid(
                "the tap gives whole files (BATCH messages), which are not read; switch that off in its config"
            )

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            shown = line[:80].decode("utf-8", "replace")
            raise Invalid(f"the tap says {shown!r}, which is no message of Singer's")
        return found

    def _chunk(self) -> Chunk:
        """What has come, and how far it goes."""
        lines, self._lines, self._bytes = self._lines, [], 0
        state, self._state = self._state, None
        position = None if state is None else {BEHIND: self._number, "state": state}
        if not lines:
            return Chunk(self._careful.nothing(), self._given, position=position)
        piece = self._piece(lines)
        first, self._given = self._given, self._given + piece.records
        ordinals = pa.array(piece.numbers() + first, pa.int64())
        return Chunk(piece.batch, first, ordinals, _malformed(piece.faults, first), position)

    def _piece(self, lines: list[bytes]) -> Piece:
        batch = pa.record_batch([exact(pa.array(lines, pa.binary()).cast(pa.string()))], schema=LINE)
        texts = self._sandbox.prepare(RECORD, LINE)(batch).column(0).fill_null("null").cast(pa.binary())
        found = self._careful.strict(texts)
        if found is not None:
            return Piece(found)
        found, bad = self._careful(texts)
        faults = [Fault(number, cut_text(memoryview(texts[number].as_py())), *bad[number]) for number in sorted(bad)]
        return Piece(found, faults)


def _malformed(faults: Iterable[Fault], first: int) -> Malformed | None:
    found = list(faults)
    return (
        Malformed(
            [fault.text for fault in found],
            [fault.code for fault in found],
            [f"record {first + fault.number + 1}: {fault.message}" for fault in found],
            [first + fault.number for fault in found],
        )
        if found
        else None
    )
