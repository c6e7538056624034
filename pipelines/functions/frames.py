"""What passes between us and the process of an untrusted function: a JSON header and Arrow's stream format, with their
lengths before them. It is read as data, whatever it is."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

import pyarrow as pa

HEAD = struct.Struct(">IQ")
MOST_HEADER_BYTES, MOST_BODY_BYTES = 1 << 20, 1 << 32


def packed(header: dict[str, Any], body: bytes | pa.Buffer = b"") -> bytes:
    """A message."""
    text = json.dumps(header).encode()
    return b"".join([HEAD.pack(len(text), len(body)), text, body])


def message(file: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None where there comes no more."""
    head = file.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    header, body = (file.read(length) for length in HEAD.unpack(head))
    found: dict[str, Any] = json.loads(header)
    return found, body


def unpacked(received: bytearray) -> tuple[dict[str, Any], memoryview] | None:
    """The message that what was received is; None where more must come.

    Raises:
        ValueError: it is none.
    """
    if len(received) < HEAD.size:
        return None
    header_bytes, body_bytes = HEAD.unpack_from(received)
    if header_bytes > MOST_HEADER_BYTES or body_bytes > MOST_BODY_BYTES:
        raise ValueError("this is no message")
    begin, end = HEAD.size + header_bytes, HEAD.size + header_bytes + body_bytes
    if len(received) < end:
        return None
    found = json.loads(bytes(received[HEAD.size : begin]))
    if len(received) > end or not isinstance(found, dict):
        raise ValueError("this is no message")
    return found, memoryview(received)[begin:end]


def written(batch: pa.RecordBatch) -> pa.Buffer:
    """A batch as bytes; of a slice only its part."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def read(body: bytes | memoryview) -> pa.RecordBatch:
    """The batch that was written."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        return reader.read_next_batch()
