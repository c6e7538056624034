"""`runs`: what ran, and one run's ledger, rejects and delivery."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import show
from cli.project import here

if TYPE_CHECKING:
    from repository.catalogue import Catalogue

app = typer.Typer(help="What ran: a list, or one run whole.")
Status = Literal["running", "unfinished", "done", "done_with_rejects", "failed", "cancelled"]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")]


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    flow: Annotated[str | None, typer.Option(help="Only this flow's.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only those that ended, or stand, like this.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest first.")] = 20,
    as_json: Json = False,
) -> None:
    """Lists runs, the newest first."""
    if context.invoked_subcommand is not None:
        return
    from repository.catalogue import Catalogue

    catalogue = Catalogue(here().catalogue_url)
    found = _listed(catalogue, flow, status, limit)
    if as_json:
        show.document(found)
        return
    if not found:
        asked = "".join([f" of flow {flow!r}" if flow else "", f" that is {status!r}" if status else ""])
        typer.echo(f"no run{asked}" if asked else "no run yet; start one with: processflow run FLOW")
        return
    show.table(COLUMNS, [_row(line, catalogue.report(line["run"])) for line in found])
    for line in found:
        if line["error"]:
            typer.echo(f"{line['run']}: {line['error']}")


def _listed(catalogue: Catalogue, flow: str | None, status: Status | None, limit: int) -> list[dict[str, Any]]:
    """The runs asked for. Those that wait to be finished are no longer running, though not over: few, and found by looking."""
    if status not in ("running", "unfinished"):
        return catalogue.runs(flow=flow, status=status, limit=limit)
    found = catalogue.runs(flow=flow, status="running", limit=None)
    return [line for line in found if line.get("unfinished", False) == (status == "unfinished")][:limit]


COLUMNS = ("run", "flow", "status", "started", "seconds>", "delivered>", "rejected>", "replay of")


def _row(line: dict[str, Any], report: dict[str, Any]) -> list[object]:
    nodes = report["nodes"].values()
    counts = [sum(node[name] for node in nodes) if nodes else None for name in ("delivered", "rejected")]
    seconds = None if line["seconds"] is None else f"{line['seconds']:.2f}"
    status = show.outcome(line)
    return [
        line["run"], line["flow"], status, show.moment(line["started"]), seconds, *counts, report.get("replay_of")
    ]  # fmt: skip


@app.command("show")
def show_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")], as_json: Json = False
) -> None:
    """Shows one run: its ledger, its delivery label, its rejects by reason, and the replays it is linked with."""
    from cli.run import told
    from repository.catalogue import Catalogue

    project = here()
    catalogue = Catalogue(project.catalogue_url)
    report: dict[str, Any] = catalogue.report(run)
    if later := catalogue.replays(report["run"]):
        report["replayed_by"] = later
    if as_json:
        show.document(report)
        return
    typer.echo(
        f"{report['flow']} {report['version']} in {report['environment']}, started {show.moment(report['started'])}"
    )
    for name, value in report["parameters"].items():
        typer.echo(f"  {name} = {show.value_text(value)}")
    for line in (*_links(report), *_owner(catalogue, report)):
        typer.echo(line)
    typer.echo()
    told(report, project.lake)


def _links(report: dict[str, Any]) -> Iterator[str]:
    """What the run has to do with others, and what was said of it when it began."""
    if report.get("replay_of"):
        yield f"replay of {report['replay_of']}: {replayed(report)}"
    if report.get("resumed"):
        yield f"resumed {show.moment(report['resumed'])}, after its process was gone"
    yield from (f"  {note}" for note in report.get("notes", ()))
    yield from (f"replayed by {later}" for later in report.get("replayed_by", ()))


def _owner(catalogue: Catalogue, report: dict[str, Any]) -> Iterator[str]:
    """Who runs a run in progress, and what to do where that process is gone."""
    owner = catalogue.owner(report["run"])
    if owner is None:
        return
    if owner.is_here and not owner.is_alive:
        name = report["run"]
        yield (
            "nobody works on it: the flow's next run finishes what it had decided, and reads the rest again; "
            f"`processflow runs resume {name}` goes on now, `processflow runs cancel {name}` gives it up"
        )
    else:
        yield f"process {owner.pid} on {owner.host}"


def replayed(report: dict[str, Any]) -> str:
    """What a replay took up."""
    return ", ".join(
        f"{show.counted(rows, 'record')} from {name} on" for name, rows in report.get("replayed", {}).items()
    )


@app.command("diff")
def diff_runs(
    before: Annotated[str, typer.Argument(metavar="RUN", help="The one run.")],
    after: Annotated[str, typer.Argument(metavar="RUN", help="The other; `last` is the latest.")],
    node: Annotated[
        list[str] | None, typer.Option(metavar="NODE[.PORT]", help="Where to compare; without it, at the posts.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Columns, with `,` between, that tell records apart.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many records that differ are shown.")] = 20,
    as_json: Json = False,
) -> None:
    """Compares what two runs gave, by key: records added, removed, changed, and in which fields."""
    from agent.comparing import diff

    found = diff(here(), before, after, node or (), key.split(",") if key else (), limit)
    if as_json:
        show.document(found)
    else:
        diff_told(found)


def diff_told(found: dict[str, Any]) -> None:
    """Shows a comparison to a person."""
    for name, counts in found["nodes"].items():
        told = counts if isinstance(counts, str) else ", ".join(f"{c} {a:,} → {b:,}" for c, (a, b) in counts.items())
        typer.echo(f"{name}: {told}")
    for place in found["places"]:
        counts = [f"{place[name]:,} {name}" for name in ("added", "removed", "changed", "same")]
        typer.echo(f"{place['place']}, by {place['key']}: {', '.join(counts)}")
        for which in ("added", "removed"):
            if place[f"columns_{which}"]:
                typer.echo(f"  columns {which}: {', '.join(place[f'columns_{which}'])}")
        if place["fields"]:
            typer.echo("  differing: " + ", ".join(f"{name} in {count:,}" for name, count in place["fields"].items()))
        if not place["is_whole"]:
            typer.echo(
                f"  of what was kept: {place['before']:,} of {place['left_before']:,} records before, "
                f"{place['after']:,} of {place['left_after']:,} after; `snapshot: all` keeps everything"
            )
        if place["examples"]:
            show.table(["key", "", "what"], [_example(one) for one in place["examples"]])
    if not found["places"]:
        typer.echo("neither run has kept a record at a post; name a node with --node")
    elif found["is_same"]:
        typer.echo("no difference")


def _example(one: dict[str, Any]) -> list[object]:
    if one["before"] is None or one["after"] is None:
        record = one["after"] or one["before"]
        said = ", ".join(f"{name} = {show.value_text(value)}" for name, value in record.items())
        return [_key(one["key"]), "added" if one["before"] is None else "removed", said]
    said = ", ".join(
        f"{name}: {show.value_text(one['before'][name])} → {show.value_text(one['after'][name])}"
        for name in one["fields"]
    )
    return [_key(one["key"]), "changed", said]


def _key(text: str) -> str | None:
    """What tells a record apart, as people write it; where it is the whole record, that says it."""
    if text.startswith("["):
        return "|".join(show.value_text(value) for value in json.loads(text))
    return None if text.startswith("{") else text.removeprefix("rid ")


@app.command("cancel")
def cancel_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")],
    wait_seconds: Annotated[float, typer.Option(min=0, help="How long to wait for its end.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Asks a run in progress to stop, and waits until it has. What it had staged is removed."""
    from agent.cancelling import cancel

    report = cancel(here(), run, wait_seconds)
    if as_json:
        show.document(report)
    else:
        typer.echo(f"run {report['run']}: {report['status'].replace('_', ' ')}")
        if report["error"]:
            typer.echo(f"  {report['error']}")


@app.command("resume")
def resume_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, or `last`.")], as_json: Json = False
) -> int:
    """Goes on with a run whose process was killed, from what it had written down. Ends with 1 where it fails."""
    from agent.runs import Host
    from cli.run import exit_code, progress, stoppable, told
    from pipelines.job import Watch

    watch, project = Watch(), here()
    host = Host(project)
    try:
        with stoppable(watch.stop.ask), progress(f"resuming {run}", watch, hidden=as_json):
            report = host.resume(run, watch)
    finally:
        host.close()
    if as_json:
        show.document(report)
    else:
        told(report, project.lake)
    return exit_code(report)
