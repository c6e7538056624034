"""A small lake to write to: a run's tap, its report, its commit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipelines.records import with_ids
from pipelines.tap import Tap, TapPlan
from repository.lake import commit, open_tap
from repository.manifest import read
from repository.views import Views

Report = dict[str, Any]


class Lake:
    """A lake in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "lake"
        self.staging = folder / "staging"

    def plan(self, run: str = "r1", flow: str = "web-orders", **more: Any) -> TapPlan:
        return TapPlan(
            self.root, self.staging / run, flow, "v1", run, **{"snapshots": more.pop("snapshots", {}), **more}
        )

    def tap(self, run: str = "r1", flow: str = "web-orders", **more: Any) -> Tap:
        return open_tap(self.plan(run, flow, **more))

    def commit(self, *taps: Tap, run: str = "r1", flow: str = "web-orders", **more: Any) -> None:
        commit(self.root, report(run, flow, **more), [dict(piece) for tap in taps for piece in tap.close()])

    def write(self, node: str, batch: pa.RecordBatch, run: str = "r1", **more: Any) -> None:
        """A run that kept one batch of one node."""
        tap = self.tap(run, **more)
        tap.records(node, "out", numbered(batch))
        self.commit(tap, run=run, flow=more.get("flow", "web-orders"))

    def view(self, connection: duckdb.DuckDBPyConnection, *name: str) -> str:
        """Makes a view on a connection of the test's own, and gives its name."""
        views = Views(self.root, read(self.root))
        view = views.find(name)
        assert view is not None, name
        views.make(connection, [view])
        return ".".join(f'"{part}"' for part in name)

    def rows(self, *name: str, columns: str = "*", rest: str = "") -> list[tuple[Any, ...]]:
        """What a view holds."""
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            return connection.execute(f"SELECT {columns} FROM {self.view(connection, *name)} {rest}").fetchall()


def numbered(batch: pa.RecordBatch, first: int = 0) -> pa.RecordBatch:
    """The records with row ids 100 apart."""
    return with_ids(batch, pa.array(range(first, first + 100 * batch.num_rows, 100), pa.int64()))


def report(run: str, flow: str = "web-orders", **more: Any) -> Report:
    nodes: Mapping[str, Any] = {
        "orders": {"type": "file.get", "in": 0, "created": 0, "out": {"out": 3}, "filtered": 0, "rejected": 0,
                   "delivered": 0, "seconds": 0.1},
        "erp": {"type": "file.post", "in": 3, "created": 0, "out": {"out": 2}, "filtered": 0, "rejected": 1,
                "delivered": 2, "seconds": 0.2},
    }  # fmt: skip
    return {
        "run": run, "flow": flow, "version": "v1", "status": "done", "balanced": True,
        "started": "2026-11-23T10:00:00+00:00", "ended": "2026-11-23T10:00:02+00:00", "seconds": 2.0,
        "environment": "local", "trigger": "hand", "delivery": {"label": "at least once"}, "error": None,
        "parameters": {"since": "2026-01-01"}, "nodes": nodes, **more,
    }  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


@pytest.fixture
def new_lake(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Lake]:
    """A lake for each example of a property."""
    return lambda: Lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture
def number() -> Callable[..., pa.RecordBatch]:
    return numbered


@pytest.fixture
def reported() -> Callable[..., Report]:
    return report
