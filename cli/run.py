"""`run`, `preview` and `test`: the commands that execute flows."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import show
from cli.project import flow_names, here, settings
from cli.rejects import reasons
from pipelines.errors import Cancelled, Invalid

if TYPE_CHECKING:
    from agent.dry import Verdict
    from pipelines.job import Watch

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

    watch, project = Watch(), here()
    request = Request(project, flow, environment, settings(values or []), runner)
    with stoppable(watch.stop.ask), progress(flow, watch, hidden=as_json):
        report = run_flow(request, watch=watch)
    if as_json:
        show.document(report)
    else:
        told(report, project.lake)
        for note in report.get("notes", ()):
            typer.echo(note)
    return exit_code(report)


def exit_code(report: dict[str, Any]) -> int:
    """0 where the run is done, 3 where another system was away, 70 where it met a fault of ours, else 1."""
    if report["status"] in ("done", "done_with_rejects"):
        return 0
    return int(report.get("exit_code") or 1)


def told(report: dict[str, Any], lake: Path) -> None:
    """Shows a run's report to a person."""
    nodes = report["nodes"]
    if nodes:
        show.table(show.LEDGER_COLUMNS, show.ledger_rows(nodes))
        typer.echo()
    typer.echo(f"{', '.join(_outcome(report))}   run {report['run']}")
    is_done = report["status"] in ("done", "done_with_rejects")
    if report["delivery"] and is_done:
        typer.echo(f"delivery: {report['delivery']['label']}")
        for line in _together(report["delivery"].get("reasons", ())):
            typer.echo(f"  {line}")
    rejecting = {name: node["rejected"] for name, node in nodes.items() if node["rejected"]}
    if rejecting:
        typer.echo(f"rejected: {show.counted(sum(rejecting.values()), 'record')}")
        for line in reasons(lake, report["run"], rejecting):
            typer.echo(line)
    for warning in report.get("warnings", ()):
        typer.echo(f"warning: {warning['node']}: {warning['message']}", err=True)
    if report["error"]:
        typer.echo(report["error"], err=True)


def _outcome(report: dict[str, Any]) -> Iterator[str]:
    """How a run ended, in a few words."""
    yield show.outcome(report)
    gets = [node for node in report["nodes"].values() if node["type"].endswith(".get")]
    if gets and report["balanced"] and not any(node["in"] for node in gets):
        yield "nothing new"
    if report["balanced"]:
        yield "balanced"
    if report["seconds"] is not None:
        yield f"{report['seconds']:.2f} s"


def _together(reasons: Iterable[str]) -> list[str]:
    """Reasons that several nodes share, once, with the nodes' names before it."""
    nodes: dict[str, list[str]] = {}
    for line in reasons:
        node, _, reason = line.partition(": ")
        nodes.setdefault(reason, []).append(node)
    return [f"{', '.join(names)}: {reason}" if reason else ", ".join(names) for reason, names in nodes.items()]


@contextmanager
def stoppable(stop: Callable[[Exception], None]) -> Iterator[None]:
    """The first Ctrl-C, or a TERM, asks the run to stop, which ends the call in hand where it can; a second Ctrl-C ends the process."""

    def ask(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop(_cancelled(number))

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _heard_at_once(stop):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _heard_at_once(stop: Callable[[Exception], None]) -> Iterator[None]:
    """Hears signals in a thread of its own: this one may be deep in a computation, which Python's handlers wait for."""
    heard, told = os.pipe()
    os.set_blocking(told, False)

    def listen() -> None:
        while number := os.read(heard, 1):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                stop(_cancelled(number[0]))

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(told)
        listener.join()
        os.close(heard)


def _cancelled(number: int) -> Cancelled:
    return Cancelled("cancelled from the keyboard" if number == signal.SIGINT else "cancelled by signal TERM")


@contextmanager
def progress(flow: str, watch: Watch, *, hidden: bool) -> Iterator[None]:
    """Shows at a terminal what has passed each node so far, four times a second."""
    if hidden or not show.is_terminal():
        yield
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    started = time.monotonic()
    console = Console(stderr=True)

    def drawn() -> Text:
        head = f"{flow}  {time.monotonic() - started:.0f} s"
        rows = progress_rows(watch.meter.seen())
        found = show.lines(["node", "records>", "rejected>"], rows, console.width) if rows else ["starting"]
        return Text("\n".join([head, *found]), no_wrap=True, overflow="ellipsis")

    with Live(get_renderable=drawn, console=console, refresh_per_second=4, transient=True):
        yield


def progress_rows(seen: Mapping[tuple[str, str], int]) -> list[list[object]]:
    """A row for each node, in the order of its first record, with its branches below it."""
    rows: list[list[object]] = []
    for node in dict.fromkeys(node for node, _ in seen):
        ports = {port: count for (name, port), count in seen.items() if name == node and port != "rejected"}
        rows.append([node, sum(ports.values()), seen.get((node, "rejected"))])
        rows += [[f"  .{port}", count, None] for port, count in ports.items() if port != "out"]
    return rows


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
        return
    heads = [f"{field.name}>" if _is_number(field.type) else field.name for field in found.schema]
    if records:
        show.table(heads, [[show.value_text(value) for value in record.values()] for record in records])
    typer.echo(show.counted(len(records), "record") if records else f"no record came to {place}")


def _is_number(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def test_flows(
    flows: Annotated[list[str] | None, typer.Argument(metavar="FLOW", help="Flows; without any, all.")] = None,
    environment: EnvironmentName = "local",
    as_json: Json = False,
) -> int:
    """Runs the tests that live in the flows. Nothing is sent."""
    from agent.dry import Verdict, run_tests
    from agent.prepare import Request

    project = here()
    verdicts: list[Verdict] = []
    unread: list[Invalid] = []
    for name in flows or flow_names(project):
        try:
            verdicts += run_tests(Request(project, name, environment))
        except Invalid as fault:
            unread.append(fault)
            verdicts.append(Verdict(name, "its flow has problems", tuple(map(str, fault.problems))))
    if as_json:
        show.document(
            [{"flow": v.flow, "test": v.name, "passed": v.passed, "differences": v.differences} for v in verdicts]
        )
    else:
        tests_told(verdicts)
    return 2 if unread else int(any(not verdict.passed for verdict in verdicts))


def tests_told(verdicts: Sequence[Verdict]) -> None:
    """Shows which tests hold, and what came otherwise."""
    for verdict in verdicts:
        typer.echo(f"{'passed' if verdict.passed else 'FAILED'}  {verdict.flow}: {verdict.name}")
        for line in verdict.differences:
            typer.echo(f"        {line}")
    failed = sum(not verdict.passed for verdict in verdicts)
    typer.echo(
        f"{len(verdicts) - failed} passed, {failed} failed"
        if verdicts
        else "no flow has tests; write them under `tests:`"
    )
