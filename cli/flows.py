"""`init`, `check`, `explain` and `doctor`: what needs no run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import show
from cli.project import here, settings

Flows = Annotated[list[str] | None, typer.Argument(metavar="FLOW", help="Flows; without any, all.")]
EnvironmentName = Annotated[str, typer.Option(help="The environment it would run in.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]


def init(folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")]) -> None:
    """Makes a project to start from: a small flow that runs, its data, an environment."""
    from cli.starter import write

    for path in write(folder):
        typer.echo(f"wrote {path}")
    typer.echo(f"now: cd {folder} && processflow run welcome")


def check(
    flows: Flows = None,
    values: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter.")] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> int:
    """Lists every problem of the flows, with its place and what would be right. Ends with 2 where there is one."""
    from agent.checking import problems_of

    project = here()
    names = flows or sorted(file.stem for file in (project.folder / "flows").glob("*.y*ml"))
    found = [problem for name in names for problem in problems_of(project, name, environment, settings(values or []))]
    faults = [problem for problem in found if not problem.warning]
    if as_json:
        show.document(
            [
                {
                    "path": problem.path,
                    "line": problem.line,
                    "column": problem.column,
                    "what": problem.what,
                    "fix": problem.fix,
                    "warning": problem.warning,
                    "at": list(problem.at),
                }
                for problem in found
            ]
        )
    else:
        for problem in found:
            typer.echo(("warning: " if problem.warning else "") + str(problem))
        flows_word = "1 flow" if len(names) == 1 else f"{len(names)} flows"
        typer.echo(f"{flows_word}: {len(faults) or 'no'} problem{'' if len(faults) == 1 else 's'}")
    return 2 if faults else 0


def explain(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name, or its file.")],
    values: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter.")] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Prints how a flow would run: its phases, what each get reads, what each post promises."""
    from agent.explaining import explained, plain
    from agent.prepare import Request, prepare

    prepared = prepare(Request(here(), flow, environment, settings(values or [])))
    if as_json:
        show.document(plain(prepared))
    else:
        typer.echo(explained(prepared))


def doctor() -> int:
    """Says what is missing on this machine, and the command that mends it. Ends with 3 where something is."""
    from cli.examine import findings

    found = list(findings())
    for finding in found:
        typer.echo(
            f"{'ok     ' if finding.is_well else 'MISSING'}  {finding.what}"
            + (f": {finding.fix}" if finding.fix else "")
        )
    return 0 if all(finding.is_well for finding in found) else 3
