"""`nodes`: the node types, their documentation, and the JSON Schema of a flow file."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show

app = typer.Typer(help="Node types: a list, one's documentation, the JSON Schema of a flow file.")

Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]


@app.callback(invoke_without_command=True)
def nodes(context: typer.Context, as_json: Json = False) -> None:
    """Lists all node types."""
    if context.invoked_subcommand is not None:
        return
    from pipelines.documentation import first_sentence
    from pipelines.registry import broken, node_types

    for problem in broken().values():
        typer.echo(str(problem), err=True)
    rows = [[name, kind.category, first_sentence(kind)] for name, kind in node_types().items()]
    if as_json:
        show.document([dict(zip(("type", "category", "does"), row, strict=True)) for row in rows])
    else:
        show.table(["type", "category", "does"], rows)


@app.command("show")
def show_type(name: Annotated[str, typer.Argument(metavar="TYPE", help="Such as `map` or `file.get`.")]) -> None:
    """Prints a node type's page: fields, ports, examples."""
    from pipelines.documentation import page
    from pipelines.registry import node_type

    typer.echo(page(name, node_type(name)))


@app.command("schema")
def schema() -> None:
    """Prints the JSON Schema of a flow file, for editors."""
    from pipelines.flowschema import flow_schema

    show.document(flow_schema())
