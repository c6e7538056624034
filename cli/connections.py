"""`connections`: the systems that an environment knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cli import importing, show
from cli.project import here

if TYPE_CHECKING:
    from pipelines.environment import Found

app = typer.Typer(help="The outside systems that an environment knows.", no_args_is_help=True)
app.add_typer(importing.app, name="import", short_help="Makes connections and nodes of a description of an API")

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
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The connection's name; or a file, folder or pattern of the project.")
    ],
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Lists what the system has to read or write, such as its tables or endpoints, with their columns."""
    from adapters.file.discovering import local_files
    from adapters.file.types import duckdb_name
    from pipelines.environment import Connection
    from pipelines.environmentfile import load_environment
    from pipelines.scope import Scope

    project = here()
    scope = Scope(project.folder, load_environment(project.folder, environment))
    if name not in scope.environment.connections and any(sign in name for sign in "./*?"):
        found: Sequence[Found] = local_files(name, scope)
    else:
        found = scope.connection(name, Connection).discover(scope)
    if as_json:
        columns = [each.columns and {field.name: duckdb_name(field.type) for field in each.columns} for each in found]
        show.document(
            [
                {"name": each.name, "kind": each.kind, "columns": some, "note": each.note}
                for each, some in zip(found, columns, strict=True)
            ]
        )
        return
    texts = [", ".join(f"{field.name} {duckdb_name(field.type)}" for field in each.columns or ()) for each in found]
    rows = [[each.name, each.kind, text or each.note] for each, text in zip(found, texts, strict=True)]
    show.table(["name", "kind", "columns"], rows)
