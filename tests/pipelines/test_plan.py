"""The plan's passes, one after the other, for flows in `golden/`: what each adds stands in a text file beside the flow.

`python -m tests.pipelines.test_plan` writes the texts anew; read the difference before you keep it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from agent.explaining import explained
from agent.prepare import Request, check_flow, prepare
from pipelines.plan import (
    Plan,
    Station,
    carry_schemas,
    keep_snapshots,
    lay,
    number_phases,
    number_sources,
    plan,
    prune_columns,
)
from pipelines.sql.sandbox import Sandbox
from repository.project import Project

GOLDEN = Path(__file__).with_name("golden")
FLOWS = sorted(path.stem for path in GOLDEN.glob("*.yaml"))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def request_of(name: str, folder: Path) -> Request:
    (folder / "flows").mkdir(exist_ok=True)
    shutil.copy(GOLDEN / f"{name}.yaml", folder / "flows")
    for file in ("orders", "shop", "web", "old"):
        (folder / f"{file}.csv").touch()
    return Request(Project(folder), name)


def passes(name: str, folder: Path) -> str:
    """What each pass adds to the plan, and what `explain` says of the whole."""
    request = request_of(name, folder)
    examined = check_flow(request, NOW)
    assert [str(problem) for problem in examined.checked.faults] == []
    flow, checked, scope = examined.flow, examined.checked, examined.scope
    sandbox = Sandbox.borrow(scope)
    try:
        laid = lay(flow, checked.inputs, checked.outputs)
        numbered = number_sources(laid, flow)
        phased = number_phases(numbered, flow)
        kept = keep_snapshots(phased, flow)
        pruned = prune_columns(kept, sandbox)
        carried = carry_schemas(pruned, scope)
        assert plan(flow, checked.inputs, checked.outputs, scope, sandbox) == carried
    finally:
        sandbox.give_back()
    parts = {
        "lay": told_laid(laid),
        "number_sources": (f"{station.name}: {station.number}" for station in numbered.gets()),
        "number_phases": (f"{station.name}: {station.phase}" for station in phased.stations.values()),
        "keep_snapshots": (f"{name}: {mapping(station.snapshots)}" for name, station in kept.stations.items()),
        "prune_columns": (f"{station.name}: {wanted(station)}" for station in pruned.gets()),
        "carry_schemas": told_carried(pruned, carried),
        "explain": explained(prepare(request, NOW)).splitlines(),
    }
    return "\n".join(f"{title}\n" + "".join(f"  {line}\n" for line in lines) for title, lines in parts.items())


def told_laid(laid: Plan) -> Iterator[str]:
    yield f"{laid.flow}, {laid.batch_rows} rows a batch"
    for station in laid.stations.values():
        limit = station.rejects.fail_above
        yield f"{station.name} ({station.spec.type})" + (f" fails above {limit}" if limit is not None else "")
        yield f"  {columns(station.schema)}"
        for port, targets in station.links.items():
            yield f"  {port} -> {', '.join(targets)}"


def told_carried(before: Plan, after: Plan) -> Iterator[str]:
    """The stations that narrower reading changed."""
    for name, station in after.stations.items():
        if station == before.stations[name]:
            continue
        yield f"{name}: {columns(station.schema)}"
        for port, schema in station.outputs.items():
            yield f"  {port} -> {columns(schema)}"


def columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema) or "no columns"


def wanted(station: Station) -> str:
    """What a get reads, in the order of its columns."""
    return "all" if station.wanted is None else columns(station.schema)


def mapping(values: object) -> str:
    return ", ".join(f"{name} {value}" for name, value in dict(values).items()) or "nothing"  # type: ignore[call-overload]


@pytest.mark.parametrize("name", FLOWS)
def test_each_pass_makes_of_a_flow_what_its_golden_text_says(name: str, tmp_path: Path) -> None:
    expected = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")

    assert passes(name, tmp_path) == expected


@pytest.mark.parametrize("name", FLOWS)
def test_a_plan_is_the_same_however_often_it_is_made(name: str, tmp_path: Path) -> None:
    request = request_of(name, tmp_path)

    assert prepare(request, NOW).plan == prepare(request, NOW).plan


def test_a_disabled_source_whose_columns_nobody_knows_holds_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "orders.csv").write_text("id\n1\n", encoding="utf-8")
    flow = """flow: idle
nodes:
  start: {type: start}
  gone: {type: file.get, from: start, path: gone.csv, disabled: true}
  orders: {type: file.get, from: start, path: orders.csv}
  all: {type: merge, from: [gone, orders]}
  kept: {type: file.post, from: all, path: kept.csv}
"""
    (tmp_path / "flows" / "idle.yaml").write_text(flow, encoding="utf-8")

    made = prepare(Request(Project(tmp_path), "idle"), NOW).plan

    assert list(made.stations) == ["orders", "all", "kept"]
    assert made.stations["kept"].schema == pa.schema([("id", pa.int64())])


def main() -> None:
    """Writes the golden texts anew."""
    for name in FLOWS:
        with tempfile.TemporaryDirectory() as folder:
            (GOLDEN / f"{name}.txt").write_text(passes(name, Path(folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
