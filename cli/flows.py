"""`init`, `check`, `explain` and `doctor`: what needs no run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from cli import show
from cli.project import flow_names, here, settings
from pipelines.errors import Problem

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
    names = flows or flow_names(project)
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
            typer.echo(told(problem))
        warnings = show.counted(len(found) - len(faults), "warning")
        told_faults = show.counted(len(faults), "problem") if faults else "no problems"
        typer.echo(
            f"{show.counted(len(names), 'flow')}: {told_faults}" + (f", {warnings}" if len(found) > len(faults) else "")
        )
    return 2 if faults else 0


def told(problem: Problem) -> str:
    """A problem as a line, its place first, so that editors find it."""
    if not problem.warning:
        return str(problem)
    return str(replace(problem, what=f"warning: {problem.what}"))


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


def doctor(as_json: Json = False) -> int:
    """Says what is missing on this machine, and the command that mends it. Ends with 3 where something is."""
    from cli.examine import findings

    found = list(findings())
    if as_json:
        show.document([{"what": finding.what, "well": finding.is_well, "fix": finding.fix} for finding in found])
    else:
        for finding in found:
            state = "ok     " if finding.is_well else "MISSING"
            typer.echo(f"{state}  {finding.what}" + (f": {finding.fix}" if finding.fix else ""))
    return 0 if all(finding.is_well for finding in found) else 3
