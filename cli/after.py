"""What can be done after a run: `replay` and what else works on what it left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli import show
from cli.project import here, settings
from cli.run import Json, RunnerName, Set, exit_code, progress, stoppable, told
from pipelines.errors import Invalid

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
    from cli.runs import replayed
    from pipelines.job import Watch

    watch, project = Watch(), here()
    asked = Replay(project, run, node, where, again, settings(values or []), runner)
    with stoppable(watch.stop.ask), progress(f"replay of {run}", watch, hidden=as_json):
        report = replay_run(asked, watch=watch)
    if as_json:
        show.document(report)
        return exit_code(report)
    typer.echo(f"replay of {report['replay_of']}: {replayed(report)}")
    for note in report["notes"]:
        typer.echo(f"  {note}")
    typer.echo()
    told(report, project.lake)
    return exit_code(report)


def trace(
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="A business key; its columns joined by `|`.")] = None,
    rid: Annotated[int | None, typer.Option(help="A row id instead, with --run.")] = None,
    flow: Annotated[str | None, typer.Option(help="Only in this flow.")] = None,
    run: Annotated[str | None, typer.Option(help="Only in this run.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many ways, those of the latest runs.")] = 20,
    as_json: Json = False,
) -> None:
    """Tells a record's way through every node, in every run: what changed, why it was rejected, what the target said."""
    from agent.tracing import trace as ways_of

    if (key is None) == (rid is None):
        raise Invalid("give a business key, or --rid with --run")
    found = ways_of(here(), key, rid, flow, run, limit + 1)
    ways = found[-limit:]
    if as_json:
        show.document(ways)
        return
    if len(found) > limit:
        typer.echo(f"the latest {limit} of more; --limit shows others\n")
    for way in ways:
        of = f", replay of {way['replay_of']}" if way["replay_of"] else ""
        typer.echo(f"{way['flow']}  run {way['run']}{of}  {show.moment(way['started'])}  rid {way['rid']}")
        first = next((number for number, step in enumerate(way["steps"]) if step.get("payload") is not None), -1)
        steps = [_step(step, is_first=number == first) for number, step in enumerate(way["steps"])]
        show.table(["node", "port", "at", "what"], steps)
        typer.echo(f"{way['outcome']}\n")


def _step(step: Mapping[str, Any], *, is_first: bool) -> list[object]:
    if step["port"] == "rejected":
        what = f"{step['message']}; {_fields(step['payload'])}"
    elif step["port"] == "delivered":
        named = f"id {step['id']}, " if step["id"] is not None else ""
        what = f"{named}{step['status']}"
    elif is_first:
        what = _fields(step["payload"])
    elif not step["changes"]:
        what = "unchanged"
    else:
        what = _changed(step["changes"])
    if "parents" in step:
        some = ", ".join(map(str, step["parents"])) + (", …" if step["parents_count"] > len(step["parents"]) else "")
        what = f"made of {show.counted(step['parents_count'], 'record')} (rid {some}); {what}"
    return [step["node"], step["port"], show.moment(step["at"]), what]


def _changed(changes: Mapping[str, Any]) -> str:
    told = [f"{name} = {show.value_text(value)}" for name, value in changes.get("added", {}).items()]
    for name, (before, after) in changes.get("changed", {}).items():
        told.append(f"{name}: {show.value_text(before)} → {show.value_text(after)}")
    told += [f"without {name}" for name in changes.get("removed", ())]
    return ", ".join(told)


def _fields(payload: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name} = {show.value_text(value)}" for name, value in (payload or {}).items())


def retention(
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="How long runs are kept whose flow has no `keep_days` in its settings.")
    ] = None,
    flow: Annotated[str | None, typer.Option(help="Only this flow's runs leave.")] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Only tells which runs would leave.")] = False,
    as_json: Json = False,
) -> None:
    """Removes runs that are too old and merges small files of the data logs. Nothing has to stop for it.

    Flows keep their runs for `settings: {keep_days: N}`, others for --keep-days; without either, for ever.
    """
    from agent.retaining import retain

    done = retain(here(), keep_days, flow, dry=dry)
    if as_json:
        show.document(done)
        return
    if dry:
        for line in done["runs"]:
            typer.echo(f"{line['run']}  {line['flow']}  {show.moment(line['started'])}")
        typer.echo(f"{show.counted(len(done['runs']), 'run')} would leave")
        return
    typer.echo(
        f"{show.counted(len(done['runs']), 'run')} removed; {done['files_before']:,} files became {done['files_after']:,}; "
        f"{done['files_deleted']:,} that no longer counted were deleted ({done['bytes_deleted'] / (1 << 20):,.1f} MiB)"
    )


def profile(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name.")],
    place: Annotated[str, typer.Argument(metavar="NODE[.PORT]", help="Whose output.")],
    run: Annotated[str | None, typer.Option(help="In this run; else the last that kept records there.")] = None,
    as_json: Json = False,
) -> None:
    """Shows what left a node in a run, column by column: nulls, distinct values, range, the most frequent ones."""
    from agent.profiling import profile_of

    found = profile_of(here(), flow, place, run)
    if as_json:
        show.document(found)
        return
    of = "" if found["is_whole"] else f" (a sample of {found['left']:,})"
    typer.echo(
        f"{found['flow']}.{found['place']} in run {found['run']}: {show.counted(found['records'], 'record')}{of}"
    )
    show.table(PROFILE_COLUMNS, [_profiled(column, found["records"]) for column in found["columns"]])


PROFILE_COLUMNS = ("column", "type", "null>", "distinct>", "least", "middle>", "most", "most frequent")


def _profiled(column: Mapping[str, Any], records: int) -> list[object]:
    share = f"{100 * column['nulls'] / records:.1f}%" if column["nulls"] and records else None
    top = [one for one in column["top"] if one["records"] > 1 or column["distinct"] <= len(column["top"]) < records]
    middle = None if column["quartiles"] is None else f"{column['quartiles'][1]:.12g}"
    frequent = ", ".join(f"{one['value']} ({one['records']:,})" for one in top)
    return [
        column["column"], column["type"], share, f"{column['distinct']:,}", column["least"], middle, column["most"], frequent
    ]  # fmt: skip


def backtest(
    flow: Annotated[str, typer.Argument(metavar="FLOW", help="The flow's name, or its file: as it is now.")],
    runs: Annotated[int, typer.Option(min=1, help="Over what so many of the last runs had read.")] = 1,
    run: Annotated[str | None, typer.Option(help="Over what this run had read.")] = None,
    node: Annotated[
        list[str] | None, typer.Option(metavar="NODE[.PORT]", help="Where to compare; without it, at the posts.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Columns, with `,` between, that tell records apart.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many records that differ are shown.")] = 20,
    values: Set = None,
    as_json: Json = False,
) -> int:
    """Runs the flow as it is now over what the last runs had read, and compares what would have come. Nothing is sent."""
    from agent.backtesting import Backtest
    from agent.backtesting import backtest as tried
    from cli.runs import diff_told

    asked = Backtest(here(), flow, runs, run, node or (), key.split(",") if key else (), limit, settings(values or []))
    found = tried(asked)
    if as_json:
        show.document(found)
    for one in found if not as_json else ():
        typer.echo(
            f"run {one['before']}, with the flow as it is now ({one['after']}): {one['status'].replace('_', ' ')}"
        )
        for note in one["notes"]:
            typer.echo(f"  {note}")
        if one["error"]:
            typer.echo(one["error"], err=True)
        diff_told(one)
        typer.echo()
    return int(any(one["status"] not in ("done", "done_with_rejects") for one in found))
