"""How results look at a terminal: tables for people; programs ask for `--json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer


def document(value: Any) -> None:
    """Prints one JSON document."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Prints a table; columns whose name ends in `>` are numbers, set to the right."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(grid(columns, rows, title))


def grid(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Any:
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", title_justify="left", title=escape(title) or None)
    for name in columns:
        made.add_column(name.rstrip(">"), justify="right" if name.endswith(">") else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell(value)) for value in row))
    return made


def cell(value: object) -> str:
    """A value as a table shows it: numbers grouped, nothing as nothing."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def ledger_rows(nodes: Mapping[str, Mapping[str, Any]]) -> list[list[object]]:
    """One row a node: what came in, what left by which port, what was filtered, rejected, delivered."""
    return [
        [
            name,
            node["type"],
            node["in"],
            ports(node["out"]),
            node["filtered"] or None,
            node["rejected"] or None,
            node["delivered"] or None,
            f"{node['seconds']:.3f}",
        ]
        for name, node in nodes.items()
    ]


def plain(value: object) -> object:
    """A record's value as JSON has it: numbers as they are, nested ones through, the rest as text."""
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


LEDGER_COLUMNS = ("node", "type", "in>", "out>", "filtered>", "rejected>", "delivered>", "seconds>")


def ports(out: Mapping[str, int]) -> str:
    """Counts per port; the name is left away where `out` is the only one."""
    if set(out) <= {"out"}:
        return f"{out.get('out', 0):,}"
    return " ".join(f"{port} {rows:,}" for port, rows in out.items())


def is_terminal() -> bool:
    return sys.stderr.isatty()
