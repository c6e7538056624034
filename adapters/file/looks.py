"""Tells by the first bytes of a file what it seems to be, for messages about files of another kind than was wanted."""

from __future__ import annotations

HEAD_BYTES = 512
_BEGINNINGS = (
    (b"PAR1", "Parquet"),
    (b"Obj\x01", "Avro"),
    (b"ARROW1", "an Arrow file"),
    (b"ORC", "ORC"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of old Office (.xls), or an encrypted one"),
    (b"%PDF", "PDF"),
    (b"\x1f\x8b", "compressed by gzip; end its name in .gz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard; end its name in .zst"),
    (b"BZh", "compressed by bzip2; end its name in .bz2"),
    (b"SQLite format 3", "an SQLite database"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
)
_ZIPPED = (
    (b"application/vnd.oasis", "an OpenDocument file"),
    (b"[Content_Types].xml", "a document of Office (.xlsx, .docx)"),
)


def seems(head: bytes) -> str:
    """What a file with this beginning seems to be."""
    if not head:
        return "empty"
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    if head.startswith(b"PK"):
        return next((what for mark, what in _ZIPPED if mark in head), "a ZIP archive")
    return _text(head)


def _text(head: bytes) -> str:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lowered = start[:100].lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page, perhaps a server's error message"
    if start.startswith(b"<"):
        return "XML"
    if b"\0" in head:
        return "binary data"
    try:
        head[:-4].decode()
    except UnicodeDecodeError:
        return "text that is no UTF-8, or binary data"
    return "JSON" if start.startswith((b"{", b"[")) else "text"
