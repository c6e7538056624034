"""Profiles what left a node in a run: the values of each column at a glance."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pipelines.errors import Invalid
from repository.catalogue import Catalogue
from repository.kept import Kept
from repository.profile import profile
from repository.project import Project

Found = dict[str, Any]


def profile_of(project: Project, flow: str, place: str, run: str | None = None) -> Found:
    """What left a node (`node` or `node.port`) in a run; without one, in the flow's last run that kept records there.

    Raises:
        Invalid: no such run has kept records there.
    """
    catalogue = Catalogue(project.catalogue_url)
    try:
        names = [run] if run else [line["run"] for line in catalogue.runs(flow=flow, limit=50)]
        reports = [catalogue.report(name) for name in names]
    finally:
        catalogue.close()
    if run and reports[0]["flow"] != flow:
        raise Invalid(f"run {reports[0]['run']} is one of flow {reports[0]['flow']!r}, not of {flow!r}")
    if not reports:
        raise Invalid(f"flow {flow!r} has not run yet; start it with `processflow run {flow}`")
    kept = Kept(project.lake)
    for report in reports:
        there = kept.places(report["run"])
        found = next((name for name in (place, f"{place}.out") if name in there), None)
        found = found or next((name for name in there if name.rpartition(".")[0] == place), None)
        if found is not None:
            return _profile(project, report, found)
    there = kept.places(reports[0]["run"])
    raise Invalid(f"no run has kept records at {place!r}; run {reports[0]['run']} has at: {', '.join(there) or 'none'}")


def _profile(project: Project, report: dict[str, Any], place: str) -> Found:
    rows, columns = profile(project.lake, report["run"], place)
    node, _, port = place.rpartition(".")
    counts = report["nodes"].get(node, {})
    left = counts.get("rejected", rows) if port == "rejected" else counts.get("out", {}).get(port, rows)
    return {
        "flow": report["flow"],
        "run": report["run"],
        "place": place,
        "records": rows,
        "left": left,
        "is_whole": rows == left,
        "columns": [asdict(column) for column in columns],
    }
