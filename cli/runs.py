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

    catalogue = Catalogue(here().catalogue_url)
    found = catalogue.runs(flow=flow, status=status, limit=limit)
    if as_json:
        show.document(found)
        return
    if not found:
        typer.echo("no run yet; start one with: processflow run FLOW")
        return
    show.table(COLUMNS, [_row(line, catalogue.report(line["run"])) for line in found])
    for line in found:
        if line["error"]:
            typer.echo(f"{line['run']}: {line['error']}")


COLUMNS = ("run", "flow", "status", "started", "seconds>", "delivered>", "rejected>")


def _row(line: dict[str, Any], report: dict[str, Any]) -> list[object]:
    nodes = report["nodes"].values()
    counts = [sum(node[name] for node in nodes) if nodes else None for name in ("delivered", "rejected")]
    seconds = None if line["seconds"] is None else f"{line['seconds']:.2f}"
    return [line["run"], line["flow"], line["status"].replace("_", " "), show.moment(line["started"]), seconds, *counts]


@app.command("show")
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")], as_json: Json = False
) -> None:
    """Shows one run: its ledger, its delivery label, its rejects by reason."""
    from cli.run import told
    from repository.catalogue import Catalogue

    project = here()
    report: dict[str, Any] = Catalogue(project.catalogue_url).report(run)
    if as_json:
        show.document(report)
        return
    typer.echo(
        f"{report['flow']} {report['version']} in {report['environment']}, started {show.moment(report['started'])}"
    )
    for name, value in report["parameters"].items():
        typer.echo(f"  {name} = {show.value_text(value)}")
    typer.echo()
    told(report, project.lake)
