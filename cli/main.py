"""The command `processflow`: its words, its exit codes, and how a fault is told.

Exit codes: 0 done; 1 the run failed or its ledger does not balance; 2 what was given is invalid; 3 another system is
unavailable; 70 a fault of ours.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from cli import connections, flows, query, run, runs, types
from pipelines.errors import FlowError, Invalid

app = typer.Typer(
    name="processflow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Moves data between systems that don't know each other, and loses nothing in silence.",
)
app.command("init")(flows.init)
app.command("check")(flows.check)
app.command("explain")(flows.explain)
app.command("run")(run.run)
app.command("preview")(run.preview)
app.command("test")(run.test_flows)
app.command("query")(query.ask)
app.add_typer(runs.app, name="runs")
app.add_typer(types.app, name="nodes")
app.add_typer(connections.app, name="connections")
app.command("doctor")(flows.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"processflow {metadata.version('processflow')}")
        raise typer.Exit


@app.callback()
def options(
    project: Annotated[Path | None, typer.Option(help="The project folder; else the nearest that has flows/.")] = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="The version.")] = False,
) -> None:
    """Moves data between systems that don't know each other, and loses nothing in silence."""
    if project is not None:
        if not project.is_dir():
            raise Invalid(f"--project {project}: no such folder")
        os.chdir(project)


def main() -> None:
    """Runs the command and ends the process, without waiting for libraries to take themselves apart."""
    logging.getLogger().addHandler(logging.NullHandler())  # what libraries murmur is not for users
    code = _answer()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _answer() -> int:
    try:
        result = app(standalone_mode=False)
    except FlowError as fault:
        tell(fault)
        return fault.exit_code
    except Abort:
        typer.echo("stopped", err=True)
        return 1
    except TyperException as fault:
        context = getattr(fault, "ctx", None)
        typer.echo(f"{context.get_usage()}\n" if context else "", err=True, nl=False)
        typer.echo(fault.format_message(), err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        typer.echo("stopped from the keyboard", err=True)
        return 1
    except Exception as fault:  # noqa: BLE001 - the outermost place: every fault ends as a sentence
        return unforeseen(fault)
    return result if isinstance(result, int) else 0


def tell(fault: FlowError) -> None:
    """Prints what is wrong, a line for each problem."""
    lines = [str(problem) for problem in fault.problems] if isinstance(fault, Invalid) else [str(fault)]
    for line in lines:
        typer.echo(line, err=True)


def unforeseen(fault: Exception) -> int:
    """Keeps the traceback in a file and tells where it is."""
    with tempfile.NamedTemporaryFile("w", prefix="processflow-fault-", suffix=".txt", delete=False) as file:
        file.write("".join(traceback.format_exception(fault)))
    typer.echo(f"a fault of ours: {type(fault).__name__}: {fault}; please report it with {file.name}", err=True)
    return 70
