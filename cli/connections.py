"""`connections`: the systems that an environment knows."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show
from cli.project import here

app = typer.Typer(help="The outside systems that an environment knows.", no_args_is_help=True)

EnvironmentName = Annotated[str, typer.Option(help="The environment.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


@app.command("list")
def connections(environment: EnvironmentName = "local", as_json: Json = False) -> None:
    """Lists an environment's connections."""
    from pipelines.environmentfile import load_environment

    found = load_environment(here().folder, environment).connections
    if as_json:
        show.document([{"connection": name, "adapter": connection.adapter} for name, connection in found.items()])
    elif found:
        show.table(["connection", "adapter"], [[name, connection.adapter] for name, connection in found.items()])
    else:
        typer.echo(f"no connections; write them under `connections:` in environments/{environment}.yaml")


@app.command("test")
def reach(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The connection's name.")],
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Reaches the system and says what was found, or what to do."""
    from pipelines.environment import Connection
    from pipelines.environmentfile import load_environment
    from pipelines.scope import Scope

    project = here()
    scope = Scope(project.folder, load_environment(project.folder, environment))
    found = scope.connection(name, Connection).test(scope)
    if as_json:
        show.document({"connection": name, "environment": environment, "found": found})
    else:
        typer.echo(f"{name}: {found}")


@app.command("discover")
def discover(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The connection's name.")],
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Lists what the system has to read or write, such as its tables or endpoints, with their columns."""
    from adapters.file.types import duckdb_name
    from pipelines.environment import Connection
    from pipelines.environmentfile import load_environment
    from pipelines.scope import Scope

    project = here()
    scope = Scope(project.folder, load_environment(project.folder, environment))
    found = scope.connection(name, Connection).discover(scope)
    rows = [
        {
            "name": each.name,
            "kind": each.kind,
            "columns": None
            if each.columns is None
            else {field.name: duckdb_name(field.type) for field in each.columns},
            "note": each.note,
        }
        for each in found
    ]
    if as_json:
        show.document(rows)
        return
    columns = [", ".join(f"{column} {kind}" for column, kind in (row["columns"] or {}).items()) for row in rows]
    texts = [[str(row["name"]), str(row["kind"]), text] for row, text in zip(rows, columns, strict=True)]
    show.table(["name", "kind", "columns"], texts)
