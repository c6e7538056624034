"""What can be done after a run: `replay` and what else works on what it left behind."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show
from cli.project import here, settings
from cli.run import Json, RunnerName, Set, exit_code, progress, stoppable, told

RunName = Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")]


def replay(
    run: RunName,
    node: Annotated[str | None, typer.Option(help="Only what this node rejected.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only rejects for which this holds: code, message, key, columns.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were replayed before.")] = False,
    values: Set = None,
    runner: RunnerName = None,
    as_json: Json = False,
) -> int:
    """Runs the rejected records of a run again: from the node that rejected them on, through today's flow.

    Expressions see the earlier run's parameters and its `now()`. Ends with 1 where the replay failed.
    """
    from agent.replaying import Replay
    from agent.replaying import replay as replay_run
    from pipelines.job import Watch

    watch, project = Watch(), here()
    asked = Replay(project, run, node, where, again, settings(values or []), runner)
    with stoppable(watch.stop.ask), progress(f"replay of {run}", watch, hidden=as_json):
        report = replay_run(asked, watch=watch)
    if as_json:
        show.document(report)
        return exit_code(report)
    counts = ", ".join(f"{show.counted(rows, 'record')} from {name} on" for name, rows in report["replayed"].items())
    typer.echo(f"replay of {report['replay_of']}: {counts}")
    for note in report["notes"]:
        typer.echo(f"  {note}")
    typer.echo()
    told(report, project.lake)
    return exit_code(report)
