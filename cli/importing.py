"""`connections import`: connections and nodes from a description of an API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import show
from cli.project import here
from pipelines.errors import Invalid

if TYPE_CHECKING:
    from repository.project import Project

app = typer.Typer(help="Makes connections and nodes of a description of an API.", no_args_is_help=True)
FOLDER = "templates"


@app.callback()
def group() -> None:
    """Makes connections and nodes of a description of an API."""


@app.command("openapi")
def openapi(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An OpenAPI 3 document, in JSON or YAML.")],
    name: Annotated[str | None, typer.Option(help="The connection's name; else the API's title.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the API is; else the document's first server.")] = None,
    environment: Annotated[str, typer.Option(help="The environment that gets the connection.")] = "local",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Writes a connection to the environment, and get and post nodes of all endpoints to templates/NAME.yaml."""
    from adapters.http.openapi.document import Document
    from adapters.http.openapi.importing import imported, written
    from adapters.http.openapi.nodes import slug
    from pipelines.environmentfile import parse_environment

    project = here()
    document = Document.load(file)
    called = name or slug(document.title, "-")
    found = imported(document, called, url)
    if file.resolve().is_relative_to(project.folder.resolve()):
        found.connection["openapi"] = file.resolve().relative_to(project.folder.resolve()).as_posix()
    path = project.folder / FOLDER / f"{called}.yaml"
    _check_own(path)
    place, text, is_new = _with_connection(project, environment, called, found.connection)
    parse_environment(text, str(place))
    if is_new:
        _write(place, text)
    _write(path, written(document, called, found))
    nodes = [{"node": each.name, "operation": each.operation, **each.config} for each in found.nodes]
    left_out = [{"operation": each.operation, "why": each.why} for each in found.left_out]
    if as_json:
        show.document(
            {
                "connection": called, "environment": environment, "is_new": is_new, "settings": found.connection,
                "templates": str(path), "nodes": nodes, "left_out": left_out, "open": list(found.open),
            }
        )  # fmt: skip
        return
    verb = "added to" if is_new else "was there already, left as it is in"
    typer.echo(f"connection {called}: {verb} {place.relative_to(project.folder)}")
    typer.echo(f"{len(nodes)} nodes: {path.relative_to(project.folder)}; copy what you need into a flow")
    for each in left_out:
        typer.echo(f"left out: {each['operation']}: {each['why']}")
    for line in found.open if is_new else ():
        typer.echo(f"to do: {line}")
    typer.echo(f"then: processflow connections test {called}")


def _check_own(path: Path) -> None:
    from adapters.http.openapi.importing import MADE

    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MADE):
        raise Invalid(f"{path}: is there already and was not made by this command; move it, or give --name")


def _with_connection(project: Project, environment: str, name: str, settings: dict[str, Any]) -> tuple[Path, str, bool]:
    """The environment's file, its text with the connection, and whether that is new in it."""
    from pipelines.environmentfile import FOLDER as ENVIRONMENTS
    from pipelines.environmentfile import environment_files, load_environment
    from pipelines.language import yamledit, yamltext

    place = environment_files(project.folder).get(environment, project.folder / ENVIRONMENTS / f"{environment}.yaml")
    known = load_environment(project.folder, environment).connections
    if not place.exists():
        return place, yamledit.edit(f"environment: {environment}\n", ("connections",), {name: settings}), True
    text = place.read_text(encoding="utf-8")
    if name in known:
        if known[name].adapter != "http":
            raise Invalid(f"{place}: connection {name!r} is of adapter {known[name].adapter}; give --name")
        return place, text, False
    tree = yamltext.parse(text, str(place)).value or {}
    at = ("connections", name) if tree.get("connections") else ("connections",)
    return place, yamledit.edit(text, at, settings if len(at) == 2 else {name: settings}), True


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
