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
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

from cli import after, connections, flows, positions, query, run, runs, tests, types
from pipelines.errors import FlowError, Invalid

app = typer.Typer(
    name="processflow",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Moves data between systems that don't know each other, and loses nothing in silence.",
)
COMMANDS: tuple[tuple[str, Callable[..., object], str], ...] = (
    ("init", flows.init, "Makes a project to start from"),
    ("check", flows.check, "Lists every problem of the flows"),
    ("explain", flows.explain, "Prints how a flow would run"),
    ("run", run.run, "Runs a flow and shows its ledger"),
    ("preview", run.preview, "Shows the records at a node; sends nothing"),
    ("replay", after.replay, "Runs the rejected records of a run again, through today's flow"),
    ("backtest", after.backtest, "Tries the flow as it is now on what the last runs had read; sends nothing"),
    ("trace", after.trace, "Tells a record's way from the source to the receipt, in every run"),
    ("query", query.ask, "Answers a SELECT over what all runs left behind"),
    ("profile", after.profile, "Shows what left a node, column by column"),
    ("retention", after.retention, "Removes runs that are too old, merges small files of the data logs"),
    ("doctor", flows.doctor, "Says what is missing on this machine"),
)
for name, command, says in COMMANDS:
    app.command(name, short_help=says)(command)
app.add_typer(tests.app, name="test", short_help="Runs the tests that live in the flows, or records one from a run")
app.add_typer(runs.app, name="runs", short_help="What ran: a list, or one run whole")
app.add_typer(positions.app, name="positions", short_help="Where a flow's sources go on reading")
app.add_typer(types.app, name="nodes", short_help="Node types, their pages, the flow file's JSON Schema")
app.add_typer(connections.app, name="connections", short_help="The systems that an environment knows")


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
        context, message = getattr(fault, "ctx", None), fault.format_message().replace("Value error, ", "")
        if context is not None and not message.startswith("Usage:"):
            typer.echo(context.get_usage(), err=True)
        typer.echo(message, err=True)
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
