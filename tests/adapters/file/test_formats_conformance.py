"""`file.get` and `file.post` are held to the suites of all gets and posts in every format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from adapters import file
from pipelines.conformance import GetConformance, PostConformance
from pipelines.conformance.examples import Records, batch_of
from pipelines.conformance.nodes import NodeConformance
from pipelines.node import Example
from pipelines.scope import Scope
from pipelines.sql.sandbox import Sandbox
from tests.adapters.file.post_room import post, read_back, stage

ROWS: list[dict[str, Any]] = [
    {"order_no": "WEB-1", "total": 1.5, "updated_at": 1},
    {"order_no": "WEB-2", "total": None, "updated_at": 2},
    {"order_no": "WEB-3", "total": 7.25, "updated_at": 3},
]
NEW: dict[str, Any] = {"order_no": "WEB-4", "total": 4.0, "updated_at": 4}


def delivered(project: Path, config: Mapping[str, Any], rows: Records, run: str = "given") -> None:
    staging = project / ".processflow" / "given" / run
    staging.mkdir(parents=True)
    scope = Scope(project, run=run, staging=staging)
    node = post(**config)
    records = batch_of(rows, {}, Sandbox())
    parts, _ = stage(node, [records], scope)
    node.publish(parts, records.schema, scope, run).commit()


class OfFormat(NodeConformance):
    """Orders in files of a format."""

    suffix: ClassVar[str] = ""
    fields: ClassVar[Mapping[str, Any]] = {}
    """What get and post need to be told."""


class FormatGet(OfFormat, GetConformance):
    node = file.Get

    def samples(self) -> Sequence[Example]:
        path = f"in/*{self.suffix}"
        return (
            Example(config={"path": f"in/orders{self.suffix}", **self.fields}, gives={"out": ROWS}),
            Example(config={"path": path, "once": True, **self.fields}, gives={"out": ROWS}),
            Example(
                config={"path": path, "cursor": "updated_at", "key": "order_no", **self.fields}, gives={"out": ROWS}
            ),
            Example(config={"path": path, "where": "total > 2", **self.fields}, gives={"out": ROWS[2:]}),
        )

    def prepare(self, project: Path, example: Example) -> Scope:
        delivered(project, {"path": f"in/orders{self.suffix}", **self.fields}, ROWS)
        return NodeConformance.prepare(self, project, Example(config=example.config))

    def grow(self, scope: Scope, example: Example) -> Records | None:
        if "*" not in str(example.config["path"]):
            return None
        delivered(scope.project, {"path": f"in/orders-new{self.suffix}", **self.fields}, [NEW], "new")
        return [NEW]


class FormatPost(OfFormat, PostConformance):
    node = file.Post

    def samples(self) -> Sequence[Example]:
        config = {"path": f"out/orders{self.suffix}", **self.fields}
        changed = [{**ROWS[0], "total": 99.0}, NEW]
        return (
            Example(config=config, records=[NEW], gives={"out": [*ROWS, NEW]}),
            Example(config={**config, "mode": "replace"}, records=[NEW], gives={"out": [NEW]}),
            Example(
                config={**config, "mode": "upsert", "key": "order_no"},
                records=changed,
                gives={"out": [*ROWS[1:], *changed]},
            ),
            Example(
                config={**config, "mode": "delete", "key": "order_no"},
                records=[{"order_no": "WEB-2"}],
                gives={"out": [ROWS[0], ROWS[2]]},
            ),
        )

    def prepare(self, project: Path, example: Example) -> Scope:
        delivered(project, {"path": f"out/orders{self.suffix}", **self.fields}, ROWS)
        return NodeConformance.prepare(self, project, Example(config=example.config))

    def delivered(self, scope: Scope, example: Example) -> Records:
        return read_back(scope.project, path=f"out/orders{self.suffix}", **self.fields).to_pylist()


class TestAvroGet(FormatGet):
    suffix = ".avro"


class TestAvroPost(FormatPost):
    suffix = ".avro"


FIXED = {"format": "fixed", "layout": {"order_no": 8, "total": 10, "updated_at": {"width": 6, "pad": "0"}}}


class TestFixedWidthGet(FormatGet):
    suffix = ".txt"
    fields = FIXED


class TestFixedWidthPost(FormatPost):
    suffix = ".txt"
    fields = FIXED


class TestExcelGet(FormatGet):
    suffix = ".xlsx"


class TestExcelPost(FormatPost):
    suffix = ".xlsx"

    def samples(self) -> Sequence[Example]:
        return [example for example in super().samples() if example.config.get("mode") == "replace"]


class TestXmlGet(FormatGet):
    suffix = ".xml"
    fields: ClassVar[Mapping[str, Any]] = {"records": "orders/order"}


class TestXmlPost(FormatPost):
    suffix = ".xml"
    fields: ClassVar[Mapping[str, Any]] = {"records": "orders/order"}

    def delivered(self, scope: Scope, example: Example) -> Records:
        columns = {
            "order_no": "VARCHAR",
            "total": "DOUBLE",
            "updated_at": "BIGINT",
        }  # no record, no element to tell them
        return read_back(scope.project, path="out/orders.xml", columns=columns, **self.fields).to_pylist()


@pytest.mark.parametrize("path", ["orders.xlsx", "orders.avro", "orders.parquet"])
def test_a_format_that_compresses_within_itself_is_not_compressed_again(path: str) -> None:
    found: list[str] = []

    post(path=f"{path}.gz").check({}, Scope(project=Path()), lambda at, what, *_, **__: found.append(what))

    assert found == ["the suffix names another compression than the file will have"]
