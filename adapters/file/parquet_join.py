"""Joins Parquet files of one schema without decoding them: row groups are copied as bytes, only the footer is written anew.

A Parquet file is its row groups followed by a footer (Thrift, compact protocol) that says where each lies. So the row
groups of several files stand in one file once their offsets in the footer are moved. Page indexes hold offsets of their
own and are left out of the footer; readers do without.

Source: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift and
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"PAR1"
COPY_BYTES = 4 << 20
KEY_VALUES_FIELD = 5

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)

Struct = dict[int, tuple[int, Any]]
"""Field number to its Thrift type and value; a list's value is its element type and elements."""


class Unjoinable(Exception):
    """The files have to be decoded: their schemas differ, or they are laid out in a way not known here."""


@dataclass
class _Source:
    path: Path
    footer: Struct
    data_end: int
    shift: int = 0


def join(path: Path, sources: Sequence[Path]) -> None:
    """Writes one file of the row groups of all, in order.

    Raises:
        Unjoinable: they cannot be joined as bytes.
    """
    opened = [_source(each) for each in sources]
    first = opened[0].footer
    for each in opened[1:]:
        if any(each.footer.get(field) != first.get(field) for field in (2, 7)) or _arrow(each.footer) != _arrow(first):
            raise Unjoinable(f"{each.path} has other columns than {opened[0].path}")
    with path.open("wb") as out:
        out.write(MAGIC)
        for each in opened:
            each.shift = out.tell() - len(MAGIC)
            _copy(each, out)
        footer = _joined(opened)
        out.write(footer + len(footer).to_bytes(4, "little") + MAGIC)


def _source(path: Path) -> _Source:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        if size < 12:
            raise Unjoinable(f"{path} is no Parquet file")
        file.seek(size - 8)
        tail = file.read(8)
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != MAGIC or length > size - 12:
            raise Unjoinable(f"{path} is no plain Parquet file")
        file.seek(size - 8 - length)
        content = file.read(length)
    try:
        footer, _ = _read_struct(content, 0)
    except (IndexError, ValueError) as fault:
        raise Unjoinable(f"{path} has a damaged footer") from fault
    if 8 in footer or not {1, 2, 3, 4} <= footer.keys():
        raise Unjoinable(f"{path} is encrypted or has no row groups")
    return _Source(path, footer, size - 8 - length)


def _copy(source: _Source, out: BinaryIO) -> None:
    with source.path.open("rb") as file:
        file.seek(len(MAGIC))
        left = source.data_end - len(MAGIC)
        while left:
            block = file.read(min(left, COPY_BYTES))
            if not block:
                raise Unjoinable(f"{source.path} became shorter while it was read")
            out.write(block)
            left -= len(block)


def _joined(sources: Sequence[_Source]) -> bytes:
    groups: list[Struct] = []
    for source in sources:
        for group in source.footer[4][1][1]:
            _move(group, source.shift, len(groups))
            groups.append(group)
    footer = dict(sources[0].footer)
    footer[3] = (I64, sum(source.footer[3][1] for source in sources))
    footer[4] = (LIST, (STRUCT, groups))
    return _write_struct(footer)


def _move(group: Struct, shift: int, number: int) -> None:
    """Moves all offsets of a row group by `shift`."""
    for chunk in group[1][1][1]:
        if 1 in chunk or 8 in chunk or 9 in chunk or 3 not in chunk:
            raise Unjoinable("a column lies in another file or is encrypted")
        for field in (4, 5, 6, 7):
            chunk.pop(field, None)
        _shift(chunk, (2,), shift)
        _shift(chunk[3][1], (9, 10, 11, 14), shift)
    _shift(group, (5,), shift)
    group.pop(7, None)
    if number < 1 << 15:
        group[7] = (I16, number)


def _shift(struct: Struct, fields: Sequence[int], shift: int) -> None:
    for field in fields:
        if field in struct and struct[field][1] > 0:
            struct[field] = (struct[field][0], struct[field][1] + shift)


def _arrow(footer: Struct) -> Any:
    """What the writers noted beside the columns, Arrow's types among it."""
    return footer.get(KEY_VALUES_FIELD)


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _read_value(content: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (I16, I32, I64):
        value, at = _read_varint(content, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == BINARY:
        length, at = _read_varint(content, at)
        return content[at : at + length], at + length
    if kind == STRUCT:
        return _read_struct(content, at)
    if kind in (LIST, SET):
        return _read_list(content, at)
    if kind in (TRUE, FALSE, I8):
        return content[at], at + 1
    if kind == DOUBLE:
        return content[at : at + 8], at + 8
    raise ValueError(f"Thrift type {kind} does not occur in Parquet")


def _read_list(content: bytes, at: int) -> tuple[tuple[int, list[Any]], int]:
    size, kind = content[at] >> 4, content[at] & 0x0F
    at += 1
    if size == 15:
        size, at = _read_varint(content, at)
    values = []
    for _ in range(size):
        value, at = _read_value(content, at, kind)
        values.append(value)
    return (kind, values), at


def _read_struct(content: bytes, at: int) -> tuple[Struct, int]:
    found: Struct = {}
    field = 0
    while True:
        head = content[at]
        at += 1
        if head == 0:
            return found, at
        kind = head & 0x0F
        if head >> 4:
            field += head >> 4
        else:
            raw, at = _read_varint(content, at)
            field = (raw >> 1) ^ -(raw & 1)
        if kind in (TRUE, FALSE):
            found[field] = (kind, None)
        else:
            value, at = _read_value(content, at, kind)
            found[field] = (kind, value)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def _write_value(kind: int, value: Any) -> bytes:
    if kind in (I16, I32, I64):
        return _varint(value * 2 if value >= 0 else -value * 2 - 1)
    if kind == BINARY:
        return _varint(len(value)) + bytes(value)
    if kind == STRUCT:
        return _write_struct(value)
    if kind in (LIST, SET):
        element, values = value
        size = len(values)
        head = bytes([size << 4 | element]) if size < 15 else bytes([0xF0 | element]) + _varint(size)
        return head + b"".join(_write_value(element, each) for each in values)
    if kind == DOUBLE:
        return bytes(value)
    return bytes([value])


def _write_struct(struct: Struct) -> bytes:
    written: list[bytes] = []
    before = 0
    for field in sorted(struct):
        kind, value = struct[field]
        step = field - before
        written.append(bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _write_value(I16, field))
        if kind not in (TRUE, FALSE):
            written.append(_write_value(kind, value))
        before = field
    return b"".join(written) + b"\0"
