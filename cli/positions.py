"""`positions`: where a flow's sources go on reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cli import show
from cli.project import here

if TYPE_CHECKING:
    from agent.prepare import Request
    from repository.catalogue import Catalogue

app = typer.Typer(help="Where a flow's sources go on reading.", no_args_is_help=True)

FlowName = Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name, or its file.")]
EnvironmentName = Annotated[str, typer.Option(help="The environment it runs in.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]


@contextmanager
def _opened(flow: str, environment: str) -> Iterator[tuple[Request, Catalogue]]:
    from agent.prepare import Request
    from repository.catalogue import Catalogue

    project = here()
    catalogue = Catalogue(project.catalogue_url)
    try:
        yield Request(project, flow, environment), catalogue
    finally:
        catalogue.close()


@app.command("show")
def show_positions(flow: FlowName, environment: EnvironmentName = "local", as_json: Json = False) -> None:
    """Shows where each source of a flow goes on reading, and which run left it there."""
    from agent.positions import shown

    with _opened(flow, environment) as (request, catalogue):
        found = shown(request, catalogue)
    if as_json:
        show.document(found)
        return
    rows = [[one["node"], _reads(one), one["run"], show.moment(one["at"])] for one in found]
    show.table(["node", "goes on", "left by run", "at"], rows)


def _reads(line: dict[str, object]) -> str:
    return str(line["reads"]) if line["in_flow"] else f"{line['reads']} (the flow has no such node)"


@app.command("reset")
def reset_positions(
    flow: FlowName,
    node: Annotated[str | None, typer.Argument(metavar="NODE", help="Only this node; without it, all.")] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Lets the next run read from the beginning, and nodes forget the keys that they remember of earlier runs."""
    from agent.positions import reset

    with _opened(flow, environment) as (request, catalogue):
        forgotten = reset(request, catalogue, node)
    if as_json:
        show.document({"flow": flow, "node": node, "forgotten": forgotten})
    else:
        typer.echo(f"{show.counted(forgotten, 'position')} forgotten: the next run reads from the beginning")


@app.command("accept")
def accept_columns(
    flow: FlowName,
    node: Annotated[str | None, typer.Argument(metavar="NODE", help="Only this source; without it, all.")] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Lets the next run take the columns that sources have then, where `schema_change` compares them with the last run's."""
    from agent.positions import accept

    with _opened(flow, environment) as (request, catalogue):
        accepted = accept(request, catalogue, node)
    if as_json:
        show.document({"flow": flow, "node": node, "accepted": accepted})
    else:
        typer.echo(f"columns of {show.counted(accepted, 'source')} forgotten: the next run takes those that it finds")


@app.command("set")
def set_position(
    flow: FlowName,
    node: Annotated[str, typer.Argument(metavar="NODE", help="The source.")],
    first: Annotated[str, typer.Option("--from", help="The cursor's first value to read, itself included.")],
    last: Annotated[
        str | None, typer.Option("--to", help="The last one; afterwards reading goes on where it is now.")
    ] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Sets a source back, so that the next run reads from a value on, or a range again: a backfill."""
    from agent.positions import set_back

    with _opened(flow, environment) as (request, catalogue):
        line = set_back(request, catalogue, node, first, last)
    if as_json:
        show.document(line)
    else:
        typer.echo(f"{node}: the next run reads {line['reads']}")
