"""`connections`: the systems that an environment knows."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show
from cli.project import here

app = typer.Typer(help="The outside systems that an environment knows.", no_args_is_help=True)


@app.command("list")
def connections(environment: Annotated[str, typer.Option(help="The environment.")] = "local") -> None:
    """Lists an environment's connections."""
    from pipelines.environmentfile import load_environment

    found = load_environment(here().folder, environment).connections
    show.table(["connection", "adapter"], [[name, connection.adapter] for name, connection in found.items()])


@app.command("test")
def reach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The connection's name.")],
    environment: Annotated[str, typer.Option(help="The environment.")] = "local",
) -> None:
    """Reaches the system and says what was found, or what to do."""
    from pipelines.environment import Connection
    from pipelines.environmentfile import load_environment
    from pipelines.scope import Scope

    project = here()
    scope = Scope(project.folder, load_environment(project.folder, environment))
    typer.echo(f"{name}: {scope.connection(name, Connection).test(scope)}")
