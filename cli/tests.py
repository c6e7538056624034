"""`test`: runs the tests that live in the flows; `test record` writes one from a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import show
from cli.project import here
from cli.run import Json, test_flows

FLOWS = "flows"
"""The command that `test` means where no other is named."""


class FlowsUnlessNamed(TyperGroup):
    """Takes `test web-orders` for `test flows web-orders`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = [FLOWS, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=FlowsUnlessNamed,
    help="Runs the tests that live in the flows: `test`, or `test FLOW…`. Nothing is sent.",
    invoke_without_command=True,
)
app.command(FLOWS, short_help="Runs the tests of these flows, or of all")(test_flows)


@app.command("record", short_help="Writes a test from a run into its flow's file")
def record_test(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")],
    name: Annotated[str | None, typer.Option(help="The test's name, a sentence that can be false.")] = None,
    records: Annotated[int, typer.Option(min=1, max=200, help="About how many records a get gives.")] = 10,
    mask: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Masks its values, the same ones alike everywhere.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Makes of a run a test that is kept: some of its records as `given`, what comes of them as `then`."""
    from dataclasses import asdict

    from agent.recording import Recording, record

    made = record(Recording(here(), run, name, records, mask or ()))
    if as_json:
        show.document(asdict(made))
        return
    typer.echo(f"{made.path}: wrote the test {made.name!r}, which passes")
    for word, preposition, counts in (("given", "of", made.given), ("then", "at", made.then)):
        told = ", ".join(f"{show.counted(rows, 'record')} {preposition} {place}" for place, rows in counts.items())
        typer.echo(f"  {word}: {told}")
    for note in made.notes:
        typer.echo(f"  {note}")
