"""`run`, `preview` and `test`: the commands that execute flows."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from cli import show
from cli.project import here, settings
from pipelines.errors import Cancelled

FlowName = Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name, or its file.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter's value.")]
EnvironmentName = Annotated[str, typer.Option(help="The environment to run in.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]
RunnerName = Annotated[str | None, typer.Option(help="A runner other than the environment's.")]


def run(
    flow: FlowName,
    values: Set = None,
    environment: EnvironmentName = "local",
    runner: RunnerName = None,
    as_json: Json = False,
) -> int:
    """Runs a flow and shows its ledger. Ends with 1 where the run failed or does not balance."""
    from agent.prepare import Request
    from agent.runs import run as run_flow
    from pipelines.job import Watch

    watch = Watch()
    request = Request(here(), flow, environment, settings(values or []), runner)
    with stoppable(watch.stop.ask), progress(watch, hidden=as_json):
        report = run_flow(request, watch=watch)
    if as_json:
        show.document(report)
    else:
        told(report)
    return (
        0
        if report["status"] in ("done", "done_with_rejects")
        else 70
        if "a fault of ours" in str(report["error"])
        else 1
    )


def told(report: dict[str, Any]) -> None:
    """Shows a run's report to a person."""
    balance = ", balanced" if report["balanced"] else ""
    show.table(show.LEDGER_COLUMNS, show.ledger_rows(report["nodes"]))
    typer.echo()
    typer.echo(f"{report['status'].replace('_', ' ')}{balance}, {report['seconds']:.2f} s   run {report['run']}")
    delivery = report["delivery"]
    if delivery:
        typer.echo(f"delivery: {delivery['label']}")
        for reason in delivery.get("reasons", ()):
            typer.echo(f"  {reason}")
    if report["error"]:
        typer.echo(report["error"], err=True)
    rejected = {name: node["rejected"] for name, node in report["nodes"].items() if node["rejected"]}
    if rejected:
        typer.echo(
            'rejects: processflow query "select node, code, message, payload from rejects '
            f"where run = '{report['run']}'\""
        )


@contextmanager
def stoppable(stop: Callable[[Exception], None]) -> Iterator[None]:
    """The first Ctrl-C, or a TERM, asks the run to stop between two batches; a second Ctrl-C ends the process."""

    def ask(number: int, frame: object) -> None:
        stop(Cancelled("cancelled from the keyboard" if number == signal.SIGINT else "cancelled by signal TERM"))
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress(watch: Any, *, hidden: bool) -> Iterator[None]:
    """Shows at a terminal what has passed each node so far, four times a second."""
    if hidden or not show.is_terminal():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    started = time.monotonic()

    def drawn() -> Any:
        seen = watch.meter.seen()
        rows = [[node, port, rows] for (node, port), rows in seen.items()]
        return show.grid(["node", "port", "records>"], rows, f"{time.monotonic() - started:.0f} s")

    with Live(get_renderable=drawn, console=Console(stderr=True), refresh_per_second=4, transient=True):
        yield


def preview(
    flow: FlowName,
    place: Annotated[str, typer.Argument(metavar="NODE[.PORT]", help="Where to look.")],
    rows: Annotated[int, typer.Option(min=1, max=100_000, help="How many records.")] = 20,
    values: Set = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> None:
    """Shows the first records at a node or port. Nothing is sent."""

    from agent.dry import preview as look
    from agent.prepare import Request

    found = look(Request(here(), flow, environment, settings(values or [])), place, rows)
    records = [{name: show.plain(value) for name, value in row.items()} for row in found.to_pylist()]
    if as_json:
        show.document(records)
    else:
        show.table(found.schema.names, [list(record.values()) for record in records])
        typer.echo(f"{len(records)} records" + ("" if records else " came there"))


def test_flows(
    flows: Annotated[list[str] | None, typer.Argument(metavar="FLOW", help="Flows; without any, all.")] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> int:
    """Runs the tests that live in the flows. Nothing is sent."""
    from agent.dry import run_tests
    from agent.prepare import Request

    project = here()
    names = flows or sorted(file.stem for file in (project.folder / "flows").glob("*.y*ml"))
    verdicts = [verdict for name in names for verdict in run_tests(Request(project, name, environment))]
    if as_json:
        show.document(
            [{"flow": v.flow, "test": v.name, "passed": v.passed, "differences": v.differences} for v in verdicts]
        )
    else:
        for verdict in verdicts:
            typer.echo(f"{'passed' if verdict.passed else 'FAILED'}  {verdict.flow}: {verdict.name}")
            for line in verdict.differences:
                typer.echo(f"        {line}")
        failed = sum(not verdict.passed for verdict in verdicts)
        typer.echo(f"{len(verdicts) - failed} passed, {failed} failed")
    return int(any(not verdict.passed for verdict in verdicts))
