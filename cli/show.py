"""How results look at a terminal: tables for people; programs ask for `--json`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

GAP = "  "
NARROWEST = 16
"""No column is folded below this; a table that would need it is shown record by record."""
LEDGER_COLUMNS = ("node", "type", "in>", "out>", "filtered>", "rejected>", "merged>", "delivered>", "seconds>")


def document(value: Any) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table, folded to the terminal's width; columns whose name ends in `>` are set to the right."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    found = lines(columns, rows, width)
    if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
        found[:1] = [f"\x1b[1m{found[0]}\x1b[0m"] if found else []
    typer.echo("\n".join(found))


def lines(columns: Sequence[str], rows: Iterable[Sequence[object]], width: int | None = None) -> list[str]:
    """A table as lines of text, the head first. Columns that are empty all the way down are left out."""
    texts = [[cell(value) for value in row] for row in rows]
    kept = [index for index in range(len(columns)) if not texts or any(row[index] for row in texts)]
    names = [columns[index] for index in kept]
    texts = [[row[index] for index in kept] for row in texts]
    widths = [
        max(map(wide, (name.rstrip(">"), *column))) for name, column in zip(names, _columns(names, texts), strict=True)
    ]
    fitting = widths if width is None else _fitted(widths, width - len(GAP) * (len(widths) - 1))
    if fitting is None:
        return _blocks(names, texts, width or 0)
    rights = [name.endswith(">") for name in names]
    head = [name.rstrip(">") for name in names]
    return [line for row in (head, *texts) for line in _row(row, fitting, rights)]


def _columns(names: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[row[index] for row in texts] for index in range(len(names))]


def _fitted(widths: Sequence[int], room: int) -> list[int] | None:
    """The widths with the widest columns narrowed until all fit; None where they cannot."""
    for most in range(max(*widths, NARROWEST) if widths else NARROWEST, NARROWEST - 1, -1):
        fitting = [min(one, most) for one in widths]
        if sum(fitting) <= room:
            return fitting
    return None


def _row(texts: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> list[str]:
    cells = [folded(text, width) for text, width in zip(texts, widths, strict=True)]
    height = max(map(len, cells), default=1)
    found = []
    for index in range(height):
        parts = [one[index] if index < len(one) else "" for one in cells]
        padded = [
            " " * (width - wide(part)) + part if right else part + " " * (width - wide(part))
            for part, width, right in zip(parts, widths, rights, strict=True)
        ]
        found.append(GAP.join(padded).rstrip())
    return found


def _blocks(names: Sequence[str], texts: Sequence[Sequence[str]], width: int) -> list[str]:
    """Record by record, a line for each column, for tables that no terminal is wide enough for."""
    heads = [name.rstrip(">") for name in names]
    margin = max(map(wide, heads))
    found = [f"{len(texts)} records, {len(heads)} columns each"]
    for number, row in enumerate(texts, 1):
        found.append(f"-- {number}")
        for head, text in zip(heads, row, strict=True):
            first, *more = folded(text, max(NARROWEST, width - margin - len(GAP))) or [""]
            found.append((head + " " * (margin - wide(head)) + GAP + first).rstrip())
            found += [" " * margin + GAP + part for part in more]
    return found


def folded(text: str, width: int) -> list[str]:
    """A text in lines of a width, broken between words where that can be."""
    if wide(text) <= width:
        return [text]
    if len(text) == wide(text):
        return textwrap.wrap(text, width, break_on_hyphens=False) or [""]
    return [text[start : start + max(1, width // 2)] for start in range(0, len(text), max(1, width // 2))]


def wide(text: str) -> int:
    """How many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(mark) else 2 if unicodedata.east_asian_width(mark) in "WF" else 1 for mark in text
    )


def cell(value: object) -> str:
    """A value as a table shows it: numbers grouped, nothing as nothing, what would move the cursor as an escape."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def value_text(value: object) -> str:
    """A record's value as a preview shows it: as it is, null as ∅, nested ones as JSON."""
    if value is None:
        return "∅"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def outcome(report: Mapping[str, Any]) -> str:
    """How a run ended or stands, in a word."""
    return "unfinished" if report.get("unfinished") else str(report["status"]).replace("_", " ")


def ledger_rows(nodes: Mapping[str, Mapping[str, Any]]) -> Iterable[list[object]]:
    """A row for each node: what came in, what left, was filtered, rejected, delivered; below it a row for each branch."""
    for name, node in nodes.items():
        is_post = node["type"].endswith(".post")
        yield [
            name,
            node["type"],
            node["in"],
            sum(node["out"].values()),
            node["filtered"] or None,
            node["rejected"] or None,
            node.get("merged") or None,
            node["delivered"] if is_post else None,
            f"{node['seconds']:.3f}",
        ]
        if set(node["out"]) - {"out"}:
            yield from (
                [f"  .{port}", None, None, rows, None, None, None, None, None] for port, rows in node["out"].items()
            )


def plain(value: object) -> object:
    """A record's value as JSON has it: numbers as they are, nested ones through, the rest as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def moment(text: str | None) -> str:
    """A time as the clock on the wall shows it."""
    return "" if not text else datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word: `1 flow`, `2 flows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def is_terminal() -> bool:
    return sys.stderr.isatty()
