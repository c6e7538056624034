"""`query`: SQL over everything that every run has left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.project import here


def ask(
    sql: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT over the views of the data logs.")],
    form: Annotated[
        Literal["table", "csv", "json", "parquet"], typer.Option("--format", help="How to answer.")
    ] = "table",
    output: Annotated[Path | None, typer.Option(help="A file to write instead of the terminal.")] = None,
    limit_rows: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 100_000,
    timeout_seconds: Annotated[float, typer.Option(min=0.1, help="At most this long.")] = 60.0,
) -> None:
    """Answers one SELECT over runs, nodes, records, rejects, deliveries and transactions."""
    from repository.query import Limits, query

    answer = query(here().lake, sql, Limits(rows=limit_rows, seconds=timeout_seconds), form, output)
    if answer.truncated:
        typer.echo(f"only the first {limit_rows:,} rows; --limit-rows raises that", err=True)
    if output is not None:
        typer.echo(f"wrote {answer.rows:,} rows to {output}", err=True)
