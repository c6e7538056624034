"""`runs`: what ran, and one run's ledger, rejects and delivery."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import show
from cli.project import here

app = typer.Typer(help="What ran: a list, or one run whole.")
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    flow: Annotated[str | None, typer.Option(help="Only this flow's.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that ended, or stand, like this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Lists runs, the newest first."""
    if context.invoked_subcommand is not None:
        return
    from repository.catalogue import Catalogue

    found = Catalogue(here().catalogue_url).runs(flow=flow, status=status, limit=limit)
    if as_json:
        show.document(found)
        return
    rows = [[r["run"], r["flow"], r["version"], r["status"], r["started"], r["seconds"], r["error"]] for r in found]
    show.table(["run", "flow", "version", "status", "started", "seconds>", "error"], rows)


@app.command("show")
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")], as_json: Json = False
) -> None:
    """Shows one run: its ledger, its delivery label, its rejects by reason."""
    from cli.run import told
    from repository.catalogue import Catalogue

    report: dict[str, Any] = Catalogue(here().catalogue_url).report(run)
    if as_json:
        show.document(report)
        return
    typer.echo(f"{report['flow']} {report['version']} in {report['environment']}, started {report['started']}")
    told(report)
